"""The index over prompt and picture: it is as right as the two it stands for, whatever was written since."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from toolkit_core.database import Connection, Database, images, pairs, reembedding, vectors
from toolkit_core.database.filters import condition
from toolkit_core.database.segments import seal
from toolkit_core.database.similarity import Bounds, QueryVector
from toolkit_core.search.filter_language import parse_filter
from toolkit_core.search.ranking import rank
from toolkit_core.spaces import EMBEDDINGS, PAIRED, SPACES

from .vectors import Filled, fill, image_row

ROWS = 1200
Find = Callable[..., list[int]]


@pytest.fixture
def paired(database: Database) -> Filled:
    filled = fill(database, ROWS)
    done = seal(database, rows_worth_an_index=500, pair_index=True)
    assert [space.space for space in done] == [*SPACES, "pairs"]
    assert is_usable(database)
    return filled


def is_usable(database: Database) -> bool:
    with database.transaction() as connection:
        return pairs.usable(connection)


def found(filled: Filled, query: dict[str, np.ndarray], bge: float, clip_h: float, filter: str = "") -> list[int]:
    parts = {
        "bge": QueryVector("bge", EMBEDDINGS["bge"], query["bge"], bge),
        "clip_h": QueryVector("clip_h", EMBEDDINGS["clip_h"], query["clip_h"], clip_h),
    }
    parsed = parse_filter(filter)
    with filled.database.transaction() as connection:
        return [hit.id for hit in rank(connection, parts, Bounds(20, condition(parsed) if parsed else None)).hits]


@pytest.mark.parametrize("weights", [(0.5, 0.5), (0.8, 0.2), (0.75, -0.25), (-0.2, 0.8)])
@pytest.mark.parametrize("filter", ["", "steps:>=20"])
def test_ranks_as_the_exact_weighted_sum(paired: Filled, weights: tuple[float, float], filter: str) -> None:
    recalls = []
    for number in range(0, ROWS, 133):
        query = {name: paired.vectors[name][number] for name in PAIRED}
        scores = paired.scores(query, dict(zip(PAIRED, weights, strict=True)))
        if filter:
            scores[np.arange(ROWS) % 40 < 20] = -np.inf
        ids = found(paired, query, *weights, filter=filter)
        lowest = np.sort(scores)[-20] - 1e-3
        recalls.append(np.mean([scores[np.flatnonzero(paired.ids == id)[0]] >= lowest for id in ids]))
    assert np.mean(recalls) >= 0.98


def test_new_image_is_found_before_and_after_it_is_sealed(paired: Filled) -> None:
    query = {name: paired.vectors[name][7] for name in PAIRED}
    with paired.database.transaction() as connection:
        [id] = images.write(connection, [image_row(5000, "a new prompt")])
        prompt_id, _ = images.prompt_ids(connection, id)
        assert prompt_id is not None
        vectors.write(connection, SPACES["clip_h"], [id], query["clip_h"][np.newaxis])
        vectors.write(connection, SPACES["bge"], [prompt_id], query["bge"][np.newaxis])
    assert id in found(paired, query, 0.5, 0.5)[:3]
    seal(paired.database, rows_worth_an_index=500, most_open_rows=0, pair_index=True)
    with paired.database.transaction() as connection:
        assert connection.execute("SELECT count(*) FROM image_pair").fetchone() == (ROWS + 1,)
        assert connection.execute("SELECT count(*) FROM image_unpaired").fetchone() == (0,)
    assert id in found(paired, query, 0.5, 0.5)[:3]


def test_image_that_got_another_known_prompt_is_found_by_it(paired: Filled) -> None:
    """Its vectors are all sealed, and its pair is one of its old prompt."""
    number, other = 10, 900
    [id] = paired.ids[[number]].tolist()
    query = {"bge": paired.vectors["bge"][other], "clip_h": paired.vectors["clip_h"][number]}
    with paired.database.transaction() as connection:
        [prompt_id] = connection.execute(
            "SELECT prompt_id FROM image_file WHERE id = %s", [int(paired.ids[other])]
        ).fetchone() or (None,)
        connection.execute("UPDATE image_file SET prompt_id = %s WHERE id = %s", [prompt_id, id])
    assert found(paired, query, 0.5, 0.5)[0] == id
    seal(paired.database, rows_worth_an_index=500, most_open_rows=0, pair_index=True)
    with paired.database.transaction() as connection:
        assert connection.execute("SELECT prompt_id FROM image_pair WHERE image_id = %s", [id]).fetchone() == (
            prompt_id,
        )
    assert found(paired, query, 0.5, 0.5)[0] == id


@pytest.mark.parametrize("rebuild", [True, False])
def test_image_whose_prompt_is_embedded_while_others_are_sealed_is_found(
    paired: Filled, monkeypatch: pytest.MonkeyPatch, rebuild: bool
) -> None:
    numbers = [10, 900]

    def embed(number: int) -> None:
        with paired.database.transaction() as connection:
            vectors.write(connection, SPACES["bge"], [prompts[number]], paired.vectors["bge"][[number]])

    with paired.database.transaction() as connection:
        prompts = {number: images.prompt_ids(connection, int(paired.ids[number]))[0] or 0 for number in numbers}
        vectors.remove(connection, SPACES["bge"], list(prompts.values()))
    embed(numbers[0])
    mark_open = pairs.mark_open
    late = iter(numbers[1:])

    def mark_before_the_other(connection: Connection) -> None:
        mark_open(connection)
        for number in late:
            embed(number)

    monkeypatch.setattr(pairs, "mark_open", mark_before_the_other)
    for _ in range(2):
        seal(paired.database, rows_worth_an_index=500, most_open_rows=0, pair_index=True, rebuild=rebuild)
        assert is_usable(paired.database)
        for number in numbers:
            query = {name: paired.vectors[name][number] for name in PAIRED}
            assert found(paired, query, 0.5, 0.5)[0] == paired.ids[number]


def test_too_many_unpaired_images_are_left_to_the_other_indexes(
    paired: Filled, monkeypatch: pytest.MonkeyPatch
) -> None:
    with paired.database.transaction() as connection:
        connection.execute("INSERT INTO image_unpaired SELECT id FROM image_file LIMIT 30")
    assert is_usable(paired.database)
    monkeypatch.setattr("toolkit_core.database.pairs.MOST_UNPAIRED", 20)
    assert not is_usable(paired.database)
    query = {name: paired.vectors[name][7] for name in PAIRED}
    assert found(paired, query, 0.5, 0.5)[0] == paired.ids[7]


def test_space_that_is_made_again_leaves_no_pairs_of_its_old_vectors(paired: Filled) -> None:
    for name, usable in (("clip_l", True), ("clip_h", False)):
        space = SPACES[name]
        with paired.database.transaction() as connection:
            reembedding.begin(connection, space, "other weights", np.zeros((1, space.width), np.float32))
        reembedding.switch(paired.database, space, "hnsw", lambda _: None)
        assert is_usable(paired.database) == usable


@pytest.mark.parametrize("pair_index", [True, False])
def test_open_transaction_holds_up_no_search_in_pairs_that_are_exchanged_or_given_up(
    paired: Filled, until_exchange_waits: Callable[[], None], pair_index: bool
) -> None:
    query = {name: paired.vectors[name][7] for name in PAIRED}
    with ThreadPoolExecutor(2) as pool:
        with paired.database.transaction() as reader:
            reader.execute("SELECT FROM image_pair LIMIT 1")
            sealing = pool.submit(
                seal, paired.database, rows_worth_an_index=500, pair_index=pair_index, rebuild=pair_index
            )
            until_exchange_waits()
            assert pool.submit(found, paired, query, 0.5, 0.5).result(timeout=20)[0] == paired.ids[7]
            assert not sealing.done()
        assert [done.space for done in sealing.result(timeout=60)] == ([*SPACES, "pairs"] if pair_index else [])
    assert is_usable(paired.database) == pair_index
    assert found(paired, query, 0.5, 0.5)[0] == paired.ids[7]


def test_setting_that_is_taken_back_gives_up_the_index(paired: Filled) -> None:
    seal(paired.database, rows_worth_an_index=500)
    with paired.database.transaction() as connection:
        assert connection.execute("SELECT count(*) FROM image_pair").fetchone() == (0,)
    assert not is_usable(paired.database)
