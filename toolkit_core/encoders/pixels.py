"""A picture file's bytes as the 224×224 pixels that CLIP sees."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from ..errors import ImageError
from ..metadata.png import without_damaged_chunks
from .clip_crop import CLIP_SIZE, ClipCrop, Pixels
from .libvips import MOST_SCALED, decode_common

FORMATS = ("PNG", "JPEG", "WEBP", "AVIF", "GIF", "BMP", "TIFF", "DIB")
MOST_PIXELS = 200_000_000

_REDUCING_GAP = 3.0
"""Averages a big picture down before the filter. From 3 on the pixels stay the same in 8 bits but for single steps."""
_ON_A_SIDE = (5, 6, 7, 8)
_PNG_EXIF = ("exif", "Raw profile type exif")


@dataclass(frozen=True)
class DecodedImage:
    """width, height: of the file, upright. pixels: RGB, uint8, shape (224, 224, 3)."""

    width: int
    height: int
    pixels: Pixels


def decode(data: bytes) -> DecodedImage:
    """The picture as `open_rgb` opens it, resized as ComfyUI's `clip_preprocess` does. Raises ImageError."""
    if common := decode_common(data, MOST_PIXELS):
        size, pixels = common
        return DecodedImage(size.width, size.height, pixels)
    rgb, (width, height) = _open_rgb(data, least_side=MOST_SCALED * CLIP_SIZE)
    return DecodedImage(width, height, _cropped(rgb, ClipCrop.of(width, height)))


def upright_size(data: bytes) -> tuple[int, int]:
    """The width and height that a picture has upright, by its header alone. Raises ImageError."""
    with _opened(data) as image:
        # Asked for the EXIF of a PNG that has none ahead of its pixels, Pillow decodes them to look behind.
        has_exif = image.format != "PNG" or not image.info.keys().isdisjoint(_PNG_EXIF)
        width, height = image.size
        on_its_side = has_exif and image.getexif().get(ExifTags.Base.Orientation) in _ON_A_SIDE
        return (height, width) if on_its_side else (width, height)


def open_rgb(data: bytes) -> Image.Image:
    """The first frame as ComfyUI's LoadImage shows it: upright by its EXIF, without alpha, 16-bit grey scaled to 8.

    Raises ImageError.
    """
    return _open_rgb(data)[0]


def clip_pixels(image: Image.Image) -> Pixels:
    """An RGB picture as ComfyUI's `clip_preprocess` crops it: shortest side 224, bicubic with antialias, centre."""
    return _cropped(image, ClipCrop.of(*image.size))


def _open_rgb(data: bytes, least_side: int | None = None) -> tuple[Image.Image, tuple[int, int]]:
    """The picture, and the size that it has upright.

    least_side: a JPEG may be scaled while it is decoded as long as no side gets shorter than this.
    """
    with _opened(data) as image:
        width, height = image.size
        if least_side is not None and min(width, height) > least_side:
            scale = least_side / min(width, height)
            image.draft(None, (int(width * scale), int(height * scale)))
        upright = ImageOps.exif_transpose(image)
        if image.getexif().get(ExifTags.Base.Orientation) in _ON_A_SIDE:
            width, height = height, width
        if upright.mode.startswith("I"):
            upright = upright.convert("I").point(lambda value: value * (1 / 255))
        return upright.convert("RGB"), (width, height)


@contextmanager
def _opened(data: bytes) -> Iterator[Image.Image]:
    """A picture by its header, of a size that is not refused; whatever is raised meanwhile comes out as ImageError."""
    if not data:
        raise ImageError("The file is empty.")
    try:
        with warnings.catch_warnings():
            # Pillow warns of big pictures and odd EXIF; the first is bounded here, the second does no harm.
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(without_damaged_chunks(data)), formats=FORMATS) as image:
                width, height = image.size
                if width * height > MOST_PIXELS:
                    raise ImageError(
                        f"It claims {width} x {height} pixels; more than {MOST_PIXELS // 10**6} million are refused."
                    )
                yield image
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        raise ImageError("It is no picture in a format that can be read.") from error
    except Image.DecompressionBombError as error:
        raise ImageError(f"It claims too many pixels: {error}") from error
    except Exception as error:  # Pillow's plugins raise whatever a damaged file makes them trip over.
        raise ImageError(f"It is damaged: {error or type(error).__name__}") from error


def _cropped(image: Image.Image, crop: ClipCrop) -> Pixels:
    if image.size != (CLIP_SIZE, CLIP_SIZE):
        # Resampling only what is kept: the same pixels as cropping afterwards.
        size, box = (CLIP_SIZE, CLIP_SIZE), crop.box(*image.size)
        image = image.resize(size, Image.Resampling.BICUBIC, box=box, reducing_gap=_REDUCING_GAP)
    return np.array(image)
