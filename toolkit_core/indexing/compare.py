"""What is on disk beside what the library has of it, in one pass over both."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from itertools import groupby

from ..database import Database, images
from ..database.images import KnownFile
from ..records import FailedFile
from .scan import FoundFile, scan
from .sidecars import stamp
from .stages import batches

ROWS_A_PAGE = 10_000


def compared(
    database: Database, roots: Sequence[str], *, recursive: bool = True
) -> Iterator[tuple[FoundFile | FailedFile | None, KnownFile | None]]:
    """The image files at or below resolved paths, each with its row; files without one, and rows without a file.

    Both sides come by path, so that a million of them take no memory. Where their orders differ (a folder behind a
    link comes last, undecodable bytes sort differently), the two halves of a pair come one by one: a file without a
    row may have one, and a row without a file may be of a file that is there.
    """
    rows = _rows(database, roots)
    row = next(rows, None)
    for found in scan(roots, recursive=recursive):
        while row is not None and row.path < found.path:
            yield None, row
            row = next(rows, None)
        if row is not None and row.path == found.path:
            yield found, row
            row = next(rows, None)
        else:
            yield found, None
    while row is not None:
        yield None, row
        row = next(rows, None)


def is_as_known(found: FoundFile, row: KnownFile | None) -> bool:
    """Whether a file is as its row says, and need not be read."""
    return (
        row is not None
        and row.file_size == found.file_size
        and row.modified_at == found.modified_at
        and row.sidecars == stamp(found.sidecars)
    )


def _rows(database: Database, roots: Sequence[str]) -> Iterator[KnownFile]:
    """The rows at or below the roots, by path. A transaction a page: a walk of a network share may take an hour."""
    for are_folders, group in groupby(sorted(roots), os.path.isdir):
        if are_folders:
            for folder in group:
                yield from _rows_below(database, folder)
            continue
        for paths in batches(group, ROWS_A_PAGE):
            with database.transaction() as connection:
                rows = images.files_at(connection, paths, or_missing=True)
            yield from (rows[path] for path in paths if path in rows)


def _rows_below(database: Database, folder: str) -> Iterator[KnownFile]:
    after = None
    while True:
        with database.transaction() as connection:
            page = images.known_files(connection, folder, after, ROWS_A_PAGE)
        yield from page
        if len(page) < ROWS_A_PAGE:
            return
        after = page[-1].path
