"""What a person asks for, as vectors to be near to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..database import Connection, Database, images, vectors
from ..database.similarity import QueryVector, nearest
from ..encoders.pixels import clip_pixels, decode
from ..errors import ImageNotFound, SearchError
from ..records import SearchHit
from ..space_encoders import SpaceEncoders
from ..spaces import EMBEDDING_ALIASES, EMBEDDINGS, SPACES

MOST_RESULTS = 10_000


@dataclass(frozen=True)
class Query:
    """A search by any of: a text, a picture, an image of the library, ready vectors.

    image: an image file, its bytes, or RGB pixels, uint8, shape (height, width, 3) or (n, height, width, 3).
    vectors: by embedding name, shape (width,).
    weights: how much each embedding counts, by name; empty for what the given inputs suggest.
    """

    text: str | None = None
    image: Path | str | bytes | NDArray[np.uint8] | None = None
    image_id: int | None = None
    vectors: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    weights: Mapping[str, float] = field(default_factory=dict)
    top_k: int = 20
    threshold: float | None = None


def search(database: Database, encoders: SpaceEncoders, query: Query) -> list[SearchHit]:
    """The images most like the query, best first. See `Library.search`."""
    if not 1 <= query.top_k <= MOST_RESULTS:
        raise SearchError(f"top_k is {query.top_k}; ask for 1 to {MOST_RESULTS} images.")
    if query.threshold is not None and not np.isfinite(query.threshold):
        raise SearchError(f"threshold is {query.threshold}; a cosine similarity lies between -1 and 1.")
    given = {embedding_name(name): np.asarray(v, dtype=np.float32) for name, v in query.vectors.items()}
    with database.transaction() as connection:
        stored = _stored_vectors(connection, query.image_id)
    weights = _weights(query, given, stored)
    parts = {
        name: QueryVector(_checked(name, _vector(name, query, given, stored, encoders)), weight)
        for name, weight in weights.items()
    }
    with database.transaction() as connection:
        return nearest(connection, parts, query.top_k, query.threshold)


def embedding_name(name: str) -> str:
    """The name of an embedding, also by what it is of ("prompt", "negative_prompt", "image"). Raises SearchError."""
    canonical = EMBEDDING_ALIASES.get(name, name)
    if canonical not in EMBEDDINGS:
        raise SearchError(f"{name!r} is no embedding. There are {', '.join(EMBEDDINGS)}.")
    return canonical


def _stored_vectors(connection: Connection, image_id: int | None) -> dict[str, NDArray[np.float32]]:
    if image_id is None:
        return {}
    if images.get(connection, image_id) is None:
        raise ImageNotFound(f"The library has no image with id {image_id}.")
    return vectors.read(connection, image_id, list(EMBEDDINGS))


def _weights(
    query: Query, given: Mapping[str, NDArray[np.float32]], stored: Mapping[str, NDArray[np.float32]]
) -> dict[str, float]:
    """The weights that were asked for, or equal ones for what was given; they sum to 1."""
    if query.weights:
        weights = {embedding_name(name): float(weight) for name, weight in query.weights.items()}
    else:
        names = list(given)
        if query.text is not None:
            names.append("bge")
        if query.image is not None or "clip_h" in stored:
            names.append("clip_h")
        elif query.image_id is not None:
            names += [name for name in ("bge", *stored) if name in stored][:1]
        weights = dict.fromkeys(names, 1.0)
    for name, weight in weights.items():
        if not (np.isfinite(weight) and weight > 0):
            raise SearchError(f"The weight of {name} is {weight}; it has to be greater than 0.")
    if not weights:
        if query.image_id is not None:
            raise SearchError(f"Image {query.image_id} has no embeddings yet. Index its folder with weights first.")
        raise SearchError("Give a text, a picture, an image id or a vector to search by.")
    total = sum(weights.values())
    return {name: weight / total for name, weight in weights.items()}


def _vector(
    name: str,
    query: Query,
    given: Mapping[str, NDArray[np.float32]],
    stored: Mapping[str, NDArray[np.float32]],
    encoders: SpaceEncoders,
) -> NDArray[np.float32]:
    """The vector for one embedding: a ready one, else of the text or the picture, else the stored image's."""
    space = SPACES[EMBEDDINGS[name].space]
    if name in given:
        return given[name]
    if space.of == "text" and query.text is not None:
        return encoders.text(space.name).encode_query(query.text)
    if space.of == "image" and query.image is not None:
        return encoders.image(space.name).encode(_pixels(query.image)).mean(axis=0)
    if name in stored:
        return stored[name]
    if query.image_id is not None:
        raise SearchError(f"Image {query.image_id} has no {name} embedding to search by.")
    raise SearchError(f"{name} has a weight, but there is no {space.of} to search by; give one, or an image id.")


def _pixels(image: Path | str | bytes | NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The pictures as CLIP sees them, uint8, shape (n, 224, 224, 3)."""
    if isinstance(image, np.ndarray):
        pictures = image if image.ndim == 4 else image[np.newaxis]
        return np.stack([clip_pixels(Image.fromarray(picture, "RGB")) for picture in pictures])
    if isinstance(image, bytes):
        return np.stack([decode(image).pixels])
    try:
        return np.stack([decode(Path(image).expanduser().read_bytes()).pixels])
    except OSError as error:
        raise SearchError(f"The picture {str(image)!r} cannot be opened: {error.strerror or error}") from error


def _checked(name: str, vector: NDArray[np.float32]) -> NDArray[np.float32]:
    width = SPACES[EMBEDDINGS[name].space].width
    if vector.shape != (width,):
        raise SearchError(f"The {name} vector has shape {vector.shape}; {(width,)} is needed.")
    with np.errstate(over="ignore"):
        usable = np.isfinite(vector.astype(np.float16)).all() and vector.astype(np.float16).any()
    if not usable:
        raise SearchError(f"The {name} vector is zero or has values that are not finite in half precision.")
    return vector
