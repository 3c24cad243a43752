"""Choosing among found images those that are good and unlike each other."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..errors import SearchError


def most_diverse(vectors: NDArray[np.float32], scores: NDArray[np.float32], top_k: int, diversity: float) -> list[int]:
    """The rows of up to `top_k` images in the order of choice, by maximal marginal relevance.

    Each choice is the row with the highest (1 - diversity) * score - diversity * (highest cosine similarity to a row
    chosen before). diversity: 0 is by score alone, 1 by novelty alone, after the best score. Of equal rows the better
    score is chosen, then the earlier row.
    vectors: float32, shape (n, width), of any length. A row that is zero or not finite (NaN: no vector) has a
    similarity of 0 to all others. scores: float32, shape (n,), on the scale of cosine similarities.
    Takes n * top_k products of vectors. Raises SearchError for a diversity that is not from 0 to 1.
    Source: Carbonell and Goldstein, The Use of MMR, Diversity-Based Reranking (SIGIR 1998).
    """
    if not 0 <= diversity <= 1:
        raise SearchError(f"diversity is {diversity}; it lies between 0 (by score alone) and 1 (by novelty alone).")
    by_score = np.argsort(-scores, kind="stable")  # argmax takes the first of equal values
    units = _unit(vectors[by_score])
    relevance = (1 - diversity) * scores[by_score].astype(np.float64)
    nearest = np.full(len(scores), -np.inf)
    left = np.ones(len(scores), dtype=bool)
    chosen: list[int] = []
    for _ in range(min(top_k, len(scores))):
        novelty = -diversity * nearest if chosen else 0.0
        row = int(np.argmax(np.where(left, relevance + novelty, -np.inf)))
        chosen.append(int(by_score[row]))
        left[row] = False
        np.maximum(nearest, units @ units[row], out=nearest)
    return chosen


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows of length 1; zeros for those that have no direction."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    usable = np.isfinite(norms) & (norms > 0)
    return np.divide(vectors, norms, out=np.zeros_like(vectors), where=usable)
