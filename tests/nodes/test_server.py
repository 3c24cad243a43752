"""The pack as a guest in a ComfyUI server: what it shows, may read and leaves to others, and how it stops."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

NODES = ("DiffusionToolkitIndexer", "DiffusionToolkitSearch", "DiffusionToolkitLoader")
PACK = Path(__file__).resolve().parents[2]
# Pictures that take longer to index than it takes to stop it.
MANY = 1000


@pytest.fixture(scope="module")
def dead_comfyui(start_comfyui: Callable[..., Any], tmp_path_factory: Any) -> Any:
    """A ComfyUI whose database is not there."""
    url = "postgresql://nobody@127.0.0.1:9/nothing"
    with start_comfyui(tmp_path_factory.mktemp("dead_comfyui"), DIFFUSION_TOOLKIT_DATABASE_URL=url) as running:
        yield running


def test_nodes_show_where_postgresql_cannot_start(dead_comfyui: Any) -> None:
    assert set(NODES) <= set(dead_comfyui.get("/object_info"))


@pytest.mark.parametrize(
    ("node", "inputs"),
    [(NODES[0], {"folder": "output"}), (NODES[1], {"text": "a fox"}), (NODES[2], {"image_id": 1})],
)
def test_stopped_database_is_an_error_that_says_what_to_do(
    dead_comfyui: Any, plain_graph: Any, node: str, inputs: dict[str, Any]
) -> None:
    graph = plain_graph()
    if node == NODES[2]:
        inputs = {**inputs, "embedding_type": "auto"}
    graph.observe_list("never", graph.add(node, **inputs)(0))
    error = dead_comfyui.run(graph).error
    assert "No connection to PostgreSQL database nothing on 127.0.0.1" in error
    assert "see that the server runs and run again" in error


def test_import_opens_nothing(dead_comfyui: Any, quick_comfyui: Any) -> None:
    for comfyui, pack in ((dead_comfyui, "my images, 5 embeddings"), (quick_comfyui, "5_embeddings")):
        log = comfyui.log.read_text(errors="replace")
        assert re.search(rf"[\d.]+ seconds: .*{pack}", log), log[-3000:]
        opened = log.find("Opened ")
        assert opened == -1 or opened > log.find("To see the GUI")


IMPORT_AS_COMFYUI_DOES = """
import importlib, importlib.util, sys
comfyui, pack = sys.argv[1:]
sys.argv = ["main.py", "--cpu"]
sys.path.insert(0, comfyui)
import comfy.options
comfy.options.enable_args_parsing()
import nodes, folder_paths, comfy_api.latest
before = set(sys.modules)
spec = importlib.util.spec_from_file_location("/some/my pack", f"{pack}/__init__.py", submodule_search_locations=[pack])
sys.modules["/some/my pack"] = module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
importlib.import_module("/some/my pack.nodes")
heavy = {"onnxruntime", "open_clip", "timm", "psycopg"}
print(sorted(heavy & (set(sys.modules) - before)))
"""


def test_import_loads_no_model_code_and_no_database_driver(comfyui_source: Path) -> None:
    said = subprocess.run(
        [sys.executable, "-c", IMPORT_AS_COMFYUI_DOES, str(comfyui_source), str(PACK)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.stdout.splitlines()[-1:] == ["[]"], said.stderr[-3000:]


def test_everything_has_a_tooltip_and_a_help_page(quick_comfyui: Any) -> None:
    shown = quick_comfyui.get("/object_info")
    locale = json.loads((PACK / "locales" / "en" / "nodeDefs.json").read_text(encoding="utf-8"))
    for name in NODES:
        node = shown[name]
        assert node["category"] == "Diffusion Toolkit"
        assert node["search_aliases"]
        assert node["description"]
        inputs = {**node["input"].get("required", {}), **node["input"].get("optional", {})}
        for input_name, (_, options) in inputs.items():
            assert options.get("tooltip"), (name, input_name)
        assert all(node["output_tooltips"]), name
        page = (PACK / "web" / "docs" / f"{name}.md").read_text(encoding="utf-8")
        for input_name in inputs:
            assert f"`{input_name}`" in page, (name, input_name)
        for output_name in node["output_name"]:
            assert f"`{output_name}`" in page, (name, output_name)
        assert locale[name]["display_name"] == node["display_name"]
        assert set(locale[name]["inputs"]) == set(inputs)


def test_contract_of_ids_and_inputs(quick_comfyui: Any) -> None:
    shown = quick_comfyui.get("/object_info")
    loader, search, indexer = (shown[name] for name in (NODES[2], NODES[1], NODES[0]))
    assert loader["output"][0] == "CONDITIONING"
    assert loader["output"] == [
        "CONDITIONING", "CONDITIONING", "EMBEDS", "EMBEDS", "STRING", "STRING", "INT", "INT",
    ]  # fmt: skip
    assert set(loader["input"]["required"]) == {"image_id", "embedding_type"}
    assert set(loader["input"]["optional"]) == {"clip", "conditioning"}
    assert search["output"] == ["IMAGE", "EMBEDS", "EMBEDS", "INT", "FLOAT", "STRING", "STRING", "STRING"]
    assert search["output_is_list"] == [False] * 3 + [True] * 5
    # In this order: the editor keeps the values of widgets by their position.
    assert list(search["input"]["optional"]) == [
        "image", "text", "image_id", "clip_vision", "clip",
        "weight_bge", "weight_bge_negative", "weight_clip_h", "weight_clip_l", "weight_clip_g",
        "top_k", "threshold", "resize",
        "filter", "weight_clip_h_text", "diversity", "sort",
        "threshold_bge", "threshold_bge_negative", "threshold_clip_h", "threshold_clip_l", "threshold_clip_g",
        "threshold_clip_h_text", "page",
    ]  # fmt: skip
    advanced = [name for name, (_, options) in search["input"]["optional"].items() if options.get("advanced")]
    assert advanced == [name for name in search["input"]["optional"] if name.startswith("threshold_")]
    # Choosing pages at random is what the editor offers by default.
    assert search["input"]["optional"]["page"][1]["control_after_generate"] == "fixed"
    wanted = {"folder", "recursive", "clip", "clip_vision", "keep_conditioning", "reindex"}
    assert {*indexer["input"]["required"], *indexer["input"]["optional"]} == wanted
    assert indexer["output_node"]
    assert search["output_node"]


def test_locales_help_and_templates_are_served(quick_comfyui: Any) -> None:
    locale = quick_comfyui.get("/i18n")["en"]["nodeDefs"]
    assert set(NODES) <= set(locale)
    templates = quick_comfyui.get("/workflow_templates")
    own = next(names for pack, names in templates.items() if pack == "5_embeddings")
    assert len(own) == 3


def test_folder_outside_the_roots_is_refused_with_how_to_allow_it(
    quick_comfyui: Any, plain_graph: Any, tmp_path: Path, save_png: Any
) -> None:
    save_png(tmp_path / "elsewhere.png", 1, "a secret")
    link = quick_comfyui.output / "way out"
    link.symlink_to(tmp_path)
    for folder in (str(tmp_path), "output/../..", "output/way out", "elsewhere", "input/../../../etc"):
        graph = plain_graph()
        graph.add("DiffusionToolkitIndexer", folder=folder)
        error = quick_comfyui.run(graph).error
        assert error is not None, folder
        assert "roots = [" in error or "begins with output or input" in error
    link.unlink()


def test_missing_folder_is_an_error(quick_comfyui: Any, plain_graph: Any) -> None:
    graph = plain_graph()
    graph.add("DiffusionToolkitIndexer", folder="output/no such folder")
    assert "There is no folder or file" in (quick_comfyui.run(graph).error or "")


def test_interrupted_run_keeps_what_is_done_and_goes_on_later(
    quick_comfyui: Any, plain_graph: Any, save_png: Any, tiny_weights: Path
) -> None:
    from toolkit_core.library import Library

    folder = quick_comfyui.output / "interrupted"
    for number in range(MANY):
        save_png(folder / f"{number}.png", 5000 + number, f"prompt {number}", "", (64, 64))

    def indexed() -> int:
        with library.database.transaction() as connection:
            row = connection.execute("SELECT count(*) FROM image_file WHERE path LIKE '%interrupted%'").fetchone()
        assert row is not None
        return row[0]

    with Library.open(quick_comfyui.home, weights=[tiny_weights]) as library:
        graph = plain_graph()
        graph.add("DiffusionToolkitIndexer", folder="output/interrupted")
        id = quick_comfyui.queue(graph)
        while indexed() == 0:
            time.sleep(0.02)
        quick_comfyui.post("/interrupt")
        job = quick_comfyui.wait(id)
        assert job.interrupted
        done = indexed()
        assert 0 < done < MANY
        again = quick_comfyui.done(graph).texts["DiffusionToolkitIndexer"]
        assert again.startswith(f"{MANY - done} new, 0 changed, 0 moved, {done} unchanged, 0 failed")
        assert indexed() == MANY


def test_comfyui_that_ends_in_mid_run_keeps_what_is_done_and_stops_its_server(
    start_comfyui: Callable[..., Any], plain_graph: Any, save_png: Any, tiny_weights: Path, tmp_path: Path
) -> None:
    from toolkit_core.library import Library

    models = tmp_path / "models"
    models.mkdir()
    (models / "text_encoders").symlink_to(tiny_weights, target_is_directory=True)
    with start_comfyui(tmp_path / "ending", models) as ending:
        for number in range(MANY):
            save_png(ending.output / f"{number}.png", 7000 + number, f"prompt {number}", "", (64, 64))
        graph = plain_graph()
        graph.add("DiffusionToolkitIndexer", folder="output")
        ending.queue(graph)
        with Library.open(ending.home, weights=[tiny_weights]) as library:
            while library.status().images == 0:
                time.sleep(0.02)
    assert ending.process.returncode != -9, "it ended by itself when it was told to"
    assert not (ending.home / "postgres" / "postmaster.pid").exists()
    with Library.open(ending.home, weights=[tiny_weights]) as library:
        report = library.index([ending.output])
        assert 0 < report.unchanged < MANY
        assert (report.unchanged + report.new, report.failed, sum(report.pending.values())) == (MANY, (), 0)


def test_indexing_does_not_starve_the_web_server(quick_comfyui: Any, plain_graph: Any, save_png: Any) -> None:
    folder = quick_comfyui.output / "busy"
    for number in range(30):
        save_png(folder / f"{number}.png", 9000 + number, f"busy prompt {number}", "", (1024, 1024))
    graph = plain_graph()
    graph.add("DiffusionToolkitIndexer", folder="output/busy")
    answered = 0
    over = threading.Event()

    def ask() -> None:
        nonlocal answered
        while not over.is_set():
            quick_comfyui.get("/prompt")
            answered += 1
            time.sleep(0.02)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        quick_comfyui.done(graph)
    finally:
        over.set()
        asking.join()
    assert answered > 20


def messages_of(comfyui: Any, graph: Any) -> list[tuple[str, Any]]:
    """What the server sends to the browser that queued a graph: (type, data), and ("binary", bytes) for pictures."""
    aiohttp = pytest.importorskip("aiohttp")

    async def listen() -> list[tuple[str, Any]]:
        found: list[tuple[str, Any]] = []
        async with aiohttp.ClientSession() as session, session.ws_connect(f"{comfyui.url}/ws?clientId=me") as socket:
            body = {"prompt": graph.nodes, "client_id": "me"}
            async with session.post(f"{comfyui.url}/prompt", json=body) as response:
                assert response.status == 200, await response.text()
            async for message in socket:
                if message.type == aiohttp.WSMsgType.BINARY:
                    found.append(("binary", message.data))
                    continue
                said = json.loads(message.data)
                found.append((said["type"], said["data"]))
                if said["type"] in ("execution_success", "execution_interrupted"):
                    break
        return found

    return asyncio.run(asyncio.wait_for(listen(), 120))


def test_progress_shows_the_current_picture(quick_comfyui: Any, plain_graph: Any, save_png: Any) -> None:
    folder = quick_comfyui.output / "shown"
    for number in range(40):
        save_png(folder / f"{number}.png", 20000 + number, f"shown {number}", "", (64, 64))
    graph = plain_graph()
    graph.add("DiffusionToolkitIndexer", folder="output/shown")
    messages = messages_of(quick_comfyui, graph)
    steps = [(data["value"], data["max"]) for kind, data in messages if kind == "progress"]
    assert (32, 40) in steps
    assert (40, 40) in steps
    pictures = [data for kind, data in messages if kind == "binary"]
    assert any(b"\xff\xd8\xff" in data for data in pictures)  # a JPEG
    # The event, the length of the node's id, and the id.
    texts = [data[9:].decode() for data in pictures if data.startswith(b"\0\0\0\3\0\0\0\1" + b"1")]
    assert any(text.startswith("read 32 of 40\n") and re.search(r"\bencode \d+%", text) for text in texts), texts


def test_empty_result_tells_the_browser_why(quick_comfyui: Any, plain_graph: Any) -> None:
    graph = plain_graph()
    found = graph.add("DiffusionToolkitSearch", text="a fox", threshold=1.0)
    graph.add("PreviewImage", images=found(0))
    errors = [data for kind, data in messages_of(quick_comfyui, graph) if kind == "execution_error"]
    assert [error["exception_message"] for error in errors] == [
        "Execution Blocked: No image has a score of 1 or more. Lower the threshold."
    ]
