"""Showing what files say."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

MakePicture = Callable[..., Path]
Run = Callable[..., subprocess.CompletedProcess[str]]
Ask = Callable[..., Any]


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


def test_inspect_says_which_rule_found_each_value(run: Run, ask: Ask, make_picture: MakePicture) -> None:
    path = make_picture("a.png")
    graph = {
        "5": {"class_type": "CLIPTextEncode", "inputs": {"text": "a fox\nin the snow"}},
        "7": {"class_type": "KSampler", "inputs": {"positive": ["5", 0], "seed": 5, "steps": 20}},
        "9": {"class_type": "SaveImage", "inputs": {"images": ["7", 0]}},
    }
    path.with_suffix(".json").write_text(json.dumps(graph))
    found = ask("inspect", path, "--raw")
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
