"""A CLIP input of each model family as encoders, with the real classes of ComfyUI, a few layers deep."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).resolve().parent
SPACES = {
    "SDXL": ["clip_l", "clip_g"],
    "SD3": ["clip_l", "clip_g"],
    "SD1": ["clip_l"],
    "FLUX.1": ["clip_l"],
    "refiner": ["clip_g"],
}


@pytest.fixture(scope="module")
def answer(comfyui_source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    file = tmp_path_factory.mktemp("families") / "answer.json"
    done = subprocess.run(
        [sys.executable, str(HERE / "clip_families.py"), str(HERE.parents[1]), str(file)],
        cwd=comfyui_source,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(file.read_text())


@pytest.mark.parametrize("family", SPACES)
def test_each_family_gives_the_spaces_that_it_has(answer: dict[str, Any], family: str) -> None:
    found = answer[family]
    assert found["spaces"] == SPACES[family]
    assert list(found["agreement"]) == SPACES[family]
    # A batch of whole prompts, long and weighted ones among them, against ComfyUI one text at a time.
    assert min(found["agreement"].values()) >= 0.999999
    for space, message in found["lacking"].items():
        assert f"has no {space.replace('_', '-').upper()}. Connect that of an SDXL or SD3 model" in message


@pytest.mark.parametrize("family", SPACES)
def test_options_and_clip_skip_are_left_alone(answer: dict[str, Any], family: str) -> None:
    assert answer[family]["options_kept"]
    assert answer[family]["clip_skip_changes_nothing"]


def test_options_come_back_after_an_error(answer: dict[str, Any]) -> None:
    assert answer["options_kept_after_an_error"] is True


def test_a_batch_takes_no_longer_than_one_at_a_time(answer: dict[str, Any]) -> None:
    # On the CPU; the margin is for what a busy machine adds.
    assert answer["batch_time"] <= 1.1
