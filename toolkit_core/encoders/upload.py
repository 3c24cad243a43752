"""Pictures on their way to the device that embeds them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .base import Images

if TYPE_CHECKING:
    import torch


def copy_stream(device: torch.device) -> torch.cuda.Stream | None:
    """A stream for `Upload` to copy on, where the device has such. Keep it: each one has memory of its own."""
    import torch

    return torch.cuda.Stream(device) if device.type == "cuda" else None


class Upload:
    """The pictures of one call, uint8, shape (n, 224, 224, 3), which go over to a device some at a time.

    With a stream they go from pinned memory, and the next ones while the device computes with those before them.
    """

    def __init__(self, images: Images, device: torch.device, stream: torch.cuda.Stream | None) -> None:
        import torch

        self._images = torch.from_numpy(np.ascontiguousarray(images))
        self._device = device
        self._stream = stream
        self._begun: tuple[int, int, torch.Tensor] | None = None

    def begin(self, first: int, end: int) -> None:
        """Let these pictures, as far as there are any, go over meanwhile."""
        import torch

        if self._stream is None or first >= len(self._images):
            return
        end = min(end, len(self._images))
        with torch.cuda.stream(self._stream):
            # Torch itself keeps pinned memory for as long as it is copied from.
            self._begun = first, end, self._images[first:end].pin_memory().to(self._device, non_blocking=True)

    def arrived(self, first: int, end: int) -> torch.Tensor:
        """These pictures on the device, to be used on its current stream."""
        import torch

        if self._stream is None:
            return self._images[first:end].to(self._device)
        if self._begun is None or self._begun[:2] != (first, end):
            self.begin(first, end)
        assert self._begun is not None
        pictures, self._begun = self._begun[2], None
        current = torch.cuda.current_stream(self._device)
        current.wait_stream(self._stream)
        # It was allocated on the other stream, which must not use its memory again before this one is done with it.
        pictures.record_stream(current)
        return pictures
