"""The vector tables: what is pending, writing, reading, and the encoder that each space belongs to."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pgvector import HalfVector
from psycopg import sql

from ..errors import EncoderError, UnusableVectors
from ..records import EncoderRecord
from ..spaces import Space
from .database import Connection
from .stored_text import disk_path

Vectors: TypeAlias = NDArray[np.float32]
Part: TypeAlias = Literal["sealed", "open", "sketch", "next"]


class Picture(NamedTuple):
    """What a picture's vector is made of: the file at a path, while it has the content that the row was made of."""

    path: str
    content_hash: bytes


def table(space: Space, part: Part | None = None) -> sql.Identifier:
    """A space's table: the whole, one of the parts that `migrations/0005_segments.sql` describes, or the next one's."""
    whole = ("prompt_" if space.of == "text" else "image_") + space.name
    return sql.Identifier(whole if part is None else f"{whole}_{part}")


def owner(space: Space) -> sql.Identifier:
    """The column that says whose vector a row is."""
    return sql.Identifier("prompt_id" if space.of == "text" else "image_id")


def names(space: Space) -> dict[str, sql.Composable]:
    """The names of a space's tables, of its owner's column, and its width, for `sql.SQL.format`."""
    return {
        "whole": table(space),
        "sealed": table(space, "sealed"),
        "open": table(space, "open"),
        "sketch": table(space, "sketch"),
        "next": table(space, "next"),
        "owner": owner(space),
        "width": sql.Literal(space.width),
    }


def pending(
    connection: Connection, space: Space, after: int, limit: int, part: Part | None = None
) -> list[tuple[int, Any]]:
    """The next owners without a vector, in id order: (prompt id, text), or (image id, `Picture`).

    part: the table that lacks the vector, in place of the whole.
    """
    statement = pending_query(space, table(space, part), sql.SQL("o.id, o.value, o.content_hash"))
    rows = connection.execute(
        sql.SQL("{} ORDER BY o.id LIMIT %(limit)s").format(statement), {"after": after, "limit": limit}
    )
    return [(id, value if space.of == "text" else Picture(disk_path(value), content)) for id, value, content in rows]


def present(connection: Connection, space: Space, owners: Sequence[int]) -> set[int]:
    """Those of some owners that have a vector."""
    statement = sql.SQL("SELECT {owner} FROM {table} WHERE {owner} = ANY(%s)")
    rows = connection.execute(statement.format(owner=owner(space), table=table(space)), [list(owners)])
    return {id for (id,) in rows}


def held(connection: Connection, space: Space, owners: Collection[int], contents: Mapping[int, bytes]) -> set[int]:
    """Those of some owners that a vector may still be written for: they are there until the transaction's end.

    contents: what the pixels of each picture came from, by owner. Those of a file that was replaced since are left out.
    So are those that another transaction is changing, as if they had no vector yet: it may take its locks in another
    order, and is not waited for. Call it before anything is written: whoever changes or deletes an owner locks that
    first, its vectors after it.
    """
    if space.of == "text":
        rows = connection.execute(
            "SELECT id FROM prompt_text WHERE id = ANY(%s) FOR KEY SHARE SKIP LOCKED", [list(owners)]
        )
        return {id for (id,) in rows}
    rows = connection.execute(
        "SELECT id, content_hash FROM image_file WHERE id = ANY(%s) FOR SHARE SKIP LOCKED", [list(owners)]
    )
    return {id for id, content_hash in rows if content_hash is not None and content_hash == contents.get(id)}


def count_pending(connection: Connection, space: Space, part: Part | None = None) -> int:
    """How many texts, or images, have no vector in a space, or in a part of its table."""
    row = connection.execute(pending_query(space, table(space, part), sql.SQL("count(*)")), {"after": 0}).fetchone()
    assert row is not None
    return row[0]


def pending_query(space: Space, table: sql.Identifier, columns: sql.SQL) -> sql.Composed:
    """Of the owners `o` behind one that have no vector in a table, some columns."""
    return sql.SQL(PENDING_TEXTS if space.of == "text" else PENDING_IMAGES).format(table=table, columns=columns)


def write(connection: Connection, space: Space, owners: Sequence[int], vectors: Vectors) -> None:
    """Write vectors, shape (len(owners), space.width), replacing those that are there.

    The owners are written in the same transaction, or `held` by it.
    Raises UnusableVectors where one is not finite, or zero, in half precision: such a vector could never be found.
    """
    halved = halves(space, owners, vectors)
    order = np.argsort(owners)  # one lock order for all writers
    ids = [int(owners[i]) for i in order]
    connection.execute(
        sql.SQL(
            "INSERT INTO {open} ({owner}, embedding) SELECT * FROM unnest(%b::bigint[], %b::halfvec[])"
            " ON CONFLICT ({owner}) DO UPDATE SET embedding = excluded.embedding"
        ).format(**names(space)),
        [ids, [halved[i] for i in order]],
    )
    # Each after the open part, whose rows' locks are what sealing and writing wait for: a row that is being sealed has
    # arrived in the sealed part by the time its lock is had.
    for statement in (
        "INSERT INTO {sketch} SELECT {owner}, binary_quantize(embedding)::bit({width}) FROM {open}"
        " WHERE {owner} = ANY(%s) ORDER BY {owner} ON CONFLICT ({owner}) DO UPDATE SET bits = excluded.bits",
        "DELETE FROM {sealed} WHERE {owner} = ANY(%s)",
    ):
        connection.execute(sql.SQL(statement).format(**names(space)), [ids])


