"""The embedded server: its start, its sharing, its end, and what happens when any of these goes wrong."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import psutil
import psycopg
import pytest

from toolkit_core.database import Database
from toolkit_core.database.embedded import EmbeddedServer
from toolkit_core.errors import DatabaseError

OPEN_AND_HOLD = """
import sys, time
from pathlib import Path
from toolkit_core.database import Database
database = Database.embedded(Path(sys.argv[1]), "library")
print("open", flush=True)
sys.stdin.readline()
database.close()
"""


def holder(home: Path, wrapped: Sequence[str] = ()) -> subprocess.Popen[str]:
    """Another process that has the library open until it is given a line. wrapped: the command that starts it."""
    command = [*wrapped, sys.executable, "-c", OPEN_AND_HOLD, str(home)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "open\n"
    return process


def let_go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.communicate("\n", timeout=60)
    assert process.returncode == 0


def postmaster(home: Path) -> psutil.Process:
    return psutil.Process(int((home / "postgres" / "postmaster.pid").read_text().splitlines()[0]))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows knows no user without a name")
def test_user_without_a_name_is_told_the_ways_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 2_000_000_001)
    with pytest.raises(DatabaseError, match=r"id 2000000001, for whom .*container.*/etc/passwd.*DATABASE_URL"):
        Database.embedded(tmp_path, "library")
    assert not (tmp_path / "postgres.new").exists()


def test_last_user_stops_the_server_and_not_before(tmp_path: Path) -> None:
    other = holder(tmp_path)
    ours = Database.embedded(tmp_path, "library")
    server = postmaster(tmp_path)
    let_go(other)
    with ours.transaction() as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    ours.close()
    server.wait(30)
    assert not (tmp_path / "postgres" / "postmaster.pid").exists()


def test_processes_that_start_at_once_share_one_server(tmp_path: Path) -> None:
    opened: list[Database] = []

    def open_one() -> None:
        opened.append(Database.embedded(tmp_path, "library"))

    threads = [threading.Thread(target=open_one) for _ in range(4)]
    for thread in threads:
        thread.start()
    other = holder(tmp_path)
    for thread in threads:
        thread.join()
    ports = set()
    for database in opened:
        with database.transaction() as connection:
            ports.add(connection.execute("SELECT pg_postmaster_start_time()").fetchone())
    assert len(opened) == 4
    assert len(ports) == 1
    let_go(other)
    for database in opened:
        database.close()


def test_killed_user_does_not_keep_the_server_alive(tmp_path: Path) -> None:
    killed = holder(tmp_path)
    killed.kill()
    killed.communicate()
    server = postmaster(tmp_path)
    Database.embedded(tmp_path, "library").close()
    server.wait(30)


RUN_FOR_MINUTES = """
import sys
from pathlib import Path
from toolkit_core.database import Database
with Database.embedded(Path(sys.argv[1]), "library").transaction() as connection:
    print(connection.info.backend_pid, flush=True)
    connection.execute("SELECT pg_sleep(300)")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="PostgreSQL does not look after its clients on Windows")
