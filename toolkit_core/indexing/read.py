"""One file, read once: its hash, its metadata and its pixels."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from ..database.images import ImageRow
from ..encoders.pixels import Pixels, decode
from ..errors import ImageError
from ..metadata import read_generation_parameters
from ..records import FailedFile
from .scan import FoundFile

LARGEST_FILE = 2**30


@dataclass(frozen=True)
class ReadFile:
    """`pixels` is None where `row.error` says why."""

    row: ImageRow
    pixels: Pixels | None

    @property
    def path(self) -> str:
        return self.row.path


def read_file(found: FoundFile) -> ReadFile | FailedFile:
    """Read a file. FailedFile where its bytes cannot be had; a damaged picture still has a row and its metadata."""
    if found.file_size > LARGEST_FILE:
        return FailedFile(found.path, f"It has {found.file_size} bytes; more than {LARGEST_FILE} are not read.")
    try:
        data = Path(found.path).read_bytes()
    except OSError as error:
        return FailedFile(found.path, f"It cannot be opened: {error.strerror or error}")
    width = height = pixels = problem = None
    try:
        image = decode(data)
        width, height, pixels = image.width, image.height, image.pixels
    except ImageError as error:
        problem = str(error)
    row = ImageRow(
        path=found.path,
        content_hash=hashlib.sha256(data).digest(),
        file_size=len(data),
        modified_at=found.modified_at,
        width=width,
        height=height,
        parameters=read_generation_parameters(data),
        error=problem,
    )
    return ReadFile(row, pixels)
