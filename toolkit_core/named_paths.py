"""Paths as people write them."""

from __future__ import annotations

import os
from pathlib import Path

from .errors import PathNotFound


def named_path(path: Path | str) -> Path:
    """A path with the home folder that its ~ or ~user stands for. Raises PathNotFound for what no path can be."""
    given = os.fspath(path)
    if not given:
        raise PathNotFound('"" is no folder or file. Write . for the folder that you are in.')
    if "\0" in given:
        raise PathNotFound(f"{given!r} has a NUL character in it, which no path has. Remove it.")
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise PathNotFound(
            f"{given!r} begins with the home folder of a user that this machine does not know. Write the path out, "
            "from the root on."
        ) from error