def halves(space: Space, owners: Sequence[int], vectors: Vectors) -> list[HalfVector]:
    """Vectors of some owners as they are stored. Raises as `halved` does."""
    return [HalfVector(row) for row in halved(space, len(owners), vectors)]


def halved(space: Space, rows: int, vectors: Vectors) -> NDArray[np.float16]:
    """Vectors in the half precision that they are stored in.

    Raises EncoderError for a wrong shape, UnusableVectors for those that are not finite then, or zero.
    """
    if vectors.shape != (rows, space.width):
        raise EncoderError(f"{space.name} vectors have shape {vectors.shape}, but {(rows, space.width)} was expected.")
    with np.errstate(over="ignore"):
        values = vectors.astype(np.float16)
    for unusable, what in (
        (~np.isfinite(values).all(axis=1), "with values that are not finite"),
        (~values.any(axis=1), "that is zero"),
    ):
        if unusable.any():
            raise UnusableVectors(
                f"The {space.name} encoder gave a vector {what} in half precision.", np.flatnonzero(unusable).tolist()
            )
    return values


def remove(connection: Connection, space: Space, owners: Sequence[int]) -> None:
    """Remove the vectors of some owners, also those that wait to take their place."""
    for statement in (  # in the order of `write`
        "DELETE FROM {open} WHERE {owner} = ANY(%s)",
        "DELETE FROM {sketch} WHERE {owner} = ANY(%s)",
        "DELETE FROM {sealed} WHERE {owner} = ANY(%s)",
        "DELETE FROM {next} WHERE {owner} = ANY(%s)",
    ):
        connection.execute(sql.SQL(statement).format(**names(space)), [list(owners)])


def read_of(connection: Connection, space: Space, owners: Sequence[int]) -> dict[int, Vectors]:
    """The stored vectors of some prompts, or images, by id, each float32 of shape (space.width,)."""
    statement = sql.SQL("SELECT {owner}, embedding FROM {table} WHERE {owner} = ANY(%s)")
    rows = connection.execute(statement.format(owner=owner(space), table=table(space)), [list(owners)], binary=True)
    return {id: half.to_numpy().astype(np.float32) for id, half in rows}


def encoder(connection: Connection, space: Space) -> EncoderRecord | None:
    """The encoder whose vectors a space holds; None for a space never written."""
    row = connection.execute("SELECT name, created_at FROM encoder WHERE space = %s", [space.name]).fetchone()
    return None if row is None else EncoderRecord(space.name, *row)


def probe(connection: Connection, space: Space, record: Literal["encoder", "next_encoder"] = "encoder") -> Vectors:
    """The probe of a space's encoder, or of the one that is to follow it, float32 of shape (rows, space.width).

    No rows where there is none.
    """
    statement = sql.SQL("SELECT probe FROM {} WHERE space = %s").format(sql.Identifier(record))
    row = connection.execute(statement, [space.name]).fetchone()
    return np.asarray(row[0] if row else [], dtype=np.float32).reshape(-1, space.width)


def adopt_encoder(connection: Connection, space: Space, name: str, probe: Vectors) -> None:
    """Record a space's first encoder. Where another process was first, its record stays."""
    values: list[Any] = [space.name, name, probe.ravel().tolist()]
    connection.execute(
        "INSERT INTO encoder (space, name, probe) VALUES (%s, %s, %s::real[]) ON CONFLICT (space) DO NOTHING", values
    )


def is_current(connection: Connection, space: Space, since: datetime | None) -> bool:
    """Whether a space's encoder is still the one recorded then. It stays so until the transaction's end."""
    row = connection.execute("SELECT created_at FROM encoder WHERE space = %s FOR SHARE", [space.name]).fetchone()
    return row is not None and row[0] == since


# Only texts that an image has now; only images that could be decoded and are there. A batch takes as long in a large
# library as in a small one: both sides begin behind `after`, and a subquery with LIMIT is a look into an index, where
# PostgreSQL might read the whole table first for an EXISTS.
PENDING_TEXTS = """
    SELECT {columns}
    FROM (SELECT id, text AS value, NULL::bytea AS content_hash FROM prompt_text) o
    WHERE o.id > %(after)s AND NOT EXISTS (SELECT FROM {table} e WHERE e.prompt_id = o.id AND e.prompt_id > %(after)s)
      AND ((SELECT 1 FROM image_file f WHERE f.prompt_id = o.id LIMIT 1) IS NOT NULL
           OR (SELECT 1 FROM image_file f WHERE f.negative_prompt_id = o.id LIMIT 1) IS NOT NULL)
"""
PENDING_IMAGES = """
    SELECT {columns}
    FROM (SELECT id, path AS value, content_hash, error, missing_since FROM image_file) o
    WHERE o.id > %(after)s AND NOT EXISTS (SELECT FROM {table} e WHERE e.image_id = o.id AND e.image_id > %(after)s)
      AND o.error IS NULL AND o.missing_since IS NULL
"""
