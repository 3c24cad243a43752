"""The kinds of index that the settings offer: seconds to build, bytes, recall and time."""

from __future__ import annotations

from toolkit_core.database.segments import seal
from toolkit_core.spaces import INDEX_KINDS

from .bench import Bench, measure, ours, warm


def run(bench: Bench, rows: int) -> None:
    made = bench.made(rows, bench.spaces(rows))
    lines: list[tuple[str, ...]] = []
    with bench.library(rows) as library:
        # The default comes last, and stays.
        for kind in reversed(INDEX_KINDS):
            done = seal(library.database, kind=kind, most_open_rows=0, rebuild=True)
            seconds = [space.seconds for space in done if space.space == "clip_h"]
            if not seconds:
                return
            warm(library, made)
            found = measure(bench, made, {"clip_h": 1.0}, ours(library, {"clip_h": 1.0}))
            with library.database.transaction() as connection:
                size = connection.execute("SELECT pg_relation_size('image_clip_h_sealed_index')").fetchone()
            assert size is not None
            lines.append((kind, f"{seconds[0]:.0f}", f"{size[0] / rows / 1024:.2f}", *found.cells()))
    columns = ("index", "built in s", "KB a vector", "recall", "p50 ms", "p95 ms")
    bench.table(f"Kinds of index, one space, {rows:,} images", columns, lines)
