"""The search node, in a ComfyUI with tiny weights."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from toolkit_core.database.segments import seal
from toolkit_core.search import PARTS

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
    for output, name in enumerate(("ids", "scores", "paths", "prompts", "scores_by_space"), 3):
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


def test_filter_leaves_only_images_that_fulfil_it(searched: Searched, plain_graph: Any) -> None:
    filter = '(fox or robot) -"style 5" path:searched'
    assert search(searched, plain_graph(), text="a lighthouse", filter=filter, top_k=9).error is None
    hits = searched.library.search("a lighthouse", filter=filter, top_k=9)
    assert searched.comfyui.list("ids") == [hit.id for hit in hits]
    assert {Path(path).name for path in searched.comfyui.list("paths")} == {"0.png", "1.png", "4.png"}


def test_filter_alone_gives_the_newest_that_fulfil_it(searched: Searched, plain_graph: Any) -> None:
    job = search(searched, plain_graph(), filter="teapot", top_k=2)
    assert job.error is None
    newest = [searched.ids["7.png"], searched.ids["6.png"]]
    assert searched.comfyui.list("ids") == newest
    assert searched.comfyui.list("scores") == [0, 0]
    assert searched.comfyui.tensors("embeds")["value"].shape == (2, 1024)
    assert job.texts["DiffusionToolkitSearch"] == f"{newest[0]}  7.png\n{newest[1]}  6.png"


def test_filter_alone_sorts_by_rating(searched: Searched, plain_graph: Any) -> None:
    searched.library.curate([searched.ids["6.png"]], rating=9)
    search(searched, plain_graph(), filter="teapot", top_k=1, sort="rating")
    assert searched.comfyui.list("ids") == [searched.ids["6.png"]]
    searched.library.curate([searched.ids["6.png"]], clear_rating=True)


def test_found_images_come_in_the_order_of_sort(searched: Searched, plain_graph: Any) -> None:
    query = {"image_id": searched.ids["2.png"], "filter": "path:searched", "top_k": 4}
    search(searched, plain_graph(), **query, sort="date")
    hits = searched.library.search(**query)
    newest = sorted(hits, key=lambda hit: hit.modified_at, reverse=True)
    assert searched.comfyui.list("ids") == [hit.id for hit in newest] != [hit.id for hit in hits]


def test_negative_weight_among_five_finds_what_is_unlike(searched: Searched, plain_graph: Any) -> None:
    weights = {"bge": 1.0, "bge_negative": 0.5, "clip_h": -0.7, "clip_l": 0.25, "clip_g": 0.25}
    id = searched.ids["4.png"]
    query = {"image_id": id, "filter": "path:searched", "top_k": 9}
    given = {f"weight_{name}": weight for name, weight in weights.items()}
    assert search(searched, plain_graph(), **query, **given).error is None
    hits = searched.library.search(**query, weights=weights)
    assert searched.comfyui.list("ids") == [hit.id for hit in hits]
    assert searched.comfyui.list("scores") == pytest.approx([hit.score for hit in hits], abs=1e-3)
    search(searched, plain_graph(), **query, weight_clip_h=-1.0)
    assert searched.comfyui.list("ids")[-1] == id
    assert searched.comfyui.list("scores")[-1] == pytest.approx(-1, abs=1e-3)


def test_diversity_finds_pictures_that_differ(searched: Searched, plain_graph: Any) -> None:
    query = {"image_id": searched.ids["1.png"], "filter": "path:searched", "top_k": 3}
    found = {}
    for diversity in (0.0, 1.0):
        search(searched, plain_graph(), **query, diversity=diversity)
        found[diversity] = searched.comfyui.list("ids")
        assert found[diversity] == [hit.id for hit in searched.library.search(**query, diversity=diversity)]
    assert found[0.0] != found[1.0]


def test_thresholds_are_of_the_score_and_of_each_space(searched: Searched, plain_graph: Any) -> None:
    query = {"image_id": searched.ids["4.png"], "filter": "path:searched", "top_k": 9}
    weights = {"bge": 0.5, "clip_h": 0.5}
    given = {**query, **{f"weight_{name}": weight for name, weight in weights.items()}}
    whole = searched.library.search(**query, weights=weights)
    by_picture = sorted((hit.scores["clip_h"] for hit in whole), reverse=True)
    thresholds = {"clip_h": by_picture[3] - 1e-3, "bge": min(hit.scores["bge"] for hit in whole[:2])}
    assert search(searched, plain_graph(), **given, threshold_clip_h=thresholds["clip_h"]).error is None
    assert searched.comfyui.list("ids") == [hit.id for hit in whole if hit.scores["clip_h"] >= thresholds["clip_h"]]
    set_values = {f"threshold_{name}": value for name, value in thresholds.items()}
    assert search(searched, plain_graph(), **given, **set_values, threshold=whole[1].score - 1e-3).error is None
    bounded = searched.library.search(**query, weights=weights, thresholds=thresholds, threshold=whole[1].score - 1e-3)
    assert searched.comfyui.list("ids") == [hit.id for hit in bounded]
    given["filter"] += " -robot"
    job = search(searched, plain_graph(), **given, threshold=0.2, threshold_clip_h=1.0, threshold_bge=0.9)
    assert job.texts["DiffusionToolkitSearch"] == (
        "No image that fulfils the filter has a score of 0.2 or more and a similarity of 0.9 or more in bge and a "
        "similarity of 1 or more in clip_h. Lower one of the thresholds."
    )


def test_each_image_has_its_score_by_space(searched: Searched, plain_graph: Any) -> None:
    weights = {"bge": 1.5, "clip_h": -0.5}
    query = {"image_id": searched.ids["4.png"], "filter": "path:searched", "top_k": 3}
    job = search(searched, plain_graph(), **query, weight_bge=1.5, weight_clip_h=-0.5)
    hits = searched.library.search(**query, weights=weights)
    by_space = [f"bge {hit.scores['bge']:.3f}, clip_h {hit.scores['clip_h']:.3f}" for hit in hits]
    assert searched.comfyui.list("scores_by_space") == by_space
    formula, *lines = job.texts["DiffusionToolkitSearch"].splitlines()
    assert formula == "score = 0.75 bge - 0.25 clip_h"
    names = [Path(hit.path).name for hit in hits]
    scores = [f"{hit.score:.3f}  {hit.id}" for hit in hits]
    assert lines == [f"{s}  {name}  ({parts})" for s, name, parts in zip(scores, names, by_space, strict=True)]


def test_pages_go_on_where_the_one_before_ended_whatever_is_added(
    searched: Searched, plain_graph: Any, save_png: Any
) -> None:
    id = searched.ids["4.png"]
    query = {"image_id": id, "filter": "path:searched or path:arrived", "top_k": 4}

    def page(number: int) -> list[int]:
        nonlocal said
        said = search(searched, plain_graph(), **query, page=number).texts["DiffusionToolkitSearch"]
        return searched.comfyui.list("ids")

    said = ""
    whole = [hit.id for hit in searched.library.search(**{**query, "top_k": 9})]
    assert page(1) == whole[:4]
    assert not said.startswith("Page")
    for number in range(3):  # the same picture
        save_png(searched.comfyui.output / "arrived" / f"{number}.png", 4, f"arrived {number}", "", (256, 384))
    graph = plain_graph()
    graph.add("DiffusionToolkitIndexer", folder="output/arrived")
    searched.comfyui.done(graph)
    assert page(2) == whole[4:8]
    assert said.startswith("Page 2: images 5 to 8\n")
    assert page(3) == whole[8:]
    assert searched.comfyui.list("ids") == whole[8:]
    first = page(1)  # begins anew, and with it what is behind
    assert (first[0], len(set(first) - set(whole))) == (id, 3)
    assert page(3) == whole[5:]
    assert page(2) == whole[1:5]


@pytest.mark.parametrize("query", [{}, {"text": "a robot"}], ids=["list", "search"])
def test_page_may_be_asked_for_first(searched: Searched, plain_graph: Any, query: dict[str, Any]) -> None:
    query = {**query, "filter": "path:searched -prompt:none"}
    hits = searched.library.search(**query, top_k=9)
    job = search(searched, plain_graph(), **query, top_k=3, page=2)
    assert searched.comfyui.list("ids") == [hit.id for hit in hits[3:6]]
    assert job.texts["DiffusionToolkitSearch"].startswith("Page 2: images 4 to 6\n")


def test_page_behind_the_last_says_how_many_images_there_are(searched: Searched, plain_graph: Any) -> None:
    query = {"image_id": searched.ids["4.png"], "filter": "fox path:searched", "top_k": 1}
    for page in (9, 3, 10):
        job = search(searched, plain_graph(), **query, page=page)
        assert job.error is None
        there_is_none = f"There is no page {page}: the search finds 2 images, which 2 pages of 1 hold."
        assert job.texts["DiffusionToolkitSearch"] == there_is_none
        assert not (searched.comfyui.output / "ids.json").exists()


def test_page_out_of_another_node_is_checked(searched: Searched, plain_graph: Any) -> None:
    graph = plain_graph()
    job = search(searched, graph, filter="fox", page=graph.add("PrimitiveInt", value=0)(0))
    assert "page is 0; the first page is 1" in (job.error or "")


@pytest.mark.parametrize("connected", [False, True], ids=["alone", "with a CLIP Vision"])
def test_text_is_looked_for_in_the_pictures(searched: Searched, plain_graph: Any, connected: bool) -> None:
    """A CLIP Vision has no text tower; the library's own CLIP-H, which has one, is the same weights."""
    graph = plain_graph()
    query: dict[str, Any] = {"text": "a red scarf", "filter": "path:searched", "top_k": 4}
    given = {**query, "weight_clip_h_text": 1.0}
    if connected:
        given["clip_vision"] = graph.add("TinyClipVision")(0)
        given["image"] = graph.add("LoadImage", image="4.png")(0)
        given["weight_clip_h"] = 0.5
        shutil.copy(searched.folder / "4.png", searched.comfyui.base / "input" / "4.png")
    assert search(searched, graph, **given).error is None
    weights = {"clip_h_text": 1.0, **({"clip_h": 0.5} if connected else {})}
    image = searched.folder / "4.png" if connected else None
    hits = searched.library.search(**query, image=image, weights=weights)
    assert searched.comfyui.list("ids") == [hit.id for hit in hits]
    assert searched.comfyui.list("scores") == pytest.approx([hit.score for hit in hits], abs=1e-3)


