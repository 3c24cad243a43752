"""The command line as a person runs it: in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from toolkit_core.spaces import EMBEDDINGS, SPACES

MakePicture = Callable[..., Path]
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(home: Path, schema: str) -> Run:
    """Runs `python -m toolkit_core` on a library of this test's own."""

    def run(command: str, *arguments: object, check: bool = True) -> subprocess.CompletedProcess[str]:
        of_a_library = command in ("index", "reread", "search", "show", "status")
        place = ["--home", str(home), "--library", schema] if of_a_library else []
        done = subprocess.run(
            [sys.executable, "-m", "toolkit_core", command, *map(str, arguments), *place],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
            env={**os.environ, "COLUMNS": "200"},
        )
        assert not check or done.returncode == 0, done.stderr
        return done

    return run


def output(done: subprocess.CompletedProcess[str]) -> Any:
    return json.loads(done.stdout)


def test_index_search_show_and_status_agree(run: Run, tiny_weights: Path, make_picture: MakePicture) -> None:
    path = make_picture("a.png", "a fox in the snow", "blurry", seed=11)
    make_picture("b.png", "a lighthouse", seed=12)
    report = output(run("index", path.parent, "--weights", tiny_weights, "--json"))
    assert (report["new"], report["failed"], report["pending"]) == (2, [], dict.fromkeys(SPACES, 0))
    [hit] = output(run("search", "--image", path, "--top-k", 1, "--weights", tiny_weights, "--json"))
    assert set(hit) == {"id", "path", "score", "scores", "prompt"}
    assert (hit["path"], hit["prompt"], hit["score"] >= 0.999) == (str(path), "a fox in the snow", True)
    [same] = output(run("search", "--id", hit["id"], "--top-k", 1, "--json"))
    assert same["id"] == hit["id"]
    both = ["--image", path, "--weight", "bge=0.7", "--weight", "clip_h=0.3", "--weights", tiny_weights]
    assert sorted(output(run("search", "a fox", *both, "--json"))[0]["scores"]) == ["bge", "clip_h"]
    shown = output(run("show", hit["id"], "--json"))
    assert shown["parameters"]["seed"] == 11
    assert shown["embeddings"] == list(EMBEDDINGS)
    status = output(run("status", "--json"))
    assert set(status) == {"images", "failed", "prompts", "read_by_older", "pending", "encoders", "database"}
    assert (status["images"], status["failed"], status["prompts"]) == (2, 0, 2)
    assert status["encoders"]["clip_g"]["name"] == "clip_g"


def test_tables_show_what_json_has(run: Run, tiny_weights: Path, make_picture: MakePicture) -> None:
    path = make_picture("a [bold]name[/bold].png", "a fox", seed=11)
    (path.parent / "empty.png").touch()
    indexed = run("index", path.parent, "--weights", tiny_weights).stdout
    assert "2 new" in indexed
    assert "The file is empty." in indexed
    searched = run("search", "--image", path, "--weights", tiny_weights).stdout
    assert "[bold]name[/bold].png" in searched
    assert "a fox" in searched
    assert "a fox" in run("show", 1).stdout or "a fox" in run("show", 2).stdout
    assert "none yet" not in run("status").stdout


def test_inspect_prints_an_object_a_line_and_needs_no_database(run: Run, make_picture: MakePicture) -> None:
    path = make_picture("a.png", "a fox <lora:fur:0.8>", "blurry", seed=2**63 + 5)
    broken = path.parent / "broken.png"
    broken.write_bytes(b"")
    lines = run("inspect", path, broken, path.parent / "absent.png", "--json").stdout.splitlines()
    good, empty, absent = map(json.loads, lines)
    assert set(good) == {
        *("path", "generator", "prompt", "negative_prompt", "model", "vae", "loras", "sampler", "scheduler", "steps"),
        *("cfg_scale", "guidance", "seed", "denoise", "width", "height", "error", "found_by", "rules", "texts"),
    }
    assert good["found_by"] == "AUTOMATIC1111's settings line in PNG text 'parameters'"
    [text] = good["texts"]
    assert (text["source"], text["name"], text["length"] > 100, "text" in text) == ("png", "parameters", True, False)
    assert (good["seed"], good["steps"], good["cfg_scale"], good["width"]) == (2**63 + 5, 20, 7.0, 320)
    assert good["loras"][0]["name"] == "fur"
    assert empty["error"] == "The file is empty."
    assert "absent.png" in absent["path"]
    assert absent["error"]
    shown = run("inspect", path).stdout
    for said in ("a fox", str(2**63 + 5), good["found_by"], f"png 'parameters': {text['length']} characters"):
        assert said in shown


def test_inspect_says_which_rule_found_each_value(run: Run, make_picture: MakePicture) -> None:
    path = make_picture("a.png")
    graph = {
        "5": {"class_type": "CLIPTextEncode", "inputs": {"text": "a fox\nin the snow"}},
        "7": {"class_type": "KSampler", "inputs": {"positive": ["5", 0], "seed": 5, "steps": 20}},
        "9": {"class_type": "SaveImage", "inputs": {"images": ["7", 0]}},
    }
    path.with_suffix(".json").write_text(json.dumps(graph))
    found = output(run("inspect", path, "--json", "--raw"))
    assert (found["prompt"], found["seed"]) == ("a fox\nin the snow", 5)
    assert found["texts"] == [
        {"source": "sidecar", "name": ".json", "length": len(json.dumps(graph)), "text": json.dumps(graph)}
    ]
    assert "5" in found["rules"]["prompt"]
    assert found["rules"]["prompt"] in run("inspect", path).stdout


