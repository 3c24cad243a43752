"""Weighted sums of cosine similarities, of the images that several vectors named."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..database import Connection
from ..database.similarity import Bounds, Candidates, QueryVector, described, similarities
from ..records import SearchHit


@dataclass(frozen=True)
class Scored:
    """Images by id, in order, and their similarities to each vector: float64, NaN where one has no such embedding."""

    ids: NDArray[np.int64]
    similarities: Mapping[str, NDArray[np.float64]]


def scored(connection: Connection, parts: Mapping[str, QueryVector], found: Mapping[str, Candidates]) -> Scored:
    """The exact similarities of all images that any vector named to every vector."""
    ids = np.unique(np.concatenate([candidates.ids for candidates in found.values()]))
    columns = {}
    for name, part in parts.items():
        column = np.full(len(ids), np.nan)
        if name in found:
            column[np.searchsorted(ids, found[name].ids)] = found[name].similarities
        other, near = similarities(connection, part, ids[np.isnan(column)])
        column[np.searchsorted(ids, other)] = near
        columns[name] = column
    return Scored(ids, columns)


def best(connection: Connection, parts: Mapping[str, QueryVector], scored: Scored, bounds: Bounds) -> list[SearchHit]:
    """The top k of scored images that have all the embeddings. Ties are in id order."""
    total = np.zeros(len(scored.ids))
    wanted = np.ones(len(scored.ids), np.bool_)
    for name, part in parts.items():
        column = scored.similarities[name]
        total += part.weight * column
        if part.threshold is not None:
            wanted &= column >= part.threshold
    wanted &= ~np.isnan(total)
    if bounds.threshold is not None:
        wanted &= total >= bounds.threshold
    if bounds.after is not None:
        score, id = bounds.after
        wanted &= (total < score) | ((total == score) & (scored.ids > id))
    rows = np.flatnonzero(wanted)
    rows = rows[np.lexsort((scored.ids[rows], -total[rows]))][: bounds.top_k]
    return described(
        connection,
        scored.ids[rows],
        total[rows],
        {name: column[rows] for name, column in scored.similarities.items()},
    )
