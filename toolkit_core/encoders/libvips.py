"""The common kinds of PNG and JPEG through libvips, which takes about half of Pillow's time (benchmarks/decoding.py).

It decodes and resizes in one pass that holds a few rows. Whatever is rare or damaged is left to Pillow, so that there
is one answer to what such a file shows and what is wrong with it.
"""

from __future__ import annotations

import logging
import struct
from functools import cache
from types import ModuleType
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..metadata.png import chunks, is_png
from .clip_crop import CLIP_SIZE, ClipCrop, Pixels

if TYPE_CHECKING:
    import pyvips

MOST_SCALED = 3
"""A JPEG is scaled while it is decoded as far as its shortest side stays this many times CLIP_SIZE.

At 2 the vectors of screenshots and line art differ (cosine 0.9989 in a trained network), at 3 they do not.
"""

_log = logging.getLogger(__name__)

_JPEG_SIGNATURE = b"\xff\xd8\xff"
_PNG_HEADER = struct.Struct(">IIBBBBB")
_RGB, _RGB_WITH_ALPHA = 2, 6
# Animations, a colour that stands for transparency, and what may say that the picture lies on its side.
_RARE_CHUNKS = frozenset({b"acTL", b"fcTL", b"fdAT", b"tRNS", b"eXIf"})
_TEXT_CHUNKS = frozenset({b"tEXt", b"zTXt", b"iTXt"})
_RARE_TEXTS = (b"XML:com.adobe.xmp\0", b"Raw profile type ")
_XMP_ORIENTATION = b"tiff:Orientation"
# Rows from top to bottom, none of them kept; an error for whatever the format's own library warns of.
_STRICTLY = {"access": "sequential", "fail_on": "warning"}


class Size(NamedTuple):
    width: int
    height: int


def decode_common(data: bytes, most_pixels: int) -> tuple[Size, Pixels] | None:
    """The size of a picture, and its pixels as CLIP sees them, shape (224, 224, 3).

    None where it is for Pillow to decode it, or to say why it cannot be decoded: it is of a rare kind, it claims more
    than `most_pixels`, it is damaged, or libvips is not there. No memory is taken for pixels before that is known.
    """
    vips = _load_libvips()
    if vips is None:
        return None
    try:
        if is_png(data):
            return _decode_png(vips, data, most_pixels)
        if data.startswith(_JPEG_SIGNATURE) and _XMP_ORIENTATION not in data:
            return _decode_jpeg(vips, data, most_pixels)
    except vips.Error as error:
        _log.debug("libvips does not decode a picture, Pillow may: %s", error)
    return None


def _decode_png(vips: ModuleType, data: bytes, most_pixels: int) -> tuple[Size, Pixels] | None:
    size = _common_png(data)
    if size is None or not _is_within(size, most_pixels):
        return None
    return size, _clip_pixels(vips, vips.Image.pngload_buffer(data, **_STRICTLY), size)


def _common_png(data: bytes) -> Size | None:
    """The size of a PNG of 8-bit RGB, with alpha or without, not interlaced, not animated and upright."""
    header = None
    for chunk in chunks(data):
        if chunk.kind == b"IHDR":
            if header is not None or len(chunk.data) != _PNG_HEADER.size:
                return None
            header = _PNG_HEADER.unpack(chunk.data)
        elif chunk.kind in _RARE_CHUNKS or (
            chunk.kind in _TEXT_CHUNKS and bytes(chunk.data[:18]).startswith(_RARE_TEXTS)
        ):
            return None
    if header is None:
        return None
    width, height, depth, colour, _, _, interlaced = header
    return Size(width, height) if depth == 8 and colour in (_RGB, _RGB_WITH_ALPHA) and not interlaced else None


def _decode_jpeg(vips: ModuleType, data: bytes, most_pixels: int) -> tuple[Size, Pixels] | None:
    """Of a JPEG in colour, not CMYK, that is upright."""
    image = vips.Image.jpegload_buffer(data, **_STRICTLY)  # its header, so far
    size = Size(image.width, image.height)
    lies = image.get_typeof("orientation") and image.get("orientation") != 1
    if image.interpretation != "srgb" or lies or not _is_within(size, most_pixels):
        return None
    shrink = next((factor for factor in (8, 4, 2) if min(size) >= factor * MOST_SCALED * CLIP_SIZE), 1)
    if shrink > 1:
        image = vips.Image.jpegload_buffer(data, shrink=shrink, **_STRICTLY)
    return size, _clip_pixels(vips, image, size)


def _is_within(size: Size, most_pixels: int) -> bool:
    """Whether there is something to shrink, and not too much of it."""
    return min(size) > CLIP_SIZE and size.width * size.height <= most_pixels


def _clip_pixels(vips: ModuleType, image: pyvips.Image, size: Size) -> Pixels:
    """The pixels of an opened picture, which may be scaled already, and has `size` when it is not."""
    crop = ClipCrop.of(*size)
    if image.bands == 4:
        image = image.extract_band(0, n=3)
    image = image.copy()
    # Pictures are decoded side by side in threads already.
    image.set_type(vips.GValue.gint_type, "concurrency", 1)
    # gap=0: without the cheaper shrinking ahead of the filter, which ComfyUI does not do.
    image = image.resize(crop.width / image.width, vscale=crop.height / image.height, kernel="cubic", gap=0.0)
    image = image.crop(crop.left, crop.top, CLIP_SIZE, CLIP_SIZE)
    return np.frombuffer(image.write_to_memory(), np.uint8).reshape(CLIP_SIZE, CLIP_SIZE, 3)


@cache
def _load_libvips() -> ModuleType | None:
    try:
        import pyvips
    except (ImportError, OSError) as error:
        _log.info("Pictures are decoded at about half the speed, for pyvips cannot be loaded: %s", error)
        return None
    # Finished operations would keep their pictures in memory, of which none comes twice.
    pyvips.cache_set_max(0)
    logging.getLogger("pyvips").setLevel(logging.ERROR)  # it logs every call; what fails is known here
    return pyvips
