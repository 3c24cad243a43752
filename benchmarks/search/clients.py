"""Eight clients that search at once while an indexer writes."""

from __future__ import annotations

import threading
import time

import numpy as np

from .bench import Bench, ours, query_near
from .writing import NewImages

CLIENTS, SECONDS = 8, 20


def run(bench: Bench, rows: int) -> None:
    made = bench.made(rows, bench.spaces(rows))
    lines: list[tuple[str, ...]] = []
    with bench.library(rows) as library:
        for label, weights, written in (
            ("one space", {"clip_h": 1.0}, False),
            ("one space, while an indexer writes", {"clip_h": 1.0}, True),
            ("two spaces, while an indexer writes", {"bge": 0.5, "clip_h": 0.5}, True),
        ):
            if not weights.keys() <= set(bench.spaces(rows)):
                continue
            seconds: list[float] = []
            errors: list[Exception] = []
            stop = threading.Event()
            find = ours(library, weights)

            def search(client: int, seconds: list[float] = seconds, stop: threading.Event = stop) -> None:
                numbers = np.random.default_rng(client).integers(0, rows, 10_000)
                for number in numbers:
                    if stop.is_set():
                        return
                    query = query_near(made, int(number))
                    started = time.perf_counter()
                    try:
                        find(query)  # noqa: B023
                    except Exception as error:
                        errors.append(error)  # noqa: B023
                    seconds.append(time.perf_counter() - started)

            new = NewImages(library) if written else None
            threads = [threading.Thread(target=search, args=(client,)) for client in range(CLIENTS)]
            if new is not None:
                threads.append(threading.Thread(target=new.write, args=(10**9, stop)))
            for thread in threads:
                thread.start()
            time.sleep(SECONDS)
            stop.set()
            for thread in threads:
                thread.join()
            times = np.array(seconds) * 1e3
            rate = "" if new is None else f"{new.written / SECONDS:,.0f}"
            lines.append(
                (
                    label,
                    f"{len(times) / SECONDS:,.0f}",
                    f"{np.median(times):.1f}",
                    f"{np.percentile(times, 99):.1f}",
                    rate,
                    str(len(errors)),
                )
            )
            if new is not None:
                new.remove()
    columns = ("", "searches a second", "p50 ms", "p99 ms", "images written a second", "errors")
    bench.table(f"{CLIENTS} clients at once, {rows:,} images", columns, lines)
