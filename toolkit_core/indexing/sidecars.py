"""The text files beside a picture that some programs write its metadata to."""

from __future__ import annotations

import codecs
import logging
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..metadata import MAX_SIDECAR_BYTES, SIDECAR_SUFFIXES
from .regular import read_regular

logger = logging.getLogger(__name__)

_BYTE_ORDER_MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


@dataclass(frozen=True)
class Sidecar:
    """A sidecar as it is on disk. `suffix` is one of SIDECAR_SUFFIXES; `modified_at` counts nanoseconds."""

    path: str
    suffix: str
    size: int
    modified_at: int


class FolderSidecars:
    """What may be a sidecar in one folder, from a listing of it; only what belongs to a picture is looked at closer."""

    def __init__(self, entries: Iterable[os.DirEntry[str]] = ()) -> None:
        self._entries: dict[str, os.DirEntry[str]] = {}
        for entry in entries:
            self.add(entry)

    def add(self, entry: os.DirEntry[str]) -> None:
        """Remember an entry of the folder if its name is one of a sidecar."""
        spelled = entry.name.lower()
        suffix = max((suffix for suffix in SIDECAR_SUFFIXES if spelled.endswith(suffix)), key=len, default=None)
        if suffix:
            self._entries[entry.name[: -len(suffix)] + suffix] = entry

    def of(self, picture: str) -> tuple[Sidecar, ...]:
        """The sidecars of a picture, by its file name, in the order of SIDECAR_SUFFIXES.

        `name.png.txt` goes before `name.txt`, which may be another picture's. What is no file, is too large, or cannot
        be looked at is left out.
        """
        if not self._entries:
            return ()
        names = (picture, Path(picture).stem)
        found = (next((s for name in names if (s := self._find(name, suffix))), None) for suffix in SIDECAR_SUFFIXES)
        return tuple(sidecar for sidecar in found if sidecar and not sidecar.path.endswith(os.sep + picture))

    def _find(self, name: str, suffix: str) -> Sidecar | None:
        entry = self._entries.get(name + suffix)
        if entry is None:
            return None
        try:
            if not entry.is_file():
                return None
            status = entry.stat()
        except OSError as error:
            logger.debug("%s cannot be looked at: %s", entry.path, error)
            return None
        if status.st_size > MAX_SIDECAR_BYTES:
            return None
        return Sidecar(entry.path, suffix, status.st_size, status.st_mtime_ns)


def sidecars_beside(path: str, folders: dict[str, FolderSidecars]) -> tuple[Sidecar, ...]:
    """The sidecars of a picture by its path. `folders` keeps the last folder's listing for the next picture in it."""
    folder, name = os.path.split(path)
    if folder not in folders:
        folders.clear()
        try:
            with os.scandir(folder or os.curdir) as entries:
                folders[folder] = FolderSidecars(entries)
        except OSError as error:
            logger.debug("%s cannot be looked into: %s", folder, error)
            folders[folder] = FolderSidecars()
    return folders[folder].of(name)


def stamp(sidecars: Sequence[Sidecar]) -> str | None:
    """A text that another one of these sidecars' sets, sizes or times changes; None where there are none."""
    return " ".join(f"{s.suffix}:{s.size}:{s.modified_at}" for s in sidecars) if sidecars else None


def read_sidecars(sidecars: Sequence[Sidecar]) -> dict[str, str]:
    """The texts of sidecars by suffix; without those that cannot be opened, or grew too large."""
    texts: dict[str, str] = {}
    for sidecar in sidecars:
        try:
            texts[sidecar.suffix] = _decoded(read_regular(sidecar.path, MAX_SIDECAR_BYTES))
        except OSError as error:
            logger.debug("%s cannot be opened: %s", sidecar.path, error)
    return texts


def _decoded(data: bytes) -> str:
    """As its byte order mark says, else UTF-8, else Latin-1."""
    marked = next((name for mark, name in _BYTE_ORDER_MARKS.items() if data.startswith(mark)), None)
    try:
        return data.decode(marked or "utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1")
