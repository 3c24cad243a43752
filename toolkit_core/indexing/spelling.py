"""How a path is spelled on disk: on most disks of Windows and macOS, a file answers to its name in any case."""

from __future__ import annotations

import os
import unicodedata
from functools import lru_cache

# Folders by whether another case of a name in them leads to the same file; asked for once, for a share may be slow.
_blind: dict[str, bool] = {}
_MOST_FOLDERS = 10_000


def spelled(path: str) -> str:
    """A path with each of its names as the folder lists it; a name that is in no list stays as it is."""
    folder, name = os.path.split(path)
    if not (folder and name):
        return path
    return os.path.join(spelled(folder), _listed(folder, name))  # noqa: PTH118 - as the paths in the library are


def _listed(folder: str, name: str) -> str:
    if not _is_blind(folder, name):
        return name
    try:
        names = _names(folder, os.stat(folder).st_mtime_ns)  # noqa: PTH116
    except OSError:
        return name
    if name in names:
        return name
    alike = _without_case(name)
    return next((other for other in names if _without_case(other) == alike), name)


def _is_blind(folder: str, name: str) -> bool:
    """Whether the folder does not tell cases apart, as far as a name that it may have can show."""
    swapped = name.swapcase()
    if folder not in _blind:
        if swapped == name:
            return False
        try:
            # Two links to one file, of such names, are taken for one name at first; both are listed.
            is_blind = os.path.samefile(os.path.join(folder, name), os.path.join(folder, swapped))  # noqa: PTH118, PTH121
        except FileNotFoundError:
            is_blind = False
            if not os.path.lexists(os.path.join(folder, name)):  # noqa: PTH118
                return False
        except (OSError, ValueError):
            return False
        if len(_blind) >= _MOST_FOLDERS:
            _blind.clear()
        _blind[folder] = is_blind
    return _blind[folder]


@lru_cache(8)
def _names(folder: str, changed: int) -> frozenset[str]:
    """What a folder lists. changed: when it last did; names are not looked up again before."""
    return frozenset(os.listdir(folder))  # noqa: PTH208


def _without_case(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()
