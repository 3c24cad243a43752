"""What a person asks for, as vectors to be near to."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from numbers import Integral, Real
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..database import Connection, Database, filters, images, listing, vectors
from ..database.filters import Condition
from ..database.similarity import Bounds, QueryVector
from ..encoders.pixels import clip_pixels, decode
from ..errors import SearchError
from ..named_paths import named_path
from ..records import Certainty, SearchHit, SearchResults
from ..space_encoders import SpaceEncoders
from ..spaces import EMBEDDING_ALIASES, EMBEDDINGS, SPACES, Embedding
from .diversity import most_diverse
from .filter_language import parse_filter
from .pages import MOST_RESULTS, Page
from .ranking import rank

Sort: TypeAlias = Literal["relevance", "date", "rating"]
Pixels: TypeAlias = NDArray[np.uint8]
Vector: TypeAlias = NDArray[np.float32]

SORTS: tuple[Sort, ...] = ("relevance", "date", "rating")
# A text that is looked for in the pictures themselves: their CLIP-H vectors against its own.
PICTURED_TEXT = "clip_h_text"
PARTS: dict[str, Embedding] = {**EMBEDDINGS, PICTURED_TEXT: EMBEDDINGS["clip_h"]}
# A vector whose largest value lies between 2 to the power of these has no need of being scaled for half precision.
SMALLEST_EXPONENT, LARGEST_EXPONENT = -6, 15
# How many images a diverse selection is made of, for one that is wanted.
POOL_FOR_ONE = 5


@dataclass(frozen=True)
class Query:
    """A search by any of: a text, a picture, an image of the library, ready vectors, a filter. See `Library.search`.

    image: an image file, its bytes, or RGB pixels, uint8, shape (height, width, 3) or (n, height, width, 3).
    vectors: by embedding name, shape (width,).
    weights: how much each part counts, by name; empty for what the given inputs suggest.
    """

    text: str | None = None
    image: Path | str | bytes | Pixels | None = None
    image_id: int | None = None
    vectors: Mapping[str, Vector] = field(default_factory=dict)
    weights: Mapping[str, float] = field(default_factory=dict)
    top_k: int = 20
    threshold: float | None = None
    thresholds: Mapping[str, float] = field(default_factory=dict)
    filter: str | None = None
    diversity: float = 0.0
    sort: Sort = "relevance"
    page: str | int | None = None

    def digest(self) -> str:
        """What tells it from others, but for the size and the number of its page."""
        values = [
            self.text,
            _bytes_of(self.image),
            self.image_id,
            sorted((part_name(name), _bytes_of(_array(name, vector))) for name, vector in self.vectors.items()),
            sorted((part_name(name), weight) for name, weight in self.weights.items()),
            self.threshold,
            sorted((part_name(name), threshold) for name, threshold in self.thresholds.items()),
            (self.filter or "").strip(),
            self.sort,
        ]
        return blake2b(repr(values).encode("utf-8", "surrogatepass"), digest_size=6).hexdigest()


def search(database: Database, encoders: SpaceEncoders, query: Query) -> SearchResults:
    """The images most like the query, best first. See `Library.search`."""
    _check(query)
    condition = condition_of(query.filter)
    page = Page.of(query.page, query.top_k, query.digest())
    parts = _parts(database, encoders, query)
    if not parts:
        return _listing(database, query, condition, page)
    wanted = page.reach if query.diversity == 0 else min(query.top_k * POOL_FOR_ONE, MOST_RESULTS)
    after = None if page.after is None else (page.after.score, page.after.id)
    with database.autocommit() as connection:
        ranking = rank(connection, parts, Bounds(wanted, condition, query.threshold, after), page.passed)
        found = ranking.hits
        if query.diversity > 0:
            found = _diverse(connection, found, query)
    results = _results(query, page, found, ranking.certainty, {name: part.weight for name, part in parts.items()})
    results[:] = _sorted(results, query.sort)
    return results


def condition_of(filter: str | None) -> Condition | None:
    """A filter as a condition on images; None where there is none. Raises FilterError."""
    parsed = parse_filter(filter or "")
    return None if parsed is None else filters.condition(parsed)


def part_name(name: str) -> str:
    """The name of a query's part, also by what it is of ("prompt", "negative_prompt", "image"). Raises SearchError."""
    canonical = EMBEDDING_ALIASES.get(name, name)
    if canonical not in PARTS:
        raise SearchError(f"{name!r} is no embedding. There are {', '.join(PARTS)}.")
    return canonical