def test_text_in_pictures_without_a_text_tower_says_which_file_has_one(indexed: Any, make_graph: Any) -> None:
    """With full-size weights, of which the library's own are those that are connected."""
    graph = make_graph()
    found = graph.add("DiffusionToolkitSearch", text="a scarf", weight_clip_h_text=1.0, clip_vision=graph.clip_vision)
    graph.observe("never", found(0))
    error = indexed.comfyui.run(graph).error
    assert "clip_vision_h.safetensors holds the vision tower of CLIP ViT-H/14 only" in error
    assert "open_clip_model.safetensors" in error


def test_mistake_in_a_filter_is_marked_inside_of_it(searched: Searched, plain_graph: Any) -> None:
    error = search(searched, plain_graph(), filter="favorite:true (fox or modle:xl) -negative:blurry").error or ""
    assert error.startswith(
        "The filter cannot be read at character 23, behind the ▶ in\n"
        "favorite:true (fox or ▶modle:xl) -negative:blurry\n"
        "There is no field 'modle'. Did you mean model?"
    )
    error = search(searched, plain_graph(), filter="fox " * 50 + ") owl").error or ""
    assert ("\n" + "fox " * 15 + "▶) owl\n") in error


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({"filter": "unicorn"}, "No image fulfils the filter unicorn\nTake a part of it away."),
        ({"text": "a fox", "filter": " unicorn "}, "No image fulfils the filter unicorn\nTake a part of it away."),
        (
            {"text": "a lighthouse", "filter": "fox", "threshold": 0.9999},
            "No image that fulfils the filter has a score of 0.9999 or more. Lower the threshold.",
        ),
    ],
)
def test_filter_that_leaves_nothing_blocks_what_follows(
    searched: Searched, plain_graph: Any, inputs: dict[str, Any], words: str
) -> None:
    job = search(searched, plain_graph(), **inputs)
    assert job.error is None
    assert job.texts["DiffusionToolkitSearch"] == words
    assert not (searched.comfyui.output / "ids.json").exists()


