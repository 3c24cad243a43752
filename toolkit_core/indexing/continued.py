"""Files that the library has already, under another name or another time."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from ..database import Connection, images
from ..database.images import ImageRow, KnownFile
from .scan import presence

# Rows with the content of a new file, and not known to be missing, whose files are looked for: thousands of files may
# be the same black picture.
OTHERS_LOOKED_AT = 100


def continued_rows(
    connection: Connection,
    rows: Sequence[ImageRow],
    known: Mapping[str, KnownFile],
    taken: Collection[int],
    behind: dict[bytes, str],
) -> dict[str, tuple[ImageRow, KnownFile]]:
    """The rows that go on an existing one, by path: the row as read, and the one in the library.

    A file whose content is what its row has was only touched. A new path with the content of a row whose own file is
    gone was moved or renamed. A copy beside its original is neither. Where several rows with one content are missing,
    new paths take them in order, so that a folder that was moved as a whole keeps which was which.
    known: the rows at the files' own paths. taken: the ids of rows that another path goes on already.
    behind: kept from one call to the next: up to which path the missing rows of a content were given away. What was
    given away stays in the index for as long as anybody's transaction may see it.
    """
    continued: dict[str, tuple[ImageRow, KnownFile]] = {}
    if at_their_paths := [(row, known[row.path]) for row in rows if row.path in known]:
        hashes = images.content_hashes(connection, [before.id for _, before in at_their_paths])
        continued = {
            row.path: (row, before) for row, before in at_their_paths if hashes.get(before.id) == row.content_hash
        }
    if new := [row for row in rows if row.path not in known]:
        wanted = {row.content_hash: behind.get(row.content_hash, "") for row in new}
        found = images.missing_with_content(connection, wanted, taken, len(new))
        moved = _moved(new, found)
        continued.update(moved)
        last = {row.content_hash: before.path for row, before in moved.values()}
        # Few contents have more rows than a batch has files; the others need not be remembered.
        more = {content_hash: files[-1].path for content_hash, files in found.items() if len(files) == len(new)}
        behind.update({content_hash: last.get(content_hash, end) for content_hash, end in more.items()})
    if others := [row for row in new if row.path not in continued]:
        hashes = {row.content_hash for row in others}
        continued.update(_moved(others, images.others_with_content(connection, hashes, taken, OTHERS_LOOKED_AT)))
    return continued


def _moved(
    new: Sequence[ImageRow], found: Mapping[bytes, Sequence[KnownFile]]
) -> dict[str, tuple[ImageRow, KnownFile]]:
    """New files that go on rows with their content whose files are gone, in the order of both."""
    gone = {
        content_hash: [file for file in reversed(files) if presence(file.path) == "gone"]
        for content_hash, files in found.items()
    }
    return {row.path: (row, files.pop()) for row in new if (files := gone.get(row.content_hash))}
