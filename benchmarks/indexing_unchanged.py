"""One run over an unchanged folder, for benchmarks/indexing.py: prints its seconds and its memory as JSON."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from toolkit_core.library import Library

from .indexing import free_encoders, peak_megabytes


def main() -> None:
    home, name, folder = sys.argv[1:]
    with Library.open(Path(home), library=name) as library:
        before = peak_megabytes()
        started = time.perf_counter()
        report = library.index([folder], encoders=free_encoders())
        seconds = time.perf_counter() - started
        print(  # noqa: T201
            json.dumps({"seconds": seconds, "megabytes": peak_megabytes() - before, "unchanged": report.unchanged})
        )


if __name__ == "__main__":
    main()
