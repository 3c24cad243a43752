"""Making a space again with other weights: the old vectors serve until the new ones are complete."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from toolkit_core.database import reembedding
from toolkit_core.database.claims import worker
from toolkit_core.errors import DatabaseError
from toolkit_core.indexing import embedder
from toolkit_core.indexing.embedder import Embedder
from toolkit_core.library import Library
from toolkit_core.records import Progress
from toolkit_core.spaces import SPACES

MakePicture = Callable[..., Path]
CLIP_L = SPACES["clip_l"]


def changed_weights(weights: Path, folder: Path, by: float) -> Path:
    shutil.copytree(weights, folder)
    tensors = load_file(folder / "clip_l.safetensors")
    name = next(name for name in tensors if name.endswith("final_layer_norm.bias"))
    tensors[name] = tensors[name] + by * np.linspace(-1, 1, tensors[name].size, dtype=tensors[name].dtype)
    save_file(tensors, folder / "clip_l.safetensors")
    return folder


@pytest.fixture
def other(home: Path, schema: str, tiny_weights: Path, tmp_path: Path) -> Iterator[Library]:
    """The same library, with another CLIP-L."""
    with Library.open(home, library=schema, weights=[changed_weights(tiny_weights, tmp_path / "other", 1)]) as opened:
        yield opened


def stored(library: Library) -> dict[int, NDArray[np.float32]]:
    with library.database.transaction() as connection:
        rows = connection.execute("SELECT prompt_id, embedding FROM prompt_clip_l", binary=True)
        return {id: half.to_numpy() for id, half in rows}


class Stop(Exception):
    pass


def stop_at(stage: str) -> Callable[[Progress], None]:
    def progress(now: Progress) -> None:
        if now.stage == stage:
            raise Stop

    return progress


@pytest.fixture
def filled(library: Library, make_picture: MakePicture, pictures: Path, monkeypatch: pytest.MonkeyPatch) -> Library:
    monkeypatch.setattr(embedder, "TEXTS_A_BATCH", 2)
    for n in range(6):
        make_picture(f"{n}.png", f"prompt {n}")
    library.index([pictures])
    return library


def test_old_vectors_serve_until_the_switch(filled: Library, other: Library) -> None:
    before = stored(filled)
    seen: list[bool] = []

    def progress(now: Progress) -> None:
        if now.stage == "reembed clip_l":
            seen.append(all(np.array_equal(stored(filled)[id], vector) for id, vector in before.items()))
            assert filled.search("prompt 3", weights={"clip_l": 1}, top_k=1)[0].prompt == "prompt 3"

    report = other.reindex("clip_l", progress)
    assert (report.embedded["clip_l"], report.pending["clip_l"]) == (7, 0)
    assert report.pace() is None, "the stages of what was pending afterwards say nothing of it"
    assert len(seen) >= 3
    assert all(seen)
    after = stored(other)
    assert after.keys() == before.keys()
    assert not any(np.allclose(after[id], vector, atol=1e-2) for id, vector in before.items())
    assert other.search("prompt 3", weights={"clip_l": 1}, top_k=1)[0].prompt == "prompt 3"
    assert other.status().reembedding == {}


def test_run_that_was_stopped_is_taken_up(filled: Library, other: Library) -> None:
    before = stored(filled)
    with pytest.raises(Stop):
        other.reindex("clip_l", stop_at("reembed clip_l"))
    under_way = other.status().reembedding
    assert list(under_way) == ["clip_l"]
    assert 0 < under_way["clip_l"].done < 7
    assert all(np.array_equal(stored(filled)[id], vector) for id, vector in before.items())
    made = []
    other.reindex("clip_l", lambda now: made.append(now) if now.stage == "reembed clip_l" else None)
    assert made[-1].done == 7 - under_way["clip_l"].done
    assert stored(other).keys() == before.keys()


def test_other_weights_than_those_of_a_stopped_run_start_over(
    filled: Library, other: Library, home: Path, schema: str, tiny_weights: Path, tmp_path: Path
) -> None:
    with pytest.raises(Stop):
        other.reindex("clip_l", stop_at("reembed clip_l"))
    third = changed_weights(tiny_weights, tmp_path / "third", -2)
    with Library.open(home, library=schema, weights=[third]) as library:
        assert library.reindex("clip_l").embedded["clip_l"] == 7
        assert library.search("prompt 1", weights={"clip_l": 1}, top_k=1)[0].score == pytest.approx(1, abs=2e-3)


def test_abandoned_run_leaves_the_old_vectors(filled: Library, other: Library) -> None:
    before = stored(filled)
    assert not other.abandon_reindex("clip_l")
    with pytest.raises(Stop):
        other.reindex("clip_l", stop_at("reembed clip_l"))
    assert other.abandon_reindex("clip_l")
    assert other.status().reembedding == {}
    assert all(np.array_equal(stored(filled)[id], vector) for id, vector in before.items())


def test_what_is_indexed_meanwhile_with_the_old_weights_is_made_again(
    filled: Library, other: Library, make_picture: MakePicture
) -> None:
    """Also what is written between the last look and the switch, which no new vector is made of before it."""

    def progress(now: Progress) -> None:
        if now.stage == "reembed clip_l" and now.done == now.total:
            late.append(make_picture("late.png", "a late prompt"))
            assert filled.index(late).refused == {}

    late: list[Path] = []
    report = other.reindex("clip_l", progress)
    assert late
    assert report.pending["clip_l"] == 0
    hit = other.search("a late prompt", weights={"clip_l": 1}, top_k=1)[0]
    assert (hit.prompt, hit.score) == ("a late prompt", pytest.approx(1, abs=2e-3))


def test_vectors_made_before_the_switch_are_not_written_after_it(filled: Library, other: Library) -> None:
    with worker(filled.database) as at_work:
        embedder = Embedder(filled.database, filled._encoders, at_work)
        made = embedder.encode(CLIP_L, ["prompt 0"])
        assert made is not None
        other.reindex("clip_l")
        after = stored(other)
        with filled.database.transaction() as connection:
            embedder.write(connection, CLIP_L, [min(after)], made.vectors)
    assert embedder.embedded["clip_l"] == 0
    assert all(np.array_equal(stored(other)[id], vector) for id, vector in after.items())


def test_space_with_an_index_has_one_when_it_is_switched(
    filled: Library, other: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reembedding, "ROWS_WORTH_AN_INDEX", 5)
    other.reindex("clip_l")
    index = other.status().indexes["clip_l"]
    assert (index.index, index.sealed, index.open) == ("hnsw", 7, 0)
    assert other.search("prompt 2", weights={"clip_l": 1}, top_k=1)[0].prompt == "prompt 2"


def test_open_transaction_holds_up_the_switch_and_no_search(
    filled: Library, other: Library, until_exchange_waits: Callable[[], None]
) -> None:
    with ThreadPoolExecutor(2) as pool:
        with filled.database.transaction() as reader:
            reader.execute("SELECT clip_l_embedding FROM image LIMIT 1")
            before = stored(filled)
            switching = pool.submit(other.reindex, "clip_l")
            until_exchange_waits()
            searching = pool.submit(filled.search, "prompt 2", weights={"clip_l": 1}, top_k=1)
            assert searching.result(timeout=20)[0].prompt == "prompt 2"
            assert pool.submit(stored, filled).result(timeout=20).keys() == before.keys()
            assert not switching.done()
        assert switching.result(timeout=60).pending["clip_l"] == 0
    after = stored(other)
    assert after.keys() == before.keys()
    assert not any(np.allclose(after[id], vector, atol=1e-2) for id, vector in before.items())


def test_files_that_are_gone_leave_their_images_pending(filled: Library, pictures: Path) -> None:
    (pictures / "0.png").unlink()
    report = filled.reindex("clip_h")
    assert (report.embedded["clip_h"], report.pending["clip_h"]) == (5, 1)


def test_only_one_process_makes_a_space_again(filled: Library, other: Library) -> None:
    with reembedding.alone(filled.database, CLIP_L), pytest.raises(DatabaseError, match="Another process"):
        other.reindex("clip_l")
    with reembedding.alone(filled.database, SPACES["bge"]):
        assert other.reindex("clip_l").pending["clip_l"] == 0


def test_picture_that_is_replaced_meanwhile_is_made_again(filled: Library, make_picture: MakePicture) -> None:
    with filled.database.transaction() as connection:
        id = connection.execute("SELECT id FROM image_file WHERE path LIKE '%/0.png'").fetchone()
        assert id is not None
        reembedding.write(connection, SPACES["clip_h"], [*id], np.ones((1, 1024), np.float32))
    filled.index([make_picture("0.png", "prompt 0", seed=9)])
    with filled.database.transaction() as connection:
        assert connection.execute("SELECT count(*) FROM image_clip_h_next").fetchone() == (0,)
