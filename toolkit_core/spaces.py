"""The four vector spaces and the five embeddings that are stored of an image.

Two embeddings share the `bge` space: the prompt's and the negative prompt's. A prompt's CLIP-L and CLIP-G vectors
are kept for negative prompts too, but only the positive ones are searched.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args


@dataclass(frozen=True)
class Space:
    """Vectors of one encoder: `width` floats each, one row a text or one row an image."""

    name: str
    width: int
    of: Literal["text", "image"]


@dataclass(frozen=True)
class Embedding:
    """One of the five embeddings of an image: a space, and what of the image was embedded."""

    name: str
    space: str
    of: Literal["prompt", "negative_prompt", "image"]
    view_column: str


SPACES: dict[str, Space] = {
    space.name: space
    for space in (
        Space("bge", 1024, "text"),
        Space("clip_h", 1024, "image"),
        Space("clip_l", 768, "text"),
        Space("clip_g", 1280, "text"),
    )
}

EMBEDDINGS: dict[str, Embedding] = {
    embedding.name: embedding
    for embedding in (
        Embedding("bge", "bge", "prompt", "prompt_embedding"),
        Embedding("bge_negative", "bge", "negative_prompt", "negative_prompt_embedding"),
        Embedding("clip_h", "clip_h", "image", "image_embedding"),
        Embedding("clip_l", "clip_l", "prompt", "clip_l_embedding"),
        Embedding("clip_g", "clip_g", "prompt", "clip_g_embedding"),
    )
}

# The kinds of vector index that a space may have.
IndexKind: TypeAlias = Literal["hnsw", "hnsw_binary", "ivfflat"]
INDEX_KINDS: tuple[IndexKind, ...] = get_args(IndexKind)

# What encoders may compute in.
DTYPES = ("float32", "float16", "bfloat16")

# The embeddings, of the image's prompt and of itself, that the optional index over both joins, in this order.
PAIRED = ("bge", "clip_h")

# What a person may also call an embedding, by what it is of.
EMBEDDING_ALIASES = {"prompt": "bge", "negative_prompt": "bge_negative", "image": "clip_h"}