def _check(query: Query) -> None:
    if not isinstance(query.top_k, Integral) or not 1 <= query.top_k <= MOST_RESULTS:
        raise SearchError(f"top_k is {query.top_k}; ask for 1 to {MOST_RESULTS} images.")
    for name, threshold in {"threshold": query.threshold, **query.thresholds}.items():
        if threshold is not None and not np.isfinite(threshold):
            raise SearchError(f"{_of(name)} is {threshold}; a cosine similarity lies between -1 and 1.")
    if not 0 <= query.diversity <= 1:
        raise SearchError(
            f"diversity is {query.diversity}; it lies between 0, the most alike, and 1, the most diverse."
        )
    if query.diversity > 0 and query.page not in (None, 1):
        raise SearchError(
            f"diversity is {query.diversity}, which chooses among the best images and leaves no further pages. Ask for "
            "page 1, or with a diversity of 0."
        )
    if query.sort not in SORTS:
        raise SearchError(f"sort is {query.sort!r}; there are {', '.join(SORTS)}.")


def _of(name: str) -> str:
    return name if name == "threshold" else f"The threshold of {name}"


def _parts(database: Database, encoders: SpaceEncoders, query: Query) -> dict[str, QueryVector]:
    """The query as vectors with weights that sum to 1 without their signs; none where it names nothing to be like."""
    given = {part_name(name): _array(name, vector) for name, vector in query.vectors.items()}
    stored = {} if query.image_id is None else _stored_vectors(database, query.image_id)
    weights = _weights(query, given, stored)
    thresholds = {part_name(name): threshold for name, threshold in query.thresholds.items()}
    if unknown := thresholds.keys() - weights.keys():
        raise SearchError(f"{min(unknown)} has a threshold, but is no part of this search; give it a weight.")
    return {
        name: QueryVector(
            name,
            PARTS[name],
            _checked(name, _vector(name, query, given, stored, encoders)),
            weight,
            thresholds.get(name),
        )
        for name, weight in weights.items()
    }


