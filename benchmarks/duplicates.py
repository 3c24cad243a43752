"""How long finding near-duplicates takes, and what the other ways would: seconds and memory by number of images.

python benchmarks/duplicates.py [--images 20000 100000] [--index]

Each library is made of random vectors with a spectrum that falls, in batches of eight that are like each other (cosine
about 0.8), and one image in fifty is nearly the copy of another. --index also builds the HNSW index and times asking it
for the 20 nearest of 1,000 images, and says what that comes to for all of them.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
from rich.console import Console
from rich.table import Table

from toolkit_core.database import Database, images, vectors
from toolkit_core.database.images import ImageRow
from toolkit_core.database.segments import seal
from toolkit_core.indexing.scan import EPOCH
from toolkit_core.records import GenerationParameters
from toolkit_core.search.duplicates import find_duplicates
from toolkit_core.spaces import SPACES

ROWS_A_WRITE = 2000
BATCH = 8
NEAREST = """
    SELECT near.image_id
    FROM image_clip_h a, LATERAL (
        SELECT image_id FROM image_clip_h ORDER BY embedding <=> a.embedding LIMIT 20
    ) near
    WHERE a.image_id = ANY(%s)
"""


def fill(database: Database, count: int) -> None:
    random = np.random.default_rng(1)
    scale = (1 / np.sqrt(1 + np.arange(1024) / 30)).astype(np.float32)
    for start in range(0, count, ROWS_A_WRITE):
        centres = random.standard_normal((ROWS_A_WRITE // BATCH, 1024), np.float32) * scale
        made = np.repeat(centres, BATCH, axis=0) + random.standard_normal((ROWS_A_WRITE, 1024), np.float32) * scale / 2
        copies = np.arange(50, ROWS_A_WRITE, 50)
        made[copies] = made[copies - 10] + random.standard_normal((len(copies), 1024), np.float32) * scale / 20
        rows = [
            ImageRow(f"/{n}.png", str(n).encode(), 1, EPOCH, 512, 512, GenerationParameters(), None)
            for n in range(start, start + ROWS_A_WRITE)
        ]
        with database.transaction() as connection:
            vectors.write(connection, SPACES["clip_h"], images.write(connection, rows), made.astype(np.float32))


def seconds_by_index(database: Database, count: int) -> float:
    """What asking the HNSW index for every image's nearest would take."""
    seal(database, most_open_rows=0, rows_worth_an_index=0)
    with database.autocommit() as connection:
        connection.execute("ANALYZE")
    asked = np.random.default_rng(2).choice(np.arange(1, count + 1), 1000, replace=False).tolist()
    with database.transaction() as connection:
        connection.execute("SET LOCAL hnsw.ef_search = 100")
        connection.execute(NEAREST.encode(), [asked])
        started = time.perf_counter()
        connection.execute(NEAREST.encode(), [asked])
    return (time.perf_counter() - started) / len(asked) * count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs="+", default=[20_000, 100_000])
    parser.add_argument("--index", action="store_true")
    arguments = parser.parse_args()
    table = Table("images", "groups", "seconds", "memory it added, MiB", "by the index, seconds")
    for count in arguments.images:
        with tempfile.TemporaryDirectory() as home:
            database = Database.embedded(Path(home), "duplicates")
            fill(database, count)
            before, most = psutil.Process().memory_info().rss, 0

            def watch(_: object) -> None:
                nonlocal most
                most = max(most, psutil.Process().memory_info().rss)

            started = time.perf_counter()
            groups = find_duplicates(database, 0.98, watch)
            taken = time.perf_counter() - started
            by_index = f"{seconds_by_index(database, count):.0f}" if arguments.index else ""
            table.add_row(f"{count:,}", f"{len(groups):,}", f"{taken:.1f}", f"{(most - before) >> 20}", by_index)
            database.close()
    Console().print(table)


if __name__ == "__main__":
    main()
