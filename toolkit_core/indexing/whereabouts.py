"""Whether the file that a row was made of is at its path: another one may have the name by now."""

from __future__ import annotations

import hashlib
import os
import stat
from typing import Literal

from ..database.images import KnownFile
from ..records import FailedFile
from .read import read_bytes
from .scan import FoundFile, modified_at, presence


def whereabouts(file: KnownFile, content_hash: bytes | None) -> Literal["there", "gone", "unknown"]:
    """Whether a row's content is at its path, or anything, where the row's content was never read.

    It is read where the file's time alone differs from the row's: the file may have been touched.
    """
    state = presence(file.path)
    if state != "there" or content_hash is None:
        return state
    try:
        status = os.stat(file.path)  # noqa: PTH116 - of Path, some versions of Python raise what a folder refuses
    except (OSError, ValueError):
        return "unknown"
    if not stat.S_ISREG(status.st_mode) or status.st_size != file.file_size:
        return "gone"
    if modified_at(status) == file.modified_at:
        return "there"
    data = read_bytes(FoundFile(file.path, status.st_size, modified_at(status)))
    if isinstance(data, FailedFile):
        return "unknown"
    return "there" if hashlib.sha256(data).digest() == content_hash else "gone"


def is_as_it_was(file: KnownFile) -> bool:
    """Whether the file at a row's path has the row's size and time."""
    try:
        status = os.stat(file.path)  # noqa: PTH116 - see `whereabouts`
    except (OSError, ValueError):
        return False
    return (status.st_size, modified_at(status)) == (file.file_size, file.modified_at)
