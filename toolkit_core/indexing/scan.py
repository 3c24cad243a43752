"""Walking folders for image files and the sidecars beside them."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta, timezone
from itertools import chain
from operator import itemgetter
from pathlib import Path
from typing import Literal, NamedTuple

from ..errors import PathNotFound
from ..named_paths import named_path
from ..records import FailedFile
from .sidecars import FolderSidecars, Sidecar, sidecars_beside

SUFFIXES = frozenset(
    (".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".avif", ".gif", ".bmp", ".dib", ".tif", ".tiff")
)
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
LATEST = datetime(9999, 1, 1, tzinfo=timezone.utc)
# A longer path does not fit an index row of PostgreSQL.
LONGEST_PATH = 2600


class FoundFile(NamedTuple):
    """A file on disk. `modified_at` is in UTC, to the microsecond."""

    path: str
    file_size: int
    modified_at: datetime
    sidecars: tuple[Sidecar, ...] = ()


def resolve(paths: Sequence[Path | str]) -> list[str]:
    """The real paths of folders or files to index; what lies below another of them is left out.

    Raises PathNotFound for one that is not there.
    """
    resolved: dict[Path, None] = {}
    for path in paths:
        real = real_path(path)
        if not os.path.exists(real) and presence(real) != "unknown":  # noqa: PTH110 - see `presence`
            raise PathNotFound(f"There is no folder or file {os.fspath(path)!r}. See that its drive is connected.")
        resolved[real] = None
    return [str(path) for path in resolved if resolved.keys().isdisjoint(path.parents)]


def real_path(path: Path | str) -> Path:
    """A folder without symbolic links; a file by its name in such a folder, as a walk of that comes by it.

    Raises PathNotFound for what no path can be.
    """
    given = named_path(path)
    real = Path(os.path.realpath(given))
    is_folder = os.path.isdir(real)  # noqa: PTH112 - of Path, some versions of Python raise what a folder refuses
    return real if is_folder or not given.name else Path(os.path.realpath(given.parent)) / given.name


def presence(path: Path | str) -> Literal["there", "gone", "unknown"]:
    """Whether there is anything at a path, be it a broken link.

    Gone is only what the system says is not there: it knows nothing of what lies below a folder that it may not enter,
    or on a drive that fails.
    """
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return "gone"
    except (OSError, ValueError):  # ValueError: a name that another system gave, and this one cannot have
        return "unknown"
    return "there"


def scan(paths: Sequence[str], *, recursive: bool = True) -> Iterator[FoundFile | FailedFile]:
    """Every image file at or below the resolved paths, each once, by path.

    Not `recursive`: only files that are named or lie directly in a named folder.

    Symbolic links to folders are followed, after all else; a folder that was walked already, by whatever link, is not
    walked again. What cannot be looked into comes back as FailedFile.
    """
    walked: set[tuple[int, int]] = set()
    behind_links: list[str] = []
    folders: dict[str, FolderSidecars] = {}
    for path in chain(sorted(paths), behind_links if recursive else ()):
        inside = [_at(path, walked, behind_links, folders)]
        while inside:
            found = next(inside[-1], None)
            if found is None:
                inside.pop()
            elif not isinstance(found, str):
                yield found
            elif recursive:
                inside.append(_at(found, walked, behind_links, folders))


def _at(
    path: str, walked: set[tuple[int, int]], behind_links: list[str], folders: dict[str, FolderSidecars]
) -> Iterator[FoundFile | FailedFile | str]:
    """The file at a path, or the image files of the folder and the paths of its folders, sorted."""
    try:
        status = Path(path).stat()
        if not stat.S_ISDIR(status.st_mode):
            yield _found(path, status, sidecars_beside(path, folders))
        elif (status.st_dev, status.st_ino) not in walked:
            walked.add((status.st_dev, status.st_ino))
            yield from _entries(path, behind_links)
    except OSError as error:
        yield FailedFile(path, f"It cannot be looked into: {error.strerror or error}")


def _entries(folder: str, behind_links: list[str]) -> Iterator[FoundFile | FailedFile | str]:
    # By name, and a folder as the paths below it are sorted.
    named: list[tuple[str, os.DirEntry[str]]] = []
    sidecars = FolderSidecars()
    with os.scandir(folder) as entries:
        for entry in entries:
            try:
                if entry.is_dir():
                    if entry.is_symlink():
                        # The real path, so that a file has one path whichever link led to it.
                        behind_links.append(os.path.realpath(entry.path))
                    else:
                        named.append((entry.name + os.sep, entry))
                elif entry.name[entry.name.rfind(".") :].lower() in SUFFIXES:
                    named.append((entry.name, entry))
                else:
                    sidecars.add(entry)
            except OSError as error:
                yield _unseen(entry.path, error)
    named.sort(key=itemgetter(0), reverse=True)
    while named:
        # Taken off, for an entry keeps what it was asked for: 600 bytes each, in a folder of maybe a million.
        name, entry = named.pop()
        if name is not entry.name:
            yield entry.path
            continue
        try:
            yield _found(entry.path, entry.stat(), sidecars.of(name))
        except OSError as error:
            yield _unseen(entry.path, error)


def find_file(path: str, folders: dict[str, FolderSidecars]) -> FoundFile | FailedFile:
    """One file as it is on disk, with its sidecars; FailedFile where it cannot be looked at.

    folders: kept from one call to the next, so that a folder is listed once for the files in it.
    """
    try:
        return _found(path, Path(path).stat(), sidecars_beside(path, folders))
    except OSError as error:
        return _unseen(path, error)


def _unseen(path: str, error: OSError) -> FailedFile:
    return FailedFile(path, f"It cannot be looked at: {error.strerror or error}")


def _found(path: str, status: os.stat_result, sidecars: tuple[Sidecar, ...]) -> FoundFile | FailedFile:
    # A character has four bytes at most, and most paths are far too short to be counted.
    if 4 * len(path) > LONGEST_PATH and len(os.fsencode(path)) > LONGEST_PATH:
        return FailedFile(path, f"The path is longer than {LONGEST_PATH} bytes; move the file to a shorter one.")
    return FoundFile(path, status.st_size, modified_at(status), sidecars)


def modified_at(status: os.stat_result) -> datetime:
    """A file's modification time, held to years that PostgreSQL and Python both know."""
    try:
        return min(EPOCH + timedelta(microseconds=status.st_mtime_ns // 1000), LATEST)
    except OverflowError:
        return LATEST
