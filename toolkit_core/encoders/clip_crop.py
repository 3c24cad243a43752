"""What ComfyUI's `clip_preprocess` keeps of a picture: the middle, 224×224, of it resized to a shortest side of 224."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

CLIP_SIZE = 224

Pixels: TypeAlias = NDArray[np.uint8]
"""RGB, shape (height, width, 3)."""


@dataclass(frozen=True)
class ClipCrop:
    """width, height: of the whole resized picture. left, top: of the square that is kept in it."""

    width: int
    height: int

    @classmethod
    def of(cls, width: int, height: int) -> ClipCrop:
        """The crop of a picture of `width` x `height` pixels."""
        scale = CLIP_SIZE / min(width, height)
        return cls(round(scale * width), round(scale * height))

    @property
    def left(self) -> int:
        return (self.width - CLIP_SIZE) // 2

    @property
    def top(self) -> int:
        return (self.height - CLIP_SIZE) // 2

    def box(self, width: int, height: int) -> tuple[float, float, float, float]:
        """The kept square as (left, top, right, bottom) in pixels of the picture when that has `width` x `height`."""
        across, down = width / self.width, height / self.height
        return (
            self.left * across,
            self.top * down,
            (self.left + CLIP_SIZE) * across,
            (self.top + CLIP_SIZE) * down,
        )
