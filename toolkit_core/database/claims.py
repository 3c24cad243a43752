"""Sharing the work of one library among processes, on any machine: what one has claimed, the others leave alone.

A worker lives as long as its connection holds a lock, so what a killed process claimed is free at once; and as long as
it is heard of, so what a hanging one claimed is free after a while. No clock but the server's counts; where that jumps,
a worker that is at work is heard of anew before long, and two may do the same work once.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import psycopg

from ..errors import DatabaseError
from .database import Connection, Database

if TYPE_CHECKING:
    from typing_extensions import LiteralString

logger = logging.getLogger(__name__)

FILE = "file"
# Of silence, after which a worker has lost its claims. It is heard of with each batch that it claims, and in between.
LEASE_SECONDS = 300
# Without a batch, after which it is not heard of in between any more: it hangs. 256 long texts on a slow CPU take less.
LONGEST_BATCH_SECONDS = 3600
# A time to come was noted before the clock was put back.
_IS_HEARD_OF: LiteralString = (
    "seen_at BETWEEN clock_timestamp() - make_interval(secs => %(lease)s)"
    " AND clock_timestamp() + make_interval(secs => %(lease)s)"
)


@contextmanager
def worker(database: Database) -> Iterator[Worker]:
    """A worker with no claims yet; whatever it has claimed in the end is free again. Holds one connection."""
    with database.autocommit() as connection:
        connection.execute(
            "DELETE FROM indexing_worker WHERE NOT " + _IS_HEARD_OF,
            {"lease": LEASE_SECONDS},
        )
        row = connection.execute("INSERT INTO indexing_worker DEFAULT VALUES RETURNING id").fetchone()
        assert row is not None
        [id] = row
        connection.execute("SELECT pg_advisory_lock(hashtext(current_schema() || ' worker'), %s)", [id])
        at_work = Worker(id)
        done = threading.Event()
        renewing = threading.Thread(target=_renew, args=(at_work, connection, done), name="claims", daemon=True)
        renewing.start()
        try:
            yield at_work
        finally:
            done.set()
            renewing.join()
            try:
                with database.transaction() as other:
                    other.execute("DELETE FROM indexing_worker WHERE id = %s", [id])
                connection.execute("SELECT pg_advisory_unlock(hashtext(current_schema() || ' worker'), %s)", [id])
            except (DatabaseError, psycopg.OperationalError) as error:
                # The server is gone, or was while this worked, and the lock with it.
                logger.debug("A worker could not sign off: %s", error)


def _renew(worker: Worker, connection: Connection, done: threading.Event) -> None:
    """Have a worker heard of while a batch takes long, until it is done or has lost its connection."""
    while not done.wait(LEASE_SECONDS / 5):
        if time.monotonic() - worker.last_batch > LONGEST_BATCH_SECONDS:
            continue
        try:
            worker.renew(connection)
        except psycopg.Error as error:
            # Its claims are lost with the lock that the connection held.
            logger.debug("The claims of a worker could not be renewed: %s", error)
            return


class Worker:
    """One process's hold on work. Its methods are called in a transaction, with which they come about or do not.

    What a process on another machine does in this one's name, it releases with the same id.
    """

    def __init__(self, id: int) -> None:
        self.id = id
        # When a batch was last begun or done.
        self.last_batch = time.monotonic()

    def claim(self, connection: Connection, kind: str, keys: Sequence[int]) -> set[int]:
        """Take on what no living worker has. Returns the keys that are this worker's now."""
        self.heard(connection)
        rows = connection.execute(
            "WITH living AS MATERIALIZED (SELECT w.id FROM indexing_worker w JOIN pg_locks l ON l.objid = w.id::oid"
            "  WHERE l.locktype = 'advisory' AND l.granted"
            "  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())"
            "  AND l.classid = (hashtext(current_schema() || ' worker')::bigint & 4294967295)::oid"
            "  AND " + _IS_HEARD_OF + ")"
            " INSERT INTO indexing_claim AS c (kind, key, worker_id)"
            " SELECT %(kind)s, key, %(worker)s FROM unnest(%(keys)s::bigint[]) AS key ORDER BY key"
            " ON CONFLICT (kind, key) DO UPDATE SET worker_id = excluded.worker_id"
            " WHERE c.worker_id = excluded.worker_id OR c.worker_id NOT IN (SELECT id FROM living)"
            " RETURNING key",
            {"kind": kind, "worker": self.id, "keys": sorted(set(keys)), "lease": LEASE_SECONDS},
        )
        return {key for (key,) in rows}

    def heard(self, connection: Connection) -> None:
        """Keep the claims for another while: a batch is done, or begun."""
        self.last_batch = time.monotonic()
        self.renew(connection)

    def renew(self, connection: Connection) -> None:
        """Keep the claims for another while."""
        connection.execute(
            "INSERT INTO indexing_worker (id) OVERRIDING SYSTEM VALUE VALUES (%s)"
            " ON CONFLICT (id) DO UPDATE SET seen_at = clock_timestamp()",
            [self.id],
        )

    def release(self, connection: Connection, kind: str, keys: Sequence[int]) -> None:
        """Give up what is done, or cannot be done."""
        connection.execute(
            "DELETE FROM indexing_claim WHERE kind = %s AND key = ANY(%s) AND worker_id = %s",
            [kind, list(keys), self.id],
        )


def file_key(path: str) -> int:
    """What stands for a path among the keys of claims."""
    return int.from_bytes(hashlib.sha256(path.encode("utf-8", "surrogateescape")).digest()[:8], "big", signed=True)
