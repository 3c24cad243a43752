"""Finding weights, and the demo."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

from toolkit_core.spaces import SPACES

Run = Callable[..., subprocess.CompletedProcess[str]]
Ask = Callable[..., Any]


def test_models_lists_what_is_found_and_what_is_missing(run: Run, ask: Ask, tiny_weights: Path, tmp_path: Path) -> None:
    found = ask("models", "--weights", tiny_weights, "--home", tmp_path)
    assert {space for space, place in found.items() if place["path"]} == set(SPACES)
    (tmp_path / "empty").mkdir()
    missing = run("models", "--weights", tmp_path / "empty", "--home", tmp_path).stdout
    assert "models download" in missing.replace("\n", " ")
    assert "looked in" in missing


def test_demo_ends_in_a_contact_sheet_and_says_the_weights_are_untrained(run: Run, tmp_path: Path) -> None:
    said = run("demo", tmp_path / "demo").stdout.replace("\n", " ")
    assert "12 new" in said
    assert "untrained" in said
    with Image.open(tmp_path / "demo" / "contact-sheet.png") as sheet:
        assert sheet.width > 800
