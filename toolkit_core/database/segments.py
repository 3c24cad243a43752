"""Sealing: how rows come from the open part of a vector table, without an index, into the sealed part, which has one.

A space is searched exactly until it has rows worth an index. From then on writers still write to the open part alone,
and `seal` brings the sealed part up to date beside them: a few rows go into its index one by one; for many it is built
anew in a table of its own, which then takes the old one's place. Searches and writers go on meanwhile.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from psycopg import sql

from ..records import Progress, SealedSpace, SpaceIndex
from ..spaces import SPACES, IndexKind, Space
from . import pairs
from .database import Connection, Database
from .exchange import exchange
from .index_build import ProgressCallback, create_index, watched
from .vectors import Part, names, table

if TYPE_CHECKING:
    from typing_extensions import LiteralString

logger = logging.getLogger(__name__)


# Below this an exact scan answers as fast.
ROWS_WORTH_AN_INDEX = 20_000
# Vectors on a page of 8 KB. An open part of more pages is searched by its sketches: from 20,000 rows on, and where the
# sealed part has an index, so that a search is as right as that is, from 5,000 on.
ROWS_A_PAGE, PAGES_SCANNED_EXACTLY, PAGES_SCANNED_BESIDE_AN_INDEX = 3, 7_000, 1_700
# A search looks at every open row, by its sketch: 10 ms at this many.
MOST_OPEN_ROWS = 50_000
# Rows that one transaction seals: 4 ms each, and a writer of one of them waits for it.
ROWS_A_STEP = 50
# Building an index anew takes a third of the time a row that inserting into one does.
REBUILD_IS_FASTER = 3

# Twice pgvector's own ef_construction: a build takes 1.8 times as long, and a search finds as much with a third of the
# effort. Measured by benchmarks/search.
HNSW_OPTIONS = "m=16, ef_construction=128"
# An IVFFlat index's, where nobody says how many.
IVFFLAT_LISTS = 100
_INDEXES: Mapping[IndexKind, str] = {
    "hnsw": f"hnsw (embedding halfvec_cosine_ops) WITH ({HNSW_OPTIONS})",
    "hnsw_binary": f"hnsw ((binary_quantize(embedding)::bit({{width}})) bit_hamming_ops) WITH ({HNSW_OPTIONS})",
    "ivfflat": "ivfflat (embedding halfvec_cosine_ops) WITH (lists = {lists})",
}


@dataclass(frozen=True)
class Segments:
    """The parts of a space's table as a search needs to know them.

    index: of the sealed part; None where it has none that can be used. lists: of an IVFFlat index. outdated: built with
    other options than an index of its kind is now.
    open_pages, sealed_pages: their sizes in pages of 8 KB, which is what a scan reads.
    """

    index: IndexKind | None
    sealed_pages: int
    open_pages: int
    lists: int = 0
    outdated: bool = False

    @property
    def rows(self) -> int:
        """About how many rows both parts have."""
        return (self.sealed_pages + self.open_pages) * ROWS_A_PAGE

    @property
    def is_sketched(self) -> bool:
        """Whether so many rows are open that a search reads their sketches first."""
        return self.open_pages > (PAGES_SCANNED_EXACTLY if self.index is None else PAGES_SCANNED_BESIDE_AN_INDEX)


def segments(connection: Connection, space: Space) -> Segments:
    """The present state of a space's table. One look at the catalog."""
    open_pages, sealed_pages, described = _sized(
        connection,
        space,
        "SELECT pg_relation_size(%(open)s::regclass) / 8192, pg_relation_size(%(sealed)s::regclass) / 8192, ("
        " SELECT ARRAY[a.amname, o.opcname, coalesce(array_to_string(c.reloptions, ', '), '')]"
        " FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am a ON a.oid = c.relam"
        " JOIN pg_opclass o ON o.oid = i.indclass[0]"
        " WHERE i.indrelid = %(sealed)s::regclass AND i.indisvalid AND a.amname IN ('hnsw', 'ivfflat') LIMIT 1)",
    )
    if described is None:
        return Segments(None, sealed_pages, open_pages)
    method, operators, options = described
    if method == "ivfflat":
        return Segments("ivfflat", sealed_pages, open_pages, int(options.removeprefix("lists=") or IVFFLAT_LISTS))
    kind: IndexKind = "hnsw_binary" if operators == "bit_hamming_ops" else "hnsw"
    return Segments(kind, sealed_pages, open_pages, outdated=options != HNSW_OPTIONS)


def index_of(connection: Connection, space: Space) -> SpaceIndex:
    """How a space is indexed, with its rows counted."""
    state = segments(connection, space)
    sizes = _sized(
        connection,
        space,
        "SELECT pg_total_relation_size(%(open)s::regclass), pg_total_relation_size(%(sealed)s::regclass)",
    )
    sealed, opened = count(connection, space, "sealed"), count(connection, space, "open")
    return SpaceIndex(state.index, sealed, opened, sum(sizes))


