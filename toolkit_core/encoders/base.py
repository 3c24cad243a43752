"""What every encoder offers: a text or an image in, one raw vector a row out.

Making an encoder is cheap. Its weights are loaded on first use, once, and can be dropped again with `unload`.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ..errors import EncoderError, TextTowerMissing
from ..spaces import SPACES
from .identity import PROBE_TEXTS, probe_images

Vectors = npt.NDArray[np.float32]
Images = npt.NDArray[np.uint8]

BOTH_TOWERS = (
    "To search pictures by a text, CLIP ViT-H/14 with both towers is needed: open_clip_model.safetensors of "
    "laion/CLIP-ViT-H-14-laion2B-s32B-b79K (3.9 GB); `diffusion-toolkit models download clip_h` gets it. Name it in "
    "the settings file under [weights]: clip_h = PATH."
)


class Encoder(ABC):
    """One model for one space. Safe to call from several threads: calls run one after another.

    space: a name in `toolkit_core.spaces.SPACES`.
    name: what a person calls these weights (the file's stem or the folder's name).
    """

    space: str
    name: str

    def __init__(self, space: str, name: str) -> None:
        self.space = space
        self.name = name
        self._lock = threading.RLock()
        self._loaded = False

    @property
    @abstractmethod
    def device(self) -> str:
        """What it runs on, e.g. "cuda:0 float16" or "CPUExecutionProvider"; "not loaded" before `load`."""

    @property
    def loaded(self) -> bool:
        return self._loaded

    def load(self) -> None:
        """Load the weights unless they are loaded. Raises EncoderError, naming the file, when they can't be used."""
        with self._lock:
            if not self._loaded:
                self._load()
                self._loaded = True

    def unload(self) -> None:
        """Drop the weights and their memory. The next use loads them again."""
        with self._lock:
            if self._loaded:
                self._loaded = False
                self._unload()

    @abstractmethod
    def probe(self) -> Vectors:
        """The vectors of the fixed probe inputs, float32, shape (n, width). See `identity`."""

    @abstractmethod
    def _load(self) -> None: ...

    @abstractmethod
    def _unload(self) -> None: ...

    def _checked(self, vectors: Vectors, rows: int) -> Vectors:
        """The same vectors as float32. Raises EncoderError for a wrong shape, NaN or infinity."""
        width = SPACES[self.space].width
        if vectors.shape != (rows, width):
            raise EncoderError(
                f"{self.space} weights {self.name!r} gave vectors of shape {vectors.shape} instead of {(rows, width)}; "
                f"they are not weights for this space."
            )
        vectors = np.ascontiguousarray(vectors, dtype=np.float32)
        if not np.isfinite(vectors).all():
            raise EncoderError(
                f"{self.space} weights {self.name!r} gave NaN or infinity on {self.device}. The file may be damaged: "
                f"get it again, or run this encoder in float32."
            )
        return vectors


class TextEncoder(Encoder):
    @abstractmethod
    def encode(self, texts: Sequence[str]) -> Vectors:
        """Embed stored texts; hand over hundreds at once, the encoder sorts and batches them by length itself.

        Returns float32, shape (len(texts), width), rows in the order given. Raises EncoderError.
        """

    def encode_query(self, text: str) -> Vectors:
        """Embed one search text, float32, shape (width,). The same as `encode` where a model knows no query prefix."""
        return self.encode([text])[0]

    def probe(self) -> Vectors:
        return self.encode(PROBE_TEXTS)


class ImageEncoder(Encoder):
    @abstractmethod
    def encode(self, images: Images) -> Vectors:
        """Embed RGB pictures, uint8, shape (n, 224, 224, 3), already resized and cropped.

        Returns float32, shape (n, width). Raises EncoderError.
        """

    def encode_query(self, text: str) -> Vectors:
        """Embed one search text among the pictures: raw, float32, shape (width,).

        Raises TextTowerMissing where the weights embed pictures only, and EncoderError.
        """
        raise TextTowerMissing(f"{self.name} embeds pictures only, no text. {BOTH_TOWERS}")

    def probe(self) -> Vectors:
        return self.encode(probe_images())
