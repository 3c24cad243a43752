"""HNSW indexes on the vector tables, built once a table has rows worth it."""

from __future__ import annotations

import logging

from psycopg import sql

from ..spaces import SPACES, Space
from .database import Database
from .vectors import table

logger = logging.getLogger(__name__)

# Below this an exact scan answers as fast, and every new row would pay for the index (about 4 ms each).
ROWS_WORTH_AN_INDEX = 20_000


def build_missing(database: Database, rows_worth_an_index: int = ROWS_WORTH_AN_INDEX) -> list[str]:
    """Build the HNSW index of every space that has grown enough. Returns the spaces that got one.

    Readers and writers go on meanwhile (CREATE INDEX CONCURRENTLY). One process builds at a time; the others leave it
    to that one. An index that a killed build left invalid is dropped and built again.
    """
    return [space.name for space in SPACES.values() if _build(database, space, rows_worth_an_index)]


def _build(database: Database, space: Space, rows_worth_an_index: int) -> bool:
    index = sql.Identifier(f"{table(space).as_string()}_hnsw".replace('"', ""))
    with database.autocommit() as connection:
        state = connection.execute(
            "SELECT i.indisvalid FROM pg_class c JOIN pg_index i ON i.indexrelid = c.oid"
            " WHERE c.relname = %s AND c.relnamespace = %s::regnamespace",
            [index.as_string().strip('"'), database.schema],
        ).fetchone()
        if state == (True,):
            return False
        enough = connection.execute(
            sql.SQL("SELECT count(*) >= %s FROM (SELECT FROM {} LIMIT %s) t").format(table(space)),
            [rows_worth_an_index, rows_worth_an_index],
        ).fetchone()
        if enough != (True,):
            return False
        lock = [f"{database.schema} {space.name} index"]
        if connection.execute("SELECT pg_try_advisory_lock(hashtext(%s))", lock).fetchone() != (True,):
            return False
        try:
            logger.info("building the HNSW index of %s", space.name)
            connection.execute(sql.SQL("DROP INDEX IF EXISTS {}").format(index))
            connection.execute(
                sql.SQL("CREATE INDEX CONCURRENTLY {} ON {} USING hnsw (embedding halfvec_cosine_ops)").format(
                    index, table(space)
                )
            )
        finally:
            connection.execute("SELECT pg_advisory_unlock(hashtext(%s))", lock)
    return True
