"""What the indexer adds to decoding: end to end with encoders that cost nothing, and a folder in which nothing changed.

    python -m benchmarks.indexing                      # 400 PNGs and 400 JPEGs of 1024 x 1024; 100,000 files unchanged
    python -m benchmarks.indexing --pictures 100 --unchanged 10000

All that a table compares is measured in the same run, one after the other.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image, PngImagePlugin
from rich.console import Console
from rich.table import Table

from toolkit_core.encoders.base import Encoder, ImageEncoder, Images, TextEncoder, Vectors
from toolkit_core.encoders.pixels import clip_pixels, decode, open_rgb
from toolkit_core.indexing.stages import READERS
from toolkit_core.library import Library
from toolkit_core.spaces import SPACES

SIDE = 1024
console = Console(width=120)


class FreeImages(ImageEncoder):
    """An encoder that costs nothing: every picture has the same vector."""

    @property
    def device(self) -> str:
        return "none"

    def encode(self, images: Images) -> Vectors:
        return np.ones((len(images), SPACES[self.space].width), np.float32)

    def _load(self) -> None: ...

    def _unload(self) -> None: ...


class FreeTexts(TextEncoder):
    @property
    def device(self) -> str:
        return "none"

    def encode(self, texts: Sequence[str]) -> Vectors:
        return np.ones((len(texts), SPACES[self.space].width), np.float32)

    def _load(self) -> None: ...

    def _unload(self) -> None: ...


def free_encoders() -> dict[str, Callable[[], Encoder]]:
    return {
        name: partial(FreeTexts if space.of == "text" else FreeImages, name, "free") for name, space in SPACES.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure indexing.")
    parser.add_argument("--pictures", type=int, default=400, help="of each format")
    parser.add_argument("--unchanged", type=int, default=100_000, help="files in the unchanged folder; 0 leaves it out")
    parser.add_argument("--weights", type=Path, help="also with the encoders in this folder, on what they run on")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="indexing-benchmark-") as folder:
        home = Path(folder) / "home"
        with Library.open(home, library="keeper"):
            for suffix in (".png", ".jpg"):
                end_to_end(home, Path(folder) / suffix[1:], suffix, arguments.pictures)
            if arguments.weights:
                with_weights(home, Path(folder) / "png", arguments.weights)
            if arguments.unchanged:
                unchanged(home, Path(folder) / "unchanged", arguments.unchanged)


def end_to_end(home: Path, folder: Path, suffix: str, count: int) -> None:
    paths = make_pictures(folder, suffix, count)
    for path in paths:  # once, so that all are in the system's cache
        path.read_bytes()
    loop = rate(count, lambda: consume(clip_pixels(open_rgb(path.read_bytes())) for path in paths))
    a_thread_a_core, bare = (decoding_rate(paths, threads) for threads in (os.cpu_count() or 1, READERS))
    with Library.open(home, library=f"whole_{suffix[1:]}") as library:
        # A first picture, so that what is made once (the encoders' records) is made.
        library.index([paths[0]], encoders=free_encoders())
        started = time.perf_counter()
        report = library.index([folder], encoders=free_encoders())
        whole = report.new / (time.perf_counter() - started)
    assert report.new == count - 1, report
    stages = ", ".join(f"{stage} {share:.0%}" for stage, share in report.stages.items())
    show(
        f"{count} {suffix[1:].upper()} files of {SIDE} x {SIDE}, encoders that cost nothing, {os.cpu_count()} cores",
        ("", "images/s", "of decoding"),
        [
            ("a loop of Pillow's", f"{loop:.1f}", f"{loop / bare:.2f}"),
            ("decoding alone, a thread a core", f"{a_thread_a_core:.1f}", f"{a_thread_a_core / bare:.2f}"),
            (f"decoding alone, {READERS} threads like `index`", f"{bare:.1f}", "1.00"),
            (f"index ({stages})", f"{whole:.1f}", f"{whole / bare:.2f}"),
        ],
    )


def decoding_rate(paths: Sequence[Path], threads: int) -> float:
    with ThreadPoolExecutor(threads) as pool:
        return rate(len(paths), lambda: consume(pool.map(lambda path: decode(path.read_bytes()), paths)))


def with_weights(home: Path, folder: Path, weights: Path) -> None:
    """The PNGs with real encoders. What is loaded once, their weights and probes, is loaded before."""
    with Library.open(home, library="with_weights", weights=[weights]) as library:
        first = min(folder.iterdir())
        report = library.index([first])
        assert not report.skipped and not report.refused, report
        started = time.perf_counter()
        report = library.index([folder])
        seconds = time.perf_counter() - started
    show(
        f"{report.new} PNG files with the encoders of {weights}, {report.new / seconds:.2f} images/s",
        ("stage", "at work"),
        [(stage, f"{share:.1%}") for stage, share in report.stages.items()],
    )


def unchanged(home: Path, folder: Path, count: int) -> None:
    """A folder of small files that the library has already, against a walk that asks for each file's state."""
    make_files(folder, count)
    with Library.open(home, library="unchanged") as library:
        console.print(f"[dim]indexing {count:,} files …[/dim]")
        library.index([folder], encoders=free_encoders())
    walk = min(seconds(lambda: consume(walked(str(folder)))) for _ in range(3))
    # In a process of its own, whose peak of memory is that of this run.
    output = subprocess.run(
        [sys.executable, "-m", "benchmarks.indexing_unchanged", str(home), "unchanged", str(folder)],
        check=True,
        capture_output=True,
    ).stdout
    again = json.loads(output)
    assert again["unchanged"] == count, again
    show(
        f"{count:,} files, none of them changed",
        ("", "seconds", "times the walk", "peak memory above an opened library, MB"),
        [
            ("a walk with stat", f"{walk:.2f}", "1.0", ""),
            ("index", f"{again['seconds']:.2f}", f"{again['seconds'] / walk:.1f}", f"{again['megabytes']:.0f}"),
        ],
    )


