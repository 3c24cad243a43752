"""Files that the library has already, under another name or another time."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence

from ..database import Connection, images
from ..database.images import ImageRow, KnownFile


def continued_rows(
    connection: Connection, rows: Sequence[ImageRow], known: Collection[str], taken: Collection[int] = ()
) -> dict[str, tuple[ImageRow, KnownFile]]:
    """The rows that go on an existing one, by path: the row as read, and the one in the library.

    A file whose content is what its row has was only touched. A new path with the content of a row whose own file is
    gone was moved or renamed. A copy beside its original is neither.
    taken: the ids of rows that another path goes on already.
    """
    before = images.rows_with_content(connection, [row.content_hash for row in rows])
    continued: dict[str, tuple[ImageRow, KnownFile]] = {}
    gone: dict[bytes, list[KnownFile]] = {}
    for row in rows:
        same = before.get(row.content_hash, [])
        if row.path in known:
            match = next((file for file in same if file.path == row.path), None)
        else:
            # Looked up once a content: thousands of files may be the same black picture.
            if row.content_hash not in gone:
                gone[row.content_hash] = [
                    file for file in reversed(same) if file.id not in taken and not os.path.lexists(file.path)
                ]
            match = gone[row.content_hash].pop() if gone[row.content_hash] else None
        if match is not None:
            continued[row.path] = (row, match)
    return continued
