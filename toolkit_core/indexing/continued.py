"""Files that the library has already, under another name or another time."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime, timezone

from ..database import Connection, moved
from ..database.images import ImageRow, KnownFile
from .whereabouts import whereabouts

# Rows with the content of a file whose own files are looked for, of those that are missing and of the others: thousands
# of files may be the same black picture.
MISSING_LOOKED_AT = 32
OTHERS_LOOKED_AT = 100

Continued = dict[str, tuple[ImageRow, KnownFile]]
_NOTHING: Iterator[KnownFile] = iter(())
_NEVER = datetime.min.replace(tzinfo=timezone.utc)


def continued_rows(
    connection: Connection,
    rows: Sequence[ImageRow],
    same: Mapping[str, KnownFile],
    taken: Collection[int],
    behind: dict[bytes, str],
) -> Continued:
    """The rows that go on an existing one, by path: the row as read, and the one in the library.

    A file whose content is what its row has was only touched. Content that its row's own path has no more, because it
    is gone or another file has its name, was moved or renamed, over whatever was there before. A copy beside its
    original is neither. Where several rows with one content have no file, a path takes its own; then those are taken
    that are not even marked as missing yet, then those that went last, and in order, so that a folder that was moved as
    a whole keeps which was which.
    same: the rows at the paths of files that have their content. taken: the ids of rows that another path goes on
    already. behind: kept from one call to the next: up to which path the missing rows of a content were given away.
    What was given away stays in the index for as long as anybody's transaction may see it.
    """
    continued: Continued = {row.path: (row, same[row.path]) for row in rows if row.path in same}
    back = moved.missing_at(connection, {row.path: row.content_hash for row in rows if row.path not in continued})
    continued.update({row.path: (row, back[row.path]) for row in rows if row.path in back})
    but = {*taken, *(before.id for _, before in continued.values())}
    # Empty files are like each other without being the same: one that is written anew is empty for a moment.
    rows = [row for row in rows if row.file_size]
    if others := [row for row in rows if row.path not in continued]:
        hashes = {row.content_hash for row in others}
        displaced = _moved(others, moved.others_with_content(connection, hashes, but, OTHERS_LOOKED_AT))
        continued.update(displaced)
        # One of them may be marked as missing by now.
        but.update(before.id for _, before in displaced.values())
    if others := [row for row in rows if row.path not in continued]:
        limit = max(len(others), MISSING_LOOKED_AT)
        wanted = {row.content_hash: behind.get(row.content_hash, "") for row in others}
        found = moved.missing_with_content(connection, wanted, but, limit)
        # Few contents have more missing rows than are looked at; the others need not be remembered.
        more = {content_hash: files[-1].path for content_hash, files in found.items() if len(files) == limit}
        ordered = {
            content_hash: files if content_hash in more else _last_gone_first(files)
            for content_hash, files in found.items()
        }
        from_elsewhere = _moved(others, ordered)
        last = {row.content_hash: before.path for row, before in from_elsewhere.values()}
        behind.update({content_hash: last.get(content_hash, end) for content_hash, end in more.items()})
        continued.update(from_elsewhere)
    return continued


def _last_gone_first(files: Sequence[KnownFile]) -> list[KnownFile]:
    """Those that went at one time stay in their order."""
    return sorted(files, key=lambda file: file.missing_since or _NEVER, reverse=True)


def _moved(rows: Sequence[ImageRow], found: Mapping[bytes, Sequence[KnownFile]]) -> Continued:
    """Files that go on rows with their content that have left their own paths, in the order of both."""
    left = {content_hash: _left(content_hash, files) for content_hash, files in found.items()}
    return {
        row.path: (row, before)
        for row in rows
        if (before := next(left.get(row.content_hash, _NOTHING), None)) is not None
    }


def _left(content_hash: bytes, files: Sequence[KnownFile]) -> Iterator[KnownFile]:
    return (file for file in files if whereabouts(file, content_hash) == "gone")
