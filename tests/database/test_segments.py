"""Sealing: rows come into the index and none is lost, whoever writes, stops or kills meanwhile."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from toolkit_core.database import Connection, Database, images, vectors
from toolkit_core.database.images import ImageRow
from toolkit_core.database.segments import index_of, seal, segments
from toolkit_core.database.similarity import QueryVector, candidates
from toolkit_core.indexing.scan import EPOCH
from toolkit_core.records import GenerationParameters, Progress
from toolkit_core.spaces import EMBEDDINGS, INDEX_KINDS, SPACES, IndexKind

CLIP_H = SPACES["clip_h"]
ROWS = 1500
REPOSITORY = Path(__file__).resolve().parents[2]


def row(number: int) -> ImageRow:
    return ImageRow(f"/{number:06}.png", b"%d" % number, 1, EPOCH, 8, 8, GenerationParameters(), None)


def values(rows: int, seed: int) -> NDArray[np.float32]:
    """Vectors in clusters of fifty, as exact as they are stored."""
    random = np.random.default_rng(seed)
    centres = random.standard_normal((rows // 50 + 1, CLIP_H.width))
    made = centres[random.integers(0, len(centres), rows)] + 0.5 * random.standard_normal((rows, CLIP_H.width))
    return made.astype(np.float16).astype(np.float32)


def add(database: Database, first: int, rows: int, seed: int = 1) -> dict[int, NDArray[np.float32]]:
    """Write pictures with vectors, 250 a transaction; the vectors by id."""
    written: dict[int, NDArray[np.float32]] = {}
    made = values(rows, seed)
    for start in range(0, rows, 250):
        with database.transaction() as connection:
            ids = images.write(connection, [row(first + n) for n in range(start, min(start + 250, rows))])
            vectors.write(connection, CLIP_H, ids, made[start : start + 250])
        written.update(zip(ids, made[start:], strict=False))
    return written


def stored(database: Database) -> dict[int, NDArray[np.float32]]:
    with database.transaction() as connection:
        ids = [id for (id,) in connection.execute("SELECT image_id FROM image_clip_h")]
        assert len(ids) == len(set(ids)), "an image has two vectors"
        return vectors.read_of(connection, CLIP_H, ids)


def same(found: dict[int, NDArray[np.float32]], written: dict[int, NDArray[np.float32]]) -> bool:
    return found.keys() == written.keys() and all(np.array_equal(found[id], written[id]) for id in written)


def counts(database: Database) -> tuple[int, int, int]:
    """Sealed rows, open rows, and sketches."""
    with database.transaction() as connection:
        row = connection.execute(
            "SELECT (SELECT count(*) FROM image_clip_h_sealed), (SELECT count(*) FROM image_clip_h_open),"
            " (SELECT count(*) FROM image_clip_h_sketch)"
        ).fetchone()
    assert row is not None
    return row


def nearest(connection: Connection, vector: NDArray[np.float32], depth: int) -> list[int]:
    part = QueryVector("clip_h", EMBEDDINGS["clip_h"], vector, 1.0)
    return candidates(connection, part, segments(connection, CLIP_H), depth, None, 1.0).ids.tolist()


def test_small_space_is_not_indexed(database: Database) -> None:
    written = add(database, 0, 300)
    assert seal(database, rows_worth_an_index=300) == []
    assert counts(database) == (0, 300, 300)
    assert same(stored(database), written)


def test_space_that_grew_is_built_and_later_rows_are_inserted(database: Database) -> None:
    written = add(database, 0, ROWS)
    [built] = seal(database, rows_worth_an_index=1000)
    assert (built.space, built.rows, built.anew) == ("clip_h", ROWS, True)
    assert counts(database) == (ROWS, 0, 0)
    written |= add(database, ROWS, 200, seed=2)
    assert counts(database) == (ROWS, 200, 200)
    assert seal(database, rows_worth_an_index=1000) == [], "few open rows are left as they are"
    [inserted] = seal(database, rows_worth_an_index=1000, most_open_rows=100)
    assert (inserted.rows, inserted.anew) == (200, False)
    assert counts(database) == (ROWS + 200, 0, 0)
    assert same(stored(database), written)


def test_many_new_rows_are_built_anew(database: Database) -> None:
    add(database, 0, 600)
    seal(database, rows_worth_an_index=500)
    add(database, 600, 600, seed=2)
    [built] = seal(database, rows_worth_an_index=500, most_open_rows=0)
    assert built.anew
    assert counts(database) == (1200, 0, 0)


def test_row_is_found_the_moment_it_is_written(database: Database) -> None:
    add(database, 0, ROWS)
    seal(database, rows_worth_an_index=1000)
    written = add(database, ROWS, 3, seed=9)
    with database.transaction() as connection:
        for id, vector in written.items():
            assert nearest(connection, vector, 1) == [id]


def test_vector_that_is_written_again_is_found_by_its_new_value_alone(database: Database) -> None:
    written = add(database, 0, ROWS)
    seal(database, rows_worth_an_index=1000)
    id = min(written)
    [old, new] = [written[id], values(1, seed=77)[0]]
    with database.transaction() as connection:
        vectors.write(connection, CLIP_H, [id], new[np.newaxis])
    with database.transaction() as connection:
        assert nearest(connection, new, 1) == [id]
        assert id not in nearest(connection, old, 20)
    assert same(stored(database), {**written, id: new})


def test_many_open_rows_are_searched_by_their_sketches(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    written = add(database, 0, ROWS)
    monkeypatch.setattr("toolkit_core.database.segments.PAGES_SCANNED_EXACTLY", 100)
    with database.transaction() as connection:
        assert segments(connection, CLIP_H).is_sketched
        found = agreement(connection, written)
    assert found >= 0.99


def agreement(connection: Connection, written: dict[int, NDArray[np.float32]], queries: int = 20) -> float:
    """Recall of the 20 nearest to some of the vectors."""
    ids = np.array(list(written))
    units = np.stack(list(written.values()))
    units /= np.linalg.norm(units, axis=1, keepdims=True)
    recalls = []
    for query in np.random.default_rng(4).choice(len(ids), queries, replace=False):
        exact = set(ids[np.argsort(-(units @ units[query]))[:20]])
        recalls.append(len(exact & set(nearest(connection, units[query], 20))) / 20)
    return float(np.mean(recalls))


@pytest.mark.parametrize("kind", INDEX_KINDS)
def test_every_kind_of_index_is_built_and_finds_the_nearest(database: Database, kind: IndexKind) -> None:
    written = add(database, 0, ROWS)
    seal(database, kind=kind, rows_worth_an_index=1000)
    with database.transaction() as connection:
        assert index_of(connection, CLIP_H).index == kind
        # Which the plan has to use: at this size PostgreSQL would rather scan.
        connection.execute("SET LOCAL enable_seqscan = off")
        assert agreement(connection, written) >= 0.95


def test_other_kind_of_index_in_the_settings_takes_the_place_of_the_present_one(database: Database) -> None:
    written = add(database, 0, ROWS)
    seal(database, rows_worth_an_index=1000)
    [done] = seal(database, kind="hnsw_binary", rows_worth_an_index=1000)
    assert done.anew
    with database.transaction() as connection:
        assert index_of(connection, CLIP_H).index == "hnsw_binary"
    assert same(stored(database), written)


def test_index_of_other_options_is_built_anew(database: Database) -> None:
    written = add(database, 0, ROWS)
    seal(database, rows_worth_an_index=1000)
    with database.transaction() as connection:
        connection.execute("DROP INDEX image_clip_h_sealed_index")
        connection.execute(
            "CREATE INDEX image_clip_h_sealed_index ON image_clip_h_sealed USING hnsw (embedding halfvec_cosine_ops)"
        )
    [done] = seal(database, rows_worth_an_index=1000)
    assert done.anew
    assert seal(database, rows_worth_an_index=1000) == []
    assert same(stored(database), written)


def test_sketches_of_sealed_rows_leave_no_space_behind(database: Database) -> None:
    add(database, 0, ROWS)
    seal(database, rows_worth_an_index=1000)
    with database.transaction() as connection:
        assert connection.execute("SELECT pg_relation_size('image_clip_h_sketch')").fetchone() == (0,)


def test_space_whose_index_was_dropped_is_still_searched_and_gets_another(database: Database) -> None:
    written = add(database, 0, ROWS)
    seal(database, rows_worth_an_index=1000)
    with database.transaction() as connection:
        connection.execute("DROP INDEX image_clip_h_sealed_index")
        assert agreement(connection, written) >= 0.99
    assert [done.space for done in seal(database, rows_worth_an_index=1000)] == ["clip_h"]


def test_writers_lose_nothing_while_an_index_is_built(database: Database) -> None:
    expected = add(database, 0, ROWS)
    stop = threading.Event()
    writes: list[int] = []

    def write() -> None:
        random = np.random.default_rng(8)
        number = ROWS
        while not stop.is_set():
            expected.update(add(database, number, 20, seed=number))
            number += 20
            # Some are made anew, and some lose their vector.
            for id in random.choice(list(expected), 5, replace=False).tolist():
                with database.transaction() as connection:
                    if random.random() < 0.3:
                        vectors.remove(connection, CLIP_H, [id])
                        expected.pop(id)
                    else:
                        expected[id] = values(1, seed=id + number)[0]
                        vectors.write(connection, CLIP_H, [id], expected[id][np.newaxis])
            writes.append(number)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for rebuild in (True, False, True, False):
            seal(database, rows_worth_an_index=1000, most_open_rows=0, rebuild=rebuild)
    finally:
        stop.set()
        writer.join()
    assert len(writes) > 3
    assert same(stored(database), expected)
    seal(database, rows_worth_an_index=1000, most_open_rows=0)
    assert counts(database) == (len(expected), 0, 0)
    assert same(stored(database), expected)


def test_search_goes_on_while_an_index_is_built(database: Database) -> None:
    written = add(database, 0, ROWS)
    seal(database, rows_worth_an_index=1000)
    [id, vector] = next(iter(written.items()))
    found: list[list[int]] = []

    def search(_: Progress) -> None:
        with database.transaction() as connection:
            found.append(nearest(connection, vector, 1))

    seal(database, rows_worth_an_index=1000, rebuild=True, progress=search)
    assert found
    assert all(hits == [id] for hits in found)


def test_search_does_not_wait_for_who_is_told_of_a_build_that_has_ended(database: Database) -> None:
    """As a terminal that is stopped, or a search in the same thread."""
    written = add(database, 0, ROWS)
    seal(database, rows_worth_an_index=1000)
    before = relation(database)
    [id, vector] = next(iter(written.items()))
    found: list[list[int]] = []

    def wait_for_the_end_and_search(_: Progress) -> None:
        deadline = time.monotonic() + 60
        while relation(database) == before:
            assert time.monotonic() < deadline, "the build takes its place only when this has ended"
            time.sleep(0.05)
        with database.transaction() as connection:
            found.append(nearest(connection, vector, 1))

    seal(database, rows_worth_an_index=1000, rebuild=True, progress=wait_for_the_end_and_search)
    assert found
    assert all(hits == [id] for hits in found)


def relation(database: Database) -> int | None:
    """Which table the sealed part is, as everybody else sees it; without waiting for it."""
    statement = "SELECT oid FROM pg_class WHERE relname = 'image_clip_h_sealed' AND relnamespace = %s::regnamespace"
    with database.transaction() as connection:
        row = connection.execute(statement, [database.schema]).fetchone()
    return row[0] if row else None


def test_second_process_leaves_sealing_to_the_first(home: Path, database: Database, schema: str) -> None:
    add(database, 0, ROWS)
    other = Database.embedded(home, schema)
    results: list[object] = []
    done = seal(
        database,
        rows_worth_an_index=1000,
        progress=lambda _: results.append(seal(other, rows_worth_an_index=1000)),
    )
    other.close()
    assert [space.space for space in done] == ["clip_h"]
    assert results
    assert all(result == [] for result in results)


def test_stopped_by_its_progress_it_leaves_the_space_as_it_was(database: Database) -> None:
    written = add(database, 0, ROWS)

    def stop(_: Progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        seal(database, rows_worth_an_index=1000, progress=stop)
    assert counts(database) == (0, ROWS, ROWS)
    seal(database, rows_worth_an_index=1000)
    assert counts(database) == (ROWS, 0, 0)
    assert same(stored(database), written)


SEAL = """
import sys
from pathlib import Path
from toolkit_core.database import Database
from toolkit_core.database.segments import seal
database = Database.embedded(Path(sys.argv[1]), sys.argv[2])
print("ready", flush=True)
rebuild = sys.argv[3] == "rebuild"
while True:
    done = seal(database, rows_worth_an_index=500, most_open_rows=0, rebuild=rebuild)
    print(*done, flush=True)
    if not rebuild:
        break
