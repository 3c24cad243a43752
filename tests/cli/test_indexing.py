"""Filling a library."""

from __future__ import annotations

import json
import os
import re
import subprocess
import threading
from collections.abc import Callable
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np

from toolkit_core.database import Database, vectors
from toolkit_core.spaces import EMBEDDINGS, SPACES

MakePicture = Callable[..., Path]
Run = Callable[..., subprocess.CompletedProcess[str]]
Ask = Callable[..., Any]


def test_index_search_show_and_status_agree(ask: Ask, tiny_weights: Path, make_picture: MakePicture) -> None:
    path = make_picture("a.png", "a fox in the snow", "blurry", seed=11)
    make_picture("b.png", "a lighthouse", seed=12)
    report = ask("index", path.parent, "--weights", tiny_weights)
    assert (report["new"], report["failed"], report["pending"]) == (2, [], dict.fromkeys(SPACES, 0))
    [hit] = ask("search", "--image", path, "--top-k", 1, "--weights", tiny_weights)["hits"]
    assert set(hit) == {"id", "path", "score", "scores", "prompt", "modified_at", "favorite", "rating"}
    assert (hit["path"], hit["prompt"], hit["score"] >= 0.999) == (str(path), "a fox in the snow", True)
    [same] = ask("search", "--id", hit["id"], "--top-k", 1)["hits"]
    assert same["id"] == hit["id"]
    weights = ["--weight", "bge=0.6", "--weight", "clip_h=-0.3", "--weight", "clip_h_text=0.3"]
    found = ask("search", "a fox", "--image", path, *weights, "--weights", tiny_weights)
    assert {name: round(weight, 9) for name, weight in found["weights"].items()} == {
        "bge": 0.5,
        "clip_h": -0.25,
        "clip_h_text": 0.25,
    }
    assert sorted(found["hits"][0]["scores"]) == ["bge", "clip_h", "clip_h_text"]
    shown = ask("show", hit["id"])
    assert shown["parameters"]["seed"] == 11
    assert shown["embeddings"] == list(EMBEDDINGS)
    status = ask("status")
    counts = {
        "images",
        "failed",
        "missing",
        "prompts",
        "read_by_older",
        "pending",
        "encoders",
        "indexes",
        "reembedding",
    }
    assert set(status) == {*counts, "database"}
    assert (status["images"], status["failed"], status["prompts"]) == (2, 0, 2)
    assert status["encoders"]["clip_g"]["name"] == "clip_g"
    assert (status["indexes"]["clip_h"]["index"], status["indexes"]["clip_h"]["open"]) == (None, 2)


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
    status = run("status").stdout
    assert "none yet" not in status
    assert "`diffusion-toolkit failures`" in status
    assert "empty.png: The file is empty." in run("failures").stdout
    assert "1 failed" in run("failures", "--retry", "--weights", tiny_weights).stdout


def test_reread_says_what_it_did(run: Run, ask: Ask, tiny_weights: Path, make_picture: MakePicture) -> None:
    path = make_picture("a.png", "a fox", "blurry", seed=11)
    run("index", path, "--weights", tiny_weights)
    path.unlink()
    report = ask("reread", "--all", "--weights", tiny_weights)
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
    assert list(json.loads(done.stdout)["refused"]) == ["clip_h"]


def test_optimize_says_what_came_into_an_index(run: Run, ask: Ask, database: Database) -> None:
    with database.transaction() as connection:
        connection.execute(
            "INSERT INTO prompt_text (sha256, text)"
            " SELECT sha256(n::text::bytea), n::text FROM generate_series(1, 20001) n"
        )
        prompts = [id for (id,) in connection.execute("SELECT id FROM prompt_text")]
        some = np.random.default_rng(5).standard_normal((50, SPACES["clip_l"].width), np.float32)
        vectors.write(connection, SPACES["clip_l"], prompts, some[np.arange(20_001) % 50])
    [sealed] = ask("optimize")
    assert (sealed["space"], sealed["rows"], sealed["anew"]) == ("clip_l", 20_001, True)
    status = run("status").stdout
    assert re.search(r"clip_l +│ +0 │ hnsw +│ 20,001 │ +0 │ [\d.]+ MB", status), status
    said = run("optimize").stdout
    assert "Nothing was to be done. Up to 20,000 vectors" in said.replace("\n", " ")
    assert "built anew" in run("optimize", "--rebuild").stdout
