"""The library's revision: a number that every transaction raises which changes what can be found."""

from __future__ import annotations

from .database import Connection


def bump(connection: Connection) -> None:
    """Raise the revision. The last statement of a transaction: its row lock is then held for the commit alone."""
    connection.execute("UPDATE library_revision SET revision = revision + 1")


def read(connection: Connection) -> str:
    row = connection.execute("SELECT id, revision FROM library_revision").fetchone()
    assert row is not None
    id, revision = row
    return f"{id}:{revision}"