def _array(name: str, vector: Vector) -> Vector:
    try:
        return np.asarray(vector, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise SearchError(f"The {name} vector is {vector!r}; an array of numbers is needed.") from error


def _stored_vectors(database: Database, image_id: int) -> dict[str, Vector]:
    with database.transaction() as connection:
        return images.embeddings(connection, image_id)


def _weights(query: Query, given: Mapping[str, Vector], stored: Mapping[str, Vector]) -> dict[str, float]:
    """The weights that were asked for, or equal ones for what was given; without signs they sum to 1."""
    if query.weights:
        weights = {part_name(name): weight for name, weight in query.weights.items()}
    else:
        suggested = list(given)
        if query.text is not None:
            suggested.append("bge")
        if query.image is not None or "clip_h" in stored:
            suggested.append("clip_h")
        elif query.image_id is not None:
            suggested += [name for name in ("bge", *stored) if name in stored][:1]
        weights = dict.fromkeys(suggested, 1.0)
    for name, weight in weights.items():
        if not isinstance(weight, Real) or not np.isfinite(float(weight)):
            raise SearchError(f"The weight of {name} is {weight}; it has to be a number.")
    largest = max((abs(float(weight)) for weight in weights.values()), default=0.0)
    if weights and largest == 0:
        raise SearchError("All weights are 0, so nothing is searched by. Give one of them another weight.")
    if not weights:
        if query.image_id is not None:
            raise SearchError(f"Image {query.image_id} has no embeddings yet. Index its folder with weights first.")
        if not (query.filter or "").strip():
            raise SearchError("Give a text, a picture, an image id, a vector or a filter to search by.")
    # By the largest first, as the sum of large ones may be infinite.
    shares = {name: float(weight) / largest for name, weight in weights.items()}
    total = sum(map(abs, shares.values()))
    return {name: share / total for name, share in shares.items() if share != 0}


def _vector(
    name: str, query: Query, given: Mapping[str, Vector], stored: Mapping[str, Vector], encoders: SpaceEncoders
) -> Vector:
    """The vector for one part: a ready one, else of the text or the picture, else the stored image's."""
    space = SPACES[PARTS[name].space]
    if name in given:
        return given[name]
    if name == PICTURED_TEXT:
        if query.text is None:
            raise SearchError(f"{name} has a weight, but there is no text to look for in the pictures; give one.")
        return encoders.image(space.name).encode_query(query.text)
    if space.of == "text" and query.text is not None:
        return encoders.text(space.name).encode_query(query.text)
    if space.of == "image" and query.image is not None:
        return encoders.image(space.name).encode(_pixels(query.image)).mean(axis=0)
    if name in stored:
        return stored[name]
    if query.image_id is not None:
        raise SearchError(f"Image {query.image_id} has no {name} embedding to search by.")
    raise SearchError(f"{name} has a weight, but there is no {space.of} to search by; give one, or an image id.")


def _pixels(image: Path | str | bytes | Pixels) -> Pixels:
    """The pictures as CLIP sees them, uint8, shape (n, 224, 224, 3)."""
    if isinstance(image, np.ndarray):
        return np.stack([clip_pixels(Image.fromarray(picture, "RGB")) for picture in _pictures(image)])
    if isinstance(image, bytes):
        return np.stack([decode(image).pixels])
    if not isinstance(image, (str, os.PathLike)):
        raise SearchError(f"{image!r} is no picture. Give a file's path, its bytes, or RGB pixels as an array.")
    try:
        return np.stack([decode(named_path(image).read_bytes()).pixels])
    except OSError as error:
        raise SearchError(f"The picture {str(image)!r} cannot be opened: {error.strerror or error}") from error


def _pictures(pixels: Pixels) -> Pixels:
    """Pixels as several pictures, shape (n, height, width, 3)."""
    pictures = pixels if pixels.ndim == 4 else pixels[np.newaxis]
    if pictures.dtype != np.uint8 or pictures.ndim != 4 or pictures.shape[3] != 3 or pictures.size == 0:
        raise SearchError(
            f"The pixels are {pixels.dtype} of shape {pixels.shape}. RGB pixels are uint8 of shape (height, width, 3), "
            "or of several pictures (n, height, width, 3)."
        )
    return pictures


def _checked(name: str, vector: Vector) -> Vector:
    width = SPACES[PARTS[name].space].width
    if vector.shape != (width,):
        raise SearchError(f"The {name} vector has shape {vector.shape}; {(width,)} is needed.")
    if not np.isfinite(vector).all() or not vector.any():
        raise SearchError(f"The {name} vector is zero or has values that are not finite.")
    # Only the direction counts. A power of two changes no digit of it, and half precision holds what it brings near 1.
    _, exponent = np.frexp(np.abs(vector).max())
    return vector if SMALLEST_EXPONENT <= exponent <= LARGEST_EXPONENT else np.ldexp(vector, -exponent)


def _listing(database: Database, query: Query, condition: Condition | None, page: Page) -> SearchResults:
    """What fulfils the filter, newest first, or best rated first."""
    for name, given in (("threshold", query.threshold is not None), ("diversity", query.diversity > 0)):
        if given:
            raise SearchError(f"{name} needs something to be like: give a text, a picture, an image id or a vector.")
    order = "rating" if query.sort == "rating" else "date"
    with database.transaction() as connection:
        found = listing.listed(connection, order, page.reach, condition, page.after)
    return _results(query, page, found)


def _results(
    query: Query,
    page: Page,
    found: list[SearchHit],
    certainty: Certainty = "exact",
    weights: Mapping[str, float] | None = None,
) -> SearchResults:
    """Of what was found for a page, its images as the results."""
    hits, passed = page.cut(found)
    end = page.end(found) if query.diversity == 0 else None
    following = end if len(hits) == query.top_k else None
    return SearchResults(hits, certainty=certainty, passed=passed, end=end, next_page=following, weights=weights)


def _diverse(connection: Connection, hits: list[SearchHit], query: Query) -> list[SearchHit]:
    """The hits that are like the query and unlike each other, by their pictures."""
    space = SPACES["clip_h"]
    found = vectors.read_of(connection, space, [hit.id for hit in hits])
    without = np.full(space.width, np.nan, np.float32)
    pictures = (
        np.stack([found.get(hit.id, without) for hit in hits]) if hits else np.empty((0, space.width), np.float32)
    )
    scores = np.array([hit.score for hit in hits], np.float32)
    return [hits[i] for i in most_diverse(pictures, scores, query.top_k, query.diversity)]


def _sorted(hits: list[SearchHit], sort: Sort) -> list[SearchHit]:
    if sort == "relevance":
        return hits
    newest = sorted(hits, key=lambda hit: hit.modified_at.timestamp() if hit.modified_at else -np.inf, reverse=True)
    if sort == "date":
        return newest
    return sorted(newest, key=lambda hit: -1 if hit.rating is None else hit.rating, reverse=True)


def _bytes_of(value: Path | str | bytes | NDArray[np.generic] | None) -> str:
    if isinstance(value, np.ndarray):
        value = value.tobytes()
    raw = value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")
    return blake2b(raw, digest_size=6).hexdigest()
