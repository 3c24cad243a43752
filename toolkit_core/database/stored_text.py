"""What PostgreSQL's text cannot hold: NUL characters and lone surrogates."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

# Undecodable bytes in a file name reach Python as lone surrogates. They are kept as the same offsets in a private-use
# range, so that the name on disk can be had back.
FIRST_SURROGATE, LAST_SURROGATE, PRIVATE_USE = 0xD800, 0xDFFF, 0x10F000
UNSTORABLE = re.compile("[\0\ud800-\udfff]")
TO_STORED = {code: PRIVATE_USE + code - FIRST_SURROGATE for code in range(FIRST_SURROGATE, LAST_SURROGATE + 1)}
FROM_STORED = {stored: code for code, stored in TO_STORED.items()}


def storable(text: str) -> str:
    """A text with each NUL and each lone surrogate as U+FFFD."""
    return UNSTORABLE.sub("\N{REPLACEMENT CHARACTER}", text)


def stored_path(path: str) -> str:
    """A path as it is written to the database. `disk_path` gives it back."""
    return path.translate(TO_STORED) if UNSTORABLE.search(path) else path


def disk_path(stored: str) -> str:
    """A path as the operating system takes it."""
    return stored if stored.isascii() else stored.translate(FROM_STORED)


def stored_range_below(folder: str) -> tuple[str, str]:
    """What the stored paths of all that lies below a folder are between."""
    below = stored_path(folder.removesuffix(os.sep) + os.sep)
    return below, below[:-1] + chr(ord(os.sep) + 1)


def stored_ranges(paths: Sequence[str]) -> dict[str, object]:
    """Parameters of a query for some paths and all below them: "itself", and the ranges from "below" to "behind"."""
    ranges = [stored_range_below(path) for path in paths]
    return {
        "itself": [stored_path(path) for path in paths],
        "below": [below for below, _ in ranges],
        "behind": [behind for _, behind in ranges],
    }
