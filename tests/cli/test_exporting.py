"""Writing images to files: which ones, in which form."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file

Run = Callable[..., subprocess.CompletedProcess[str]]
Ask = Callable[..., Any]


def test_everything_is_exported_if_nothing_is_chosen(run: Run, filled: Any, tmp_path: Path) -> None:
    said = run("export", tmp_path / "set.safetensors").stdout
    assert "5 images in 2 files" in said
    assert "5 images have no clip_g." in said
    assert "clip_h" not in said
    tensors = load_file(tmp_path / "set.safetensors")
    assert tensors["ids"].tolist() == filled.ids
    assert set(tensors) == {"ids", "bge", "bge_negative", "clip_h", "clip_l", "clip_g"}


@pytest.mark.parametrize(
    ("arguments", "chosen"),
    [
        (("--filter", "fox"), [0, 1]),
        (("--id", "{4}", "--id", "{0}"), [4, 0]),
        (("--id", "{4}", "--id", "{0}", "--filter", "fox"), [0]),
        (("--like", "{0}", "--top-k", "2"), [0, 1]),
        (("--like", "{0}", "--threshold", "0.9"), [0, 1]),
        (("--like", "{0}", "--filter", "-fox", "--top-k", "2"), [2, 3]),
        (("--id", "{4}", "--like", "{0}", "--top-k", "1"), [4, 0]),
        (("--like", "{0}", "--weight", "clip_h=-1", "--top-k", "1"), [4]),
        (("--filter", "fox", "--top-k", "1"), [1]),
    ],
)
def test_chosen_images_are_exported_in_their_order(
    ask: Ask, filled: Any, tmp_path: Path, arguments: tuple[str, ...], chosen: list[int]
) -> None:
    named = [argument.format(*filled.ids) for argument in arguments]
    report = ask("export", tmp_path / "set.safetensors", "--embedding", "image", *named)
    tensors = load_file(tmp_path / "set.safetensors")
    assert tensors["ids"].tolist() == [filled.ids[n] for n in chosen]
    assert set(tensors) == {"ids", "clip_h"}
    assert (report["images"], report["missing"]) == (len(chosen), {"clip_h": 0})


def test_format_of_a_folder(run: Run, filled: Any, tmp_path: Path) -> None:
    run("export", tmp_path / "set", "--format", "json", "--id", filled.ids[1], "--embedding", "bge")
    document = json.loads((tmp_path / "set" / f"image_{filled.ids[1]}.json").read_text("utf-8"))
    assert (document["Prompt"], len(document["PromptEmbedding"])) == ("a fox in the snow", 1024)
    assert "ImageEmbedding" not in document
