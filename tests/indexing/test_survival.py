"""A server that dies, is restarted, drops connections or has no room left, and clocks that jump: nothing is lost."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import psutil
import psycopg
import pytest
from PIL import Image, PngImagePlugin
from psycopg.pq import TransactionStatus

from toolkit_core.database.claims import FILE, file_key, worker
from toolkit_core.errors import DatabaseError, ToolkitError
from toolkit_core.library import Library
from toolkit_core.records import IndexReport, Progress

from .survival import assert_same, kill_server, postmaster, rows

MakePicture = Callable[..., Path]
OnProgress = Callable[[Progress], None]

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL, no SIGSTOP")

# More of them by the environment: 50 take some minutes.
KILLS = int(os.environ.get("DIFFUSION_TOOLKIT_KILLS", "3"))
DEADLINE = 60.0
DROP = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
)


@pytest.fixture(scope="module")
def own_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home whose server may be killed: no other test uses it, and each opens it anew."""
    return tmp_path_factory.mktemp("survival")


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A statement does not wait half a minute for a server that is dead."""
    monkeypatch.setattr("toolkit_core.database.database.CONNECTION_TIMEOUT", 2.0)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of four batches, which no test changes."""
    folder = tmp_path_factory.mktemp("many")
    for n in range(100):
        pixels = np.random.default_rng(n).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        metadata = PngImagePlugin.PngInfo()
        text = f"prompt {n // 2}\nNegative prompt: negative {n % 3}\nSteps: 20, Sampler: Euler, Seed: {n}, Size: 64x64"
        metadata.add_text("parameters", text)
        Image.fromarray(pixels).save(folder / f"{n:03}.png", pnginfo=metadata)
    return folder


@pytest.fixture(scope="module")
def undisturbed(home: Path, tiny_weights: Path, many: Path) -> Iterator[Library]:
    with Library.open(home, library=f"undisturbed_{os.getpid()}", weights=[tiny_weights]) as library:
        assert library.index([many]).new == 100
        yield library


@pytest.fixture
def opened(own_home: Path, schema: str, tiny_weights: Path) -> Callable[..., Library]:
    """Opens a library of this test on the server that may be killed."""
    return lambda **options: Library.open(own_home, library=schema, weights=[tiny_weights], **options)


def until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE
    while not is_so():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.01)


def indexed_to_the_end(opened: Callable[..., Library], folder: Path, undisturbed: Library) -> IndexReport:
    """The report of a quiet run, after which the library is as it should be."""
    with opened() as library:
        report = library.index([folder])
        assert (report.failed, sum(report.pending.values()), report.missing) == ((), 0, 0)
        assert_same(library, undisturbed)
    return report


def test_server_killed_in_the_middle_of_a_write_has_all_of_it_or_nothing(
    own_home: Path, opened: Callable[..., Library], many: Path, undisturbed: Library, impatient: None
) -> None:
    """The rows of a batch are written and its vectors wait for a lock when the server is killed."""
    with opened() as library, ThreadPoolExecutor(1) as threads:
        with psycopg.connect(library.database.connection_string()) as holder:

            def lock_after_the_first_batch(progress: Progress) -> None:
                if progress.stage == "read" and holder.info.transaction_status == TransactionStatus.IDLE:
                    table = f"{library.database.schema}.image_clip_h_open"
                    holder.execute(f"LOCK TABLE {table} IN EXCLUSIVE MODE".encode())

            running = threads.submit(library.index, [many], lock_after_the_first_batch)
            waiting = (
                "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND pid <> pg_backend_pid()"
                " AND starts_with(query, 'INSERT INTO \"image_clip_h_open\"')"
            )
            until(lambda: running.done() or rows(library, waiting) == [(1,)])
            assert not running.done()
            [(committed,)] = rows(library, "SELECT count(*) FROM image_file")
            kill_server(own_home)
            holder.close()
        with pytest.raises(DatabaseError, match="What was committed is kept"):
            running.result()
    with opened() as library:
        assert rows(library, "SELECT count(*) FROM image_file") == [(committed,)]
        assert rows(library, "SELECT count(*) FROM image_clip_h") == [(committed,)]
    assert 0 < committed < 100
    report = indexed_to_the_end(opened, many, undisturbed)
    assert (report.unchanged, report.new) == (committed, 100 - committed)