def test_inspect_raw_prints_the_texts_and_no_control_characters(run: Run, make_picture: MakePicture) -> None:
    path = make_picture("a.png", "a fox\nwith a \x1b[31mtail", "blurry", seed=5)
    lines = run("inspect", "--raw", path).stdout.splitlines()
    assert lines[1:5] == ["--- png 'parameters'", "a fox", r"with a \x1b[31mtail", "Negative prompt: blurry"]


def test_reread_says_what_it_did(run: Run, tiny_weights: Path, make_picture: MakePicture) -> None:
    path = make_picture("a.png", "a fox", "blurry", seed=11)
    run("index", path, "--weights", tiny_weights)
    path.unlink()
    report = output(run("reread", "--all", "--weights", tiny_weights, "--json"))
    assert (report["from_kept"], report["from_files"], report["changed"], report["unread"]) == (1, 0, 0, [])
    said = run("reread", "--weights", tiny_weights).stdout
    assert "0 read again" in said
    assert "1 current" in said


def test_definitions_come_from_a_running_comfyui(run: Run, make_picture: MakePicture, tmp_path: Path) -> None:
    path = make_picture("a.png", "a fox")
    (tmp_path / "object_info").write_text("{}")
    (tmp_path / "list").mkdir()
    (tmp_path / "list" / "object_info").write_text("[]")
    serve = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), serve) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        assert "a fox" in run("inspect", path, "--comfyui", f"{address}/").stdout
        none = run("inspect", path, "--comfyui", f"{address}/nothing", check=False)
        other = run("inspect", path, "--comfyui", f"{address}/list", check=False)
        server.shutdown()
    for done, said in ((none, "No ComfyUI answers at"), (other, "does not list the nodes")):
        assert done.returncode == 1
        assert said in done.stderr.replace("\n", " ")


def test_models_lists_what_is_found_and_what_is_missing(run: Run, tiny_weights: Path, tmp_path: Path) -> None:
    found = output(run("models", "--weights", tiny_weights, "--home", tmp_path, "--json"))
    assert {space for space, place in found.items() if place["path"]} == set(SPACES)
    (tmp_path / "empty").mkdir()
    missing = run("models", "--weights", tmp_path / "empty", "--home", tmp_path).stdout
    assert "models download" in missing.replace("\n", " ")
    assert "looked in" in missing


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("index", "/no/such/folder"), "no folder or file '/no/such/folder'"),
        (("search",), "Give a text"),
        (("search", "x", "--weight", "bge"), "is not SPACE=W"),
        (("show", "424242"), "no image with id 424242"),
        (("reread", "--comfyui", "http://127.0.0.1:1"), "No ComfyUI answers at http://127.0.0.1:1/object_info"),
        (("index", ".", "--comfyui", "file:///etc/passwd"), "is no address of a ComfyUI"),
    ],
)
def test_error_is_a_sentence_and_an_exit_code(run: Run, arguments: tuple[str, ...], said: str) -> None:
    done = run(*arguments, check=False)
    assert done.returncode == 1
    assert said in done.stderr.replace("\n", " ")
    assert "Traceback" not in done.stderr


def test_refused_weights_are_an_exit_code(
    run: Run, tiny_weights: Path, tmp_path: Path, make_picture: MakePicture
) -> None:
    run("index", make_picture("a.png", "a fox"), "--weights", tiny_weights)
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    data = bytearray((tiny_weights / "clip_h.safetensors").read_bytes())
    data[-100_000:] = os.urandom(100_000)
    (damaged / "clip_h.safetensors").write_bytes(data)
    done = run("index", make_picture("b.png", "a crow"), "--weights", damaged, "--json", check=False)
    assert done.returncode == 1
    assert list(output(done)["refused"]) == ["clip_h"]


def test_demo_ends_in_a_contact_sheet_and_says_the_weights_are_untrained(run: Run, tmp_path: Path) -> None:
    said = run("demo", tmp_path / "demo").stdout.replace("\n", " ")
    assert "12 new" in said
    assert "untrained" in said
    with Image.open(tmp_path / "demo" / "contact-sheet.png") as sheet:
        assert sheet.width > 800


@pytest.mark.parametrize(
    ("module", "unwanted"),
    [
        ("toolkit_core", "torch transformers open_clip onnxruntime psycopg PIL numpy rich"),
        ("toolkit_core.library", "torch transformers open_clip onnxruntime"),
        ("toolkit_core.cli", "torch transformers open_clip onnxruntime"),
    ],
)
def test_import_is_cheap(module: str, unwanted: str) -> None:
    code = f"import sys, {module}; print([name for name in {unwanted.split()} if name in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "[]\n"
