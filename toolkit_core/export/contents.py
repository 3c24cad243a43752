"""What an export holds, as its files say it of themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..spaces import Embedding

FORMAT_NAME = "diffusion-toolkit embeddings"
FORMAT_VERSION = 1


@dataclass(frozen=True)
class Contents:
    """How many images, which embeddings, and by embedding name the encoder; None for a space never written."""

    images: int
    embeddings: tuple[Embedding, ...]
    encoders: Mapping[str, str | None]
