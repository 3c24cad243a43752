"""What every test may ask for: a real embedded server, a library of its own on it, pictures, tiny weights."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from toolkit_core.database import Database
from toolkit_core.encoders.tiny import write_tiny_weights
from toolkit_core.library import Library

REPOSITORY = Path(__file__).resolve().parents[1]
MakePicture = Callable[..., Path]

_numbers = itertools.count()


@pytest.fixture(scope="session", autouse=True)
def _no_settings_from_outside() -> None:
    for name in ("DIFFUSION_TOOLKIT_HOME", "DIFFUSION_TOOLKIT_DATABASE_URL"):
        os.environ.pop(name, None)


@pytest.fixture(scope="session")
def corpus() -> Path:
    """The real images with labels, which lie beside the project and not in it."""
    folder = REPOSITORY.parent / "shared" / "corpus"
    if not folder.is_dir():
        pytest.skip(f"the labelled corpus is not at {folder}")
    return folder


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home folder whose embedded server runs for the whole session."""
    folder = tmp_path_factory.mktemp("home")
    server = Database.embedded(folder, "keeps_the_server_running")
    yield folder
    server.close()


@pytest.fixture(scope="session")
def tiny_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of small, seeded, untrained weights for all four spaces."""
    folder = tmp_path_factory.mktemp("weights")
    write_tiny_weights(folder)
    return folder


@pytest.fixture
def schema() -> str:
    """The name of a library that no other test uses."""
    return f"test_{os.getpid()}_{next(_numbers)}"


@pytest.fixture
def database(home: Path, schema: str) -> Iterator[Database]:
    opened = Database.embedded(home, schema)
    yield opened
    opened.close()


@pytest.fixture
def library(home: Path, schema: str, tiny_weights: Path) -> Iterator[Library]:
    """An empty library with tiny weights."""
    with Library.open(home, library=schema, weights=[tiny_weights]) as opened:
        yield opened


@pytest.fixture
def until_exchange_waits(home: Path) -> Iterator[Callable[[], None]]:
    """Waits until an exchange of tables has met somebody's transaction, and comes back later."""
    server = Database.embedded(home, "keeps_the_server_running")

    def wait() -> None:
        deadline = time.monotonic() + 60
        while True:
            with server.transaction() as connection:
                paused = connection.execute("SELECT pid FROM pg_stat_activity WHERE wait_event = 'PgSleep'").fetchone()
            if paused is not None:
                return
            assert time.monotonic() < deadline
            time.sleep(0.02)

    yield wait
    server.close()


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """The folder that `make_picture` writes to."""
    return tmp_path / "pictures"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Makes a disk of some megabytes, and gives the folder that it is mounted at."""
    mounted: list[Path] = []

    def make(megabytes: int) -> Path:
        folder = tmp_path / f"disk {len(mounted)}"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)]
        if sys.platform != "linux" or subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("a disk that fills up is a tmpfs mount, which takes Linux and its root user")
        mounted.append(folder)
        return folder

    yield make
    for folder in mounted:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture
def make_picture(pictures: Path) -> MakePicture:
    """Writes a PNG of seeded coarse noise, with an A1111 text if there is a prompt."""

    def make(name: str, prompt: str | None = None, negative: str | None = None, seed: int | None = None) -> Path:
        path = pictures / name
        path.parent.mkdir(parents=True, exist_ok=True)
        chosen = seed if seed is not None else next(_numbers) + 1_000_000
        coarse = np.random.default_rng(chosen).integers(0, 256, (6, 8, 3), dtype=np.uint8)
        metadata = PngImagePlugin.PngInfo()
        if prompt is not None:
            lines = [prompt, *([f"Negative prompt: {negative}"] if negative is not None else [])]
            lines.append(f"Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: {chosen}, Size: 320x240, Model: test")
            metadata.add_text("parameters", "\n".join(lines))
        Image.fromarray(coarse).resize((320, 240), Image.Resampling.BICUBIC).save(path, "PNG", pnginfo=metadata)
        return path

    return make
