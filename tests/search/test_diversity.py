"""Maximal marginal relevance, against its definition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from toolkit_core.errors import SearchError
from toolkit_core.search.diversity import most_diverse

Vectors = NDArray[np.float32]


def cosine(a: Vectors, b: Vectors) -> float:
    """0 where one has no direction."""
    lengths = np.linalg.norm(a.astype(np.float64)) * np.linalg.norm(b.astype(np.float64))
    return float(a.astype(np.float64) @ b / lengths) if np.isfinite(lengths) and lengths > 0 else 0.0


def value(vectors: Vectors, scores: Vectors, row: int, chosen: list[int], diversity: float) -> float:
    """What the definition gives for a row after those that were chosen."""
    nearest = max((cosine(vectors[row], vectors[other]) for other in chosen), default=0.0)
    return (1 - diversity) * float(scores[row]) - diversity * nearest


@st.composite
def found_images(draw: st.DrawFn) -> tuple[Vectors, Vectors]:
    """Vectors round a few centres, some of them equal, zero or NaN; scores with ties."""
    n, width = draw(st.integers(0, 14)), draw(st.integers(1, 6))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    centres = random.standard_normal((3, width))
    vectors = centres[random.integers(0, 3, n)] + draw(st.sampled_from([0, 0.1, 2])) * random.standard_normal(
        (n, width)
    )
    vectors *= 10.0 ** random.integers(-3, 4, (n, 1))
    vectors[random.random(n) < 0.15] = np.nan
    vectors[random.random(n) < 0.1] = 0
    return vectors.astype(np.float32), np.round(random.uniform(-1, 1, n), 1).astype(np.float32)


@settings(max_examples=300, deadline=None)
@given(found_images(), st.integers(0, 16), st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]) | st.floats(0, 1))
def test_every_choice_is_the_best_one_left(found: tuple[Vectors, Vectors], top_k: int, diversity: float) -> None:
    vectors, scores = found
    chosen = most_diverse(vectors, scores, top_k, diversity)
    assert len(chosen) == len(set(chosen)) == min(top_k, len(scores))
    for step, row in enumerate(chosen):
        left = sorted(set(range(len(scores))) - set(chosen[:step]))
        best = max(value(vectors, scores, other, chosen[:step], diversity) for other in left)
        assert value(vectors, scores, row, chosen[:step], diversity) == pytest.approx(best, abs=1e-5)


@settings(max_examples=50, deadline=None)
@given(found_images(), st.integers(0, 16))
def test_no_diversity_is_the_order_of_scores(found: tuple[Vectors, Vectors], top_k: int) -> None:
    vectors, scores = found
    in_order = sorted(range(len(scores)), key=lambda row: -scores[row])
    assert most_diverse(vectors, scores, top_k, 0) == in_order[:top_k]


def test_near_copies_come_after_what_is_new() -> None:
    vectors = np.array([[1, 0, 0], [1, 0.01, 0], [0, 1, 0], [1, 0.02, 0], [0, 0, 1]], np.float32)
    scores = np.array([0.9, 0.89, 0.5, 0.88, 0.4], np.float32)
    assert most_diverse(vectors, scores, 3, 0) == [0, 1, 3]
    assert most_diverse(vectors, scores, 3, 0.5) == [0, 2, 4]
    assert most_diverse(vectors, scores, 5, 0.5)[:3] == [0, 2, 4]


def test_novelty_alone_starts_from_the_best_score_and_breaks_ties_by_score() -> None:
    vectors = np.eye(4, dtype=np.float32)
    scores = np.array([0.1, 0.7, 0.7, 0.9], np.float32)
    assert most_diverse(vectors, scores, 4, 1) == [3, 1, 2, 0]


def test_opposite_is_newer_than_unrelated_and_a_row_without_a_vector_counts_as_unrelated() -> None:
    vectors = np.array([[1, 0], [1, 1], [np.nan, np.nan], [-1, 0]], np.float32)
    assert most_diverse(vectors, np.array([1, 0.5, 0.5, 0], np.float32), 4, 1) == [0, 3, 2, 1]


@pytest.mark.parametrize("diversity", [-0.1, 1.1, float("nan")])
def test_diversity_that_means_nothing_is_refused(diversity: float) -> None:
    with pytest.raises(SearchError, match=f"diversity is {diversity}"):
        most_diverse(np.eye(2, dtype=np.float32), np.ones(2, np.float32), 1, diversity)
