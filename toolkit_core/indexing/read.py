"""One file, read once: its hash, its metadata and its pixels."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..database.images import ImageRow
from ..database.vectors import Picture
from ..encoders.pixels import Pixels, decode, upright_size
from ..errors import ImageError
from ..metadata import READER_VERSION, read_parameters, read_texts
from ..records import FailedFile, MetadataReading, MetadataText
from .regular import read_regular
from .scan import FoundFile
from .sidecars import read_sidecars, stamp

if TYPE_CHECKING:
    from ..metadata.comfyui.types import NodeTypes

LARGEST_FILE = 2**30


@dataclass(frozen=True)
class ReadFile:
    """`pixels` is None where `row.error` says why, or where they were not asked for.

    `row.parameters` are the `reading` of the `texts`.
    """

    row: ImageRow
    pixels: Pixels | None
    texts: tuple[MetadataText, ...]
    reading: MetadataReading

    @property
    def path(self) -> str:
        return self.row.path


def read_file(found: FoundFile, node_types: NodeTypes | None = None, *, decoded: bool = True) -> ReadFile | FailedFile:
    """Read a file and its sidecars.

    FailedFile where its bytes cannot be had; a damaged picture still has a row and its metadata.
    node_types: of a running ComfyUI, see `read_parameters`. decoded: with the pixels; without, whether they are damaged
    is not known.
    """
    data = read_bytes(found)
    if isinstance(data, FailedFile):
        return data
    width = height = pixels = problem = None
    try:
        if decoded:
            image = decode(data)
            width, height, pixels = image.width, image.height, image.pixels
        else:
            width, height = upright_size(data)
    except ImageError as error:
        problem = str(error)
    texts = read_texts(data, read_sidecars(found.sidecars))
    reading = read_parameters(texts, node_types)
    row = ImageRow(
        path=found.path,
        content_hash=hashlib.sha256(data).digest(),
        file_size=len(data),
        modified_at=found.modified_at,
        width=width,
        height=height,
        parameters=reading.parameters,
        error=problem,
        reader_version=READER_VERSION,
        sidecars=stamp(found.sidecars),
    )
    return ReadFile(row, pixels, texts, reading)


def read_bytes(found: FoundFile) -> bytes | FailedFile:
    """A file's bytes, or why they cannot be had."""
    if found.file_size > LARGEST_FILE:
        return FailedFile(found.path, f"It has {found.file_size} bytes; more than {LARGEST_FILE} are not read.")
    try:
        return read_regular(found.path, LARGEST_FILE)
    except OSError as error:
        return FailedFile(found.path, f"It cannot be opened: {error.strerror or error}")


def read_pixels(picture: Picture) -> Pixels | None:
    """The pixels of a file that has a row; None where it is gone, damaged, another one or no file by now."""
    try:
        data = read_regular(picture.path, LARGEST_FILE)
        return decode(data).pixels if hashlib.sha256(data).digest() == picture.content_hash else None
    except (OSError, ImageError):
        return None
