"""The vector tables: what is pending, writing, reading, and the encoder that each space belongs to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pgvector import HalfVector
from psycopg import sql

from ..errors import EncoderError
from ..records import EncoderRecord
from ..spaces import EMBEDDINGS, PAIRED, Space
from .database import Connection
from .stored_text import disk_path

Vectors: TypeAlias = NDArray[np.float32]
Part: TypeAlias = Literal["sealed", "open", "sketch"]


def table(space: Space, part: Part | None = None) -> sql.Identifier:
    """A space's table: the whole, or one of the parts that `migrations/0005_segments.sql` describes."""
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
        "owner": owner(space),
        "width": sql.Literal(space.width),
    }


def pending(connection: Connection, space: Space, after: int, limit: int) -> list[tuple[int, str]]:
    """The next owners without a vector, in id order: (prompt id, text), or (image id, path on disk)."""
    query = PENDING_TEXTS if space.of == "text" else PENDING_IMAGES
    statement = sql.SQL(query).format(table=table(space), columns=sql.SQL("o.id, o.value"))
    rows = connection.execute(sql.SQL("{} AND o.id > %s ORDER BY o.id LIMIT %s").format(statement), [after, limit])
    return [(id, value if space.of == "text" else disk_path(value)) for id, value in rows]


def present(connection: Connection, space: Space, owners: Sequence[int]) -> set[int]:
    """Those of some owners that have a vector."""
    statement = sql.SQL("SELECT {owner} FROM {table} WHERE {owner} = ANY(%s)")
    rows = connection.execute(statement.format(owner=owner(space), table=table(space)), [list(owners)])
    return {id for (id,) in rows}


def count_pending(connection: Connection, space: Space) -> int:
    """How many texts, or images, have no vector in a space."""
    query = PENDING_TEXTS if space.of == "text" else PENDING_IMAGES
    row = connection.execute(sql.SQL(query).format(table=table(space), columns=sql.SQL("count(*)"))).fetchone()
    assert row is not None
    return row[0]


def write(connection: Connection, space: Space, owners: Sequence[int], vectors: Vectors) -> None:
    """Write vectors, shape (len(owners), space.width), replacing those that are there.

    Raises EncoderError where a value is not finite in half precision: such a vector could never be found.
    """
    if vectors.shape != (len(owners), space.width):
        raise EncoderError(
            f"{space.name} vectors have shape {vectors.shape}, but {(len(owners), space.width)} was expected."
        )
    with np.errstate(over="ignore"):
        halves = vectors.astype(np.float16)
    if not np.isfinite(halves).all():
        raise EncoderError(f"The {space.name} encoder gave a vector with values that are not finite in half precision.")
    order = np.argsort(owners)  # one lock order for all writers
    ids = [int(owners[i]) for i in order]
    connection.execute(
        sql.SQL(
            "INSERT INTO {open} ({owner}, embedding) SELECT * FROM unnest(%b::bigint[], %b::halfvec[])"
            " ON CONFLICT ({owner}) DO UPDATE SET embedding = excluded.embedding"
        ).format(**names(space)),
        [ids, [HalfVector(halves[i]) for i in order]],
    )
    # Each after the open part, whose rows' locks are what sealing and writing wait for: a row that is being sealed has
    # arrived in the sealed part by the time its lock is had.
    for statement in (
        "INSERT INTO {sketch} SELECT {owner}, binary_quantize(embedding)::bit({width}) FROM {open}"
        " WHERE {owner} = ANY(%s) ORDER BY {owner} ON CONFLICT ({owner}) DO UPDATE SET bits = excluded.bits",
        "DELETE FROM {sealed} WHERE {owner} = ANY(%s)",
    ):
        connection.execute(sql.SQL(statement).format(**names(space)), [ids])


