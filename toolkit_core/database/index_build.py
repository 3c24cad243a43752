"""Building a vector index with as much memory and as many processes as the server has for it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from typing import TYPE_CHECKING, TypeAlias

import psutil
import psycopg
from psycopg import sql

from ..records import Progress
from .database import Connection, Database

if TYPE_CHECKING:
    from typing_extensions import LiteralString

logger = logging.getLogger(__name__)

ProgressCallback: TypeAlias = Callable[[Progress], None]

PROGRESS_SECONDS = 1.0
# Bytes that HNSW needs beside a vector's own while it is built in memory: its neighbours and their locks.
GRAPH_BYTES = 700


def create_index(
    connection: Connection, table: LiteralString, definition: LiteralString, rows: int, width: int, *, own_server: bool
) -> None:
    """Index a table that nobody else uses yet, as `{table}_index`, in the connection's transaction.

    rows, width: of the vectors, half precision. own_server: the embedded one, whose machine's memory is ours to use.
    """
    if own_server:
        needed = int(rows * (2 * width + GRAPH_BYTES) * 1.1) // 2**20 + 64
        allowed = psutil.virtual_memory().total // 4 // 2**20
        connection.execute("SELECT set_config('maintenance_work_mem', %s, true)", [f"{min(needed, allowed)}MB"])
    create = sql.SQL("CREATE INDEX {} ON {} USING {}").format(
        sql.Identifier(f"{table}_index"), sql.Identifier(table), sql.SQL(definition)
    )
    try:
        with connection.transaction():
            connection.execute(create)
    except (psycopg.errors.DiskFull, psycopg.errors.InsufficientResources) as error:
        if "shared memory" not in str(error):
            raise
        # Parallel workers share their memory, and some servers (containers) have little of that kind.
        logger.warning("%s; building with one process", str(error).strip())
        connection.execute("SET LOCAL max_parallel_maintenance_workers = 0")
        connection.execute(create)
    connection.execute(sql.SQL("ANALYZE {}").format(sql.Identifier(table)))


def watched(
    database: Database, build: Callable[[Connection], None], stage: str, rows: int, progress: ProgressCallback
) -> None:
    """Run `build` in a transaction of its own, telling how far the index that it makes has come.

    An exception out of `progress` ends the build, and nothing of it stays where it was not whole by then.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="index") as pool, database.transaction() as connection:
        is_stopped = threading.Event()

        def build_whole() -> None:
            build(connection)
            if not is_stopped.is_set():
                # Not by the thread that tells of it, which may be held up: the tables are locked until here.
                connection.commit()

        building = pool.submit(build_whole)
        try:
            while not building.done():
                progress(Progress(stage, _rows_indexed(database, connection.info.backend_pid), rows))
                wait([building], PROGRESS_SECONDS)
        except BaseException:
            is_stopped.set()
            # More than once: one that comes between two statements cancels nothing.
            while not building.done():
                with suppress(psycopg.Error):
                    connection.cancel_safe(timeout=30)
                wait([building], PROGRESS_SECONDS)
            raise
        building.result()


def _rows_indexed(database: Database, pid: int) -> int:
    with database.transaction() as connection:
        row = connection.execute(
            "SELECT tuples_done FROM pg_stat_progress_create_index WHERE pid = %s", [pid]
        ).fetchone()
    return row[0] if row else 0
