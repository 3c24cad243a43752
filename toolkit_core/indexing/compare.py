"""What is on disk beside what the library has of it, in one pass over both."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from itertools import chain, groupby
from pathlib import Path

from ..database import Database, images
from ..database.images import KnownFile
from ..records import FailedFile
from .scan import FoundFile, Walk
from .sidecars import stamp
from .stages import batches

ROWS_A_PAGE = 10_000


def compared(
    database: Database, roots: Sequence[str], walk: Walk | None = None
) -> Iterator[tuple[FoundFile | FailedFile | None, KnownFile | None]]:
    """The image files at or below resolved paths, each with its row; files without one, and rows without a file.

    After them those behind links to folders. Both sides come by path, so that a million of them take no memory. Where
    their orders differ (undecodable bytes sort differently), or links lead to a folder above another one, the two
    halves of a pair come one by one: a file without a row may have one, and a row without a file may be of a file that
    is there.
    walk: what it came by of links is known afterwards.
    """
    walk = walk or Walk()
    yield from _merged(chain.from_iterable(map(walk.at, sorted(roots))), _rows(database, roots))
    compared_folders = {Path(root) for root in roots}
    named = set(roots)

    def rows_below(folder: str) -> Iterator[KnownFile]:
        path = Path(folder)
        if compared_folders.isdisjoint((path, *path.parents)):
            compared_folders.add(path)
            yield from _rows_below(database, folder)

    for folder in walk.behind_links:
        unnamed = (found for found in walk.at(folder) if found.path not in named)
        yield from _merged(unnamed, rows_below(folder))
    for folder in walk.broken_links:
        yield from ((None, row) for row in rows_below(folder))


def _merged(
    files: Iterator[FoundFile | FailedFile], rows: Iterator[KnownFile]
) -> Iterator[tuple[FoundFile | FailedFile | None, KnownFile | None]]:
    row = next(rows, None)
    for found in files:
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
        # A folder may be where a file was.
        for paths in batches(group, 1 if are_folders else ROWS_A_PAGE):
            with database.transaction() as connection:
                rows = images.files_at(connection, paths, or_missing=True)
            yield from (rows[path] for path in paths if path in rows)
            if are_folders:
                yield from _rows_below(database, paths[0])


def _rows_below(database: Database, folder: str) -> Iterator[KnownFile]:
    after = None
    while True:
        with database.transaction() as connection:
            page = images.known_files(connection, folder, after, ROWS_A_PAGE)
        yield from page
        if len(page) < ROWS_A_PAGE:
            return
        after = page[-1].path
