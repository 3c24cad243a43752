"""Runs the parts of the benchmark that were asked for, in order."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from . import clients, filters, fused, kinds, loading, one_space, storage, writing
from .bench import Bench

PARTS: dict[str, Callable[[Bench, int], None]] = {
    "loading": loading.run,
    "one": one_space.run,
    "filters": filters.run,
    "fused": fused.run,
    "kinds": kinds.run,
    "storage": storage.run,
    "clients": clients.run,
    "writing": writing.run,
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure searching.")
    parser.add_argument("--rows", type=int, action="append", help="images; may be given again")
    parser.add_argument("--only", default=",".join(PARTS), help=f"parts, of {','.join(PARTS)}")
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--home", type=Path, help="keep the database in this folder, and use what it has")
    arguments = parser.parse_args()
    parts = arguments.only.split(",")
    if unknown := set(parts) - PARTS.keys():
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    with tempfile.TemporaryDirectory(prefix="search-benchmark-") as temporary:
        bench = Bench(arguments.home or Path(temporary), arguments.queries, Console(width=140))
        try:
            for rows in arguments.rows or [20_000, 100_000]:
                for part in parts:
                    PARTS[part](bench, rows)
        finally:
            bench.close()


if __name__ == "__main__":
    main()
