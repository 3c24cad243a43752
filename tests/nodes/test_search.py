"""The search node, in a ComfyUI with tiny weights."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

SUBJECTS = ("fox", "lighthouse", "robot", "teapot")


@dataclass(frozen=True)
class Searched:
    comfyui: Any
    library: Any
    folder: Path
    before: dict[str, Any]
    """What searching and loading gave while the library was empty."""
    ids: dict[str, int]


@pytest.fixture(scope="module")
def searched(quick_comfyui: Any, tiny_weights: Path, plain_graph: Any, save_png: Any) -> Iterator[Searched]:
    """Eight pictures of two sizes, and one without a prompt."""
    from toolkit_core.library import Library

    before = {}
    for name, inputs in (("text", {"text": "a fox"}), ("id", {"image_id": 1})):
        graph = plain_graph()
        graph.observe("never", graph.add("DiffusionToolkitSearch", **inputs)(0))
        before[name] = quick_comfyui.run(graph)
    folder = quick_comfyui.output / "searched"
    for number in range(8):
        size = (320, 240) if number % 2 else (256, 384)
        save_png(folder / f"{number}.png", number, f"a {SUBJECTS[number // 2]} in style {number}", "blurry", size)
    save_png(folder / "none.png", 50, None)
    graph = plain_graph()
    graph.add("DiffusionToolkitIndexer", folder="output/searched")
    quick_comfyui.done(graph)
    with Library.open(quick_comfyui.home, weights=[tiny_weights]) as library:
        with library.database.transaction() as connection:
            ids = {Path(path).name: id for id, path in connection.execute("SELECT id, path FROM image_file")}
        yield Searched(quick_comfyui, library, folder, before, ids)


def search(searched: Searched, graph: Any, **inputs: Any) -> Any:
    """Run a search with all outputs observed. Returns the job."""
    found = graph.add("DiffusionToolkitSearch", **inputs)
    for output, name in enumerate(("images", "embeds", "negative")):
        graph.observe(name, found(output))
    for output, name in enumerate(("ids", "scores", "paths", "prompts"), 3):
        graph.observe_list(name, found(output))
    for name in ("images.safetensors", "ids.json"):
        (searched.comfyui.output / name).unlink(missing_ok=True)
    return searched.comfyui.run(graph)


def test_empty_library_is_an_error_that_says_what_to_do(searched: Searched) -> None:
    assert "The library is empty. Index a folder with the Diffusion Toolkit Indexer" in searched.before["text"].error
    assert "The library has no image with id 1" in searched.before["id"].error


@pytest.mark.parametrize("by", ["image", "id", "text", "all"])
def test_each_way_finds_what_the_library_finds(searched: Searched, plain_graph: Any, by: str) -> None:
    graph = plain_graph()
    file = searched.folder / "4.png"
    shutil.copy(file, searched.comfyui.base / "input" / "4.png")
    spaces = ("bge", "clip_h", "clip_l", "clip_g") if by == "all" else ()
    given: dict[str, Any] = {f"weight_{space}": 0.5 for space in spaces}
    own: dict[str, Any] = {"weights": dict.fromkeys(spaces, 0.5)}
    if by in ("image", "all"):
        given["image"] = graph.add("LoadImage", image="4.png")(0)
        own["image"] = file
    if by in ("text", "all"):
        given["text"] = own["text"] = "a robot in style 4"
    if by == "id":
        given["image_id"] = own["image_id"] = searched.ids["4.png"]
    assert search(searched, graph, **given, top_k=3).error is None
    hits = searched.library.search(**own, top_k=3)
    comfyui = searched.comfyui
    assert comfyui.list("ids") == [hit.id for hit in hits]
    assert comfyui.list("paths") == [hit.path for hit in hits]
    assert comfyui.list("prompts") == [hit.prompt for hit in hits]
    assert comfyui.list("scores") == pytest.approx([hit.score for hit in hits], abs=1e-3)
    if by != "text":
        assert hits[0].id == searched.ids["4.png"]
    if by in ("image", "id"):
        assert comfyui.list("scores")[0] >= 0.999


def test_embeds_are_the_stored_vectors_of_the_hits(searched: Searched, plain_graph: Any) -> None:
    search(searched, plain_graph(), image_id=searched.ids["4.png"], top_k=5)
    embeds = searched.comfyui.tensors("embeds")["value"]
    assert embeds.shape == (5, 1024)
    assert embeds.dtype == torch.float32
    for row, id in zip(embeds, searched.comfyui.list("ids"), strict=True):
        assert row.tolist() == searched.library.embeddings(id)["clip_h"].tolist()
    assert torch.equal(searched.comfyui.tensors("negative")["value"], torch.zeros(5, 1024))


@pytest.mark.parametrize("rule", ["crop", "pad", "stretch"])
def test_images_get_the_size_of_the_first(searched: Searched, plain_graph: Any, rule: str) -> None:
    search(searched, plain_graph(), image_id=searched.ids["1.png"], top_k=9, resize=rule)
    images = searched.comfyui.tensors("images")["value"]
    assert images.shape == (9, 240, 320, 3)
    portrait = searched.comfyui.list("ids").index(searched.ids["0.png"])
    corner_is_black = bool((images[portrait, :, 0] == 0).all())
    assert corner_is_black == (rule == "pad")
    # An image of the right size is what LoadImage gives of its file.
    graph = plain_graph()
    shutil.copy(searched.folder / "1.png", searched.comfyui.base / "input" / "1.png")
    graph.observe("loaded", graph.add("LoadImage", image="1.png")(0))
    searched.comfyui.done(graph)
    assert torch.equal(images[0], searched.comfyui.tensors("loaded")["value"][0])


def test_threshold_that_nothing_reaches_blocks_what_follows(searched: Searched, plain_graph: Any) -> None:
    job = search(searched, plain_graph(), text="a robot", threshold=0.9999)
    assert job.error is None
    assert job.texts["DiffusionToolkitSearch"] == "No image has a score of 0.9999 or more. Lower the threshold."
    assert not (searched.comfyui.output / "images.safetensors").exists()
    assert not (searched.comfyui.output / "ids.json").exists()


def test_gone_file_is_left_out_of_every_output(searched: Searched, plain_graph: Any, save_png: Any) -> None:
    save_png(searched.comfyui.output / "gone" / "gone.png", 4, "a robot in style 4")
    graph = plain_graph()
    graph.add("DiffusionToolkitIndexer", folder="output/gone")
    searched.comfyui.done(graph)
    shutil.rmtree(searched.comfyui.output / "gone")
    search(searched, plain_graph(), image_id=searched.ids["4.png"], top_k=3)
    assert len(searched.comfyui.list("ids")) == len(searched.comfyui.tensors("images")["value"]) == 2


def test_search_runs_again_when_the_library_changed_and_only_then(
    searched: Searched, plain_graph: Any, save_png: Any
) -> None:
    def graph() -> Any:
        made = plain_graph()
        made.observe_list("again", made.add("DiffusionToolkitSearch", image_id=searched.ids["2.png"], top_k=2)(3))
        return made

    def index() -> None:
        made = graph()
        made.add("DiffusionToolkitIndexer", folder="output/later")
        searched.comfyui.done(made)

    save_png(searched.comfyui.output / "later" / "first.png", 70, "a fox, later")
    index()
    searched.comfyui.done(graph())
    assert "DiffusionToolkitSearch" in searched.comfyui.done(graph()).cached
    index()  # finds nothing new
    assert "DiffusionToolkitSearch" in searched.comfyui.done(graph()).cached
    save_png(searched.comfyui.output / "later" / "second.png", 71, "another fox, later")
    index()
    assert "DiffusionToolkitSearch" not in searched.comfyui.done(graph()).cached


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({}, "Give a text, a picture, an image id or a vector to search by"),
        ({"image_id": 999999}, "The library has no image with id 999999"),
        ({"text": "a fox", "weight_clip_h": 1.0}, "clip_h has a weight, but there is no image to search by"),
    ],
)
def test_what_cannot_be_searched_is_an_error(
    searched: Searched, plain_graph: Any, inputs: dict[str, Any], words: str
) -> None:
    assert words in (search(searched, plain_graph(), **inputs).error or "")
