"""Ranking against the exact order: one vector or several, any weights, any filter."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from psycopg import sql

from toolkit_core.database import Database, images, index_effort, vectors
from toolkit_core.database.filters import Condition, condition
from toolkit_core.database.segments import seal
from toolkit_core.database.similarity import Bounds, QueryVector
from toolkit_core.library import Library
from toolkit_core.search.filter_language import parse_filter
from toolkit_core.search.ranking import Ranking, rank
from toolkit_core.spaces import EMBEDDINGS, SPACES

from .vectors import Filled, fill, image_row

ROWS = 3000
# A filter, and which images by their number it lets through.
FILTERS = {
    "seed:7": lambda n: n == 7,
    "model:model-3 steps:<4": lambda n: (n % 10 == 3) & (n % 40 < 4),
    "model:model-3": lambda n: n % 10 == 3,
    "steps:>=20": lambda n: n % 40 >= 20,
    "-seed:5": lambda n: n != 5,
    "seed:>100000": lambda n: n < 0,
}


@pytest.fixture(scope="module")
def sealed(home: Path) -> Iterator[Filled]:
    """Three thousand images, two a prompt, with an index in every space, and a few rows behind it."""
    database = Database.embedded(home, "ranked")
    filled = fill(database, ROWS)
    assert [done.space for done in seal(database, rows_worth_an_index=1000)] == list(SPACES)
    yield filled
    database.close()


def ranked(
    filled: Filled,
    query: Mapping[str, NDArray[np.float32]],
    weights: Mapping[str, float],
    top_k: int = 20,
    filter: str = "",
    threshold: float | None = None,
) -> Ranking:
    total = sum(abs(weight) for weight in weights.values())
    parts = {name: QueryVector(name, EMBEDDINGS[name], query[name], weight / total) for name, weight in weights.items()}
    parsed = parse_filter(filter)
    bounds = Bounds(top_k, None if parsed is None else condition(parsed), threshold)
    with filled.database.transaction() as connection:
        return rank(connection, parts, bounds)


def recall(filled: Filled, ranking: Ranking, scores: NDArray[np.float64], top_k: int) -> float:
    """The share of the true top k that was found; images as good as its last count as in it."""
    allowed = np.flatnonzero(np.isfinite(scores))
    wanted = min(top_k, len(allowed))
    assert len(ranking.hits) == wanted, "fewer images than there are"
    if wanted == 0:
        return 1.0
    lowest = np.sort(scores[allowed])[-wanted] - 1e-3
    number = {int(id): n for n, id in enumerate(filled.ids)}
    for hit in ranking.hits:
        assert hit.score == pytest.approx(scores[number[hit.id]], abs=2e-3)
    assert [hit.score for hit in ranking.hits] == sorted((hit.score for hit in ranking.hits), reverse=True)
    return sum(scores[number[hit.id]] >= lowest for hit in ranking.hits) / wanted


def query_of(filled: Filled, number: int) -> dict[str, NDArray[np.float32]]:
    random = np.random.default_rng(number)
    return {
        name: rows[number] + 0.1 * random.standard_normal(rows.shape[1]).astype(np.float32)
        for name, rows in filled.vectors.items()
    }


WEIGHTS = [
    {"clip_h": 1.0},
    {"bge": 1.0},
    {"bge": 0.5, "clip_h": 0.5},
    {"bge": 0.8, "clip_h": 0.2},
    {"bge": 1.0, "clip_h": -0.3},
    {"clip_l": 1.0, "clip_g": 2.0, "bge": 1.0, "clip_h": 1.0},
]


@pytest.mark.parametrize("weights", WEIGHTS, ids=str)
def test_top_k_is_the_exact_one(sealed: Filled, weights: dict[str, float]) -> None:
    recalls = []
    for number in range(0, ROWS, 311):
        query = query_of(sealed, number)
        recalls.append(recall(sealed, ranked(sealed, query, weights), sealed.scores(query, weights), 20))
    assert np.mean(recalls) >= 0.98


@pytest.mark.parametrize("filter", FILTERS)
@pytest.mark.parametrize("weights", WEIGHTS[:3] + WEIGHTS[4:5], ids=str)
def test_filtered_top_k_is_the_exact_one_and_never_short(
    sealed: Filled, weights: dict[str, float], filter: str
) -> None:
    allowed = FILTERS[filter](np.arange(ROWS))
    recalls = []
    for number in range(5, ROWS, 501):
        query = query_of(sealed, number)
        scores = np.where(allowed, sealed.scores(query, weights), -np.inf)
        recalls.append(recall(sealed, ranked(sealed, query, weights, filter=filter), scores, 20))
    assert np.mean(recalls) >= 0.98


@pytest.mark.parametrize("weights", [{"clip_h": 1.0}, {"bge": 1.0}, {"bge": 0.9, "clip_h": 0.1}], ids=str)
def test_index_that_is_left_before_it_comes_by_what_a_filter_lets_through_is_not_relied_on(
    sealed: Filled, monkeypatch: pytest.MonkeyPatch, weights: dict[str, float]
) -> None:
    monkeypatch.setattr(index_effort, "FEWEST_WALKED", 500)
    parts_of = {name: QueryVector(name, EMBEDDINGS[name], rows[42], 1.0) for name, rows in sealed.vectors.items()}
    parts = {name: replace(parts_of[name], weight=weight) for name, weight in weights.items()}
    exact = sealed.scores({name: part.vector for name, part in parts.items()}, weights)
    far = np.argsort(exact)[: ROWS // 2]
    scores = np.full(ROWS, -np.inf)
    scores[far] = exact[far]
    among_them = Condition(sql.SQL("f.id = ANY({})").format(sql.Literal(sealed.ids[far].tolist())), {})
    with sealed.database.transaction() as connection:
        found = rank(connection, parts, Bounds(20, among_them))
    assert recall(sealed, found, scores, 20) == 1
    assert found.certainty == "exact"


def test_as_many_images_as_are_asked_for_are_found(sealed: Filled) -> None:
    query = query_of(sealed, 42)
    for top_k in (1, 41, 400, 2999, 3000, 10_000):
        for weights in ({"clip_h": 1.0}, {"bge": 1.0}, {"bge": 0.5, "clip_h": 0.5}):
            assert len(ranked(sealed, query, weights, top_k).hits) == min(top_k, ROWS)


def test_what_is_only_unlike_a_vector_is_ranked_by_that(sealed: Filled) -> None:
    query = query_of(sealed, 10)
    ranking = ranked(sealed, query, {"clip_h": -1.0})
    assert ranking.certainty == "exact"
    assert recall(sealed, ranking, sealed.scores(query, {"clip_h": -1.0}), 20) == 1


def test_certainty_says_how_the_ranking_was_found(sealed: Filled) -> None:
    number = 100
    query = {name: rows[number] for name, rows in sealed.vectors.items()}
    assert ranked(sealed, query, {"clip_h": 1.0}, filter="model:model-3").certainty == "exact"
    assert ranked(sealed, query, {"clip_h": 1.0}).certainty == "index"
    # The image itself is far ahead of all others, so no image that was not named can pass it.
    assert ranked(sealed, query, {"bge": 0.5, "clip_h": 0.5}, top_k=1).certainty == "index"
    assert ranked(sealed, query, {"bge": 0.1, "clip_h": -1.0}).certainty in ("budget", "exact")


def test_threshold_keeps_what_reaches_it(sealed: Filled) -> None:
    query = query_of(sealed, 77)
    for weights in ({"clip_h": 1.0}, {"bge": 0.5, "clip_h": 0.5}):
        scores = sealed.scores(query, weights)
        threshold = float(np.sort(scores)[-12]) - 1e-4
        hits = ranked(sealed, query, weights, top_k=50, threshold=threshold).hits
        assert len(hits) == int((scores >= threshold).sum())
        assert ranked(sealed, query, weights, threshold=1.5).hits == []


@settings(max_examples=25, deadline=None)
@given(
    weights=st.dictionaries(
        st.sampled_from(["bge", "clip_h", "clip_l", "clip_g"]),
        st.floats(-1, 1).filter(lambda w: abs(w) > 0.05),
        min_size=1,
    ),
    top_k=st.integers(1, 60),
    filter=st.sampled_from(["", *FILTERS]),
    number=st.integers(0, ROWS - 1),
)
def test_any_weights_and_filter_give_the_exact_scores_and_number(
    sealed: Filled, weights: dict[str, float], top_k: int, filter: str, number: int
) -> None:
    query = query_of(sealed, number)
    scores = sealed.scores(query, weights)
    if filter:
        scores = np.where(FILTERS[filter](np.arange(ROWS)), scores, -np.inf)
    ranking = ranked(sealed, query, weights, top_k, filter)
    found = recall(sealed, ranking, scores, top_k)
    assert found == 1 or ranking.certainty != "exact"


def test_texts_without_an_image_do_not_shorten_a_search(database: Database, home: Path, schema: str) -> None:
    """Prompts whose image has another one now, and negative prompts, lie among the vectors of the prompts."""
    filled = fill(database, 300, images_a_prompt=1)
    query = filled.vectors["bge"][0]
    with database.transaction() as connection:
        made = [image_row(900 + n, f"was {n}") for n in range(250)]
        ids = images.write(connection, made)
        pending = [id for id, _ in vectors.pending(connection, SPACES["bge"], 0, 1000)]
        vectors.write(connection, SPACES["bge"], pending, np.repeat(query[np.newaxis], len(pending), axis=0))
        connection.execute("UPDATE image_file SET prompt_id = NULL WHERE id = ANY(%s)", [ids])
    with Library.open(home, library=schema, weights=["/nowhere"]) as library:
        for _ in range(2):
            assert len(library.search(vectors={"bge": query}, top_k=40)) == 40
            seal(database, rows_worth_an_index=100)
