"""What became of a folder while nobody followed it, without what nobody asked to index."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

from ..database import Database, images, missing
from ..records import IndexReport, Progress
from .gone import note_unseen
from .scan import EPOCH, FoundFile, scan
from .sidecars import stamp
from .stages import batches

FILES_A_RUN = 500


def catch_up(
    database: Database, folder: str, progress: Callable[[Progress], None], index: Callable[[list[str]], IndexReport]
) -> Iterator[IndexReport]:
    """Bring the rows of a folder up to date, and index what is newer than the newest of them, in runs.

    A folder without rows is left alone. An older file that the library does not have is indexed where it may be one
    that is gone, under another name.
    """
    with database.transaction() as connection:
        rows = {row.path: row for row in images.known_files(connection, folder, os.sep)}
        sizes = {image.file_size for image in missing.below(connection)}
    if not rows:
        return
    newest = max((row.modified_at for row in rows.values() if row.modified_at is not None), default=EPOCH)
    changed: list[str] = []
    older: list[FoundFile] = []
    for number, found in enumerate(scan([folder]), 1):
        if number % 1000 == 0:
            progress(Progress("scan", number, None, found.path))
        if not isinstance(found, FoundFile):
            continue
        row = rows.pop(found.path, None)
        if row is not None:
            now = (found.file_size, found.modified_at, stamp(found.sidecars))
            if (row.file_size, row.modified_at, row.sidecars) != now:
                changed.append(found.path)
        elif found.modified_at > newest:
            changed.append(found.path)
        else:
            older.append(found)
    sizes.update(row.file_size for path, row in rows.items() if not os.path.lexists(path))
    changed += [found.path for found in older if found.file_size in sizes]
    for paths in batches(changed, FILES_A_RUN):
        yield index(paths)
    yield IndexReport(missing=note_unseen(database, [folder], rows.keys()))
