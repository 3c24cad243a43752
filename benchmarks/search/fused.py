"""Two spaces with weights: ours beside the guide's SQL on the guide's table."""

from __future__ import annotations

from toolkit_core.database.segments import seal

from . import guide
from .bench import Bench, measure, ours, warm

WEIGHTS = ((0.5, 0.5), (0.8, 0.2), (1.0, 0.0), (1.0, -0.3))


def run(bench: Bench, rows: int) -> None:
    if len(bench.spaces(rows)) < 2:
        return
    made = bench.made(rows, bench.spaces(rows))
    lines: list[tuple[str, ...]] = []
    with bench.library(rows) as library:
        with guide.session(bench, library.database.schema, bench.spaces(rows)) as connection:
            theirs = measure(bench, made, {"bge": 0.5, "clip_h": 0.5}, guide.combined(connection))
        lines.append(("the guide's SQL, 0.5 and 0.5", *theirs.cells(), "1.0"))
        for label, pair_index in (("this library", False), ("with pair_index", True)):
            seal(library.database, most_open_rows=0, pair_index=pair_index)
            warm(library, made)
            for bge, clip_h in WEIGHTS:
                weights = {name: w for name, w in (("bge", bge), ("clip_h", clip_h)) if w}
                mine = measure(bench, made, weights, ours(library, weights))
                lines.append((f"{label}, {bge:g} and {clip_h:g}", *mine.cells(), f"{theirs.p50 / mine.p50:.1f}"))
    columns = ("prompt and picture", "recall", "p50 ms", "p95 ms", "times faster than the guide's")
    bench.table(f"Two spaces, {rows:,} images", columns, lines)
