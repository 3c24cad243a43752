"""What holds for every command: an error is a sentence, and starting is cheap."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("index", "/no/such/folder"), "no folder or file '/no/such/folder'"),
        (("search",), "Give a text"),
        (("search", "x", "--weight", "bge"), "--weight 'bge' is not SPACE=W"),
        (("search", "x", "--weight", "smell=1"), "'smell' is no embedding"),
        (("search", "x", "--threshold", "high"), "--threshold 'high' is not T or SPACE=T"),
        (("search", "x", "--threshold", "bge=high"), "--threshold 'bge=high' is not T or SPACE=T"),
        (("search", "x", "--sort", "size"), "sort is 'size'; there are relevance, date, rating"),
        (("search", "x", "--page", "two"), "'two' is no page of a search"),
        (("show", "424242"), "no image with id 424242"),
        (("neighbours", "424242"), "no image with id 424242"),
        (("duplicates", "--threshold", "1.5"), "threshold is 1.5"),
        (("export", "set.csv"), "'csv' is no format of an export"),
        (("export", "set.parquet", "--top-k", "5"), "Give a text"),
        (("export", "set.parquet", "--id", "424242"), "no image with id 424242"),
        (("reread", "--comfyui", "http://127.0.0.1:1"), "No ComfyUI answers at http://127.0.0.1:1/object_info"),
        (("index", ".", "--comfyui", "file:///etc/passwd"), "is no address of a ComfyUI"),
    ],
)
def test_error_is_a_sentence_and_an_exit_code(run: Run, arguments: tuple[str, ...], said: str) -> None:
    done = run(*arguments, check=False)
    assert done.returncode == 1
    assert said in done.stderr.replace("\n", " ")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("option", ["--device", "--dtype"])
def test_device_and_dtype_reach_the_encoders(run: Run, tiny_weights: Path, option: str) -> None:
    done = run("search", "fox", "--weight", "clip_l=1", "--weights", tiny_weights, option, "abacus", check=False)
    assert done.returncode == 1
    assert f"{option.removeprefix('--')} 'abacus'" in done.stderr


def test_help_lists_every_command(run: Run) -> None:
    said = run("--help").stdout
    for command in (
        *("index", "reread", "reindex", "optimize", "status", "search", "neighbours", "duplicates", "show", "inspect"),
        *("curate", "tags", "export", "models", "demo"),
    ):
        assert f" {command} " in said


@pytest.mark.parametrize(
    ("module", "unwanted"),
    [
        ("toolkit_core", "torch transformers open_clip onnxruntime psycopg PIL numpy rich"),
        ("toolkit_core.library", "torch transformers open_clip onnxruntime PIL lark pyarrow"),
        ("toolkit_core.cli", "torch transformers open_clip onnxruntime PIL lark pyarrow"),
    ],
)
def test_import_is_cheap(module: str, unwanted: str) -> None:
    code = f"import sys, {module}; print([name for name in {unwanted.split()} if name in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "[]\n"