def test_statement_of_a_killed_user_ends(tmp_path: Path) -> None:
    ours = Database.embedded(tmp_path, "library")
    user = subprocess.Popen([sys.executable, "-c", RUN_FOR_MINUTES, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert user.stdout is not None
    pid = int(user.stdout.readline())
    while not statements(ours, pid):
        time.sleep(0.05)
    user.kill()
    user.communicate()
    deadline = time.monotonic() + 60
    while statements(ours, pid) and time.monotonic() < deadline:
        time.sleep(0.5)
    assert not statements(ours, pid)
    ours.close()


def statements(database: Database, pid: int) -> int:
    """How many long statements a server process is at."""
    with database.transaction() as connection:
        found = connection.execute(
            "SELECT 1 FROM pg_stat_activity WHERE pid = %s AND state = 'active' AND query LIKE '%%pg_sleep(300)%%'",
            [pid],
        )
        return len(found.fetchall())


def test_committed_rows_survive_a_killed_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("toolkit_core.database.database.CONNECTION_TIMEOUT", 2.0)
    database = Database.embedded(tmp_path, "library")
    with database.transaction() as connection:
        connection.execute("INSERT INTO prompt_text (sha256, text) VALUES ('\\x00', 'kept')")
    server = postmaster(tmp_path)
    children = server.children(recursive=True)
    for process in (server, *children):
        process.send_signal(signal.SIGKILL)
    psutil.wait_procs([server, *children], timeout=30)
    with pytest.raises(DatabaseError, match="What was committed is kept"), database.transaction() as connection:
        connection.execute("SELECT 1")
    database.close()
    again = Database.embedded(tmp_path, "library")
    with again.transaction() as connection:
        assert connection.execute("SELECT text FROM prompt_text").fetchall() == [("kept",)]
    again.close()


def test_half_made_cluster_is_made_again(tmp_path: Path) -> None:
    (tmp_path / "postgres.new").mkdir()
    (tmp_path / "postgres.new" / "PG_VERSION").write_text("18")
    Database.embedded(tmp_path, "library").close()
    assert not (tmp_path / "postgres.new").exists()


def test_stale_pid_file_of_another_process_is_no_server(tmp_path: Path) -> None:
    Database.embedded(tmp_path, "library").close()
    pid_file = tmp_path / "postgres" / "postmaster.pid"
    pid_file.write_text(f"{os.getpid()}\n{tmp_path}\n1\n5432\n{tmp_path}\n\n\nready\n")
    Database.embedded(tmp_path, "library").close()


def test_stale_pid_file_of_another_ones_server_is_no_server(tmp_path: Path) -> None:
    home = tmp_path / "home"
    database = Database.embedded(home, "library")
    pid_file = home / "postgres" / "postmaster.pid"
    [_, *lines] = pid_file.read_text().splitlines(keepends=True)
    database.close()
    other = Database.embedded(tmp_path / "other", "library")
    pid_file.write_text("".join([f"{postmaster(tmp_path / 'other').pid}\n", *lines]))
    Database.embedded(home, "library").close()
    other.close()


@pytest.mark.skipif(sys.platform != "linux", reason="containers are made of Linux's namespaces")
def test_server_of_a_container_is_joined(tmp_path: Path) -> None:
    """Its processes are not to be seen from outside, and two servers on one folder destroy each other's data."""
    apart = ["unshare", "--pid", "--ipc", "--fork", "--mount-proc"]
    if subprocess.run([*apart, "true"], capture_output=True, check=False).returncode:
        pytest.skip("namespaces take Linux's unshare and the root user")
    container = holder(tmp_path, apart)
    pid_file = (tmp_path / "postgres" / "postmaster.pid").read_text()
    database = Database.embedded(tmp_path, "library")
    with database.transaction() as connection:
        connection.execute("INSERT INTO prompt_text (sha256, text) VALUES ('\\x01', 'from outside')")
    assert (tmp_path / "postgres" / "postmaster.pid").read_text() == pid_file
    database.close()
    let_go(container)
    again = Database.embedded(tmp_path, "library")
    with again.transaction() as connection:
        assert connection.execute("SELECT text FROM prompt_text").fetchall() == [("from outside",)]
    again.close()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such names")
@pytest.mark.parametrize("name", ["with space", "ünï✨", "a,b", "$HOME `exit 1`", "a'b\"c", "back\\slash"])
def test_home_may_have_any_name(tmp_path: Path, name: str) -> None:
    database = Database.embedded(tmp_path / name, "library")
    database.close()
    assert (tmp_path / name / "postgres" / "PG_VERSION").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
@pytest.mark.parametrize(
    ("name", "flaw"), [(b"caf\xe9", r"caf\\xe9', whose name is no UTF-8"), (b"a\nb", "a line break")]
)
def test_home_with_a_name_that_postgresql_cannot_have_is_refused(tmp_path: Path, name: bytes, flaw: str) -> None:
    with pytest.raises(DatabaseError, match=f"{flaw}.*DIFFUSION_TOOLKIT_HOME"):
        Database.embedded(tmp_path / os.fsdecode(name), "library")


def test_database_on_a_drive_that_is_away_is_as_it_was_when_that_is_back(tmp_path: Path) -> None:
    Database.embedded(tmp_path, "library").close()
    away = (tmp_path / "postgres").rename(tmp_path / "away")
    with pytest.raises(DatabaseError, match="See that its drive is connected"):
        Database.embedded(tmp_path, "library")
    away.rename(tmp_path / "postgres")
    Database.embedded(tmp_path, "library").close()


def test_cluster_that_was_made_and_whose_maker_was_killed_is_opened(tmp_path: Path) -> None:
    Database.embedded(tmp_path, "library").close()
    (tmp_path / "pgpass").rename(tmp_path / "pgpass.new")
    Database.embedded(tmp_path, "library").close()
    assert sorted(path.name for path in tmp_path.iterdir() if "pgpass" in path.name) == ["pgpass"]


def test_server_that_cannot_start_shows_the_end_of_its_log(tmp_path: Path) -> None:
    Database.embedded(tmp_path, "library").close()
    with (tmp_path / "postgres" / "postgresql.auto.conf").open("a") as file:
        file.write("no_such_setting = 1\n")
    with pytest.raises(DatabaseError, match="no_such_setting"):
        Database.embedded(tmp_path, "library")


def test_long_home_gets_a_socket_elsewhere(tmp_path: Path) -> None:
    home = tmp_path / ("long" * 30)
    database = Database.embedded(home, "library")
    assert str(home) not in database.connection_string().split("host=")[1]
    database.close()


def test_password_is_needed_and_private(tmp_path: Path) -> None:
    database = Database.embedded(tmp_path, "library")
    if os.name == "posix":
        assert stat.S_IMODE((tmp_path / "pgpass").stat().st_mode) == 0o600
    password = (tmp_path / "pgpass").read_text().strip().rpartition(":")[2]
    assert password not in database.connection_string()
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(database.connection_string(), passfile="/nowhere", password="wrong")
    psycopg.connect(database.connection_string()).close()
    database.close()


def test_waiting_for_recovery_is_told(tmp_path: Path) -> None:
    """A server that takes its time is waited for, however long, and the wait is not silent."""
    Database.embedded(tmp_path, "library").close()
    told: list[str] = []
    server = EmbeddedServer(tmp_path, told.append)
    suspended = threading.Event()

    def suspend_as_it_starts() -> None:
        while True:
            try:
                process = postmaster(tmp_path)
                process.suspend()
            except (OSError, ValueError, IndexError, psutil.Error):
                time.sleep(0.001)
                continue
            suspended.set()
            time.sleep(12)
            process.resume()
            return

    thread = threading.Thread(target=suspend_as_it_starts)
    thread.start()
    with server.lock():
        conninfo = server.start()
    thread.join()
    assert suspended.is_set()
    psycopg.connect(conninfo).close()
    server.stop_if_unused()
    assert told
