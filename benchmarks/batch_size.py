"""How fast an encoder is by the size of its batches, and which size it finds by itself.

    python -m benchmarks.batch_size WEIGHTS                 # those of every space in the folder, on what they run on
    python -m benchmarks.batch_size WEIGHTS --space clip_h --device cuda:0 --sizes 32 64 128 256

A size is in pictures, or in tokens with their padding. Sizes take turns, so that what else the machine does slows all
of them; a rate is the median of the rounds. Then the encoder is given inputs until it has settled, `--runs` times anew.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from toolkit_core.encoders.base import Encoder, ImageEncoder, TextEncoder
from toolkit_core.encoders.batching import BatchSize
from toolkit_core.encoders.weights import find_weights, make_encoder
from toolkit_core.indexing.embedder import batch_size
from toolkit_core.spaces import SPACES

WORDS = ("a", "red", "fox", "in", "snow", "by", "an", "old", "stone", "bridge", "at", "dusk,", "oil", "painting,")
RANDOM = np.random.default_rng(0)
console = Console(width=120)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure encoders by the size of their batches.")
    parser.add_argument("weights", type=Path)
    parser.add_argument("--space", action="append", choices=list(SPACES), help="only this one; may be repeated")
    parser.add_argument("--device")
    parser.add_argument("--sizes", type=int, nargs="+", help="by default the first one and from there on twice as much")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--runs", type=int, default=3)
    given = parser.parse_args()
    for space, location in find_weights([given.weights]).items():
        if location.path is not None and space in (given.space or SPACES):
            encoder = make_encoder(location, given.device, None)
            encoder.load()
            first, at_most = encoder._batch_sizes()
            sizes = given.sizes or [first << step for step in range((2 * at_most // first).bit_length())]
            by_size(encoder, sizes, given.rounds)
            found(encoder, given.runs)
            encoder.unload()


def by_size(encoder: Encoder, sizes: Sequence[int], rounds: int) -> None:
    rates: dict[int, list[float]] = {size: [] for size in sizes}
    for number in range(rounds + 1):
        for size in sizes:
            encoder._batch = BatchSize(size, size)
            rate = encoded(encoder, inputs(encoder, size if encoder.space == "clip_h" else 128))
            if number:  # the first of each size is slow
                rates[size].append(rate)
    medians = {size: median(of_size) for size, of_size in rates.items()}
    table = Table("size", "inputs/s", f"of size {sizes[0]}", title=f"{encoder.name} on {encoder.device}")
    for size, rate in medians.items():
        table.add_row(str(size), f"{rate:.2f}", f"{rate / medians[sizes[0]]:.2f}")
    console.print(table)


def found(encoder: Encoder, runs: int) -> None:
    for _ in range(runs):
        encoder._batch = BatchSize(*encoder._batch_sizes())
        count = 0
        while not encoder._batch.is_settled and count < 4096:
            some = inputs(encoder, batch_size(SPACES[encoder.space], encoder.at_once))
            encoded(encoder, some)
            count += len(some)
        settled = "settled" if encoder._batch.is_settled else "not settled"
        console.print(f"{settled} at {encoder._batch.size} after {count} inputs")


def inputs(encoder: Encoder, count: int) -> Any:
    if isinstance(encoder, ImageEncoder):
        return RANDOM.integers(0, 256, (count, 224, 224, 3), np.uint8)
    return [" ".join(RANDOM.choice(WORDS, RANDOM.integers(8, 60))) for _ in range(count)]


def encoded(encoder: Encoder, some: Any) -> float:
    """Inputs a second."""
    assert isinstance(encoder, ImageEncoder | TextEncoder)
    started = time.perf_counter()
    encoder.encode(some)
    return len(some) / (time.perf_counter() - started)


if __name__ == "__main__":
    main()