def remove(connection: Connection, space: Space, owners: Sequence[int]) -> None:
    """Remove the vectors of some owners."""
    for statement in (  # in the order of `write`
        "DELETE FROM {open} WHERE {owner} = ANY(%s)",
        "DELETE FROM {sketch} WHERE {owner} = ANY(%s)",
        "DELETE FROM {sealed} WHERE {owner} = ANY(%s)",
    ):
        connection.execute(sql.SQL(statement).format(**names(space)), [list(owners)])


def read(connection: Connection, image_id: int, names: Sequence[str]) -> dict[str, Vectors]:
    """The stored embeddings of an image by name, each float32 of shape (width,); those it lacks are left out."""
    columns = sql.SQL(", ").join(sql.Identifier(EMBEDDINGS[name].view_column) for name in names)
    statement = sql.SQL("SELECT {} FROM image WHERE id = %s").format(columns)
    row = connection.execute(statement, [image_id], binary=True).fetchone() if names else ()
    found = zip(names, row or (), strict=False)
    return {name: half.to_numpy().astype(np.float32) for name, half in found if half is not None}


def read_of(connection: Connection, space: Space, owners: Sequence[int]) -> dict[int, Vectors]:
    """The stored vectors of some prompts, or images, by id, each float32 of shape (space.width,)."""
    statement = sql.SQL("SELECT {owner}, embedding FROM {table} WHERE {owner} = ANY(%s)")
    rows = connection.execute(statement.format(owner=owner(space), table=table(space)), [list(owners)], binary=True)
    return {id: half.to_numpy().astype(np.float32) for id, half in rows}


def encoder(connection: Connection, space: Space) -> EncoderRecord | None:
    """The encoder whose vectors a space holds; None for a space never written."""
    row = connection.execute("SELECT name, created_at FROM encoder WHERE space = %s", [space.name]).fetchone()
    return None if row is None else EncoderRecord(space.name, *row)


def probe(connection: Connection, space: Space) -> Vectors:
    """The probe of a space's encoder, float32 of shape (rows, space.width); no rows for a space never written."""
    row = connection.execute("SELECT probe FROM encoder WHERE space = %s", [space.name]).fetchone()
    return np.asarray(row[0] if row else [], dtype=np.float32).reshape(-1, space.width)


def adopt_encoder(connection: Connection, space: Space, name: str, probe: Vectors) -> None:
    """Record a space's first encoder. Where another process was first, its record stays."""
    values: list[Any] = [space.name, name, probe.ravel().tolist()]
    connection.execute(
        "INSERT INTO encoder (space, name, probe) VALUES (%s, %s, %s::real[]) ON CONFLICT (space) DO NOTHING", values
    )


def drop(connection: Connection, space: Space) -> None:
    """Forget a space's vectors and its encoder, so that another one may fill it."""
    # In the order in which writers take them.
    connection.execute(sql.SQL("LOCK TABLE {open}, {sketch}, {sealed}").format(**names(space)))
    connection.execute(sql.SQL("TRUNCATE {whole}, {sketch}").format(**names(space)))
    if space.name in PAIRED:
        connection.execute("TRUNCATE image_pair, image_unpaired")
    connection.execute("DELETE FROM encoder WHERE space = %s", [space.name])


# Only texts that an image has now; only images that could be decoded and are there.
PENDING_TEXTS = """
    SELECT {columns}
    FROM (SELECT id, text AS value FROM prompt_text) o
    WHERE NOT EXISTS (SELECT FROM {table} e WHERE e.prompt_id = o.id)
      AND (EXISTS (SELECT FROM image_file f WHERE f.prompt_id = o.id)
           OR EXISTS (SELECT FROM image_file f WHERE f.negative_prompt_id = o.id))
"""
PENDING_IMAGES = """
    SELECT {columns}
    FROM (SELECT id, path AS value, error, missing_since FROM image_file) o
    WHERE NOT EXISTS (SELECT FROM {table} e WHERE e.image_id = o.id)
      AND o.error IS NULL AND o.missing_since IS NULL
"""
