"""Putting a table in another one's place, however long somebody reads that one, and without a wait for anybody else.

Whoever asks PostgreSQL for a table stands behind those who wait for it already. So if an exchange just waited for a
transaction that has read the old table and stays open (a long export, a `pg_dump`, a `psql` that somebody left), every
search would wait behind it, as long as that stays. An exchange therefore asks for a moment, gives everything up again
where it does not get it, and comes back later.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Literal

import psycopg
from psycopg import sql

from .database import Connection

logger = logging.getLogger(__name__)

# Seconds that searches, and that writers, may have to stand behind us. Shorter than PostgreSQL's deadlock_timeout, 1 s:
# of two that wait for each other it is we who give in.
SEARCHES_WAIT, WRITERS_WAIT = 0.2, 0.5
# Nobody but a vacuum and its like stands behind us here, and PostgreSQL ends its own for us after deadlock_timeout.
VACUUM_WAITS = 10.0
# Seconds between two tries: at first, and when they have doubled often enough.
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
TOLD_AFTER = 3.0

LockMode = Literal["SHARE UPDATE EXCLUSIVE", "EXCLUSIVE", "ACCESS EXCLUSIVE"]


def exchange(
    connection: Connection, tables: Sequence[sql.Identifier], prepare: Callable[[], None], finish: Callable[[], None]
) -> None:
    """Run `prepare` while nobody writes to some tables, then `finish` while nobody reads them either.

    Tries as often as it takes, so both may run several times. What a try did is undone; what the transaction did before
    stays. A try has `prepare` run only where nobody reads the tables for long just then, for writers wait until its
    end. The locks are kept to the end of the transaction: let it end soon.

    tables: in the order in which writers take them.
    """
    started, pause, told = time.monotonic(), FIRST_PAUSE, False
    while True:
        try:
            # A savepoint: rolled back to, it gives up the locks that were taken since.
            with connection.transaction():
                _lock(connection, tables, "SHARE UPDATE EXCLUSIVE", VACUUM_WAITS)
                _lock(connection, tables, "EXCLUSIVE", WRITERS_WAIT)
                with connection.transaction(force_rollback=True):
                    _lock(connection, tables, "ACCESS EXCLUSIVE", SEARCHES_WAIT)
                prepare()
                _lock(connection, tables, "ACCESS EXCLUSIVE", SEARCHES_WAIT)
                finish()
            return
        except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
            if not told and time.monotonic() - started >= TOLD_AFTER:
                told = True
                logger.warning(
                    "What was built takes its place as soon as the transactions end that use what is there: %s. "
                    "Searches and writers go on meanwhile.",
                    _users(connection, tables),
                )
        # On the server, where a cancelled statement ends it as any other.
        connection.execute("SELECT pg_sleep(%s)", [pause])
        pause = min(2 * pause, LONGEST_PAUSE)


def _lock(connection: Connection, tables: Sequence[sql.Identifier], mode: LockMode, seconds: float) -> None:
    """Raises LockNotAvailable where one of the tables cannot be had in time."""
    connection.execute("SELECT set_config('lock_timeout', %s, true)", [f"{int(seconds * 1000)}ms"])
    # Without ONLY a partitioned table's parts were locked with it, in the order in which they were made.
    connection.execute(sql.SQL("LOCK TABLE ONLY {} IN {} MODE").format(sql.SQL(", ONLY ").join(tables), sql.SQL(mode)))


def _users(connection: Connection, tables: Sequence[sql.Identifier]) -> str:
    """The server processes that have locked some of the tables, with the names that their clients gave."""
    rows = connection.execute(
        "SELECT DISTINCT l.pid, a.application_name FROM pg_locks l JOIN pg_stat_activity a USING (pid)"
        " JOIN pg_database d ON d.oid = l.database WHERE l.granted AND l.pid <> pg_backend_pid()"
        " AND d.datname = current_database() AND l.relation = ANY(%s::regclass[]) ORDER BY l.pid LIMIT 5",
        [[table.as_string() for table in tables]],
    )
    named = [f"process {pid} ({name})" if name else f"process {pid}" for pid, name in rows]
    return ", ".join(named) or "they have just ended"
