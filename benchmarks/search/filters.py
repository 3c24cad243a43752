"""Filters that let through a small or a large share of the images, at random, of the query's kind, or of another."""

from __future__ import annotations

import numpy as np

from .bench import Bench, measure, ours
from .synthetic import IMAGES_A_CLUSTER, SHARES


def run(bench: Bench, rows: int) -> None:
    made = bench.made(rows, bench.spaces(rows))
    lines: list[tuple[str, ...]] = []
    with bench.library(rows) as library:
        for column, (name, share) in enumerate(SHARES.items()):
            of_clusters = made.cluster < max(share * (rows // IMAGES_A_CLUSTER), 1)
            for kind, filter, allowed, near in (
                ("at random", f"tag:any-{name}", made.chance[:, column] < share, None),
                ("of the query's kind", f"tag:cluster-{name}", of_clusters, bench.numbers(rows, of_clusters)),
                ("of other kinds", f"tag:cluster-{name}", of_clusters, bench.numbers(rows, ~of_clusters)),
            ):
                found = measure(bench, made, {"clip_h": 1.0}, ours(library, {"clip_h": 1.0}, filter), allowed, near)
                passing = f"{100 * float(np.mean(allowed)):.2f}%"
                lines.append((kind, passing, *found.cells()))
    columns = ("images that pass", "share", "recall", "p50 ms", "p95 ms")
    bench.table(f"Filtered, {rows:,} images; never fewer than there are", columns, lines)