def _sized(connection: Connection, space: Space, statement: LiteralString) -> tuple[Any, ...]:
    """The row of a statement whose first two columns are sizes of the open and of the sealed part."""
    names = {"open": table(space, "open").as_string(), "sealed": table(space, "sealed").as_string()}
    while True:
        row = connection.execute(statement, names).fetchone()
        assert row is not None
        # NULL: the table that had the name was exchanged while PostgreSQL waited for it. Another one has it now.
        if None not in row[:2]:
            return row


def seal(
    database: Database,
    *,
    kind: IndexKind = "hnsw",
    progress: ProgressCallback | None = None,
    most_open_rows: int = MOST_OPEN_ROWS,
    rows_worth_an_index: int = ROWS_WORTH_AN_INDEX,
    pair_index: bool = False,
    rebuild: bool = False,
) -> list[SealedSpace]:
    """Bring the index of every space up to date that has more than `most_open_rows` without one.

    One process does this at a time in a library; another one returns at once, with nothing. pair_index: keep the index
    over prompt and picture, too; without, it is given up. rebuild: build every index anew. An exception out of
    `progress` stops it; a space is either as it was then, or partly sealed, and is searched whole either way.
    Returns what was done, by space.
    """
    report = progress or (lambda _: None)
    done: list[SealedSpace] = []
    with database.alone("seal") as ours:
        if not ours:
            return done
        for space in SPACES.values():
            started = time.monotonic()
            with database.transaction() as connection:
                state = segments(connection, space)
                opened = count(connection, space, "open") if state.open_pages else 0
            # Counting a million rows takes seconds, and about how many there are is enough to know.
            sealed = state.sealed_pages * ROWS_A_PAGE
            whole = rebuild or state.index != kind or state.outdated or sealed == 0
            # What is sealed was worth an index once.
            if (not sealed and opened <= rows_worth_an_index) or not (whole or opened > most_open_rows):
                continue
            anew = whole or opened * REBUILD_IS_FASTER > sealed
            with database.transaction() as connection:
                pairs.mark_open(connection)
            if anew:
                _build_anew(database, space, kind, opened + sealed, report)
            else:
                _insert(database, space, opened, report)
            done.append(SealedSpace(space.name, opened, anew, time.monotonic() - started))
            logger.info("%s: %d rows sealed in %.1f s", space.name, opened, done[-1].seconds)
        paired = pairs.update(database, pair_index, rebuild, rows_worth_an_index, report)
    return done + ([paired] if paired else [])


def count(connection: Connection, space: Space, part: Part) -> int:
    """How many vectors a part of a space's table has."""
    row = connection.execute(sql.SQL("SELECT count(*) FROM {}").format(table(space, part))).fetchone()
    assert row is not None
    return row[0]


