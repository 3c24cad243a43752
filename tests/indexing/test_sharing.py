"""Several processes that index one library: none does another's work, and nothing stays undone."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from toolkit_core.database import Database, claims, vectors
from toolkit_core.database.claims import FILE, Worker, file_key, worker
from toolkit_core.indexing import indexer
from toolkit_core.indexing.embedder import Embedder
from toolkit_core.library import Library
from toolkit_core.records import Progress
from toolkit_core.spaces import SPACES

MakePicture = Callable[..., Path]


def index_process(home: Path, schema: str, weights: Path, folder: Path) -> subprocess.Popen[bytes]:
    options = ("--home", str(home), "--library", schema, "--weights", str(weights), "--json")
    command = [sys.executable, "-m", "toolkit_core", "index", str(folder), *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2])


def claimed(database: Database, by: Worker, kind: str, keys: Sequence[int]) -> set[int]:
    with database.transaction() as connection:
        return by.claim(connection, kind, keys)


def released(database: Database, by: Worker, kind: str, keys: Sequence[int]) -> None:
    with database.transaction() as connection:
        by.release(connection, kind, keys)


def test_processes_share_the_files_and_the_texts(
    home: Path, schema: str, tiny_weights: Path, library: Library, make_picture: MakePicture, pictures: Path
) -> None:
    for n in range(150):
        make_picture(f"{n}.png", f"prompt {n // 2}", f"negative {n % 3}")
    processes = [index_process(home, schema, tiny_weights, pictures) for _ in range(2)]
    reports = [json.loads(process.communicate(timeout=300)[0]) for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert sum(report["new"] + report["changed"] for report in reports) == 150
    embedded = sum((Counter(report["embedded"]) for report in reports), Counter())
    assert embedded == {"bge": 78, "clip_h": 150, "clip_l": 78, "clip_g": 78}
    assert sum(library.index([pictures]).pending.values()) == 0
    with library.database.transaction() as connection:
        assert connection.execute("SELECT count(*) FROM indexing_claim").fetchone() == (0,)


def test_claim_is_for_one_worker_until_it_is_released(database: Database) -> None:
    with worker(database) as one, worker(database) as other:
        assert claimed(database, one, FILE, [1, 2, 3]) == {1, 2, 3}
        assert claimed(database, one, FILE, [3]) == {3}
        assert claimed(database, other, FILE, [2, 3, 4]) == {4}
        assert claimed(database, other, "bge", [2, 3]) == {2, 3}
        released(database, one, FILE, [2])
        released(database, other, FILE, [3])
        assert claimed(database, other, FILE, [2, 3]) == {2}
    with worker(database) as third:
        assert claimed(database, third, FILE, [1, 2, 3, 4]) == {1, 2, 3, 4}


def test_files_of_another_worker_are_waited_for(
    library: Library, make_picture: MakePicture, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indexer, "WAITING_SECONDS", 0.01)
    keys = [file_key(str(make_picture(f"{n}.png", "a fox"))) for n in range(3)]
    waited = 0
    with worker(library.database) as other:
        claimed(library.database, other, FILE, keys[:2])

        def progress(now: Progress) -> None:
            nonlocal waited
            if now.stage == "wait":
                waited += 1
                released(library.database, other, FILE, keys[: min(waited, 2)])

        report = library.index([pictures], progress)
    assert report.new == 3
    assert waited >= 1


def test_texts_of_another_worker_are_waited_for(
    home: Path,
    schema: str,
    library: Library,
    make_picture: MakePicture,
    pictures: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(indexer, "WAITING_SECONDS", 0.01)
    make_picture("a.png", "a fox", "blurry")
    with Library.open(home, library=schema, weights=["/nowhere"]) as without_weights:
        assert without_weights.index([pictures]).pending["bge"] == 2
    with library.database.transaction() as connection:
        owners = [id for id, _ in vectors.pending(connection, SPACES["bge"], 0, 10)]
    with worker(library.database) as other:
        claimed(library.database, other, "bge", owners)

        def progress(now: Progress) -> None:
            if now.stage == "wait":
                released(library.database, other, "bge", owners)

        report = library.index([pictures], progress)
    assert (report.embedded["bge"], report.pending["bge"]) == (2, 0)


def test_worker_that_hangs_loses_its_claims(
    library: Library, make_picture: MakePicture, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_picture("a.png", "a fox")
    with worker(library.database) as hanging:
        claimed(library.database, hanging, FILE, [file_key(str(path))])
        with library.database.transaction() as connection:
            connection.execute("UPDATE indexing_worker SET seen_at = seen_at - interval '1 hour'")
        assert library.index([pictures]).new == 1
        # It comes to itself, and goes on with what nobody has taken.
        assert claimed(library.database, hanging, FILE, [7]) == {7}
    assert claims.LEASE_SECONDS < 3600


def test_worker_that_takes_long_for_a_batch_keeps_its_claims_and_one_that_hangs_does_not(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "LEASE_SECONDS", 1)
    with worker(database) as one:
        assert claimed(database, one, FILE, [1, 2]) == {1, 2}
        time.sleep(2.5)
        with worker(database) as other:
            assert claimed(database, other, FILE, [1]) == set()
            monkeypatch.setattr(claims, "LONGEST_BATCH_SECONDS", 0)
            time.sleep(2.5)
            assert claimed(database, other, FILE, [1]) == {1}


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_claims_of_a_killed_process_are_free_at_once(library: Library, home: Path, schema: str) -> None:
    hold = (
        "import sys; from pathlib import Path\n"
        "from toolkit_core.database import Database\n"
        "from toolkit_core.database.claims import worker\n"
        "database = Database.embedded(Path(sys.argv[1]), sys.argv[2])\n"
        "with worker(database) as held:\n"
        "    with database.transaction() as connection: held.claim(connection, 'file', [5])\n"
        "    print('claimed', flush=True); sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", hold, str(home), schema]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "claimed\n"
        with worker(library.database) as other:
            assert claimed(library.database, other, FILE, [5]) == set()
            process.send_signal(signal.SIGKILL)
            process.wait()
            # The server notices the broken connection in its own time.
            while claimed(library.database, other, FILE, [5]) != {5}:
                pass


def test_copies_of_a_moved_file_do_not_take_the_same_row(
    library: Library, make_picture: MakePicture, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indexer, "PICTURES_A_BATCH", 1)
    monkeypatch.setattr(Embedder, "batch_size", lambda self, space: 1)
    original = make_picture("a.png", "a fox")
    library.index([pictures])
    content = original.read_bytes()
    original.unlink()
    for n in range(4):
        (pictures / f"copy {n}.png").write_bytes(content)
    report = library.index([pictures])
    assert (report.moved, report.new) == (1, 3)
    with library.database.transaction() as connection:
        assert connection.execute("SELECT count(*) FROM image_file").fetchone() == (4,)


def test_library_indexes_on_several_devices(
    home: Path, schema: str, tiny_weights: Path, make_picture: MakePicture, pictures: Path
) -> None:
    for n in range(70):
        make_picture(f"{n}.png", f"prompt {n}")
    with Library.open(home, library=schema, weights=[tiny_weights], device="cpu, cpu") as library:
        report = library.index([pictures])
        assert (report.new, sum(report.pending.values()), report.refused) == (70, 0, {})
        assert report.embedded == {"bge": 71, "clip_h": 70, "clip_l": 71, "clip_g": 71}
