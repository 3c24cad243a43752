"""A space's vectors made again with other weights, beside those that serve until the new ones are complete."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from psycopg import sql

from ..errors import DatabaseError
from ..records import Reembedding
from ..spaces import PAIRED, SPACES, IndexKind, Space
from . import pairs, revision, segments
from .database import Connection, Database
from .exchange import exchange
from .index_build import ProgressCallback, watched
from .segments import ROWS_WORTH_AN_INDEX, SKETCHES_OF_OPEN
from .vectors import Vectors, halves, names, table


@contextmanager
def alone(database: Database, space: Space) -> Iterator[None]:
    """Keep other processes from making the same space again. Raises DatabaseError where one is at it."""
    with database.alone(f"reembed {space.name}") as ours:
        if not ours:
            raise DatabaseError(f"Another process is making the {space.name} vectors again. Let it finish, or stop it.")
        yield


def begin(connection: Connection, space: Space, name: str, probe: Vectors) -> None:
    """Start anew, with these weights."""
    abandon(connection, space)
    connection.execute(
        "INSERT INTO next_encoder (space, name, probe) VALUES (%s, %s, %s::real[])",
        [space.name, name, probe.ravel().tolist()],
    )


def abandon(connection: Connection, space: Space) -> bool:
    """Forget what was made. Returns whether a space was being made again."""
    connection.execute(sql.SQL("TRUNCATE {next}").format(**names(space)))
    return connection.execute("DELETE FROM next_encoder WHERE space = %s", [space.name]).rowcount == 1


def under_way(connection: Connection) -> dict[str, Reembedding]:
    """What is being made again, by space."""
    rows = connection.execute("SELECT space, name FROM next_encoder ORDER BY space").fetchall()
    return {space: Reembedding(name, segments.count(connection, SPACES[space], "next")) for space, name in rows}


def write(connection: Connection, space: Space, owners: Sequence[int], made: Vectors) -> None:
    """Write new vectors, shape (len(owners), space.width), of owners as for `vectors.write`. Raises EncoderError."""
    connection.execute(
        sql.SQL("INSERT INTO {next} SELECT * FROM unnest(%b::bigint[], %b::halfvec[]) ON CONFLICT DO NOTHING").format(
            **names(space)
        ),
        [list(owners), halves(space, owners, made)],
    )


def switch(database: Database, space: Space, kind: IndexKind, progress: ProgressCallback) -> None:
    """Put the new vectors and their encoder in the old ones' place: all in one transaction, with their index.

    What was written with the old weights meanwhile, and has no new vector, is pending then.
    """
    with database.transaction() as connection:
        rows = segments.count(connection, space, "next")

    is_indexed, is_paired = rows > ROWS_WORTH_AN_INDEX, space.name in PAIRED
    tables = [*(pairs.TABLES if is_paired else ()), *segments.tables(space), table(space, "next")]

    def build(connection: Connection) -> None:
        if is_indexed:
            own_server = database.server is not None
            segments.build_next(connection, space, kind, rows, own_server=own_server, source="next")
        exchange(connection, tables, lambda: hold_encoder(connection), lambda: put(connection))

    def hold_encoder(connection: Connection) -> None:
        # Writers look at it before they come to the tables.
        connection.execute("SELECT FROM encoder WHERE space = %s FOR UPDATE", [space.name])

    def put(connection: Connection) -> None:
        if is_indexed:
            segments.replace(connection, space)
        else:
            _refill(connection, space)
        if is_paired:
            connection.execute("TRUNCATE image_pair, image_unpaired")
        connection.execute(
            "INSERT INTO encoder (space, name, probe) SELECT space, name, probe FROM next_encoder WHERE space = %s"
            " ON CONFLICT (space) DO UPDATE SET name = excluded.name, probe = excluded.probe, created_at = now()",
            [space.name],
        )
        abandon(connection, space)
        revision.bump(connection)

    watched(database, build, f"switch {space.name}", rows, progress)


def _refill(connection: Connection, space: Space) -> None:
    for statement in (
        "TRUNCATE {whole}, {sketch}",
        "INSERT INTO {open} SELECT {owner}, embedding FROM {next}",
        SKETCHES_OF_OPEN,
    ):
        connection.execute(sql.SQL(statement).format(**names(space)))