def test_server_killed_at_random_moments_loses_nothing(
    own_home: Path, opened: Callable[..., Library], many: Path, undisturbed: Library, impatient: None
) -> None:
    random = np.random.default_rng(7)
    died = 0
    for n in range(KILLS):
        with opened() as library:
            is_running = threading.Event()
            seconds = random.uniform(0, 0.8) if n else 0.0

            def kill(started: threading.Event = is_running, seconds: float = seconds) -> None:
                started.wait(DEADLINE)
                threading.Event().wait(seconds)
                kill_server(own_home)

            killer = threading.Thread(target=kill)
            killer.start()
            try:
                library.index([many], lambda _, started=is_running: started.set())
            except ToolkitError as error:
                assert isinstance(error, DatabaseError)
                died += 1
            finally:
                is_running.set()
                killer.join()
    assert died > 0
    indexed_to_the_end(opened, many, undisturbed)


def test_recovery_that_takes_longer_than_pg_ctl_waits_is_waited_for(
    own_home: Path, opened: Callable[..., Library], many: Path, undisturbed: Library, impatient: None
) -> None:
    """The process that recovers is stopped until somebody has been told that the server takes its time."""
    held: list[psutil.Process] = []
    told: list[str] = []

    def hold_the_recovery(over: threading.Event) -> None:
        while not over.is_set():
            try:
                starting = [c for c in postmaster(own_home).children() if "startup" in " ".join(c.cmdline())]
                for process in starting:
                    process.suspend()
                    held.append(process)
                    return
            except (OSError, ValueError, IndexError, psutil.Error):
                pass

    def wait(said: str) -> None:
        told.append(said)
        for process in held:
            process.resume()

    with opened() as library:
        library.index([many], embed=False)
    for _ in range(5):  # A recovery may be over before it is seen.
        with opened() as library:
            rows(library, "UPDATE image_file SET indexed_at = now() RETURNING id")
            kill_server(own_home)
        over = threading.Event()
        holder = threading.Thread(target=hold_the_recovery, args=[over])
        holder.start()
        opened(on_wait=wait).close()
        over.set()
        holder.join()
        if held:
            break
    assert "starting up" in told[0]
    indexed_to_the_end(opened, many, undisturbed)


def test_idle_connections_that_were_dropped_are_no_error(opened: Callable[..., Library]) -> None:
    with opened() as library:
        database = library.database
        with ExitStack() as stack:
            for _ in range(8):
                stack.enter_context(database.transaction())
        with psycopg.connect(database.connection_string()) as other:
            assert other.execute(DROP).rowcount == 8
        with database.transaction() as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)


def test_connections_that_are_dropped_end_a_run_at_most(
    opened: Callable[..., Library], many: Path, undisturbed: Library
) -> None:
    dropped = 0
    with opened() as library, psycopg.connect(library.database.connection_string(), autocommit=True) as other:

        def drop(progress: Progress) -> None:
            nonlocal dropped
            dropped += other.execute(DROP).rowcount

        for _ in range(3):
            try:
                library.index([many], drop)
            except ToolkitError as error:
                assert "What was committed is kept" in str(error)
    assert dropped > 0
    indexed_to_the_end(opened, many, undisturbed)


def test_server_that_is_restarted_ends_a_run_at_most(
    own_home: Path, opened: Callable[..., Library], many: Path, undisturbed: Library
) -> None:
    restarts = 0
    with opened() as library:

        def restart(progress: Progress) -> None:
            nonlocal restarts
            if progress.stage == "read" and restarts == 0:
                restarts += 1
                server = postmaster(own_home)
                server.send_signal(signal.SIGINT)
                server.wait(DEADLINE)
                library.database.revive()

        try:
            library.index([many], restart)
        except ToolkitError as error:
            assert "What was committed is kept" in str(error)
        assert restarts == 1
        assert library.status().images > 0, "the same library goes on with the server that runs now"
    indexed_to_the_end(opened, many, undisturbed)


def test_server_that_cannot_be_started_again_is_an_error_that_names_the_folder(
    own_home: Path, opened: Callable[..., Library], impatient: None
) -> None:
    settings = own_home / "postgres" / "diffusion_toolkit.conf"
    with opened() as library:
        kill_server(own_home)
        settings.unlink()
        settings.mkdir()
        with pytest.raises(DatabaseError, match=f"cannot use the folder {own_home}"):
            library.database.revive()
        settings.rmdir()
        library.database.revive()
        assert library.status().images == 0


