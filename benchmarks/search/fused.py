"""Two spaces with weights: ours beside the guide's SQL on the guide's table."""

from __future__ import annotations

from . import guide
from .bench import Bench, Exact, measure, ours

WEIGHTS = ((0.5, 0.5), (0.8, 0.2), (1.0, 0.0), (1.0, -0.3))
LARGEST_FOR_GUIDE = 200_000


def run(bench: Bench, rows: int) -> None:
    made = bench.made(rows, ("clip_h", "bge"))
    exact = Exact(made, ["clip_h", "bge"])
    lines: list[tuple[str, ...]] = []
    with bench.library(rows, ("clip_h", "bge")) as library:
        theirs = None
        if rows <= LARGEST_FOR_GUIDE:
            schema = library.database.schema
            with guide.session(bench, schema, list(guide.COLUMNS.values())) as connection:
                theirs = measure(bench, made, {"bge": 0.5, "clip_h": 0.5}, guide.combined(connection), exact=exact)
            lines.append(("the guide's SQL, .5 and .5", *theirs.cells(), ""))
        for bge, clip_h in WEIGHTS:
            weights = {name: w for name, w in (("bge", bge), ("clip_h", clip_h)) if w}
            mine = measure(bench, made, weights, ours(library, weights), exact=exact)
            faster = "" if theirs is None else f"{theirs.p50 / mine.p50:.1f}"
            lines.append((f"this library, {bge:g} and {clip_h:g}", *mine.cells(), faster))
    columns = ("prompt and picture", "recall", "p50 ms", "p95 ms", "times faster than the guide's")
    bench.table(f"Two spaces, {rows:,} images", columns, lines)
