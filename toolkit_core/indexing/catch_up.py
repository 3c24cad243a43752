"""What became of a folder while nobody followed it, without what nobody asked to index."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ..database import Database, images, missing
from ..database.images import KnownFile
from ..records import IndexReport, Progress
from .compare import compared, is_as_known
from .gone import note_unseen
from .scan import FoundFile, Walk
from .stages import batches

FILES_A_RUN = 500


def catch_up(
    database: Database, folder: str, progress: Callable[[Progress], None], index: Callable[[list[str]], IndexReport]
) -> Iterator[IndexReport]:
    """Bring the rows of a folder up to date, and index what was modified since it has some, in runs.

    A folder without rows is left alone. An older file that the library does not have is indexed where it may be one
    that is gone, or has another file in its place, under another name.
    """
    with database.transaction() as connection:
        since = images.known_since(connection, folder)
        sizes = {image.file_size for image in missing.below(connection)}
    if since is None:
        return
    walk = Walk()
    changed: list[str] = []
    older: list[FoundFile] = []
    unseen: list[KnownFile] = []
    for number, (found, row) in enumerate(compared(database, [folder], walk), 1):
        if number % 1000 == 0:
            progress(Progress("scan", number, None, found.path if found else None))
        if not isinstance(found, FoundFile):
            if row is not None:
                unseen.append(row)
        elif is_as_known(found, row):
            continue
        elif row is not None:
            changed.append(found.path)
            sizes.add(row.file_size)
        elif found.modified_at > since:
            changed.append(found.path)
        else:
            older.append(found)
    gone = note_unseen(database, [folder, *walk.links], [row.path for row in unseen])
    sizes.update(row.file_size for row in unseen if row.path in gone)
    changed += [found.path for found in older if found.file_size in sizes]
    for paths in batches(changed, FILES_A_RUN):
        yield index(paths)
    with database.transaction() as connection:
        still_gone = missing.count_below(connection, [folder, *walk.links])
    yield IndexReport(missing=still_gone)