@pytest.fixture
def full_home(small_disk: Callable[[int], Path]) -> Iterator[Path]:
    """A home on a disk of its own that is large enough for an empty library."""
    home = small_disk(160) / "home"
    yield home
    if (home / "postgres" / "postmaster.pid").exists():
        kill_server(home)


def fill(disk: Path) -> Path:
    """Leave no room on a disk. Returns the file that takes it."""
    ballast = disk / "ballast"
    with ballast.open("ab", buffering=0) as file:
        for size in (1 << 20, 1 << 12):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue
    return ballast


@pytest.mark.parametrize("full", ["tables", "log"])
def test_full_disk_under_the_database_is_said_and_costs_nothing_that_was_written(
    full_home: Path, full: str, tiny_weights: Path, many: Path, undisturbed: Library, impatient: None
) -> None:
    """With no room for tables the server refuses a statement; with none for its log it stops."""

    def opened() -> Library:
        return Library.open(full_home, weights=[tiny_weights])

    ballast: Path | None = None
    with opened() as library:

        def fill_up(progress: Progress) -> None:
            nonlocal ballast
            if progress.stage == "read" and ballast is None:
                with library.database.transaction() as connection:
                    ballast = fill(full_home.parent)
                    if full == "log":
                        connection.execute("SELECT pg_switch_wal()")

        message = "is full" if full == "tables" else "is full|No connection"
        with pytest.raises(DatabaseError, match=message):
            library.index([many], fill_up)
        assert ballast is not None
    try:
        with opened() as library:
            library.index([many])
    except ToolkitError as error:
        assert isinstance(error, DatabaseError)
    ballast.unlink()
    with opened() as library:
        assert 0 < library.status().images < 100
    indexed_to_the_end(opened, many, undisturbed)


def test_first_start_on_a_full_disk_is_said_and_goes_on_when_there_is_room(
    small_disk: Callable[[int], Path], tiny_weights: Path, many: Path
) -> None:
    disk = small_disk(160)
    ballast = fill(disk)
    with pytest.raises(DatabaseError):
        Library.open(disk / "home", weights=[tiny_weights])
    ballast.unlink()
    with Library.open(disk / "home", weights=[tiny_weights]) as library:
        assert library.index([many], embed=False).new == 100


def test_jump_of_the_servers_clock_neither_loses_nor_blocks_work(
    opened: Callable[..., Library], many: Path, undisturbed: Library
) -> None:
    """Two index at once, and to each of them both seem to be of last year, or of the next one."""
    jumps = 0
    with opened() as one, opened() as other, ThreadPoolExecutor(2) as threads:

        def jump(progress: Progress) -> None:
            nonlocal jumps
            jumps += 1
            when = "-1 year" if jumps % 2 else "1 year"
            rows(one, "UPDATE indexing_worker SET seen_at = clock_timestamp() + %s::interval RETURNING id", when)

        for run in [threads.submit(library.index, [many], jump) for library in (one, other)]:
            report = run.result(DEADLINE)
            assert (report.failed, sum(report.pending.values())) == ((), 0)
    assert jumps > 0
    assert indexed_to_the_end(opened, many, undisturbed).unchanged == 100


@pytest.mark.parametrize("jump", ["-1 hour", "1 hour"])
def test_worker_that_hangs_while_the_clock_jumps_holds_nothing_up(
    library: Library, make_picture: MakePicture, jump: str
) -> None:
    path = make_picture("a.png", "a fox")
    with worker(library.database) as hanging:
        with library.database.transaction() as connection:
            assert hanging.claim(connection, FILE, [file_key(str(path))])
        rows(library, "UPDATE indexing_worker SET seen_at = seen_at + %s::interval RETURNING id", jump)
        assert library.index([path]).new == 1


def test_two_libraries_on_one_server_are_indexed_at_once(
    opened: Callable[..., Library], own_home: Path, schema: str, tiny_weights: Path, many: Path, undisturbed: Library
) -> None:
    with (
        opened() as one,
        Library.open(own_home, library=f"{schema}_other", weights=[tiny_weights]) as other,
        ThreadPoolExecutor(2) as threads,
    ):
        for run in [threads.submit(library.index, [many]) for library in (one, other)]:
            report = run.result()
            assert (report.new, report.failed, sum(report.pending.values())) == (100, (), 0)
        assert_same(one, undisturbed)
        assert_same(other, undisturbed)
