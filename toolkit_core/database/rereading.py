"""Rows whose metadata is made sense of again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from psycopg import sql

from ..records import GenerationParameters
from . import raw_metadata
from .database import Connection
from .images import PARAMETER_COLUMNS, parameter_columns
from .stored_text import disk_path


@dataclass(frozen=True)
class StoredFile:
    """A row that can be read again. `metadata_id` is None where its metadata is not kept."""

    id: int
    path: str
    content_hash: bytes
    metadata_id: int | None


@dataclass(frozen=True)
class Reread:
    """What a row's metadata says now, and where that is kept by now."""

    file: StoredFile
    parameters: GenerationParameters
    metadata_id: int | None


def count(connection: Connection, reader_version: int, *, everything: bool = False) -> int:
    """How many rows an older reader has read, or how many there are at all; without files that were never opened."""
    row = connection.execute(f"SELECT count(*) {ROWS}".encode(), _which(reader_version, everything, 0)).fetchone()
    assert row is not None
    return row[0]


def waiting(
    connection: Connection, reader_version: int, after: int, limit: int, *, everything: bool = False
) -> list[StoredFile]:
    """The next of these rows, in id order."""
    rows = connection.execute(
        f"SELECT id, path, content_hash, metadata_id {ROWS} ORDER BY id LIMIT %(limit)s".encode(),
        {**_which(reader_version, everything, after), "limit": limit},
    )
    return [StoredFile(id, disk_path(path), bytes(content), metadata_id) for id, path, content, metadata_id in rows]


def write(connection: Connection, reread: Sequence[Reread], reader_version: int) -> int:
    """Store what rows say now, and which reader says so. Returns how many of them said something else before.

    A row that another process gave a new file or new texts meanwhile is left as it is.
    """
    columns = parameter_columns(connection, [item.parameters for item in reread])
    kept = raw_metadata.present(connection, {item.metadata_id for item in reread})
    # In the order in which the indexer takes its row locks.
    locked = {
        (id, metadata_id, bytes(content))
        for id, metadata_id, content in connection.execute(
            "SELECT id, metadata_id, content_hash FROM image_file WHERE id = ANY(%s) ORDER BY path FOR NO KEY UPDATE",
            [[item.file.id for item in reread]],
        )
    }
    current = [
        {
            **own,
            "id": item.file.id,
            "metadata_id": item.metadata_id if item.metadata_id in kept else None,
            "reader_version": reader_version,
        }
        for item, own in zip(reread, columns, strict=True)
        if (item.file.id, item.file.metadata_id, item.file.content_hash) in locked
    ]
    with connection.cursor() as cursor:
        cursor.executemany(UPDATE_CHANGED, current)
        changed = cursor.rowcount
    connection.execute(
        "UPDATE image_file f SET metadata_id = new.metadata_id, reader_version = %(version)s"
        " FROM unnest(%(ids)s::bigint[], %(metadata_ids)s::bigint[]) AS new(id, metadata_id)"
        " WHERE f.id = new.id AND (f.metadata_id, f.reader_version) IS DISTINCT FROM (new.metadata_id, %(version)s)",
        {
            "ids": [row["id"] for row in current],
            "metadata_ids": [row["metadata_id"] for row in current],
            "version": reader_version,
        },
    )
    return changed


def _which(reader_version: int, everything: bool, after: int) -> dict[str, object]:
    return {"version": reader_version, "everything": everything, "after": after}


ROWS = """
    FROM image_file
    WHERE content_hash IS NOT NULL AND id > %(after)s
      AND (%(everything)s OR coalesce(reader_version, 0) < %(version)s)
"""

UPDATE_CHANGED = sql.SQL(
    "UPDATE image_file SET metadata_id = %(metadata_id)s, reader_version = %(reader_version)s, {updates}"
    " WHERE id = %(id)s AND ROW({columns}) IS DISTINCT FROM ROW({values})"
).format(
    updates=sql.SQL(", ").join(
        sql.SQL("{} = {}").format(sql.Identifier(name), sql.Placeholder(name)) for name in PARAMETER_COLUMNS
    ),
    columns=sql.SQL(", ").join(map(sql.Identifier, PARAMETER_COLUMNS)),
    values=sql.SQL(", ").join(map(sql.Placeholder, PARAMETER_COLUMNS)),
)
