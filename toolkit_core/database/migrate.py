"""Migrations: numbered SQL files, each applied once, in one transaction, by one process at a time."""

from __future__ import annotations

import logging
from importlib import resources
from typing import Any

import psycopg
from psycopg import sql

from ..errors import DatabaseError

logger = logging.getLogger(__name__)

# HNSW filters after its scan: without these, a user's own `LIMIT 50` may come back with 40 rows.
QUERY_DEFAULTS = {"hnsw.iterative_scan": "strict_order", "hnsw.ef_search": "100"}


def migrate(connection: psycopg.Connection[tuple[Any, ...]], schema: str, *, default_library: bool) -> None:
    """Bring a schema up to date and set the database's query defaults.

    The caller holds the migration lock and has set the search path. `default_library`: the database is our own, so a
    user's own session may find this library without naming its schema. Raises DatabaseError where the schema was
    written by a newer version of this program.
    """
    connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(schema)))
    connection.execute(
        "CREATE TABLE IF NOT EXISTS schema_version"
        " (version integer PRIMARY KEY, name text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"
    )
    applied = {version for (version,) in connection.execute("SELECT version FROM schema_version")}
    migrations = _migrations()
    if unknown := applied - migrations.keys():
        raise DatabaseError(
            f"The library {schema!r} was written by a newer version of this program (migration {max(unknown)}). "
            "Update the program."
        )
    for version, (name, statements) in sorted(migrations.items()):
        if version not in applied:
            connection.execute(statements)
            connection.execute("INSERT INTO schema_version (version, name) VALUES (%s, %s)", [version, name])
            logger.info("applied migration %s to the library %r", name, schema)
    _set_query_defaults(connection, schema if default_library else None)


def _migrations() -> dict[int, tuple[str, bytes]]:
    folder = resources.files(__name__.rpartition(".")[0]) / "migrations"
    files = [file for file in folder.iterdir() if file.name.endswith(".sql")]
    return {int(file.name[:4]): (file.name.removesuffix(".sql"), file.read_bytes()) for file in files}


def _set_query_defaults(connection: psycopg.Connection[tuple[Any, ...]], schema: str | None) -> None:
    rows = connection.execute(
        "SELECT unnest(setconfig) FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase"
        " WHERE d.datname = current_database() AND s.setrole = 0"
    )
    already = {str(setting).partition("=")[0] for (setting,) in rows}
    wanted: list[tuple[str, sql.Composable]] = [(name, sql.Literal(value)) for name, value in QUERY_DEFAULTS.items()]
    if schema is not None:
        wanted.append(("search_path", sql.SQL('"$user", {}, public').format(sql.Identifier(schema))))
    for name, value in wanted:
        if name in already:
            continue
        parameter = sql.SQL(".").join(sql.Identifier(part) for part in name.split("."))
        try:
            with connection.transaction():
                connection.execute(
                    sql.SQL("ALTER DATABASE {} SET {} TO {}").format(
                        sql.Identifier(connection.info.dbname), parameter, value
                    )
                )
        except psycopg.errors.InsufficientPrivilege:
            logger.info("not the owner of this database: %s stays as it is for other sessions", name)