def make_pictures(folder: Path, suffix: str, count: int) -> list[Path]:
    """Pictures that compress as generated ones do: smooth shapes with a little grain. PNGs as ComfyUI saves them."""
    folder.mkdir()
    random = np.random.default_rng(0)
    paths = []
    for number in range(count):
        coarse = Image.fromarray(random.integers(0, 255, (24, 24, 3), np.uint8)).resize((SIDE, SIDE), 3)
        pixels = np.asarray(coarse, np.int16) + random.integers(-4, 5, (SIDE, SIDE, 1), np.int16)
        picture = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
        path = folder / f"{number:05}{suffix}"
        if suffix == ".png":
            picture.save(path, pnginfo=parameters(number), compress_level=4)
        else:
            picture.save(path, quality=95)
        paths.append(path)
    return paths


def make_files(folder: Path, count: int) -> None:
    for number in range(count):
        inside = folder / f"{number // 1000:04}"
        inside.mkdir(parents=True, exist_ok=True)
        color = (number % 256, number // 256 % 256, number // 65536)
        Image.new("RGB", (8, 8), color).save(inside / f"{number:07}.png", pnginfo=parameters(number))


def parameters(number: int) -> PngImagePlugin.PngInfo:
    info = PngImagePlugin.PngInfo()
    info.add_text(
        "parameters",
        f"a picture of subject {number // 4}, detailed\nNegative prompt: blurry\n"
        f"Steps: 20, Sampler: Euler, CFG scale: 7, Seed: {number}, Size: {SIDE}x{SIDE}, Model: any",
    )
    return info


def walked(folder: str) -> Iterable[os.stat_result]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                yield from walked(entry.path)
            else:
                yield entry.stat()


def rate(count: int, work: Callable[[], None]) -> float:
    return count / seconds(work)


def seconds(work: Callable[[], None]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def consume(items: Iterable[object]) -> None:
    for _ in items:
        pass


def peak_megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def show(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    table = Table(*columns, title=title, title_justify="left")
    for row in rows:
        table.add_row(*row)
    console.print(table)


if __name__ == "__main__":
    main()
