"""Images that are there twice: the same file, or a picture that is as good as the same.

Near-duplicates are found by leader clustering. The images are gone through in rank order (favourites, then by rating,
then the oldest first). Each joins the first image before it that stands for a group and is within the threshold, or
else stands for a group of its own. So every member is near to the image that the group would be reduced to; chains of
small changes, whose ends have nothing in common, make no group.

The result is exact (cosines to 1e-6), for any number of images. The vectors are read a block at a time, and what is
kept of an image that stands for a group is a sketch (see `sketch`), which rules out all but a few pairs; those are
compared by their vectors. That is quadratic, with a small constant: on a busy machine of 2 cores 100,000 images took
39 s and 300,000 took 97 s. To ask the HNSW index for each image's nearest would take 700 s for 100,000, is not exact,
and scans every part of the table that has no index yet (benchmarks/duplicates.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..database import Database, vectors
from ..database import duplicates as stored
from ..errors import SearchError
from ..records import DuplicateGroup, Progress
from ..spaces import SPACES
from .sketch import ROUNDING, Vectors, principal_axes, sketch

SPACE = SPACES["clip_h"]
SAMPLE = 2048
ROWS_A_BLOCK = 2048
LEADERS_A_TILE = 1024
PAIRS_A_READ = 4096
MOST_PAIRS_HELD = 2_000_000

Members = dict[int, float]


def find_duplicates(database: Database, threshold: float, progress: Callable[[Progress], None]) -> list[DuplicateGroup]:
    """The groups of identical files, then those of similar pictures. See `Library.duplicates`.

    Files are compared as they were when they were last read. Of identical ones only the first takes part in the groups
    of similar pictures.
    """
    if not 0 < threshold <= 1:
        raise SearchError(f"threshold is {threshold}; pictures that are as good as the same have more than 0, up to 1.")
    with database.transaction() as connection:
        identical = stored.identical(connection)
        ranked = stored.ranked(connection)
    copies = {id for group in identical for id in group[1:]}
    similar = LeaderClustering(database, threshold).run([id for id in ranked if id not in copies], progress)
    found: list[tuple[list[int], Literal["identical", "similar"], float]] = [
        *((group, "identical", 1.0) for group in identical),
        *(([leader, *members], "similar", min(members.values())) for leader, members in similar.items()),
    ]
    with database.transaction() as connection:
        paths = stored.paths(connection, [id for ids, _, _ in found for id in ids])
    return [
        DuplicateGroup(tuple(ids), tuple(paths[id] for id in ids), kind, similarity)
        for ids, kind, similarity in found
        if paths.keys() >= set(ids)  # all are still there
    ]


class LeaderClustering:
    """One run over a library's CLIP-H vectors. Use it once: `LeaderClustering(…).run(ids, progress)`.

    Holds the sketches of the leaders, 128 bytes to 2 KB an image: the lower the threshold, the more they have to tell.
    """

    def __init__(self, database: Database, threshold: float) -> None:
        self._database = database
        self._threshold = threshold - ROUNDING
        self._members: dict[int, Members] = {}

    def run(self, ids: Sequence[int], progress: Callable[[Progress], None]) -> dict[int, Members]:
        """The members of each group and their similarity to its leader, by leader; `ids` are in rank order."""
        spread = np.linspace(0, len(ids) - 1, min(len(ids), SAMPLE)).astype(int)
        self._axes = principal_axes(self._unit_vectors([ids[i] for i in spread]), self._threshold)
        self._leaders = np.empty(ROWS_A_BLOCK, dtype=np.int64)
        self._sketches = np.empty((ROWS_A_BLOCK, self._axes.shape[1] + 1), dtype=np.float32)
        self._count = 0
        self._products = np.empty(ROWS_A_BLOCK * LEADERS_A_TILE, dtype=np.float32)
        self._near = np.empty(ROWS_A_BLOCK * LEADERS_A_TILE, dtype=bool)
        for start in range(0, len(ids), ROWS_A_BLOCK):
            block = np.asarray(ids[start : start + ROWS_A_BLOCK])
            self._add(block, self._unit_vectors(block))
            progress(Progress("compare", min(start + ROWS_A_BLOCK, len(ids)), len(ids)))
        leaders = self._leaders[: self._count].tolist()
        return {leader: self._members[leader] for leader in leaders if leader in self._members}

    def _add(self, ids: NDArray[np.int64], units: Vectors) -> None:
        """Let a block join the leaders that there are; what is left of it may lead."""
        sketches = sketch(units, self._axes)
        free = self._join_leaders(ids, units, sketches)
        free = free[~self._join_each_other(ids[free], units[free])]
        if self._count + len(free) > len(self._leaders):
            self._leaders = np.concatenate([self._leaders, np.empty_like(self._leaders)])
            self._sketches = np.concatenate([self._sketches, np.empty_like(self._sketches)])
        self._leaders[self._count : self._count + len(free)] = ids[free]
        self._sketches[self._count : self._count + len(free)] = sketches[free]
        self._count += len(free)

    def _join_leaders(self, ids: NDArray[np.int64], units: Vectors, sketches: Vectors) -> NDArray[np.int64]:
        """Returns the rows that no leader is near to."""
        free = np.arange(len(ids))
        held: list[NDArray[np.int64]] = []
        for start in range(0, self._count, LEADERS_A_TILE):
            tile = self._sketches[start : min(start + LEADERS_A_TILE, self._count)]
            # Fresh memory for each product would take twice the time of the product itself.
            shape = (len(free), len(tile))
            products = self._products[: shape[0] * shape[1]]
            np.matmul(sketches[free], tile.T, out=products.reshape(shape))
            near = self._near[: len(products)]
            np.greater_equal(products, self._threshold - ROUNDING, out=near)
            if near.any():
                rows, leaders = np.divmod(np.flatnonzero(near), len(tile))
                held.append(np.stack([leaders + start, free[rows]], axis=1))
            if sum(map(len, held)) > MOST_PAIRS_HELD:
                free = self._verify(np.concatenate(held), free, ids, units)
                held = []
        return self._verify(np.concatenate(held), free, ids, units) if held else free

    def _verify(
        self, pairs: NDArray[np.int64], free: NDArray[np.int64], ids: NDArray[np.int64], units: Vectors
    ) -> NDArray[np.int64]:
        """Compare pairs of (leader, row) by their vectors; each row joins the first leader that is near to it.

        Returns those of the free rows that have found none.
        """
        pairs = pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]
        joined = np.zeros(len(ids), dtype=bool)
        for start in range(0, len(pairs), PAIRS_A_READ):
            chunk = pairs[start : start + PAIRS_A_READ]
            chunk = chunk[~joined[chunk[:, 1]]]
            leaders, which = np.unique(self._leaders[chunk[:, 0]], return_inverse=True)
            cosines = np.einsum("ij,ij->i", self._unit_vectors(leaders)[which], units[chunk[:, 1]])
            for i in np.flatnonzero(cosines >= self._threshold):
                row = chunk[i, 1]
                if not joined[row]:
                    joined[row] = True
                    self._join(int(leaders[which[i]]), int(ids[row]), float(cosines[i]))
        return free[~joined[free]]

    def _join_each_other(self, ids: NDArray[np.int64], units: Vectors) -> NDArray[np.bool_]:
        """Returns which rows have joined one before them."""
        cosines = units @ units.T
        near = np.triu(cosines >= self._threshold, 1)
        joined = np.zeros(len(ids), dtype=bool)
        for leader in np.flatnonzero(near.any(axis=1)):
            if not joined[leader]:
                rows = np.flatnonzero(near[leader] & ~joined)
                joined[rows] = True
                for row in rows:
                    self._join(int(ids[leader]), int(ids[row]), float(cosines[leader, row]))
        return joined

    def _join(self, leader: int, id: int, similarity: float) -> None:
        self._members.setdefault(leader, {})[id] = min(similarity, 1.0)

    def _unit_vectors(self, ids: Sequence[int] | NDArray[np.int64]) -> Vectors:
        """The vectors at length 1, shape (len(ids), 1024). Zeros, which nothing is near to, stand for those that are
        gone meanwhile or have no direction."""
        with self._database.transaction() as connection:
            found = vectors.read_of(connection, SPACE, [int(id) for id in ids])
        units = np.zeros((len(ids), SPACE.width), dtype=np.float32)
        for row, id in enumerate(ids):
            if id in found:
                units[row] = found[id]
        norms = np.linalg.norm(units, axis=1, keepdims=True)
        usable = np.isfinite(norms) & (norms > 0)
        return np.divide(units, norms, out=np.zeros_like(units), where=usable)
