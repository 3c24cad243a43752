"""Walking folders for image files and the sidecars beside them."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta, timezone
from itertools import chain
from operator import itemgetter
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

from ..errors import ImageError, PathNotFound
from ..named_paths import named_path
from ..records import FailedFile
from .regular import NO_FILE, is_regular
from .sidecars import FolderSidecars, Sidecar, sidecars_beside
from .spelling import spelled

SUFFIXES = frozenset(
    (".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".avif", ".gif", ".bmp", ".dib", ".tif", ".tiff")
)
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
# What Python can read from PostgreSQL in any time zone, without the first and the last of its years.
EARLIEST, LATEST = datetime(2, 1, 1, tzinfo=timezone.utc), datetime(9999, 1, 1, tzinfo=timezone.utc)
MICROSECOND = timedelta(microseconds=1)
# A longer path does not fit an index row of PostgreSQL.
LONGEST_PATH = 2600

Presence: TypeAlias = Literal["there", "gone", "unknown"]


class FoundFile(NamedTuple):
    """A file on disk. `modified_at` is in UTC, to the microsecond."""

    path: str
    file_size: int
    modified_at: datetime
    sidecars: tuple[Sidecar, ...] = ()


def resolve(paths: Sequence[Path | str], *, recursive: bool = True) -> list[str]:
    """The real paths of folders or files to index; what a walk of another of them comes by is left out.

    recursive: as in `scan`.
    Raises PathNotFound for one that is not there, or is empty; ImageError for a file whose name is no picture's.
    """
    resolved: dict[Path, bool] = {}
    for path in paths:
        real = real_path(path)
        state = presence(real, of="anything")
        if state == "gone":
            raise PathNotFound(f"There is no folder or file {os.fspath(path)!r}. See that its drive is connected.")
        is_folder = os.path.isdir(real)  # noqa: PTH112 - see `presence`
        if state == "there" and not is_folder and not is_picture(real.name):
            raise ImageError(
                f"{os.fspath(path)!r} is no picture by its name. Files are read whose names end in "
                f"{', '.join(sorted(SUFFIXES))}."
            )
        resolved[real] = is_folder
    # A walk that is not recursive comes by the files of a folder, and by none of its folders.
    walked_with = {
        path: path.parents if recursive else () if is_folder else path.parents[:1]
        for path, is_folder in resolved.items()
    }
    return [str(path) for path, parents in walked_with.items() if resolved.keys().isdisjoint(parents)]


def is_picture(name: str) -> bool:
    """Whether a file's name, or its path, ends as those of the files that are read."""
    return name[name.rfind(".") :].lower() in SUFFIXES


def real_path(path: Path | str) -> Path:
    """A folder without symbolic links; a file by its name in such a folder. Spelled as a walk comes by it.

    Raises PathNotFound for what no path can be.
    """
    given = named_path(path)
    real = Path(os.path.realpath(given))
    is_folder = os.path.isdir(real)  # noqa: PTH112 - of Path, some versions of Python raise what a folder refuses
    if not is_folder and given.name:
        real = Path(os.path.realpath(given.parent)) / given.name
    return Path(spelled(str(real)))


def presence(path: Path | str, *, of: Literal["picture", "anything"] = "picture") -> Presence:
    """Whether there is a file at a picture's path, or anything at any path; of a link, where it leads to.

    Gone is only what the system says is not there: it knows nothing of what lies below a folder that it may not enter,
    or on a drive that fails. A picture is gone, too, where a folder or a pipe has its name by now; and a file
    whose name is no picture's is none. What is spelled in another case by now is at another path.
    """
    if of == "picture" and not is_picture(os.fspath(path)):
        return "gone"
    try:
        status = os.stat(path)  # noqa: PTH116 - of Path, some versions of Python raise other errors
    except (FileNotFoundError, NotADirectoryError):
        return "gone"
    except (OSError, ValueError):  # ValueError: a name that another system gave, and this one cannot have
        return "unknown"
    if of == "picture" and not stat.S_ISREG(status.st_mode):
        return "gone"
    return "there" if spelled(os.fspath(path)) == os.fspath(path) else "gone"