def test_filter_whose_images_lack_an_embedding_is_an_error(searched: Searched, plain_graph: Any) -> None:
    error = search(searched, plain_graph(), text="a fox", filter="prompt:none").error or ""
    assert "None of the images that fulfil the filter has all the embeddings that this search weighs" in error


def test_search_that_is_not_sure_says_so(searched: Searched, plain_graph: Any) -> None:
    """What is asked to be unlike bounds nothing, so an index that ends tells nothing about the rest."""
    seal(searched.library.database, most_open_rows=0, rows_worth_an_index=1)
    weights = {"weight_bge": 1.0, "weight_clip_h": -1.0}
    job = search(searched, plain_graph(), image_id=searched.ids["3.png"], **weights, top_k=2)
    assert job.error is None
    first, formula, *others = job.texts["DiffusionToolkitSearch"].splitlines()
    assert first == "There may be better ones: the search ended before that was ruled out."
    assert formula == "score = 0.5 bge - 0.5 clip_h"
    assert len(others) == len(searched.comfyui.list("ids")) == 2
    job = search(searched, plain_graph(), image_id=searched.ids["3.png"], top_k=2)
    assert len(job.texts["DiffusionToolkitSearch"].splitlines()) == 2


QUEUE_AND_READ = """async inputs => {
    app.graph.clear();
    const search = LiteGraph.createNode("DiffusionToolkitSearch");
    app.graph.add(search);
    const widget = name => search.widgets.find(widget => widget.name === name);
    for (const [name, value] of Object.entries(inputs)) widget(name).value = value;
    const values = JSON.stringify(search.serialize().widgets_values);
    const shown = [];
    for (const page of [1, 2, 1]) {
        widget("page").value = page;
        const ended = new Promise(done => app.api.addEventListener("execution_success", done, { once: true }));
        await app.queuePrompt(0);
        await ended;
        shown.push(widget("result").value);
    }
    const sent = (await app.graphToPrompt()).output[search.id].inputs;
    return [shown, "result" in sent, JSON.stringify(search.serialize().widgets_values) === values];
}"""


