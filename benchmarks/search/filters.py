"""Filters that let through a small or a large share of the images, at random, of the query's kind, or of another.

Beside them the same search as plain SQL over the same tables, whose plan is PostgreSQL's own choice.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from pgvector import HalfVector

from .bench import TOP_K, Bench, Session, measure, ours
from .synthetic import IMAGES_A_CLUSTER, SHARES

PLAIN = f"""
SELECT f.id FROM image_file f JOIN image_clip_h v ON v.image_id = f.id
WHERE f.lower_tags @> ARRAY[%(tag)s] ORDER BY v.embedding <=> %(query)s LIMIT {TOP_K}
""".encode()


def run(bench: Bench, rows: int) -> None:
    made = bench.made(rows, bench.spaces(rows))
    lines: list[tuple[str, ...]] = []
    with bench.library(rows) as library, bench.user(library.database.schema) as session:
        for column, (name, share) in enumerate(SHARES.items()):
            of_clusters = made.cluster < max(share * (rows // IMAGES_A_CLUSTER), 1)
            for kind, tag, allowed, near in (
                ("at random", f"any-{name}", made.chance[:, column] < share, None),
                ("of the query's kind", f"cluster-{name}", of_clusters, bench.numbers(rows, of_clusters)),
                ("of other kinds", f"cluster-{name}", of_clusters, bench.numbers(rows, ~of_clusters)),
            ):
                weights = {"clip_h": 1.0}
                found = measure(bench, made, weights, ours(library, weights, f"tag:{tag}"), allowed, near)
                plain = measure(bench, made, weights, _plain(session, tag), allowed, near, complete=False)
                passing = f"{100 * float(np.mean(allowed)):.2f}%"
                lines.append((kind, passing, *found.cells(), *plain.cells()[:2]))
    columns = ("images that pass", "share", "recall", "p50 ms", "p95 ms", "plain SQL: recall", "p50 ms")
    bench.table(f"Filtered, {rows:,} images; never fewer than there are", columns, lines)


def _plain(session: Session, tag: str) -> Callable[[dict[str, NDArray[np.float32]]], list[int]]:
    def find(query: dict[str, NDArray[np.float32]]) -> list[int]:
        parameters = {"tag": tag, "query": HalfVector(query["clip_h"])}
        return [id for (id,) in session.execute(PLAIN, parameters, binary=True)]

    return find
