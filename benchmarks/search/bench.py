"""What the parts share: libraries of synthetic images, exact answers, and timing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
from numpy.typing import NDArray
from pgvector.psycopg import register_vector
from rich.console import Console
from rich.table import Table

from toolkit_core.database.segments import seal
from toolkit_core.library import Library
from toolkit_core.spaces import EMBEDDINGS

from . import synthetic
from .synthetic import Synthetic

Session = psycopg.Connection[tuple[Any, ...]]

TOP_K = 20
LARGEST_WITH_PROMPTS = 200_000
# Each reads some thousand pages of an index; until nearly all are in memory takes so many.
FEWEST_WARMING_SEARCHES, ROWS_A_WARMING_SEARCH = 300, 400
# A vector that is as near as the last of the true top k, to within half precision, counts as one of them.
TIE = 2e-4


@dataclass(frozen=True)
class Measured:
    """Recall@20 against the exact answer, and seconds a query."""

    recall: float
    seconds: NDArray[np.float64]

    @property
    def p50(self) -> float:
        return float(np.median(self.seconds))

    @property
    def p95(self) -> float:
        return float(np.percentile(self.seconds, 95))

    def cells(self) -> tuple[str, str, str]:
        return f"{self.recall:.3f}", f"{self.p50 * 1e3:.1f}", f"{self.p95 * 1e3:.1f}"


class Bench:
    """One run: a home folder with its server, and how many queries each figure is of."""

    def __init__(self, home: Path, queries: int, console: Console) -> None:
        self.home = home
        self.queries = queries
        self.console = console
        self._made: tuple[tuple[Any, ...], Synthetic] | None = None
        self._exact: Exact | None = None
        # Keeps the server running between the parts.
        self._keeper = Library.open(home, library="keeper")

    def close(self) -> None:
        self._keeper.close()

    def spaces(self, rows: int) -> tuple[str, ...]:
        """The spaces that a library of so many images has: of a million, one is enough to wait for."""
        return ("clip_h", "bge") if rows <= LARGEST_WITH_PROMPTS else ("clip_h",)

    def made(self, rows: int, spaces: tuple[str, ...], images_a_prompt: int = 1) -> Synthetic:
        """The synthetic images, kept from one part to the next."""
        key = (rows, spaces, images_a_prompt)
        if self._made is None or self._made[0] != key:
            self._made = self._exact = None
            self._made = (key, synthetic.make(rows, spaces, images_a_prompt))
        return self._made[1]

    def exact(self, made: Synthetic) -> Exact:
        """The exact answers among these images, kept as long as they are."""
        if self._exact is None:
            self._exact = Exact(made)
        return self._exact

    def name(self, rows: int) -> str:
        return f"rows_{rows}"

    def library(self, rows: int) -> Library:
        """A library with these images, filled and indexed where it is not yet."""
        library = Library.open(self.home, library=self.name(rows))
        if library.status().images == 0:
            self.note(f"filling a library with {rows:,} images")
            synthetic.write(library.database, self.made(rows, self.spaces(rows)))
        seal(library.database, most_open_rows=0)
        warm(library, self.made(rows, self.spaces(rows)))
        return library

    def user(self, schema: str) -> Session:
        """A session of a user's own, beside the library."""
        connection = psycopg.connect(self._keeper.database.connection_string(), autocommit=True)
        connection.execute(f"SET search_path TO {schema}, diffusion_toolkit, public".encode())
        register_vector(connection)
        return connection

    def numbers(self, rows: int, among: NDArray[np.bool_] | None = None) -> NDArray[np.int64]:
        """The images that the queries are near to, by number."""
        pool = np.arange(rows) if among is None else np.flatnonzero(among)
        return np.random.default_rng(11).choice(pool, self.queries)

    def table(self, title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        table = Table(*columns, title=title, title_justify="left")
        for row in rows:
            table.add_row(*row)
        self.console.print(table)

    def note(self, text: str) -> None:
        self.console.print(f"[dim]{text} …[/dim]")


def query_near(made: Synthetic, number: int) -> dict[str, NDArray[np.float32]]:
    """Vectors near to those of an image, as those of another picture of its subject are, by embedding."""
    random = np.random.default_rng(number)
    vectors = {}
    for name, rows in made.vectors.items():
        row = rows[number if EMBEDDINGS[name].of == "image" else made.prompt[number] - 1].astype(np.float32)
        vectors[name] = row + 0.3 * row.std() * random.standard_normal(len(row)).astype(np.float32)
    return vectors


class Exact:
    """The exact answers, by products of unit vectors in memory."""

    def __init__(self, made: Synthetic) -> None:
        self._made = made
        self._cosines: dict[tuple[str, bytes], NDArray[np.float32]] = {}

    def scores(self, near: NDArray[np.int64], weights: Mapping[str, float]) -> NDArray[np.float32]:
        """The weighted mean of cosine similarities, shape (queries, images)."""
        total = sum(map(abs, weights.values()))
        scores = np.zeros((len(near), len(self._made.cluster)), np.float32)
        for name, weight in weights.items():
            cosines = self._of(name, near)
            scores += (
                weight / total * (cosines if EMBEDDINGS[name].of == "image" else cosines[:, self._made.prompt - 1])
            )
        return scores

    def _of(self, name: str, near: NDArray[np.int64]) -> NDArray[np.float32]:
        key = (name, near.tobytes())
        if key not in self._cosines:
            if len(self._cosines) >= len(EMBEDDINGS):
                self._cosines.clear()
            rows = self._made.vectors[name]
            queries = np.stack([query_near(self._made, int(number))[name] for number in near])
            queries /= np.linalg.norm(queries, axis=1, keepdims=True)
            cosines = np.empty((len(near), len(rows)), np.float32)
            for start in range(0, len(rows), 50_000):
                block = rows[start : start + 50_000].astype(np.float32)
                cosines[:, start : start + 50_000] = queries @ block.T / np.linalg.norm(block, axis=1)
            self._cosines[key] = cosines
        return self._cosines[key]


def measure(
    bench: Bench,
    made: Synthetic,
    weights: Mapping[str, float],
    find: Callable[[dict[str, NDArray[np.float32]]], Sequence[int]],
    allowed: NDArray[np.bool_] | None = None,
    near: NDArray[np.int64] | None = None,
    *,
    complete: bool = True,
) -> Measured:
    """Ask `find`, which gives the ids of images, for queries near to some images, and compare with the exact answers.

    complete: raise AssertionError where it gives fewer images than there are.
    """
    numbers = bench.numbers(len(made.cluster)) if near is None else near
    scores = bench.exact(made).scores(numbers, weights)
    if allowed is not None:
        scores[:, ~allowed] = -np.inf
    queries = [query_near(made, int(number)) for number in numbers]
    for query in queries[:3]:
        find(query)
    answers, seconds = [], []
    for query in queries:
        started = time.perf_counter()
        answers.append(find(query))
        seconds.append(time.perf_counter() - started)
    # Behind the last query: looking through a million scores in between would leave the server a cold cache.
    recalls = []
    for ids, of_images in zip(answers, scores, strict=True):
        wanted = min(TOP_K, len(of_images) if allowed is None else int(allowed.sum()))
        assert len(ids) == wanted or not complete, f"{len(ids)} images of {wanted}"
        if wanted == 0:
            recalls.append(1.0)
            continue
        lowest = np.partition(of_images, -wanted)[-wanted] - TIE
        recalls.append(sum(of_images[id - 1] >= lowest for id in ids) / wanted)
    return Measured(float(np.mean(recalls)), np.array(seconds))


def ours(library: Library, weights: Mapping[str, float], filter: str | None = None) -> Callable[..., list[int]]:
    """Ids of the images that `Library.search` finds."""

    def find(query: dict[str, NDArray[np.float32]]) -> list[int]:
        asked = {name: query[name] for name in weights}
        return [hit.id for hit in library.search(vectors=asked, weights=weights, top_k=TOP_K, filter=filter)]

    return find


def warm(library: Library, made: Synthetic) -> None:
    """Search until the server has the pages of the indexes in memory, as one that has run for a while has.

    Scanning the tables would not do: PostgreSQL keeps no page of a large scan, and none of an index would be read.
    """
    rows = len(made.cluster)
    searches = max(FEWEST_WARMING_SEARCHES, rows // ROWS_A_WARMING_SEARCH)
    for number in np.random.default_rng(5).integers(0, rows, searches):
        query = query_near(made, int(number))
        for vectors in ({name: query[name]} for name in query):
            library.search(vectors=vectors, top_k=4 * TOP_K)
        if len(query) > 1:
            library.search(vectors=query, top_k=TOP_K)
