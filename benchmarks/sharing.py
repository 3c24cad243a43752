"""Two processes that index one folder into one library, beside one: how much sooner they are done, and no row twice.

    python -m benchmarks.sharing

Pictures are encoded by something that takes its time and leaves the CPU alone, as a GPU for each process does: on a
machine with few cores real encoders would show how many cores it has.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
import time
from functools import partial
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path

from toolkit_core.encoders.base import Images, Vectors
from toolkit_core.library import Library

from .indexing import FreeImages, console, free_encoders, make_pictures, show

SECONDS_A_PICTURE = 0.05


class SlowImages(FreeImages):
    def encode(self, images: Images) -> Vectors:
        time.sleep(SECONDS_A_PICTURE * len(images))
        return super().encode(images)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure how processes share a library's work.")
    parser.add_argument("--pictures", type=int, default=1200)
    arguments = parser.parse_args()
    lines: list[tuple[str, ...]] = []
    with tempfile.TemporaryDirectory(prefix="sharing-benchmark-") as temporary:
        home, folder = Path(temporary) / "home", Path(temporary) / "pictures"
        console.print(f"[dim]making {arguments.pictures} pictures …[/dim]")
        make_pictures(folder, ".png", arguments.pictures)
        with Library.open(home, library="keeper"):
            alone = 0.0
            for processes in (1, 2):
                seconds, shares = run(home, folder, processes, arguments.pictures)
                alone = alone or seconds
                rate = f"{arguments.pictures / seconds:.1f}"
                lines.append((str(processes), rate, f"{alone / seconds:.2f}", " + ".join(map(str, shares))))
    show(
        f"{arguments.pictures} PNG files, {SECONDS_A_PICTURE * 1000:.0f} ms a picture in each process's encoder",
        ("processes", "images/s", "times one", "images of each"),
        lines,
    )


def run(home: Path, folder: Path, processes: int, pictures: int) -> tuple[float, list[int]]:
    """The seconds until all are done, and how many new images each process wrote."""
    context = multiprocessing.get_context("spawn")
    barrier: Barrier = context.Barrier(processes + 1)
    written: Queue[int] = context.Queue()
    name = f"by_{processes}"
    workers = [context.Process(target=index, args=(home, name, folder, barrier, written)) for _ in range(processes)]
    for worker in workers:
        worker.start()
    barrier.wait()
    started = time.perf_counter()
    shares = [written.get() for _ in workers]
    seconds = time.perf_counter() - started
    for worker in workers:
        worker.join()
    with Library.open(home, library=name) as library:
        assert sum(shares) == library.status().images == pictures, shares
    return seconds, shares


def index(home: Path, name: str, folder: Path, barrier: Barrier, written: Queue[int]) -> None:
    encoders = {**free_encoders(), "clip_h": partial(SlowImages, "clip_h", "slow")}
    with Library.open(home, library=name) as library:
        library.index([], encoders=encoders)
        barrier.wait()
        written.put(library.index([folder], encoders=encoders).new)


if __name__ == "__main__":
    main()
