"""Images with their vectors in one snapshot, a batch at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from psycopg import sql
from psycopg.rows import dict_row

from ..errors import ImageNotFound
from ..records import ImageRecord
from ..spaces import SPACES, Embedding
from . import listing
from .database import Connection
from .filters import Condition
from .image_ids import checked_id
from .images import RECORD_COLUMNS, record

IDS_A_BATCH = 10_000
ROWS_A_BATCH = 1000  # some 10 MB of vectors
NAMED_UNKNOWN = 5


@dataclass(frozen=True)
class ExportBatch:
    """Some images, and by embedding name their vectors: float16 of shape (len(images), width), NaN where missing."""

    images: Sequence[ImageRecord]
    vectors: Mapping[str, NDArray[np.float16]]


def begin_snapshot(connection: Connection) -> None:
    """Let all that this transaction reads be of one moment. It must be the transaction's first statement."""
    connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
    # The next statement takes the snapshot; this one does not. A table that comes in another one's place later would be
    # empty in it, so all tables under the view are held before.
    connection.execute("LOCK TABLE image IN ACCESS SHARE MODE")


def lock_target(connection: Connection, key: int) -> bool:
    """Take a lock of this transaction. Returns False where another one has it."""
    row = connection.execute("SELECT pg_try_advisory_xact_lock(%s::bigint)", [key]).fetchone()
    assert row is not None
    return row[0]


def select(connection: Connection, given: NDArray[np.int64] | None, condition: Condition | None) -> NDArray[np.int64]:
    """The ids of the images to export, int64 of shape (n,).

    given: in this order, those that meet the condition, each once; None: by id, all that do and whose files are there.
    Raises ImageNotFound where an id is of no image.
    """
    if given is None:
        return listing.ids(connection, condition)
    where = sql.SQL("true") if condition is None else condition.sql
    parameters = {} if condition is None else dict(condition.parameters)
    chosen: list[NDArray[np.int64]] = [given[:0]]
    unknown: list[int] = []
    statement = sql.SQL(SELECT_GIVEN).format(where=where)
    for start in range(0, len(given), IDS_A_BATCH):
        batch = given[start : start + IDS_A_BATCH]
        rows = connection.execute(statement, {**parameters, "export_ids": batch.tolist()}).fetchall()
        unknown += [id for id, known, _ in rows if not known]
        chosen.append(np.array([id for id, _, meets in rows if meets], np.int64))
    if unknown:
        raise ImageNotFound(_unknown_message(unknown))
    return np.concatenate(chosen)


def batches(connection: Connection, ids: NDArray[np.int64], embeddings: Sequence[Embedding]) -> Iterator[ExportBatch]:
    """These images in this order, with these of their vectors."""
    statement = _statement(embeddings)
    for start in range(0, len(ids), ROWS_A_BATCH):
        wanted = ids[start : start + ROWS_A_BATCH].tolist()
        with connection.cursor(row_factory=dict_row) as cursor:
            # A condition goes below the view's joins. A join with the ids would not: all images were joined first.
            by_id = {row["id"]: row for row in cursor.execute(statement, [wanted], binary=True)}
        rows = [by_id[id] for id in wanted]
        vectors = {e.name: np.full((len(rows), SPACES[e.space].width), np.nan, np.float16) for e in embeddings}
        for e in embeddings:
            for n, row in enumerate(rows):
                if row[e.view_column] is not None:
                    vectors[e.name][n] = row[e.view_column].to_numpy()
        yield ExportBatch([record(row) for row in rows], vectors)


def distinct(ids: Iterable[int]) -> NDArray[np.int64]:
    """Some ids in their order, each where it comes first, int64 of shape (n,).

    Raises ImageNotFound where one is too large to be an image's.
    """
    given = np.fromiter(_bigints(ids), np.int64)
    _, first = np.unique(given, return_index=True)
    return given[np.sort(first)]


def _bigints(ids: Iterable[int]) -> Iterator[int]:
    for id in map(checked_id, ids):
        if not -(2**63) <= id < 2**63:
            raise ImageNotFound(_unknown_message([id]))
        yield id


def _unknown_message(ids: Sequence[int]) -> str:
    if len(ids) == 1:
        return f"The library has no image with id {ids[0]}."
    named = ", ".join(map(str, ids[:NAMED_UNKNOWN]))
    more = f" and {len(ids) - NAMED_UNKNOWN} more" if len(ids) > NAMED_UNKNOWN else ""
    return f"The library has no images with the ids {named}{more}. Leave them out, or index their files."


def _statement(embeddings: Sequence[Embedding]) -> sql.Composed:
    return sql.SQL("SELECT {} FROM image WHERE id = ANY(%s)").format(
        sql.SQL(", ").join([RECORD_COLUMNS, *(sql.Identifier(e.view_column) for e in embeddings)])
    )


SELECT_GIVEN = """
    SELECT given.id, f.id IS NOT NULL, f.id IS NOT NULL AND coalesce({where}, false)
    FROM unnest(%(export_ids)s::bigint[]) WITH ORDINALITY AS given (id, place)
    LEFT JOIN image_file f ON f.id = given.id
    ORDER BY given.place
"""
