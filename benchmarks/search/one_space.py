"""One space: ours beside the guide's IVFFlat and, up to 100,000 rows, faiss in process and an exact scan."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from . import guide
from .bench import TOP_K, Bench, Measured, measure, ours
from .synthetic import Synthetic

LARGEST_IN_MEMORY = 200_000


def run(bench: Bench, rows: int) -> None:
    made = bench.made(rows, bench.spaces(rows))
    lines: list[tuple[str, ...]] = []
    with bench.library(rows) as library:
        mine = measure(bench, made, {"clip_h": 1.0}, ours(library, {"clip_h": 1.0}))
        index = library.status().indexes["clip_h"].index
        lines.append((f"this library ({index or 'exact'})", *mine.cells(), "1.0"))
        with guide.session(bench, library.database.schema, bench.spaces(rows)) as connection:
            find = guide.nearest(connection, "clip_h")
            if rows <= LARGEST_IN_MEMORY:
                # In a home that was kept it has its index already.
                connection.execute("SET enable_indexscan = off")
                theirs = measure(bench, made, {"clip_h": 1.0}, find)
                connection.execute("RESET enable_indexscan")
                lines.append(("the guide's table, exact", *theirs.cells(), _times(theirs, mine)))
            guide.build_ivfflat(bench, connection, guide.COLUMNS["clip_h"], rows)
            once = measure(bench, made, {"clip_h": 1.0}, find, complete=False)
            lines.append(("the guide's IVFFlat, 1 probe", *once.cells(), _times(once, mine)))
            probes, tuned = guide.tuned(
                connection, 0.98, lambda: measure(bench, made, {"clip_h": 1.0}, find, complete=False)
            )
            lines.append((f"the guide's IVFFlat, {probes} probes", *tuned.cells(), _times(tuned, mine)))
    if rows <= LARGEST_IN_MEMORY:
        lines.append(_faiss(bench, made, mine))
    bench.table(f"One space, {rows:,} images, recall@{TOP_K}", ("", "recall", "p50 ms", "p95 ms", "times ours"), lines)


def _times(theirs: Measured, mine: Measured) -> str:
    return f"{theirs.p50 / mine.p50:.1f}"


def _faiss(bench: Bench, made: Synthetic, mine: Measured) -> tuple[str, ...]:
    """faiss's HNSW of the same shape, in this process, at our recall or above."""
    import faiss

    faiss.omp_set_num_threads(1)
    rows = made.vectors["clip_h"].astype(np.float32)
    faiss.normalize_L2(rows)
    index = faiss.IndexHNSWFlat(rows.shape[1], 16, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = 128
    index.add(rows)  # pyright: ignore[reportCallIssue]

    def find(query: dict[str, NDArray[np.float32]]) -> list[int]:
        unit = (query["clip_h"] / np.linalg.norm(query["clip_h"]))[np.newaxis].astype(np.float32)
        return [int(number) + 1 for number in index.search(unit, TOP_K)[1][0]]  # pyright: ignore[reportCallIssue]

    for effort in (20, 30, 40, 50, 60, 70, 80, 100, 120, 160, 240, 320, 480, 640):
        index.hnsw.efSearch = effort
        found = measure(bench, made, {"clip_h": 1.0}, find)
        if found.recall >= mine.recall:
            break
    return (f"faiss HNSW in process, ef {effort}", *found.cells(), _times(found, mine))
