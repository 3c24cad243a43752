"""Writing into a library that is indexed beside writing into one that is not, while somebody searches both."""

from __future__ import annotations

import threading
import time
from datetime import timedelta
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from toolkit_core.database import images, revision, vectors
from toolkit_core.database.images import ImageRow
from toolkit_core.indexing.scan import EPOCH
from toolkit_core.library import Library
from toolkit_core.records import GenerationParameters
from toolkit_core.spaces import SPACES

from .bench import Bench, measure, ours, query_near
from .synthetic import Synthetic

BATCH = 256
WRITTEN = 100_000
SPACES_WRITTEN = ("clip_h", "bge")
PAUSE = 0.2


def run(bench: Bench, rows: int) -> None:
    written = min(WRITTEN, rows)
    made = bench.made(rows, bench.spaces(rows))
    lines: list[tuple[str, ...]] = []
    with Library.open(bench.home, library=f"unindexed_{rows}") as empty:
        before = _while_searching(empty, written, None)
        lines.append(("a library without an index", f"{before[0]:,.0f}", "", "", "", ""))
        _remove_all(empty)
    with bench.library(rows) as library:
        rate, latencies, delays = _while_searching(library, written, made)
        # The new images are far from the old ones, so the exact answers of the old ones stand.
        after = measure(bench, made, {"clip_h": 1.0}, ours(library, {"clip_h": 1.0}))
        lines.append(
            (
                f"this library, {rows:,} images indexed",
                f"{rate:,.0f}",
                f"{rate / before[0]:.2f}",
                f"{np.percentile(latencies, 95) * 1e3:.1f}",
                f"{max(delays):.2f}",
                f"{after.recall:.3f} at p95 {after.p95 * 1e3:.1f}",
            )
        )
        NewImages(library).remove()
    columns = ("", "images a second", "ratio", "p95 ms meanwhile", "new row found after s, at most", "recall after it")
    bench.table(f"Writing {written:,} images with two vectors each", columns, lines)


Written: TypeAlias = tuple[int, NDArray[np.float32], float]


class NewImages:
    """Writes images as an indexer does, in batches of one transaction each, with paths below /new."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self._random = np.random.default_rng(99)
        self.written = 0

    def write(
        self, rows: int, stop: threading.Event, latest: list[tuple[int, np.ndarray, float]] | None = None
    ) -> None:
        """latest: gets an id, its picture's vector, and when it was committed, for each batch."""
        while self.written < rows and not stop.is_set():
            count = min(BATCH, rows - self.written)
            made = [self._image(self.written + n) for n in range(count)]
            encoded = {name: self._vectors(count, SPACES[name].width) for name in SPACES_WRITTEN}
            with self._library.database.transaction() as connection:
                ids = images.write(connection, made)
                prompts = dict(
                    connection.execute("SELECT id, prompt_id FROM image_file WHERE id = ANY(%s)", [ids]).fetchall()
                )
                vectors.write(connection, SPACES["clip_h"], ids, encoded["clip_h"])
                vectors.write(connection, SPACES["bge"], [prompts[id] for id in ids], encoded["bge"])
                revision.bump(connection)
            self.written += count
            if latest is not None:
                latest.append((ids[0], encoded["clip_h"][0], time.perf_counter()))

    def remove(self) -> None:
        with self._library.database.transaction() as connection:
            ids = [id for (id,) in connection.execute("SELECT id FROM image_file WHERE path LIKE '/new/%'")]
            for start in range(0, len(ids), 10_000):
                vectors.remove(connection, SPACES["clip_h"], ids[start : start + 10_000])
            connection.execute("DELETE FROM image_file WHERE path LIKE '/new/%'")
            connection.execute(
                "DELETE FROM prompt_bge WHERE prompt_id IN"
                " (SELECT id FROM prompt_text WHERE text LIKE 'a new picture %')"
            )
            connection.execute("DELETE FROM prompt_text WHERE text LIKE 'a new picture %'")
            connection.execute("TRUNCATE prompt_bge_sketch")
        with self._library.database.autocommit() as connection:
            connection.execute("VACUUM image_clip_h_open, prompt_bge_open, image_clip_h_sketch")

    def _image(self, number: int) -> ImageRow:
        made = GenerationParameters(prompt=f"a new picture {number}", negative_prompt="", model="m", seed=number)
        modified_at = EPOCH + timedelta(seconds=number)
        return ImageRow(f"/new/{number:07}.png", b"new %d" % number, 10**6, modified_at, 1024, 1024, made, None)

    def _vectors(self, rows: int, width: int) -> NDArray[np.float32]:
        return self._random.standard_normal((rows, width)).astype(np.float32)


def _while_searching(library: Library, rows: int, made: Synthetic | None) -> tuple[float, list[float], list[float]]:
    """Images written a second; seconds a search took meanwhile; seconds until a written row was found."""
    new = NewImages(library)
    stop = threading.Event()
    latest: list[Written] = []
    latencies: list[float] = []
    delays: list[float] = []
    rate: list[float] = []

    def write() -> None:
        started = time.perf_counter()
        new.write(rows, stop, latest)
        rate.append(new.written / (time.perf_counter() - started))

    writer = threading.Thread(target=write)
    writer.start()
    find = ours(library, {"clip_h": 1.0})
    number = 0
    while writer.is_alive():
        if latest:
            id, vector, committed = latest[-1]
            started = time.perf_counter()
            found = find({"clip_h": vector})
            latencies.append(time.perf_counter() - started)
            assert found[0] == id, "a row that was written is not found"
            delays.append(time.perf_counter() - committed)
        if made is not None:
            query = query_near(made, number)
            started = time.perf_counter()
            find(query)
            latencies.append(time.perf_counter() - started)
            number += 97
        time.sleep(PAUSE)
    writer.join()
    return rate[0], latencies, delays


def _remove_all(library: Library) -> None:
    with library.database.transaction() as connection:
        connection.execute(f"DROP SCHEMA {library.database.schema} CASCADE".encode())
