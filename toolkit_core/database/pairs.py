"""The optional index over prompt and picture at once, for searches that weigh exactly these two.

One look at it takes the place of a look at either space's own index: three times faster, for 8.2 KB an image.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from pgvector import HalfVector
from psycopg import sql

from ..records import Progress, SealedSpace
from ..spaces import PAIRED, SPACES
from .database import Connection, Database
from .exchange import exchange
from .index_build import ProgressCallback, create_index, watched
from .index_effort import set_ef_search
from .vectors import names

if TYPE_CHECKING:
    from typing_extensions import LiteralString

WIDTH = sum(SPACES[name].width for name in PAIRED)
# Above so many unpaired images a search does without the index, since it would score them all.
MOST_UNPAIRED = 2_000
# Inserting into the index takes three times what building it anew does, a row.
REBUILD_IS_FASTER = 3
ROWS_A_STEP = 50
# In the order in which writers take them.
TABLES = (sql.Identifier("image_pair"), sql.Identifier("image_unpaired"))


SEALABLE: Mapping[str, LiteralString] = {
    "bge": "NOT EXISTS (SELECT FROM image_pair) OR NOT EXISTS (SELECT FROM image_file f WHERE f.prompt_id = o.prompt_id"
    " AND NOT EXISTS (SELECT FROM image_unpaired u WHERE u.image_id = f.id))",
    "clip_h": "NOT EXISTS (SELECT FROM image_pair)"
    " OR EXISTS (SELECT FROM image_unpaired u WHERE u.image_id = o.image_id)",
}
"""Of an open row `o` of a paired space: `mark_open` has seen it, so that its images are known to be in no pair."""


def usable(connection: Connection) -> bool:
    """Whether a search may look here. One query."""
    row = connection.execute(
        "SELECT EXISTS (SELECT FROM image_pair)"
        " AND (SELECT count(*) FROM (SELECT FROM image_unpaired LIMIT %(most)s) u) < %(most)s",
        {"most": MOST_UNPAIRED + 1},
    ).fetchone()
    return row == (True,)


def candidates(
    connection: Connection, weighted: Mapping[str, tuple[NDArray[np.float32], float]], depth: int
) -> list[int]:
    """The ids of the `depth` paired images with the highest weighted sum, and of all that are not paired.

    weighted: by the names of `PAIRED`, the vector and its weight.
    """
    scaled = [weight / np.linalg.norm(vector) * vector for vector, weight in map(weighted.__getitem__, PAIRED)]
    set_ef_search(connection, max(depth, 100))
    statement = sql.SQL(
        "(SELECT image_id FROM image_pair ORDER BY embedding <#> %(pair)b::halfvec LIMIT {depth})"
        " UNION ALL (SELECT image_id FROM image_unpaired)"
    ).format(depth=sql.Literal(depth))
    parameters = {"pair": HalfVector(np.concatenate(scaled))}
    return [id for (id,) in connection.execute(statement, parameters, prepare=False, binary=True)]


def mark_open(connection: Connection) -> None:
    """Note the images whose vectors are about to be sealed, if there is anything to keep up to date.

    What is written from then on is not to be sealed before it is called again: see `SEALABLE`.
    """
    connection.execute(
        "INSERT INTO image_unpaired SELECT f.id FROM image_file f WHERE EXISTS (SELECT FROM image_pair)"
        " AND (f.id IN (SELECT image_id FROM image_clip_h_open)"
        " OR f.prompt_id IN (SELECT prompt_id FROM prompt_bge_open))"
        " ON CONFLICT DO NOTHING"
    )


def update(
    database: Database, wanted: bool, rebuild: bool, rows_worth_an_index: int, progress: ProgressCallback
) -> SealedSpace | None:
    """Bring the index up to date with what is sealed, or, where it is not wanted, give up its room on disk."""
    started = time.monotonic()
    with database.transaction() as connection:
        row = connection.execute(
            "SELECT (SELECT count(*) FROM image_pair), (SELECT count(*) FROM image_unpaired)"
        ).fetchone()
        assert row is not None
    paired, unpaired = row
    if not wanted:
        if paired:
            watched(database, _give_up, "seal pairs", paired, progress)
        return None
    if paired and not unpaired and not rebuild:
        return None
    with database.transaction() as connection:
        counted = connection.execute(sql.SQL("SELECT count(*) FROM ({}) p").format(_pairs(vectors=False))).fetchone()
        assert counted is not None
        [rows] = counted
    if rows <= rows_worth_an_index:
        return None
    anew = rebuild or unpaired * REBUILD_IS_FASTER >= paired
    if anew:
        own_server = database.server is not None
        watched(database, lambda connection: _build(connection, own_server=own_server), "seal pairs", rows, progress)
    else:
        done = 0
        while done < unpaired and (step := _insert(database)):
            done += step
            progress(Progress("seal pairs", done, unpaired))
    return SealedSpace("pairs", rows if anew else unpaired, anew, time.monotonic() - started)


def _insert(database: Database) -> int:
    """Pair some of the images that are not. Returns how many were looked at."""
    with database.transaction() as connection:
        return connection.execute(
            sql.SQL(
                "WITH chosen AS (DELETE FROM image_unpaired WHERE image_id IN"
                "  (SELECT image_id FROM image_unpaired ORDER BY image_id LIMIT %s FOR UPDATE) RETURNING image_id),"
                " made AS (SELECT * FROM ({pairs}) p WHERE image_id IN (SELECT image_id FROM chosen)),"
                " unmade AS (DELETE FROM image_pair WHERE image_id IN (SELECT image_id FROM chosen EXCEPT"
                "  SELECT image_id FROM made)),"
                " paired AS (INSERT INTO image_pair SELECT * FROM made ON CONFLICT (image_id) DO UPDATE"
                "  SET prompt_id = excluded.prompt_id, embedding = excluded.embedding)"
                " SELECT FROM chosen"
            ).format(pairs=_pairs()),
            [ROWS_A_STEP],
        ).rowcount


def _build(connection: Connection, *, own_server: bool) -> None:
    """Make the table and its index anew, beside the old one, and exchange them."""
    connection.execute("CREATE TABLE next_pair (LIKE image_pair INCLUDING ALL EXCLUDING INDEXES)")
    made = connection.execute(sql.SQL("INSERT INTO next_pair {}").format(_pairs())).rowcount
    connection.execute("ALTER TABLE next_pair ADD PRIMARY KEY (image_id)")
    create_index(connection, "next_pair", "hnsw (embedding halfvec_ip_ops)", made, WIDTH, own_server=own_server)

    def bring_up_to_date() -> None:
        # Whoever changes an image's prompt waits here for the exchange.
        connection.execute("CREATE TABLE next_unpaired (LIKE image_unpaired INCLUDING ALL)")
        connection.execute(
            sql.SQL(
                "INSERT INTO next_unpaired SELECT p.image_id FROM ({pairs}) p LEFT JOIN next_pair n USING (image_id)"
                " WHERE n.prompt_id IS DISTINCT FROM p.prompt_id"
            ).format(pairs=_pairs(vectors=False))
        )

    def put() -> None:
        connection.execute("DROP TABLE image_pair, image_unpaired")
        connection.execute("ALTER TABLE next_pair RENAME TO image_pair")
        connection.execute("ALTER TABLE next_unpaired RENAME TO image_unpaired")
        connection.execute("ALTER INDEX next_pair_index RENAME TO image_pair_index")
        connection.execute("ALTER INDEX next_pair_pkey RENAME TO image_pair_pkey")
        connection.execute("ALTER INDEX next_unpaired_pkey RENAME TO image_unpaired_pkey")

    exchange(connection, TABLES, bring_up_to_date, put)


def _give_up(connection: Connection) -> None:
    def empty() -> None:
        connection.execute("DROP INDEX IF EXISTS image_pair_index")
        connection.execute("TRUNCATE image_pair, image_unpaired")

    exchange(connection, TABLES, lambda: None, empty)


def _pairs(*, vectors: bool = True) -> sql.Composed:
    """The rows that `image_pair` should have: those of images with both vectors sealed."""
    pair = sql.SQL(", l2_normalize(p.embedding) || l2_normalize(h.embedding) AS embedding" if vectors else "")
    bge, clip_h = (names(SPACES[name]) for name in PAIRED)
    return sql.SQL(
        "SELECT f.id AS image_id, f.prompt_id{pair} FROM image_file f"
        " JOIN {bge} p ON p.prompt_id = f.prompt_id JOIN {clip_h} h ON h.image_id = f.id"
    ).format(pair=pair, bge=bge["sealed"], clip_h=clip_h["sealed"])