def _insert(database: Database, space: Space, rows: int, progress: ProgressCallback) -> None:
    """Move the open rows into the sealed part's index, on half of the cores."""
    # Rows that a writer holds, and those that come meanwhile, are left for the next time.
    step = sql.SQL(
        "WITH chosen AS"
        " (SELECT {owner} FROM {open} o WHERE {sealable} ORDER BY {owner} LIMIT %s FOR UPDATE SKIP LOCKED),"
        " moved AS (DELETE FROM {open} o USING chosen c WHERE o.{owner} = c.{owner} RETURNING o.{owner}, o.embedding),"
        " unsketched AS (DELETE FROM {sketch} s USING chosen c WHERE s.{owner} = c.{owner})"
        " INSERT INTO {sealed} SELECT {owner}, embedding, true FROM moved"
        " ON CONFLICT ({owner}) DO UPDATE SET embedding = excluded.embedding"
    ).format(**names(space), sealable=sql.SQL(pairs.SEALABLE.get(space.name, "true")))
    lock = threading.Lock()
    moved = 0
    stop = threading.Event()

    def move_all() -> None:
        nonlocal moved
        while moved < rows and not stop.is_set():
            with database.transaction() as connection:
                count = connection.execute(step, [ROWS_A_STEP]).rowcount
            if count == 0:
                return
            with lock:
                moved += count

    workers = max((os.cpu_count() or 1) // 2, 1)
    with ThreadPoolExecutor(workers, thread_name_prefix="seal") as pool:
        running = [pool.submit(move_all) for _ in range(workers)]
        try:
            while not all(future.done() for future in running):
                progress(Progress(f"seal {space.name}", moved, rows))
                time.sleep(0.1)
        finally:
            stop.set()
    for future in running:
        future.result()


def _build_anew(database: Database, space: Space, kind: IndexKind, rows: int, progress: ProgressCallback) -> None:
    """Build the sealed part again, in a table of its own, and exchange it. One transaction: all of it or nothing."""

    def build(connection: Connection) -> None:
        build_next(connection, space, kind, rows, own_server=database.server is not None)
        # What was written while the rows were copied. In a transaction of its own, for writers note images, too.
        with database.transaction() as beside:
            pairs.mark_open(beside)
        _exchange(connection, space)

    watched(database, build, f"seal {space.name}", rows, progress)


def build_next(
    connection: Connection,
    space: Space,
    kind: IndexKind,
    rows: int,
    *,
    own_server: bool,
    source: Literal["whole", "next"] = "whole",
) -> None:
    """Build another sealed part, with an index, of all vectors of a space or of those in its `next` table."""
    parts = names(space)
    connection.execute(
        sql.SQL("CREATE TABLE next_sealed (LIKE {sealed} INCLUDING ALL EXCLUDING INDEXES)").format(**parts)
    )
    connection.execute(
        sql.SQL("INSERT INTO next_sealed SELECT {owner}, embedding, true FROM {source} ORDER BY {owner}").format(
            source=parts[source], owner=parts["owner"]
        )
    )
    connection.execute(sql.SQL("ALTER TABLE next_sealed ADD PRIMARY KEY ({owner})").format(**parts))
    definition: Any = _INDEXES[kind].format(width=space.width, lists=max(int(rows**0.5), 1))
    create_index(connection, "next_sealed", definition, rows, space.width, own_server=own_server)


def replace(connection: Connection, space: Space) -> None:
    """Put what `build_next` made of the `next` table in the place of all vectors of a space. Lock its tables before."""
    _run(connection, space, *_EMPTY_OPEN, *_EXCHANGED)


def tables(space: Space) -> list[sql.Identifier]:
    """All that an exchange locks of a space: the whole, as searches do first, and the parts as writers take them."""
    return [table(space), table(space, "open"), table(space, "sketch"), table(space, "sealed")]


def _exchange(connection: Connection, space: Space) -> None:
    """Put the new sealed part in the old one's place.

    The old part changed by deletions alone since it was copied, and whatever was written since is in the open part.
    """
    brought_up_to_date: tuple[LiteralString, ...] = (
        "DELETE FROM next_sealed n WHERE NOT EXISTS (SELECT FROM {whole} w WHERE w.{owner} = n.{owner})",
        *_EMPTY_OPEN,
        "INSERT INTO next_open SELECT o.* FROM {open} o LEFT JOIN next_sealed n USING ({owner})"
        " WHERE n.embedding IS DISTINCT FROM o.embedding",
        "DELETE FROM next_sealed n USING next_open o WHERE o.{owner} = n.{owner}",
    )
    exchange(
        connection,
        tables(space),
        lambda: _run(connection, space, *brought_up_to_date),
        lambda: _run(connection, space, *_EXCHANGED, SKETCHES_OF_OPEN),
    )


def _run(connection: Connection, space: Space, *statements: LiteralString) -> None:
    keys = {f"{part}_key": sql.Identifier(f"{name}_pkey") for part, name in _part_names(space).items()}
    index = sql.Identifier(f"{_part_names(space)['sealed']}_index")
    for statement in statements:
        connection.execute(sql.SQL(statement).format(**names(space), **keys, index=index))


_EMPTY_OPEN: tuple[LiteralString, ...] = (
    "CREATE TABLE next_open (LIKE {open} INCLUDING ALL EXCLUDING INDEXES)",
    "ALTER TABLE next_open ADD PRIMARY KEY ({owner})",
)
_EXCHANGED: tuple[LiteralString, ...] = (
    "ALTER TABLE {whole} DETACH PARTITION {sealed}",
    "ALTER TABLE {whole} DETACH PARTITION {open}",
    "DROP TABLE {sealed}, {open}",
    "ALTER TABLE next_sealed RENAME TO {sealed}",
    "ALTER TABLE next_open RENAME TO {open}",
    "ALTER INDEX next_sealed_index RENAME TO {index}",
    "ALTER INDEX next_sealed_pkey RENAME TO {sealed_key}",
    "ALTER INDEX next_open_pkey RENAME TO {open_key}",
    "ALTER TABLE {whole} ATTACH PARTITION {sealed} FOR VALUES IN (true)",
    "ALTER TABLE {whole} ATTACH PARTITION {open} FOR VALUES IN (false)",
    # Deleting the sealed rows' sketches would leave their space behind.
    "TRUNCATE {sketch}",
)
# Fills an empty table of sketches.
SKETCHES_OF_OPEN: LiteralString = (
    "INSERT INTO {sketch} SELECT {owner}, binary_quantize(embedding)::bit({width}) FROM {open}"
)


def _part_names(space: Space) -> dict[str, str]:
    return {part: table(space, part).as_string().strip('"') for part in ("sealed", "open")}
