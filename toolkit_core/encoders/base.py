"""What every encoder offers: a text or an image in, one raw vector a row out.

Making an encoder is cheap. Its weights are loaded on first use, once, and can be dropped again with `unload`.
"""

from __future__ import annotations

import logging
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from itertools import islice

import numpy as np
import numpy.typing as npt

from ..errors import EncoderError, TextTowerMissing, UnusableVectors
from ..spaces import SPACES
from .batching import BatchSize, fitting, is_out_of_memory
from .identity import PROBE_TEXTS, probe_images

logger = logging.getLogger(__name__)

Vectors = npt.NDArray[np.float32]
Images = npt.NDArray[np.uint8]

# Pictures that are best handed over together: the next batch is copied to the device while the present one is embedded.
BATCHES_AHEAD = 2
# Enough for one of the size that was found and one of twice as much, also where some pictures are damaged.
BATCHES_COMPARED = 4

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
        # Found anew each time that the weights are loaded: what else needs the device changes.
        self._batch = BatchSize(1, 1)

    @property
    @abstractmethod
    def device(self) -> str:
        """What it runs on, e.g. "cuda:0 float16" or "CPUExecutionProvider"; "not loaded" before `load`."""

    @property
    def at_once(self) -> int:
        """How many inputs are best handed over together; 0 where any number will do."""
        return 0

    @property
    def loaded(self) -> bool:
        return self._loaded

    def load(self) -> None:
        """Load the weights unless they are loaded. Raises EncoderError, naming the file, when they can't be used."""
        with self._lock:
            if not self._loaded:
                self._load()
                self._batch = BatchSize(*self._batch_sizes())
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

    def _batch_sizes(self) -> tuple[int, int]:
        """What a batch counts for at first, and what it may become, on the device that the weights are on."""
        return 1, 1

    def _free_memory(self) -> None:  # noqa: B027 - most have none to free
        """Give the device's memory back that is only kept for later use."""

    def _in_batches(self, lengths: Sequence[int], forward: Callable[[Sequence[int]], Vectors]) -> Vectors:
        """`forward` of all rows, those of like length together, as many at once as is fast and memory is enough for.

        lengths: what each row counts for in a batch. forward: the vectors of some rows.
        Raises EncoderError where memory is too small for one row.
        """
        order = sorted(range(len(lengths)), key=lengths.__getitem__)
        left = sum(lengths)
        start = 0
        made: list[Vectors] = []
        while start < len(order):
            limit = self._batch.limit(left)
            rows = order[start : start + fitting((lengths[row] for row in islice(order, start, None)), limit)]
            longest = lengths[rows[-1]]
            started = time.perf_counter()
            try:
                made.append(forward(rows))
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                if len(rows) == 1:
                    raise EncoderError(
                        f"{self.device} has too little memory left for {self.name}, even for one input at a time. "
                        "Close what else uses it, or set the device of the encoders to cpu."
                    ) from error
            else:
                if (len(rows) + 1) * longest > limit:
                    self._batch.took(time.perf_counter() - started, len(rows) * longest, limit)
                start += len(rows)
                left -= sum(lengths[row] for row in rows)
                continue
            # Out here the failed call's own tensors are gone.
            self._free_memory()
            self._batch.ran_out(len(rows) // 2 * longest)
            logger.warning("%s: out of memory on %s; batches are half as large from here on", self.name, self.device)
        if not made:
            return np.empty((0, SPACES[self.space].width), np.float32)
        return np.concatenate(made)[np.argsort(order)]

    def _checked(self, vectors: Vectors, rows: int) -> Vectors:
        """The same vectors as float32. Raises EncoderError for a wrong shape, UnusableVectors for NaN or infinity."""
        width = SPACES[self.space].width
        if vectors.shape != (rows, width):
            raise EncoderError(
                f"{self.space} weights {self.name!r} gave vectors of shape {vectors.shape} instead of {(rows, width)}; "
                f"they are not weights for this space."
            )
        vectors = np.ascontiguousarray(vectors, dtype=np.float32)
        if (unusable := ~np.isfinite(vectors).all(axis=1)).any():
            raise UnusableVectors(
                f"{self.space} weights {self.name!r} gave NaN or infinity on {self.device}. They may be damaged: get "
                f"them again, or run this encoder in float32.",
                np.flatnonzero(unusable).tolist(),
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
    @property
    def at_once(self) -> int:
        return (BATCHES_AHEAD if self._batch.is_settled else BATCHES_COMPARED) * self._batch.size

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
