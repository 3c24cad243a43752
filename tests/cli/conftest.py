"""The command line as a person runs it, in a process of its own, and a library to run it on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from toolkit_core.database import images, vectors
from toolkit_core.database.images import ImageRow
from toolkit_core.indexing.scan import EPOCH
from toolkit_core.library import Library
from toolkit_core.records import GenerationParameters
from toolkit_core.spaces import SPACES

OUTSIDE_A_LIBRARY = ("inspect", "models", "demo", "--help")


@pytest.fixture
def run(home: Path, schema: str) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs `python -m toolkit_core` on a library of this test's own; columns: of its terminal."""

    def run(
        command: str, *arguments: object, check: bool = True, columns: int = 200
    ) -> subprocess.CompletedProcess[str]:
        place = [] if command in OUTSIDE_A_LIBRARY else ["--home", str(home), "--library", schema]
        done = subprocess.run(
            [sys.executable, "-m", "toolkit_core", command, *map(str, arguments), *place],
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=300,
            check=False,
            env={**os.environ, "COLUMNS": str(columns), "PYTHONIOENCODING": "utf-8"},
        )
        assert not check or done.returncode == 0, done.stderr
        return done

    return run


@pytest.fixture
def ask(run: Callable[..., subprocess.CompletedProcess[str]]) -> Callable[..., Any]:
    """Runs a command with --json and gives what it prints."""

    def ask(command: str, *arguments: object) -> Any:
        return json.loads(run(command, *arguments, "--json").stdout)

    return ask


@dataclass(frozen=True)
class Filled:
    """A library without weights, and the ids of its images in the order of FILLED."""

    library: Library
    ids: list[int]


# A file's name, the content of its file, its prompt, and the direction of its CLIP-H vector in degrees.
FILLED = (
    ("fox.png", b"1", "a red fox", 0),
    ("fox [bold]:fire:.png", b"2", "a fox in the snow", 10),
    ("lighthouse.png", b"3", "a lighthouse", 60),
    ("copy.png", b"3", "a lighthouse", 60),
    ("badger.png", b"4", "a badger", 90),
)
# The directions of the prompts' BGE vectors.
PROMPT_ANGLES = {"a red fox": 0, "a fox in the snow": 30, "a lighthouse": 60, "a badger": 90}


@pytest.fixture
def filled(home: Path, schema: str) -> Iterator[Filled]:
    """The library that `run` runs on, with FILLED; each file is a day newer than the one before."""
    with Library.open(home, library=schema, weights=["/nowhere"]) as library:
        with library.database.transaction() as connection:
            ids = [
                id
                for n, (name, content, prompt, _) in enumerate(FILLED)
                for id in images.write(connection, [_row(n, name, content, prompt)])
            ]
            vectors.write(connection, SPACES["clip_h"], ids, _directions("clip_h", [angle for *_, angle in FILLED]))
            prompts = {text: id for id, text in vectors.pending(connection, SPACES["bge"], 0, 100)}
            owners = [prompts[text] for text in PROMPT_ANGLES]
            vectors.write(connection, SPACES["bge"], owners, _directions("bge", PROMPT_ANGLES.values()))
        yield Filled(library, ids)


def _row(n: int, name: str, content: bytes, prompt: str) -> ImageRow:
    made = GenerationParameters(prompt=prompt, seed=n)
    return ImageRow(f"/pictures/{name}", content, 1, EPOCH + timedelta(days=n), 832, 1216, made, None)


def _directions(space: str, degrees: Any) -> np.ndarray:
    """Unit vectors, whose cosine similarities are the cosines of the angles between them."""
    angles = np.radians(np.fromiter(degrees, float))
    made = np.zeros((len(angles), SPACES[space].width), np.float32)
    made[:, 0], made[:, 1] = np.cos(angles), np.sin(angles)
    return made
