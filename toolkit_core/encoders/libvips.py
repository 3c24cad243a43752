"""The common kinds of PNG and JPEG through libvips, which takes about half of Pillow's time (benchmarks/decoding.py).

It decodes and resizes in one pass that holds a few rows. Whatever is rare or damaged is left to Pillow, so that there is
one answer to what such a file shows and what is wrong with it.
"""

from __future__ import annotations

import io
import logging
import struct
from functools import cache
from types import ModuleType
from typing import NamedTuple

import numpy as np
from PIL import Image

from ..metadata.png import chunks, is_png
from .clip_crop import CLIP_SIZE, ClipCrop, Pixels

_log = logging.getLogger(__name__)

_JPEG_SIGNATURE = b"\xff\xd8\xff"
_ORIENTATION = 0x0112
_PNG_HEADER = struct.Struct(">IIBBBBB")
_RGB, _RGB_WITH_ALPHA = 2, 6
# Animations, colours that stand for others, and what may say that the picture lies on its side.
_RARE_CHUNKS = frozenset({b"acTL", b"tRNS", b"eXIf"})
_RARE_TEXTS = (b"XML:com.adobe.xmp\0", b"Raw profile type ")

SPARED_BY_SCALING = 3
"""A JPEG is scaled while it is decoded as long as its shortest side stays this many times CLIP_SIZE.

At 2 the vectors of screenshots and line art are seen to differ (cosine 0.9989 in a trained network), at 3 none are.
"""


class Size(NamedTuple):
    width: int
    height: int


def decode_common(data: bytes, most_pixels: int) -> tuple[Size, Pixels] | None:
    """The size of a picture, and its pixels as CLIP sees them, shape (224, 224, 3).

    None where it is for Pillow to decode it, or to say why it cannot be decoded: it is of a rare kind, it claims more
    than `most_pixels`, it is damaged, or libvips is not there. No memory is taken for pixels before that is known.
    """
    size = _common_png(data) if is_png(data) else _common_jpeg(data)
    if size is None or min(size) <= CLIP_SIZE or size.width * size.height > most_pixels:
        return None
    vips = _load_libvips()
    if vips is None:
        return None
    try:
        return size, _decode(vips, data, size)
    except vips.Error as error:
        _log.debug("libvips does not decode a picture, Pillow may: %s", error)
        return None


def _common_png(data: bytes) -> Size | None:
    """The size of a PNG of 8-bit RGB, with alpha or without, not interlaced, not animated and upright."""
    header = None
    for chunk in chunks(data):
        if chunk.kind == b"IHDR" and len(chunk.data) == _PNG_HEADER.size and header is None:
            header = _PNG_HEADER.unpack(chunk.data)
        elif chunk.kind in _RARE_CHUNKS or (chunk.kind[1:] == b"TXt" and bytes(chunk.data[:18]).startswith(_RARE_TEXTS)):
            return None
    if header is None:
        return None
    width, height, depth, colour, _, _, interlaced = header
    return Size(width, height) if depth == 8 and colour in (_RGB, _RGB_WITH_ALPHA) and not interlaced else None


def _common_jpeg(data: bytes) -> Size | None:
    """The size of a JPEG in colour, not CMYK, that is upright."""
    if not data.startswith(_JPEG_SIGNATURE):
        return None
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
            common = image.format == "JPEG" and image.mode == "RGB" and image.getexif().get(_ORIENTATION, 1) == 1
            return Size(*image.size) if common else None
    except Exception:  # Pillow's own reading of the file will say what is wrong.
        return None


def _decode(vips: ModuleType, data: bytes, size: Size) -> Pixels:
    options = {"access": "sequential", "fail_on": "warning"}
    if is_png(data):
        image = vips.Image.pngload_buffer(data, **options)
    else:
        image = vips.Image.jpegload_buffer(data, shrink=_shrink(size), **options)
    if image.bands == 4:
        image = image.extract_band(0, n=3)
    image = image.copy()
    # Pictures are decoded side by side in threads already.
    image.set_type(vips.GValue.gint_type, "concurrency", 1)
    crop = ClipCrop.of(*size)
    # gap=0: no cheaper shrinking before the filter, which ComfyUI has not.
    image = image.resize(crop.width / image.width, vscale=crop.height / image.height, kernel="cubic", gap=0.0)
    image = image.crop(crop.left, crop.top, CLIP_SIZE, CLIP_SIZE)
    return np.frombuffer(image.write_to_memory(), np.uint8).reshape(CLIP_SIZE, CLIP_SIZE, 3)


def _shrink(size: Size) -> int:
    """By how much the JPEG decoder may scale: 1, 2, 4 or 8."""
    spare = min(size) / (CLIP_SIZE * SPARED_BY_SCALING)
    return max(factor for factor in (1, 2, 4, 8) if factor <= max(spare, 1))


@cache
def _load_libvips() -> ModuleType | None:
    try:
        import pyvips
    except (ImportError, OSError) as error:
        _log.info("libvips is not there, so that pictures are decoded at about half the speed: %s", error)
        return None
    # A cache of finished operations would keep pictures in memory, of which none comes twice.
    pyvips.cache_set_max(0)
    logging.getLogger("pyvips").setLevel(logging.ERROR)  # it logs every call, and what fails is known here
    return pyvips
