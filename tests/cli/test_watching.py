"""`watch` and `prune` as a person runs them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from toolkit_core.database.moved import PRUNING
from toolkit_core.library import Library

Run = Callable[..., subprocess.CompletedProcess[str]]
Ask = Callable[..., Any]
MakePicture = Callable[..., Path]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals for one process")
@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_watch_tells_what_it_does_and_ends_without_an_error(
    home: Path, schema: str, tiny_weights: Path, make_picture: MakePicture, pictures: Path, ending: signal.Signals
) -> None:
    pictures.mkdir(parents=True)
    command = [sys.executable, "-m", "toolkit_core", "watch", str(pictures), "--json", "--weights", str(tiny_weights)]
    process = subprocess.Popen(
        [*command, "--home", str(home), "--library", schema],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    path = make_picture("a.png", "a fox", "blurry")
    assert json.loads(process.stdout.readline())["new"] == 1
    assert json.loads(process.stdout.readline())["embedded"] == {"bge": 2, "clip_h": 1, "clip_l": 2, "clip_g": 2}
    path.unlink()
    assert json.loads(process.stdout.readline())["missing"] == 1
    process.send_signal(ending)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors.strip().splitlines()[-1:]) == (0, ["Stopped."])


@pytest.mark.parametrize("command", ["watch", "prune", "index", "failures"])
def test_empty_folder_is_not_the_current_one(run: Run, command: str) -> None:
    done = run(command, "", check=False)
    assert (done.returncode, "It is empty. Write . for" in done.stderr) == (2, True)


def test_watch_refuses_a_file(run: Run, make_picture: MakePicture) -> None:
    done = run("watch", make_picture("a.png"), check=False)
    assert done.returncode == 1
    assert "is a file. Name the folder" in " ".join(done.stderr.split())


@pytest.mark.parametrize("seconds", ["0", "86401", "1e12", "inf"])
def test_watch_refuses_seconds_that_it_does_not_wait_for(run: Run, tmp_path: Path, seconds: str) -> None:
    done = run("watch", tmp_path, "--poll", seconds, check=False)
    assert done.returncode == 2
    assert "Invalid value for '--poll'" in done.stderr


@pytest.fixture
def gone(home: Path, schema: str, make_picture: MakePicture, pictures: Path) -> Path:
    """A folder that lost two files, one a favourite; the other lay in a folder that is gone, too."""
    a, b = make_picture("a.png", "a fox"), make_picture("sub/b.png", "a badger")
    make_picture("c.png", "a fox")
    with Library.open(home, library=schema, weights=["/nowhere"]) as library:
        library.index([pictures])
        library.curate([image.id for image in library.search(filter="prompt:fox path:a.png")], favorite=True)
        a.unlink()
        b.unlink()
        b.parent.rmdir()
        library.index([pictures])
    return pictures


def test_prune_lists_what_is_missing_and_removes_nothing(run: Run, ask: Ask, gone: Path) -> None:
    shown = " ".join(run("prune", columns=300).stdout.split())
    assert "1 favourites, rated or tagged" in shown
    assert "the folder is not there: is its drive connected?" in shown
    assert "Nothing was removed. --yes removes them" in shown
    listed = ask("prune")
    assert [(Path(image["path"]).name, image["is_curated"]) for image in listed] == [("a.png", True), ("b.png", False)]
    assert ask("status")["missing"] == 2
    assert "2 images; `diffusion-toolkit prune` lists them" in run("status").stdout
    assert "missing since" in run("show", listed[0]["id"]).stdout


@pytest.mark.parametrize("days", ["inf", "1e12", "nan", "-1"])
def test_prune_refuses_days_that_nobody_means(run: Run, days: str) -> None:
    done = run("prune", "--days", days, "--yes", check=False)
    assert (done.returncode, "Invalid value for '--days'" in done.stderr) == (2, True)


def test_prune_removes_what_it_is_told_to(run: Run, ask: Ask, gone: Path) -> None:
    assert ask("prune", "--days", "1") == []
    assert ask("prune", "--days", "1", "--yes") == {"images": 0, "texts": 0, "left": 0}
    assert ask("prune", gone / "sub", "--yes") == {"images": 1, "texts": 1, "left": 0}
    assert "1 images and 0 prompts removed." in run("prune", "--yes").stdout
    assert "No image is missing." in run("prune").stdout
    assert ask("status")["images"] == 1


def test_prune_says_what_it_leaves_to_a_run_that_is_under_way(
    run: Run, ask: Ask, gone: Path, home: Path, schema: str
) -> None:
    with Library.open(home, library=schema, weights=["/nowhere"]) as library, library.database.among(PRUNING):
        done = " ".join(run("prune", "--yes").stdout.split())
    assert "0 images and 0 prompts removed. 2 images were left: another process indexes into this library" in done
    assert ask("prune", "--yes")["images"] == 2