def test_editor_shows_what_was_found_on_the_node_and_saves_nothing_of_it(
    searched: Searched, plain_graph: Any, open_editor: Callable[[str], Any]
) -> None:
    inputs = {"text": "a robot", "weight_bge": 1, "weight_clip_l": 1, "top_k": 3}
    editor = open_editor(searched.comfyui.url)
    editor.wait_for_function("app.api.socket.readyState === WebSocket.OPEN && app.api.clientId")
    shown, is_sent, is_saved_as_before = editor.evaluate(QUEUE_AND_READ, inputs)
    by_page = {n: search(searched, plain_graph(), **inputs, page=n).texts["DiffusionToolkitSearch"] for n in (1, 2)}
    assert shown == [by_page[1], by_page[2], by_page[1]]
    assert by_page[2].startswith("Page 2: images 4 to 6\nscore = 0.5 bge + 0.5 clip_l\n")
    assert (is_sent, is_saved_as_before) == (False, True)


OLD_WIDGETS = {
    "text": ("STRING", "a robot in style 4"),
    "image_id": ("INT", 0),
    "weight_bge": ("FLOAT", 1),
    "weight_bge_negative": ("FLOAT", 0),
    "weight_clip_h": ("FLOAT", 0),
    "weight_clip_l": ("FLOAT", 0.5),
    "weight_clip_g": ("FLOAT", 0),
    "top_k": ("INT", 3),
    "threshold": ("FLOAT", -0.5),
    "resize": ("COMBO", "pad"),
}
"""Those of the node before it had a filter: the type and a saved value of each."""


def test_workflow_saved_before_there_were_filters_runs_as_it_did(
    searched: Searched, plain_graph: Any, open_editor: Callable[[str], Any], prompt_by_editor: Callable[[Any, Any], Any]
) -> None:
    sockets = (("image", "IMAGE"), ("clip_vision", "CLIP_VISION"), ("clip", "CLIP"))
    inputs: list[dict[str, Any]] = [{"name": name, "type": kind, "link": None} for name, kind in sockets]
    inputs += [
        {"name": name, "type": kind, "widget": {"name": name}, "link": None} for name, (kind, _) in OLD_WIDGETS.items()
    ]
    values = {name: value for name, (_, value) in OLD_WIDGETS.items()}
    search_node = {
        "id": 1,
        "type": "DiffusionToolkitSearch",
        "pos": [0, 0],
        "size": [340, 520],
        "inputs": inputs,
        "outputs": [{"name": "images", "type": "IMAGE", "links": [1]}],
        "widgets_values": list(values.values()),
    }
    preview = {
        "id": 2,
        "type": "PreviewImage",
        "pos": [400, 0],
        "size": [200, 200],
        "inputs": [{"name": "images", "type": "IMAGE", "link": 1}],
        "outputs": [],
    }
    workflow = {
        "last_node_id": 2,
        "last_link_id": 1,
        "nodes": [search_node, preview],
        "links": [[1, 1, 0, 2, 0, "IMAGE"]],
        "version": 0.4,
    }
    comfyui = searched.comfyui
    prompt = prompt_by_editor(open_editor(comfyui.url), workflow)
    added: dict[str, Any] = {"filter": "", "weight_clip_h_text": 0, "diversity": 0, "sort": "relevance", "page": 1}
    added |= {f"threshold_{name}": -1 for name in PARTS}
    assert prompt["1"]["inputs"] == {**values, **added}
    job = comfyui.wait(comfyui.post("/prompt", {"prompt": prompt})["prompt_id"])
    assert job.error is None
    assert job.texts == search(searched, plain_graph(), **values).texts
    formula, *others = job.texts["DiffusionToolkitSearch"].splitlines()
    assert (formula, len(others)) == ("score = 0.667 bge + 0.333 clip_l", 3)


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({}, "Give a text, a picture, an image id, a vector or a filter to search by"),
        ({"image_id": 999999}, "The library has no image with id 999999"),
        ({"text": "a fox", "weight_clip_h": 1.0}, "clip_h has a weight, but there is no image to search by"),
        ({"text": "a fox", "threshold_clip_h": 0.5}, "clip_h has a threshold, but is no part of this search"),
        ({"text": "a fox", "page": 2, "diversity": 0.5}, "diversity is 0.5, which chooses among the best images"),
    ],
)
def test_what_cannot_be_searched_is_an_error(
    searched: Searched, plain_graph: Any, inputs: dict[str, Any], words: str
) -> None:
    assert words in (search(searched, plain_graph(), **inputs).error or "")