database.close()
"""


def sealing(home: Path, schema: str, way: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", SEAL, str(home), schema, way], stdout=subprocess.PIPE, text=True, cwd=REPOSITORY
    )
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "ready"
    process.stdout.close()
    return process


@pytest.mark.parametrize("way", ["rebuild", "insert"])
def test_killed_process_leaves_every_row(home: Path, database: Database, schema: str, way: str) -> None:
    written = add(database, 0, ROWS)
    seal(database, rows_worth_an_index=500)
    written |= add(database, ROWS, 400, seed=3)
    for delay in (0.05, 0.2, 0.5):
        process = sealing(home, schema, way)
        time.sleep(delay)
        process.send_signal(signal.SIGKILL if os.name == "posix" else signal.SIGTERM)
        process.wait()
        assert same(stored(database), written)
    # The killed client's statement may run to its end on the server before its lock is free.
    deadline = time.monotonic() + 60
    while counts(database)[1] and time.monotonic() < deadline:
        seal(database, rows_worth_an_index=500, most_open_rows=0)
    assert counts(database) == (ROWS + 400, 0, 0)
    assert same(stored(database), written)


@pytest.fixture
def own_home(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "home"


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0 or shutil.which("unshare") is None,
    reason="a server with little shared memory is made by mounting a small /dev/shm, which takes root on Linux",
)
def test_server_with_little_shared_memory_builds_with_one_process(own_home: Path) -> None:
    script = """
import sys
sys.path.insert(0, "tests/database")
from pathlib import Path
from test_segments import add, counts
from toolkit_core.database import Database
from toolkit_core.database.segments import seal
database = Database.embedded(Path(sys.argv[1]), "library")
with database.autocommit() as connection:
    connection.execute("ALTER DATABASE diffusion_toolkit SET max_parallel_maintenance_workers = 2")
    connection.execute("ALTER DATABASE diffusion_toolkit SET min_parallel_table_scan_size = 0")
database.close()
database = Database.embedded(Path(sys.argv[1]), "library")
add(database, 0, 1500)
print(*seal(database, rows_worth_an_index=1000), counts(database))
database.close()
"""
    inside = 'mount -t tmpfs -o size=4m tmpfs /dev/shm && exec "$0" -c "$1" "$2"'
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", inside, sys.executable, script, str(own_home)],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        check=False,
    )
    assert "anew=True" in done.stdout, done.stderr
    assert "(1500, 0, 0)" in done.stdout
    assert "building with one process" in done.stderr, "the server had shared memory enough: this test shows nothing"
