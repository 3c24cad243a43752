"""Identical files and near-duplicates, against a brute-force oracle; sketches, which spare comparisons; neighbours."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from toolkit_core.database import images, vectors
from toolkit_core.database.images import ImageRow
from toolkit_core.errors import ImageNotFound, SearchError
from toolkit_core.indexing.scan import EPOCH
from toolkit_core.library import Library
from toolkit_core.records import DuplicateGroup, GenerationParameters, Progress
from toolkit_core.search.sketch import principal_axes, sketch
from toolkit_core.spaces import SPACES

from .vectors import forget

MakePicture = Callable[..., Path]
Vectors = NDArray[np.float32]

CLUSTERS, A_CLUSTER = 60, 10


@pytest.fixture
def bare(home: Path, schema: str) -> Iterator[Library]:
    """An empty library without weights."""
    with Library.open(home, library=schema, weights=["/nowhere"]) as library:
        yield library


def fill(library: Library, made: Vectors, contents: Sequence[bytes] | None = None) -> list[int]:
    """An image a vector; of distinct contents, or of those given."""
    contents = contents or [b"%d" % n for n in range(len(made))]
    rows = [ImageRow(f"/{n:04}.png", c, 1, EPOCH, 8, 8, GenerationParameters(), None) for n, c in enumerate(contents)]
    with library.database.transaction() as connection:
        ids = images.write(connection, rows)
        vectors.write(connection, SPACES["clip_h"], ids, made)
    return ids


def clustered(seed: int) -> Vectors:
    """Vectors of any length round some centres, with cosines to each other from 0.85 to 1, in mixed order."""
    random = np.random.default_rng(seed)
    centres = random.standard_normal((CLUSTERS, 1024)) + 1
    noise = random.standard_normal((CLUSTERS, A_CLUSTER, 1024)) * random.uniform(0, 0.55, (CLUSTERS, A_CLUSTER, 1))
    made = (centres[:, np.newaxis] + noise).reshape(-1, 1024) * random.uniform(0.1, 9, (CLUSTERS * A_CLUSTER, 1))
    return random.permutation(made).astype(np.float32)


def oracle(library: Library, ranked: Sequence[int], threshold: float) -> list[tuple[tuple[int, ...], float]]:
    """Leader clustering by all cosines, in float64."""
    stored = library.image_vectors(ranked)
    units = np.stack([stored[id].astype(np.float64) / np.linalg.norm(stored[id].astype(np.float64)) for id in ranked])
    cosines = units @ units.T
    assert np.abs(cosines - threshold).min() > 2e-6, "a pair on the border may fall on either side"
    groups: dict[int, list[int]] = {}
    for row in range(len(ranked)):
        leader = next((other for other in groups if cosines[other, row] >= threshold), row)
        groups.setdefault(leader, []).append(row)
    return [
        (tuple(ranked[row] for row in rows), float(cosines[leader, rows].min()))
        for leader, rows in groups.items()
        if len(rows) > 1
    ]


def found(groups: Sequence[DuplicateGroup]) -> list[tuple[tuple[int, ...], object]]:
    return [(group.ids, pytest.approx(group.similarity, abs=2e-6)) for group in groups]


def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sizes at which a few hundred images take every way that a million takes."""
    for name, size in (("ROWS_A_BLOCK", 50), ("LEADERS_A_TILE", 32), ("PAIRS_A_READ", 7), ("MOST_PAIRS_HELD", 40)):
        monkeypatch.setattr(f"toolkit_core.search.duplicates.{name}", size)


