"""Which images are there twice, and which of them stands for the others."""

from __future__ import annotations

from collections.abc import Sequence

from .database import Connection
from .missing import IS_FOUND
from .stored_text import disk_path

# The image that a person would keep comes first.
RANK = "favorite DESC, rating DESC NULLS LAST, id"


def identical(connection: Connection) -> list[list[int]]:
    """The ids of images whose files were byte for byte the same when they were last read, in rank order each."""
    rows = connection.execute(
        # modified_at is NULL where a file can no longer be opened, so that its content is not known any more.
        f"SELECT array_agg(id ORDER BY {RANK}) FROM image_file WHERE content_hash IS NOT NULL"
        " AND modified_at IS NOT NULL AND missing_since IS NULL"
        " GROUP BY content_hash HAVING count(*) > 1 ORDER BY min(id)".encode()
    )
    return [ids for (ids,) in rows]


def ranked(connection: Connection) -> list[int]:
    """The ids of all images that have a CLIP-H vector, in rank order."""
    rows = connection.execute(
        f"SELECT f.id FROM image_file f WHERE {IS_FOUND}"
        f" AND EXISTS (SELECT FROM image_clip_h v WHERE v.image_id = f.id) ORDER BY {RANK}".encode()
    )
    return [id for (id,) in rows]


def paths(connection: Connection, ids: Sequence[int]) -> dict[int, str]:
    """The files of images, by id."""
    rows = connection.execute("SELECT id, path FROM image_file WHERE id = ANY(%s::bigint[])", [list(ids)])
    return {id: disk_path(path) for id, path in rows}
