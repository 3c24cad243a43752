"""New outputs of a real ComfyUI come into the library by themselves, and never against a running graph."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from toolkit_core.library import Library

MODE, IDLE_SECONDS = "DiffusionToolkit.AutoIndex.Mode", "DiffusionToolkit.AutoIndex.IdleSeconds"
SECONDS = 60.0


@pytest.fixture(scope="module")
def comfyui(start_comfyui: Callable[..., Any], tiny_weights: Path, tmp_path_factory: Any) -> Iterator[Any]:
    """One that indexes new outputs, with an image that was there before."""
    models, base = tmp_path_factory.mktemp("models"), tmp_path_factory.mktemp("comfyui")
    (models / "text_encoders").symlink_to(tiny_weights, target_is_directory=True)
    settings = {MODE: "embeddings", IDLE_SECONDS: 0}
    with start_comfyui(base, models, settings) as running:
        yield running
    log = running.log.read_text(errors="replace")
    assert "Traceback" not in log, log[-4000:]


@pytest.fixture(scope="module")
def library(comfyui: Any) -> Iterator[Library]:
    """Its library, as another program sees it."""
    with Library.open(comfyui.home, weights=["/nowhere"]) as opened:
        yield opened


def embeddings(library: Library) -> dict[str, tuple[str, ...]]:
    """By file name, of what is not missing, in the order of the ids."""
    with library.database.transaction() as connection:
        rows = connection.execute("SELECT id FROM image_file WHERE missing_since IS NULL ORDER BY id").fetchall()
    records = [library.image(id) for (id,) in rows]
    return {Path(record.path).name: record.embeddings for record in records}


def until(condition: Callable[[], bool], comfyui: Any) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, comfyui.log.read_text(errors="replace")[-3000:]
        time.sleep(0.02)


def set_mode(comfyui: Any, mode: str) -> None:
    before = len(comfyui.log.read_text(errors="replace"))
    comfyui.post(f"/settings/{MODE}", mode)
    until(lambda: f"({mode})" in comfyui.log.read_text(errors="replace")[before:], comfyui)


def test_library_is_opened_by_the_first_output_alone(comfyui: Any, plain_graph: Any, save_png: Any) -> None:
    assert not (comfyui.home / "postgres").exists()
    graph = plain_graph()
    image = graph.add("EmptyImage", width=64, height=64, batch_size=1, color=7)
    graph.add("SaveImage", images=image(0), filename_prefix="saved/first")
    comfyui.done(graph)
    until(lambda: "Opened " in comfyui.log.read_text(errors="replace"), comfyui)
    until((comfyui.home / "postgres").exists, comfyui)


def test_saved_image_comes_with_its_embeddings(comfyui: Any, library: Library, save_png: Any) -> None:
    save_png(comfyui.output / "a.png", 1, "a fox", "blurry")
    # Whose CLIP-L and CLIP-G the library is of, a person says.
    wanted = ("bge", "bge_negative", "clip_h")
    until(lambda: embeddings(library).get("a.png") == wanted, comfyui)
    assert embeddings(library)["first_00001_.png"] == ("clip_h",)


def test_graph_that_runs_is_left_alone(comfyui: Any, library: Library, plain_graph: Any, save_png: Any) -> None:
    hold, runs = comfyui.output / "graph.hold", comfyui.output / "graph.runs"
    hold.touch()
    graph = plain_graph()
    graph.add("HoldGraph", name="graph")
    id = comfyui.queue(graph)
    try:
        until(runs.exists, comfyui)
        for name in ("b.png", "c.png", "d.png"):
            save_png(comfyui.output / name, ord(name[0]), f"a {name}")
            until(lambda name=name: name in embeddings(library), comfyui)
        assert not any("clip_h" in embeddings(library)[name] for name in ("b.png", "c.png", "d.png"))
    finally:
        hold.unlink()
    comfyui.wait(id)
    until(lambda: all("clip_h" in embeddings(library)[name] for name in ("b.png", "c.png", "d.png")), comfyui)


def test_moved_and_deleted_outputs_are_followed(comfyui: Any, library: Library, save_png: Any) -> None:
    path = comfyui.output / "e.png"
    save_png(path, 5, "an elk")
    until(lambda: "clip_h" in embeddings(library).get("e.png", ()), comfyui)
    moved = path.rename(path.with_name("moved.png"))
    until(lambda: "clip_h" in embeddings(library).get("moved.png", ()), comfyui)
    moved.unlink()
    until(lambda: "moved.png" not in embeddings(library), comfyui)
    assert [Path(image.path).name for image in library.missing()] == ["moved.png"]


def test_mode_is_changed_while_comfyui_runs(comfyui: Any, library: Library, plain_graph: Any, save_png: Any) -> None:
    set_mode(comfyui, "off")
    save_png(comfyui.output / "off" / "f.png", 6, "a frog")
    graph = plain_graph()
    graph.add("DiffusionToolkitIndexer", folder="output/off")
    assert comfyui.done(graph).texts["DiffusionToolkitIndexer"].startswith("1 new")
    save_png(comfyui.output / "off" / "g.png", 7, "a goose")
    set_mode(comfyui, "metadata")
    until(lambda: "g.png" in embeddings(library), comfyui)
    save_png(comfyui.output / "off" / "h.png", 8, "a hare")
    until(lambda: "h.png" in embeddings(library), comfyui)
    assert "clip_h" not in embeddings(library)["g.png"]
    set_mode(comfyui, "embeddings")
    # The Indexer has chosen the text encoders meanwhile.
    until(lambda: {"clip_l", "clip_g", "clip_h"} <= set(embeddings(library)["g.png"]), comfyui)


@pytest.mark.parametrize("patient", ["anna", "zoe"])
def test_longest_wait_of_all_users_counts(comfyui: Any, library: Library, save_png: Any, patient: str) -> None:
    users = comfyui.base / "user"
    for name in ("anna", "zoe"):
        (users / name).mkdir(exist_ok=True)
        (users / name / "comfy.settings.json").write_text(json.dumps({IDLE_SECONDS: 3600 if name == patient else 0}))
    before = len(comfyui.log.read_text(errors="replace"))
    until(lambda: "Automatic indexing of" in comfyui.log.read_text(errors="replace")[before:], comfyui)
    name = f"for {patient}.png"
    save_png(comfyui.output / name, ord(patient[0]), f"a {name}")
    until(lambda: name in embeddings(library), comfyui)
    time.sleep(3)
    assert "clip_h" not in embeddings(library)[name]
    (users / patient / "comfy.settings.json").unlink()
    until(lambda: "clip_h" in embeddings(library)[name], comfyui)


def test_settings_are_in_the_editor(comfyui: Any, open_editor: Any) -> None:
    page = open_editor(comfyui.url)
    assert page.evaluate("id => app.extensionManager.setting.get(id)", MODE) == "embeddings"
    page.evaluate("id => app.extensionManager.setting.set(id, 'off')", MODE)
    settings = comfyui.base / "user" / "default" / "comfy.settings.json"
    until(lambda: json.loads(settings.read_text()).get(MODE) == "off", comfyui)
    page.evaluate("id => app.extensionManager.setting.set(id, 'embeddings')", MODE)
    until(lambda: json.loads(settings.read_text()).get(MODE) == "embeddings", comfyui)
    page.close()
