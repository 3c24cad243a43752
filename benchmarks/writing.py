"""How fast rows with vectors of all spaces are written, as the indexer writes them, and that the memory stays flat.

    python -m benchmarks.writing                    # 100,000 images; about 23 KB of disk each
    python -m benchmarks.writing --rows 1000000 --images-a-prompt 4

Every tenth of the rows is a line: the rate and the process's memory after it.
"""

from __future__ import annotations

import argparse
import hashlib
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import psutil

from toolkit_core.database import Connection, images, vectors
from toolkit_core.database.images import ImageRow
from toolkit_core.indexing.embedder import PICTURES_A_BATCH, TEXTS_A_BATCH
from toolkit_core.indexing.scan import EPOCH
from toolkit_core.library import Library
from toolkit_core.records import GenerationParameters
from toolkit_core.spaces import SPACES, Space

from .indexing import console, show

RANDOM = np.random.default_rng(0)
# Far apart, so that no two batches share a vector, and made once: making normal numbers takes longer than writing them.
POOL = {name: RANDOM.standard_normal((4 * TEXTS_A_BATCH, space.width), np.float32) for name, space in SPACES.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure writing.")
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--images-a-prompt", type=int, default=1)
    arguments = parser.parse_args()
    lines: list[tuple[str, ...]] = []
    after = dict.fromkeys(SPACES, 0)
    with tempfile.TemporaryDirectory(prefix="writing-benchmark-") as folder, Library.open(Path(folder)) as library:
        tenth = arguments.rows // 10
        for part in range(10):
            started = time.perf_counter()
            for first in range(part * tenth, (part + 1) * tenth, TEXTS_A_BATCH):
                last = min(first + TEXTS_A_BATCH, (part + 1) * tenth)
                write(library, range(first, last), arguments.images_a_prompt, after)
            rate = tenth / (time.perf_counter() - started)
            lines.append(
                (f"{(part + 1) * tenth:,}", f"{rate:,.0f}", f"{psutil.Process().memory_info().rss / 2**20:.0f}")
            )
            console.print(f"[dim]{lines[-1][0]} rows[/dim]")
        with library.database.transaction() as connection:
            for space in SPACES.values():
                assert vectors.count_pending(connection, space) == 0, space
    show(
        f"{arguments.rows:,} images with all embeddings, {arguments.images_a_prompt} a prompt",
        ("images", "images/s", "memory, MB"),
        lines,
    )


def write(library: Library, numbers: Sequence[int], images_a_prompt: int, after: dict[str, int]) -> None:
    """Images in batches of the indexer's, each with its picture's vector in the same transaction; then their texts."""
    for first in range(0, len(numbers), PICTURES_A_BATCH):
        batch = numbers[first : first + PICTURES_A_BATCH]
        with library.database.transaction() as connection:
            ids = images.write(connection, [row(number, images_a_prompt) for number in batch])
            vectors.write(connection, SPACES["clip_h"], ids, sample(SPACES["clip_h"], len(ids)))
    for space in SPACES.values():
        if space.of == "text":
            with library.database.transaction() as connection:
                after[space.name] = fill(connection, space, after[space.name])


def fill(connection: Connection, space: Space, after: int) -> int:
    """Write vectors for the texts behind an id that have none. Returns the last one's id."""
    owners = [owner for owner, _ in vectors.pending(connection, space, after, 2 * TEXTS_A_BATCH)]
    if owners:
        assert len(vectors.held(connection, space, owners, {})) == len(owners)
        vectors.write(connection, space, owners, sample(space, len(owners)))
    return max(owners, default=after)


def sample(space: Space, count: int) -> vectors.Vectors:
    first = int(RANDOM.integers(0, len(POOL[space.name]) - count))
    return POOL[space.name][first : first + count]


def row(number: int, images_a_prompt: int) -> ImageRow:
    """An image with settings, a prompt of its own or one of several images', and one of a hundred negative prompts."""
    path = f"/renders/{number // 1000:06}/{number:08}.png"
    made = GenerationParameters(
        prompt=f"picture {number // images_a_prompt} of a long series, highly detailed, soft light",
        negative_prompt=f"blurry, low quality {number % 100}",
        model="sd_xl_base_1.0.safetensors",
        sampler="dpmpp_2m",
        steps=30,
        cfg_scale=6.5,
        seed=number,
    )
    return ImageRow(path, hashlib.sha256(path.encode()).digest(), 1_500_000, EPOCH, 1024, 1024, made, None)


if __name__ == "__main__":
    main()
