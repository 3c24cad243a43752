"""One library's database: a schema of a PostgreSQL server, its connection pool, and the errors of both."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, TypeAlias

import psycopg
from pgvector.psycopg import register_vector
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg_pool import ConnectionPool, PoolTimeout

from ..errors import DatabaseError
from .embedded import EmbeddedServer
from .migrate import migrate

logger = logging.getLogger(__name__)

Connection: TypeAlias = psycopg.Connection[tuple[Any, ...]]

OLDEST_POSTGRESQL = 150000
OLDEST_PGVECTOR = (0, 8, 4)  # earlier ones have index bugs
CONNECTION_TIMEOUT = 30.0  # seconds that a statement waits for the server to be there
PRIVATE_PARAMETERS = frozenset({"password", "sslpassword", "application_name"})
SCHEMA_NAME = re.compile(r"(?!pg_)[a-z_][a-z0-9_]{0,62}")
# An index goes on where a filter refused what it gave; the nearest are put in order behind it. Each statement says how
# far it may: at a limit of its own, HNSW would give what it came by, which may be far from the nearest.
SEARCH_SETTINGS = {
    "hnsw.ef_search": "100",
    "hnsw.iterative_scan": "relaxed_order",
    "hnsw.max_scan_tuples": str(2**31 - 1),
    "hnsw.scan_mem_multiplier": "8",
    "ivfflat.iterative_scan": "relaxed_order",
}
# Without libpq's words, which quote what it cannot read: the password, as a rule.
UNREADABLE_URL = (
    "The database URL cannot be read. It looks like postgresql://user:password@host:5432/name; in the password a % is "
    "written %25, a space %20, an @ %40 and a / %2F."
)
EXTENSION_HELP = (
    "Install pgvector 0.8.4 or newer on that server (https://github.com/pgvector/pgvector#installation), then run "
    "`CREATE EXTENSION vector` in the database as a superuser. Or leave DIFFUSION_TOOLKIT_DATABASE_URL unset to use "
    "the embedded server, which has it."
)


class Database:
    """Connections to one library. Open it with `Database.embedded` or `Database.external`; close it when done."""

    def __init__(self, conninfo: str, schema: str, server: EmbeddedServer | None = None) -> None:
        if not SCHEMA_NAME.fullmatch(schema):
            raise DatabaseError(
                f"{schema!r} cannot name a library: use small letters, digits and underscores, a letter first."
            )
        self.schema = schema
        self.server = server
        self.conninfo = conninfo
        self._search_path: sql.Composable | None = None
        self._prepare()
        self._pool: ConnectionPool[Connection] = ConnectionPool(
            conninfo,
            min_size=1,
            max_size=8,
            timeout=CONNECTION_TIMEOUT,
            configure=self._configure,
            check=self._check,
            open=False,
            name=f"library {schema}",
        )
        try:
            self._pool.open(wait=True)
        except PoolTimeout as error:
            raise DatabaseError(
                f"{self.describe()} took no connection within {CONNECTION_TIMEOUT:.0f} s: {error}"
            ) from error

    @classmethod
    def embedded(cls, home: Path, schema: str, on_wait: Callable[[str], None] | None = None) -> Database:
        """Open a library on the embedded server of a home folder, starting the server where it does not run."""
        server = EmbeddedServer(home, on_wait)
        with _started(server) as conninfo:
            return cls(conninfo, schema, server)

    @classmethod
    def external(cls, url: str, schema: str) -> Database:
        """Open a library on a server of the user's own, by libpq URL or key=value string."""
        try:
            make_conninfo(url)
        except psycopg.ProgrammingError:
            raise DatabaseError(UNREADABLE_URL) from None
        return cls(url, schema)

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """A connection in a transaction that commits at the end of the block. Raises DatabaseError."""
        with self._wrapped(), self._pool.connection() as connection:
            yield connection

    @contextmanager
    def autocommit(self) -> Iterator[Connection]:
        """A connection outside any transaction, for statements that refuse one. Raises DatabaseError."""
        with self._wrapped(), self._pool.connection() as connection:
            connection.autocommit = True
            try:
                yield connection
            finally:
                if not connection.closed:
                    connection.autocommit = False

    @contextmanager
    def alone(self, purpose: str) -> Iterator[bool]:
        """Whether this process is the only one in this library with a purpose; it stays so until the block's end.

        The server lets go of a process that was killed. Raises DatabaseError.
        """
        lock = [f"diffusion_toolkit {self.schema} {purpose}"]
        with self.autocommit() as connection:
            row = connection.execute("SELECT pg_try_advisory_lock(hashtextextended(%s, 0))", lock).fetchone()
            ours = row == (True,)
            try:
                yield ours
            finally:
                if ours and not connection.closed:
                    connection.execute("SELECT pg_advisory_unlock(hashtextextended(%s, 0))", lock)

    @contextmanager
    def among(self, purpose: str) -> Iterator[datetime]:
        """Keep every process from being alone with a purpose until the block's end; waits for one that is already.

        Any number of processes may do so at once. Holds one connection. Yields since when, by the server's clock.
        Raises DatabaseError.
        """
        lock = [f"diffusion_toolkit {self.schema} {purpose}"]
        with self.autocommit() as connection:
            connection.execute("SELECT pg_advisory_lock_shared(hashtextextended(%s, 0))", lock)
            row = connection.execute("SELECT clock_timestamp()").fetchone()
            assert row is not None
            try:
                yield row[0]
            finally:
                if not connection.closed:
                    connection.execute("SELECT pg_advisory_unlock_shared(hashtextextended(%s, 0))", lock)

    def revive(self) -> None:
        """Start an embedded server again that does not run any more. Raises DatabaseError."""
        if self.server is not None:
            with _started(self.server) as conninfo:
                self.conninfo = self._pool.conninfo = conninfo

    def close(self) -> None:
        """Close the connections; the last user of an embedded server also stops it."""
        self._pool.close()
        if self.server is not None:
            self.server.stop_if_unused()

    def describe(self) -> str:
        """The server in words, without a password."""
        if self.server is not None:
            return f"the embedded PostgreSQL in {self.server.data}"
        return described(self.conninfo)

    def connection_string(self) -> str:
        """A string that `psql` and other clients take, with no password in it."""
        parts = conninfo_to_dict(self.conninfo)
        return make_conninfo("", **{name: value for name, value in parts.items() if name not in PRIVATE_PARAMETERS})

    def _prepare(self) -> None:
        """Check the server, make the extension and the schema, and bring the tables up to date."""
        with self._wrapped(), psycopg.connect(self.conninfo, connect_timeout=15) as connection:
            if connection.info.server_version < OLDEST_POSTGRESQL:
                raise DatabaseError(
                    f"{self.describe()} is version {connection.info.server_version // 10000}; 15 or newer is needed."
                )
            self._search_path = sql.SQL("{}, {}").format(
                sql.Identifier(self.schema), sql.Identifier(self._vector_schema(connection))
            )
            connection.execute(sql.SQL("SET search_path TO {}").format(self._search_path))
            migrate(connection, self.schema, default_library=self.server is not None)

    def _vector_schema(self, connection: Connection) -> str:
        find = (
            "SELECT n.nspname, e.extversion FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace"
            " WHERE e.extname = 'vector'"
        )
        # Two processes that start at once would both create it.
        connection.execute("SELECT pg_advisory_xact_lock(hashtext('diffusion_toolkit migrations'))")
        row = connection.execute(find).fetchone()
        if row is None:
            try:
                connection.execute("CREATE EXTENSION vector")
            except psycopg.Error as error:
                raise DatabaseError(f"{self.describe()} has no pgvector ({said(error)}). {EXTENSION_HELP}") from error
            row = connection.execute(find).fetchone()
        assert row is not None
        schema, version = row
        if tuple(int(part) for part in re.findall(r"\d+", version)[:3]) < OLDEST_PGVECTOR:
            raise DatabaseError(
                f"{self.describe()} has pgvector {version}; 0.8.4 or newer is needed. {EXTENSION_HELP} "
                "Where it is installed already: `ALTER EXTENSION vector UPDATE`."
            )
        return schema

    def _configure(self, connection: Connection) -> None:
        assert self._search_path is not None
        connection.execute(sql.SQL("SET search_path TO {}").format(self._search_path))
        register_vector(connection)
        for name, value in SEARCH_SETTINGS.items():
            connection.execute("SELECT set_config(%s, %s, false)", [name, value])
        connection.commit()

    def _check(self, connection: Connection) -> None:
        try:
            ConnectionPool.check_connection(connection)
        except psycopg.Error:
            # A server that was restarted has broken all that are idle, too. The pool would come upon one after the
            # other, and wait longer each time.
            self._pool.check()
            raise

    @contextmanager
    def _wrapped(self) -> Iterator[None]:
        try:
            yield
        except psycopg.errors.DiskFull as error:
            raise DatabaseError(
                f"The disk of {self.describe()} is full ({said(error)}). Make room and run again; "
                "what was written is kept."
            ) from error
        except psycopg.errors.DeadlockDetected as error:
            raise DatabaseError(
                f"Another process writes the same images to {self.describe()}: {said(error)}. What was committed is "
                "kept; run again."
            ) from error
        except (psycopg.OperationalError, PoolTimeout) as error:
            raise DatabaseError(
                f"No connection to {self.describe()}: {said(error)}. What was committed is kept; see that the server "
                "runs and run again."
            ) from error
        except psycopg.Error as error:
            raise DatabaseError(f"{self.describe()} refused a statement: {said(error)}") from error


@contextmanager
def _started(server: EmbeddedServer) -> Iterator[str]:
    """The connection string of a server that runs, and that nobody stops within the block. Raises DatabaseError."""
    try:
        server.home.mkdir(parents=True, exist_ok=True)
        with server.lock():
            yield server.start()
    except OSError as error:
        raise DatabaseError(f"The embedded PostgreSQL cannot use the folder {server.home}: {error}") from error


def described(conninfo: str) -> str:
    """A server and database in words, without a password. Raises psycopg.ProgrammingError for what cannot be read."""
    parts = conninfo_to_dict(conninfo)
    where = parts.get("host") or parts.get("hostaddr") or "the local socket"
    return f"PostgreSQL database {parts.get('dbname') or '(default)'} on {where}"


def said(error: Exception) -> str:
    """What a server or libpq said, in one line."""
    return " ".join(str(error).split()) or type(error).__name__
