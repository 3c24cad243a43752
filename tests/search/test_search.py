"""Searching: by text, picture, id and vector, weighted or not, against the exact answer."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from toolkit_core.errors import ImageError, ImageNotFound, SearchError, WeightsMissing
from toolkit_core.library import Library

SUBJECTS = ("fox", "badger", "lighthouse", "cathedral", "robot", "teapot")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("searched")


@pytest.fixture(scope="module")
def searched(home: Path, folder: Path, tiny_weights: Path) -> Iterator[Library]:
    """Thirty pictures, five a subject, of which every other one has a negative prompt; and one without a prompt."""
    from PIL import PngImagePlugin

    for n in range(31):
        metadata = PngImagePlugin.PngInfo()
        if n < 30:
            negative = "\nNegative prompt: blurry, text" if n % 2 else ""
            text = (
                f"a {SUBJECTS[n // 5]} in style {n % 5}{negative}\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: {n}"
            )
            metadata.add_text("parameters", text)
        coarse = np.random.default_rng(n).integers(0, 256, (7, 7, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((256, 256), Image.Resampling.BICUBIC).save(
            folder / f"{n:02}.png", pnginfo=metadata
        )
    with Library.open(home, library="searched", weights=[tiny_weights]) as library:
        library.index([folder])
        yield library


def id_of(library: Library, path: Path) -> int:
    with library.database.transaction() as connection:
        row = connection.execute("SELECT id FROM image_file WHERE path = %s", [str(path)]).fetchone()
    assert row is not None
    return row[0]


def exact_scores(library: Library, query: dict[str, np.ndarray], weights: dict[str, float]) -> dict[int, float]:
    """The weighted mean of cosine similarities of every image that has all the embeddings, in float64."""
    with library.database.transaction() as connection:
        ids = [id for (id,) in connection.execute("SELECT id FROM image_file")]
    scores: dict[int, float] = {}
    for id in ids:
        stored = library.embeddings(id)
        if all(name in stored for name in query):
            cosines = {
                name: float(v.astype(float) @ stored[name] / np.linalg.norm(v) / np.linalg.norm(stored[name]))
                for name, v in query.items()
            }
            scores[id] = sum(weights[name] * cosines[name] for name in query) / sum(weights.values())
    return scores


def test_own_picture_and_own_id_come_first(searched: Library, folder: Path) -> None:
    for n in (0, 13, 30):
        path = folder / f"{n:02}.png"
        by_picture = searched.search(image=path, top_k=3)
        by_id = searched.search(image_id=id_of(searched, path), top_k=3)
        assert by_picture[0].path == by_id[0].path == str(path)
        assert by_picture[0].score >= 0.999
        assert by_id[0].score >= 0.999
        assert [hit.id for hit in by_picture] == [hit.id for hit in by_id]


def test_picture_is_found_by_its_jpeg(searched: Library, folder: Path) -> None:
    buffer = io.BytesIO()
    Image.open(folder / "07.png").convert("RGB").resize((500, 500)).save(buffer, "JPEG", quality=70)
    assert searched.search(image=buffer.getvalue(), top_k=1)[0].path == str(folder / "07.png")


def test_text_ranks_by_bge_of_the_prompt(searched: Library) -> None:
    text = "a lighthouse in style 2"
    query = searched._encoders.text("bge").encode_query(text)
    exact = exact_scores(searched, {"bge": query}, {"bge": 1})
    hits = searched.search(text, top_k=10)
    assert [hit.score for hit in hits] == pytest.approx(sorted(exact.values(), reverse=True)[:10], abs=2e-3)
    assert all(hit.prompt for hit in hits)
    assert all(hit.scores == {"bge": hit.score} for hit in hits)


@pytest.mark.parametrize(
    "weights",
    [
        {"bge": 0.5, "clip_h": 0.5},
        {"bge": 0.8, "clip_h": 0.2},
        {"prompt": 3, "image": 1},
        {"clip_l": 1, "clip_g": 2, "bge_negative": 1, "clip_h": 1, "bge": 1},
    ],
)
def test_weighted_search_is_the_exact_weighted_mean(searched: Library, folder: Path, weights: dict[str, float]) -> None:
    path = folder / "11.png"
    hits = searched.search(image_id=id_of(searched, path), weights=weights, top_k=12)
    names = {{"prompt": "bge", "image": "clip_h"}.get(name, name): weight for name, weight in weights.items()}
    stored = searched.embeddings(id_of(searched, path))
    exact = exact_scores(searched, {name: stored[name] for name in names}, names)
    assert [hit.score for hit in hits] == pytest.approx(sorted(exact.values(), reverse=True)[:12], abs=2e-3)
    for hit in hits:
        assert hit.score == pytest.approx(exact[hit.id], abs=2e-3)
        mean = sum(hit.scores[name] * weight for name, weight in names.items()) / sum(names.values())
        assert hit.score == pytest.approx(mean)


def test_text_and_picture_together_count_equally(searched: Library, folder: Path) -> None:
    both = searched.search("a robot in style 1", image=folder / "21.png", top_k=5)
    assert both == searched.search(
        "a robot in style 1", image=folder / "21.png", weights={"bge": 1, "clip_h": 1}, top_k=5
    )
    assert sorted(both[0].scores) == ["bge", "clip_h"]


def test_raw_vector_of_any_embedding_is_searched(searched: Library, folder: Path) -> None:
    id = id_of(searched, folder / "03.png")
    for name, vector in searched.embeddings(id).items():
        hits = searched.search(vectors={name: vector * 7}, top_k=31)
        assert next(hit for hit in hits if hit.id == id).score == pytest.approx(1, abs=1e-3), name


@pytest.mark.parametrize("scale", [1e-30, 1e-6, 1.0, 1e6, 1e30])
def test_length_of_a_vector_makes_no_difference(searched: Library, folder: Path, scale: float) -> None:
    vector = searched.embeddings(id_of(searched, folder / "03.png"))["clip_h"]
    usual = searched.search(vectors={"clip_h": vector}, top_k=31)
    scaled = searched.search(vectors={"clip_h": vector * np.float32(scale)}, top_k=31)
    assert [hit.score for hit in scaled] == pytest.approx([hit.score for hit in usual], abs=1e-3)


def test_size_of_all_weights_makes_no_difference(searched: Library, folder: Path) -> None:
    id = id_of(searched, folder / "03.png")
    usual = searched.search(image_id=id, weights={"bge": 1, "clip_h": 3})
    assert searched.search(image_id=id, weights={"bge": 5e307, "clip_h": 1.5e308}) == usual
    assert searched.search(image_id=id, weights={"bge": 1e-310, "clip_h": 3e-310}) == usual


def test_threshold_and_top_k_bound_the_results(searched: Library, folder: Path) -> None:
    everything = searched.search(image=folder / "04.png", top_k=100)
    assert len(everything) == 31
    middle = everything[9].score
    assert [h.id for h in searched.search(image=folder / "04.png", top_k=100, threshold=middle)] == [
        h.id for h in everything if h.score >= middle
    ]
    assert searched.search(image=folder / "04.png", top_k=4) == everything[:4]
    assert searched.search(image=folder / "04.png", threshold=1.5) == []


def test_image_without_prompt_is_searched_by_its_picture(searched: Library, folder: Path) -> None:
    id = id_of(searched, folder / "30.png")
    assert searched.search(image_id=id, top_k=1)[0].id == id
    with pytest.raises(SearchError, match=f"Image {id} has no bge embedding"):
        searched.search(image_id=id, weights={"bge": 1})


def test_empty_library_finds_nothing(library: Library) -> None:
    assert library.search("anything") == []


def test_search_without_weights_says_what_is_missing(home: Path, searched: Library, folder: Path) -> None:
    with Library.open(home, library="searched", weights=["/nowhere"]) as bare:
        with pytest.raises(WeightsMissing, match="models download bge"):
            bare.search("a fox")
        assert bare.search(image_id=id_of(searched, folder / "00.png"), top_k=1)[0].score >= 0.999


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({}, SearchError, "Give a text"),
        ({"text": " \n"}, SearchError, "Give a text"),
        ({"text": "", "weights": {"bge": 1}}, SearchError, "bge has a weight, but there is no text"),
        ({"text": "fox", "top_k": 0}, SearchError, "top_k is 0"),
        ({"text": "fox", "top_k": 10**6}, SearchError, "top_k is 1000000"),
        ({"text": "fox", "top_k": 1.5}, SearchError, "top_k is 1.5"),
        ({"filter": "fox", "threshold": 0.9}, SearchError, "threshold needs something to be like"),
        ({"filter": "fox", "diversity": 0.5}, SearchError, "diversity needs something to be like"),
        ({"image_id": 1, "page": 0}, SearchError, "page is 0; the first page is 1"),
        ({"image_id": 1, "page": 2, "diversity": 0.5}, SearchError, "leaves no further pages"),
        ({"text": "fox", "threshold": float("nan")}, SearchError, "threshold is nan"),
        ({"text": "fox", "weights": {"smell": 1}}, SearchError, "'smell' is no embedding"),
        ({"text": "fox", "weights": {"bge": 0}}, SearchError, "All weights are 0"),
        ({"text": "fox", "weights": {"bge": float("nan")}}, SearchError, "bge is nan; it has to be a number"),
        ({"text": "fox", "weights": {"bge": None}}, SearchError, "bge is None; it has to be a number"),
        ({"text": "fox", "weights": {"clip_h": 1}}, SearchError, "no image to search by"),
        ({"image_id": 10**9}, ImageNotFound, "no image with id 1000000000"),
        ({"image": "/nowhere.png"}, SearchError, "cannot be opened"),
        ({"image": b"no picture"}, ImageError, "no picture"),
        ({"image": 5}, SearchError, "5 is no picture"),
        *(
            ({"image": np.zeros(shape, np.uint8)}, SearchError, f"uint8 of shape {re.escape(str(shape))}. RGB pixels")
            for shape in [(5, 5), (5, 5, 4), (5, 5, 1), (0, 5, 3), (0, 5, 5, 3), (2, 5, 0, 3), (1, 1, 5, 5, 3)]
        ),
        ({"image": np.zeros((5, 5, 3), np.float32)}, SearchError, "The pixels are float32"),
        ({"image_id": True}, ImageNotFound, "True is no image's id"),
        ({"image_id": 1.5}, ImageNotFound, "1.5 is no image's id"),
        ({"image_id": "1"}, ImageNotFound, "'1' is no image's id"),
        ({"vectors": {"bge": np.zeros(1024)}}, SearchError, "zero"),
        ({"vectors": {"bge": np.full(1024, np.nan)}}, SearchError, "not finite"),
        ({"vectors": {"bge": "abc"}}, SearchError, "bge vector is 'abc'; an array of numbers"),
        ({"vectors": {"bge": np.ones(768)}}, SearchError, r"shape \(768,\)"),
    ],
)
def test_search_that_cannot_be_run_says_why(
    searched: Library, arguments: dict[str, object], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        searched.search(**arguments)  # pyright: ignore[reportArgumentType]


def test_blank_text_is_none(searched: Library) -> None:
    listed = searched.search(filter="fox")
    assert searched.search(" ", filter="fox") == listed
    assert len(listed) == 5


@pytest.mark.parametrize("top_k", [0, 10_000])
def test_neighbours_that_cannot_be_asked_for_are_counted_as_they_were_asked_for(
    searched: Library, folder: Path, top_k: int
) -> None:
    with pytest.raises(SearchError, match=f"top_k is {top_k}; ask for 1 to 9999 images"):
        searched.neighbours(id_of(searched, folder / "00.png"), top_k)


def test_filter_gives_the_ids_of_all_images_that_meet_it(searched: Library, folder: Path) -> None:
    foxes = sorted(id_of(searched, folder / f"{n:02}.png") for n in range(5))
    assert searched.find("fox") == foxes
    assert searched.find(f"-id:{foxes[0]} fox") == foxes[1:]
    assert searched.find("owl") == []
    assert len(searched.find(" ")) == 31