@pytest.mark.parametrize("loose_pairs", [2e-5, 1.0], ids=["fitting sketches", "short sketches"])
@pytest.mark.parametrize("threshold", [0.99, 0.93, 0.87])
def test_near_duplicates_are_those_of_the_brute_force(
    bare: Library, monkeypatch: pytest.MonkeyPatch, threshold: float, loose_pairs: float
) -> None:
    small_blocks(monkeypatch)
    monkeypatch.setattr("toolkit_core.search.sketch.LOOSE_PAIRS", loose_pairs)
    ids = fill(bare, clustered(int(threshold * 100)))
    random = np.random.default_rng(3)
    favorites, good, poor = (set(random.choice(ids, 40).tolist()) for _ in range(3))
    bare.curate(sorted(favorites), favorite=True)
    bare.curate(sorted(good), rating=8)
    bare.curate(sorted(poor - good), rating=0)
    ranked = sorted(ids, key=lambda id: (id not in favorites, id not in good, id not in poor | good, id))
    expected = oracle(bare, ranked, threshold)
    assert len(expected) > 20
    groups = bare.duplicates(threshold)
    assert found(groups) == expected
    assert all(group.paths == tuple(bare.image(id).path for id in group.ids) for group in groups[:3])


def test_one_block_finds_what_many_find(bare: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(bare, clustered(5))
    in_one = bare.duplicates(0.95)
    small_blocks(monkeypatch)
    in_many = bare.duplicates(0.95)
    assert [group.ids for group in in_one] == [group.ids for group in in_many]
    assert [group.similarity for group in in_one] == pytest.approx([group.similarity for group in in_many], abs=2e-6)


def in_a_plane(*degrees: float) -> Vectors:
    made = np.zeros((len(degrees), 1024), np.float32)
    made[:, 0], made[:, 1] = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return made


def test_chain_is_no_group(bare: Library) -> None:
    """0° and 20° have nothing in common, though 10° is near to both."""
    fill(bare, in_a_plane(0, 10, 20, 30))
    assert [group.ids for group in bare.duplicates(0.98)] == [(1, 2), (3, 4)]
    bare.curate([2], rating=3)
    assert [group.ids for group in bare.duplicates(0.98)] == [(2, 1, 3)]
    bare.curate([3], favorite=True)
    assert [group.ids for group in bare.duplicates(0.98)] == [(3, 2, 4)]


def test_identical_files_are_a_group_of_which_one_is_compared(bare: Library) -> None:
    fill(bare, in_a_plane(0, 60, 0, 5, 0), [b"a", b"b", b"a", b"c", b"a"])
    bare.curate([3], rating=5)
    identical, similar = bare.duplicates()
    assert identical == DuplicateGroup((3, 1, 5), ("/0002.png", "/0000.png", "/0004.png"), "identical", 1.0)
    assert (similar.ids, similar.paths, similar.kind) == ((3, 4), ("/0002.png", "/0003.png"), "similar")
    assert similar.similarity == pytest.approx(np.cos(np.radians(5)), abs=1e-3)


def test_same_vectors_are_found_at_the_highest_threshold(bare: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of files may be the same black picture."""
    small_blocks(monkeypatch)
    made = np.random.default_rng(4).standard_normal(1024).astype(np.float32)
    fill(bare, np.concatenate([np.tile(made, (130, 1)), -made[np.newaxis]]))
    assert [(group.ids, group.similarity) for group in bare.duplicates(1.0)] == [
        (tuple(range(1, 131)), pytest.approx(1, abs=1e-6))
    ]


def test_zero_vectors_and_images_without_one_are_in_no_group(bare: Library) -> None:
    """A library of before zeros were refused may have them."""
    made = in_a_plane(0, 0, 90, 90, 0)
    made[4] = 6e-8  # the smallest number of half precision
    fill(bare, made)
    with bare.database.transaction() as connection:
        zero = np.zeros(1024, np.float32).tolist()
        connection.execute("UPDATE image_clip_h SET embedding = %s::real[]::halfvec WHERE image_id IN (3, 4)", [zero])
        broken = ImageRow("/b.png", b"b", 1, EPOCH, None, None, GenerationParameters(), "The file is empty.")
        images.write(connection, [broken])
        images.mark_unopened(connection, "/c.png", "It cannot be opened.")
    assert [group.ids for group in bare.duplicates(0.5)] == [(1, 2)]


def test_library_without_duplicates_has_no_group(bare: Library) -> None:
    assert bare.duplicates() == []
    fill(bare, in_a_plane(0))
    assert bare.duplicates() == []


@pytest.mark.parametrize("threshold", [0.0, -1.0, 1.01, float("nan")])
def test_threshold_that_means_nothing_is_refused(bare: Library, threshold: float) -> None:
    with pytest.raises(SearchError, match=f"threshold is {threshold}"):
        bare.duplicates(threshold)


def test_progress_is_told_and_may_stop_it(bare: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    small_blocks(monkeypatch)
    fill(bare, clustered(6)[:120])
    told: list[Progress] = []
    bare.duplicates(progress=told.append)
    assert told == [Progress("compare", done, 120) for done in (50, 100, 120)]

    class Cancelled(Exception):
        pass

    def cancel(progress: Progress) -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        bare.duplicates(progress=cancel)


def test_copied_and_saved_again_pictures_are_found(library: Library, make_picture: MakePicture, pictures: Path) -> None:
    from PIL import Image

    original, other = make_picture("a.png", "a fox", seed=1), make_picture("b.png", "a fox", seed=2)
    shutil.copy(original, pictures / "copy.png")
    with Image.open(original) as picture:
        picture.save(pictures / "again.jpg", quality=95)
    library.index([pictures])
    identical, similar = library.duplicates(0.999)
    assert (identical.kind, sorted(Path(path).name for path in identical.paths)) == ("identical", ["a.png", "copy.png"])
    assert (similar.kind, "again.jpg" in {Path(path).name for path in similar.paths}) == ("similar", True)
    assert str(other) not in similar.paths


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 60), st.sampled_from([0.0, 1e-4, 0.03, 1.0]))
def test_product_of_sketches_is_no_less_than_the_cosine(seed: int, axes: int, noise: float) -> None:
    random = np.random.default_rng(seed)
    made = np.tile(random.standard_normal((4, 1024)), (2, 1)) + noise * random.standard_normal((8, 1024))
    units = (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)
    units[0] = 0
    chosen = np.linalg.qr(np.concatenate([units[1:4].T, random.standard_normal((1024, 60))], axis=1))[0][:, :axes]
    sketches = sketch(units, chosen.astype(np.float32))
    assert (sketches @ sketches.T >= units.astype(np.float64) @ units.T - 1e-6).all()


def test_sketches_are_as_short_as_will_do() -> None:
    random = np.random.default_rng(8)
    in_few_dimensions = random.standard_normal((600, 20)) @ random.standard_normal((20, 1024))
    in_all = random.standard_normal((600, 1024))
    widths = [
        principal_axes((made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32), threshold).shape[1] + 1
        for made, threshold in ((in_few_dimensions, 0.98), (in_all, 0.98), (in_all, 0.5))
    ]
    assert widths[0] == 32
    assert widths == sorted(set(widths))


def test_neighbours_are_the_search_by_picture_without_itself(bare: Library) -> None:
    fill(bare, in_a_plane(0, 40, 10, 25, 0))
    assert [hit.id for hit in bare.neighbours(1)] == [5, 3, 4, 2]
    assert [hit.id for hit in bare.neighbours(5, top_k=2)] == [1, 3]
    assert bare.neighbours(4, top_k=3) == [hit for hit in bare.search(image_id=4, top_k=4) if hit.id != 4]


def test_neighbours_that_cannot_be_had_say_why(bare: Library) -> None:
    fill(bare, in_a_plane(0))
    assert bare.neighbours(1) == []
    with bare.database.transaction() as connection:
        forget(connection, SPACES["clip_h"])
    with pytest.raises(SearchError, match="Image 1 has no clip_h embedding"):
        bare.neighbours(1)
    with pytest.raises(ImageNotFound, match="no image with id 7"):
        bare.neighbours(7)
    with pytest.raises(SearchError, match="top_k is 0"):
        bare.neighbours(1, top_k=0)