def scan(paths: Sequence[str], *, recursive: bool = True) -> Iterator[FoundFile | FailedFile]:
    """Every image file at or below the resolved paths, each once, by path.

    Not `recursive`: only files that are named or lie directly in a named folder.

    Symbolic links to folders are followed, after all else; a folder that was walked already, by whatever link, is not
    walked again. What cannot be looked into comes back as FailedFile.
    """
    walk = Walk(recursive=recursive)
    for path in chain(sorted(paths), walk.behind_links):
        yield from walk.at(path)


class Walk:
    """A walk over folders, one after the other. See `scan`.

    behind_links: the real paths of the folders that links lead to, in the order in which they were come by; none where
    it is not recursive. broken_links: the paths that other links lead to, where there is nothing.
    """

    def __init__(self, *, recursive: bool = True) -> None:
        self._recursive = recursive
        self._walked: set[tuple[int, int]] = set()
        self._folders: dict[str, FolderSidecars] = {}
        self.behind_links: list[str] = []
        self.broken_links: list[str] = []

    @property
    def links(self) -> list[str]:
        """Where all the links lead to."""
        return [*self.behind_links, *self.broken_links]

    def at(self, path: str) -> Iterator[FoundFile | FailedFile]:
        """The file at a path, or every image file below the folder that was not walked yet, by path."""
        inside = [self._at(path)]
        while inside:
            found = next(inside[-1], None)
            if found is None:
                inside.pop()
            elif not isinstance(found, str):
                yield found
            elif self._recursive:
                inside.append(self._at(found))

    def _at(self, path: str) -> Iterator[FoundFile | FailedFile | str]:
        """The file at a path, or the image files of the folder and the paths of its folders, sorted."""
        try:
            status = Path(path).stat()
            if not stat.S_ISDIR(status.st_mode):
                yield _found(path, status, sidecars_beside(path, self._folders))
            elif (status.st_dev, status.st_ino) not in self._walked:
                self._walked.add((status.st_dev, status.st_ino))
                links: list[os.DirEntry[str]] = []
                yield from _entries(path, links)
                if self._recursive:
                    self._note_links(links)
        except OSError as error:
            yield FailedFile(path, f"It cannot be looked into: {error.strerror or error}")

    def _note_links(self, links: Sequence[os.DirEntry[str]]) -> None:
        # The real path, so that a file has one path whichever link led to it.
        for link in links:
            real = os.path.realpath(link.path)
            if link.is_dir():
                self.behind_links.append(real)
            elif not link.is_file():
                self.broken_links.append(real)


def _entries(folder: str, links: list[os.DirEntry[str]]) -> Iterator[FoundFile | FailedFile | str]:
    """The image files of a folder and the paths of its folders, sorted. links: filled with the links, but pictures."""
    # By name, and a folder as the paths below it are sorted.
    named: list[tuple[str, os.DirEntry[str]]] = []
    sidecars = FolderSidecars()
    with os.scandir(folder) as entries:
        for entry in entries:
            try:
                if entry.is_dir():
                    if entry.is_symlink():
                        links.append(entry)
                    else:
                        named.append((entry.name + os.sep, entry))
                elif is_picture(entry.name):
                    named.append((entry.name, entry))
                else:
                    sidecars.add(entry)
                    if entry.is_symlink():
                        links.append(entry)
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
    if not is_regular(status):
        return FailedFile(path, f"It cannot be read: {NO_FILE}")
    return FoundFile(path, status.st_size, modified_at(status), sidecars)


def modified_at(status: os.stat_result) -> datetime:
    """A file's modification time, held to years that PostgreSQL and Python both know."""
    microseconds = status.st_mtime_ns // 1000
    if not (EARLIEST - EPOCH) // MICROSECOND <= microseconds <= (LATEST - EPOCH) // MICROSECOND:
        return EARLIEST if microseconds < 0 else LATEST
    return EPOCH + timedelta(microseconds=microseconds)
