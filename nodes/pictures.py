"""Files of different sizes as one IMAGE batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps

from ..toolkit_core.encoders.pixels import open_rgb
from ..toolkit_core.errors import ImageError

Size = tuple[int, int]


def _crop(image: Image.Image, size: Size) -> Image.Image:
    return ImageOps.fit(image, size, Image.Resampling.LANCZOS)


def _pad(image: Image.Image, size: Size) -> Image.Image:
    return ImageOps.pad(image, size, Image.Resampling.LANCZOS)


def _stretch(image: Image.Image, size: Size) -> Image.Image:
    return image.resize(size, Image.Resampling.LANCZOS)


RESIZE_RULES: dict[str, Callable[[Image.Image, Size], Image.Image]] = {"crop": _crop, "pad": _pad, "stretch": _stretch}


def read_rgb(path: str) -> Image.Image:
    """A picture file as LoadImage shows it. Raises ImageError."""
    try:
        return open_rgb(Path(path).read_bytes())
    except OSError as error:
        raise ImageError(f"It cannot be opened: {error.strerror or error}") from error


def resized(pictures: Sequence[Image.Image], rule: str) -> torch.Tensor:
    """An IMAGE, float32 in 0 to 1, shape (n, height, width, 3), of the first picture's size."""
    size = pictures[0].size
    equal = [picture if picture.size == size else RESIZE_RULES[rule](picture, size) for picture in pictures]
    return torch.from_numpy(np.stack([np.asarray(picture) for picture in equal])).float() / 255
