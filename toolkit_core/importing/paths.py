"""Another machine's paths: where they lie on this one, and which of them lie nowhere."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath

from ..errors import SettingsError
from ..named_paths import named_path
from ..records import UnfoundFolder

# The parts of a path, its root among them, by which what was not found is counted.
PARTS_COUNTED = 3

# A drive, or a share: //server/share is one, too, and of no other system a path.
_WINDOWS = re.compile(r"[A-Za-z]:|\\\\|//[^/\\]+[/\\][^/\\]")
_LONG_PATH = re.compile(r"\\\\\?\\(?:UNC(\\))?")


class PathMap:
    """Where folders of another machine are on this one."""

    def __init__(self, folders: Mapping[str, Path | str]) -> None:
        """folders: a folder there, and where it is here. Raises SettingsError for what cannot be a folder there."""
        self._targets: dict[tuple[str, ...], Path] = {}
        for there, here in folders.items():
            parts = parts_of(there)
            if not parts or not _is_root(parts[0]):
                raise SettingsError(
                    f"{there!r} is not the whole path of a folder, so no path can begin with it. Write it from its "
                    'drive or root on: "D:\\renders=/mnt/renders".'
                )
            self._targets[keys_of(parts)] = named_path(here)

    def local(self, path: str) -> str | None:
        """A path on this machine: by the longest folder that it begins with, or as it is.

        None where it is no whole path here, as D:\\a.png where there are no drives.
        """
        parts = parts_of(path)
        keys = keys_of(parts)
        for length in range(len(keys), 0, -1):
            if (target := self._targets.get(keys[:length])) is not None:
                return str(target.joinpath(*parts[length:]))
        return path if Path(path).is_absolute() else None


def parts_of(path: str) -> tuple[str, ...]:
    r"""A path's parts, with its root as the first: ("D:\\", "renders", "a.png"), ("/", "home", "a.png")."""
    if not _WINDOWS.match(path):
        return PurePosixPath(path).parts
    path = path.replace("/", "\\")
    path = _LONG_PATH.sub(lambda found: r"\\" if found[1] else "", path, count=1)
    parts = PureWindowsPath(path).parts
    return (f"{parts[0]}\\", *parts[1:]) if parts[0].endswith(":") else parts


def keys_of(parts: tuple[str, ...]) -> tuple[str, ...]:
    """Parts as they are compared: in Windows capital letters make no difference."""
    return tuple(part.casefold() for part in parts) if _WINDOWS.match("".join(parts[:1])) else parts


def joined(parts: tuple[str, ...]) -> str:
    """The path of some parts, as its machine writes it."""
    return str(PureWindowsPath(*parts) if _WINDOWS.match(parts[0]) else PurePosixPath(*parts))


def _is_root(part: str) -> bool:
    return part.startswith("/") or _WINDOWS.match(part) is not None


class Unfound:
    """Counts which folders' files were found, by the first parts of their paths."""

    def __init__(self) -> None:
        self._all: Counter[tuple[str, ...]] = Counter()
        self._unfound: Counter[tuple[str, ...]] = Counter()
        self._spelled: dict[tuple[str, ...], tuple[str, ...]] = {}
        # By a folder, where the first of all files in it was looked for, and the first that lies in none below it.
        self._looked_for: dict[tuple[str, ...], str | None] = {}
        self._looked_for_itself: dict[tuple[str, ...], str | None] = {}

    def note(self, path: str, local: str | None, *, found: bool) -> None:
        """Count a file by its path there; local: the one that it was looked for by."""
        parts = parts_of(path)[:-1][:PARTS_COUNTED] or (".",)
        keys = keys_of(parts)
        for length in range(1, len(keys) + 1):
            folder = keys[:length]
            self._all[folder] += 1
            if not found:
                self._unfound[folder] += 1
                self._spelled.setdefault(folder, parts[:length])
                self._looked_for.setdefault(folder, local)
        if not found:
            self._looked_for_itself.setdefault(keys, local)

    def folders(self) -> tuple[UnfoundFolder, ...]:
        """The folders with files that were not found, those with the most first, each file in one of them.

        A folder of which no file was found is one, as deep as all of them lie in it; of others, those below are looked
        at.
        """
        below: dict[tuple[str, ...], list[tuple[str, ...]]] = {}
        for folder in self._all:
            below.setdefault(folder[:-1], []).append(folder)
        found = [folder for root in below.get((), ()) for folder in self._of(root, below)]
        return tuple(sorted(found, key=lambda folder: (-folder.unfound, folder.folder)))

    def _of(
        self, folder: tuple[str, ...], below: Mapping[tuple[str, ...], list[tuple[str, ...]]]
    ) -> Iterator[UnfoundFolder]:
        unfound, files = self._unfound[folder], self._all[folder]
        if not unfound:
            return
        children = below.get(folder, [])
        if len(children) == 1 and self._all[children[0]] == files:
            yield from self._of(children[0], below)
            return
        looked_for = self._looked_for
        if unfound < files:
            looked_for = self._looked_for_itself
            for child in children:
                yield from self._of(child, below)
                unfound -= self._unfound[child]
                files -= self._all[child]
        if unfound:
            yield UnfoundFolder(joined(self._spelled[folder]), unfound, files, looked_for[folder])


def is_file(path: str | None) -> bool:
    """Whether there is such a file; not where its drive cannot be looked at."""
    return path is not None and os.path.isfile(path)  # noqa: PTH113
