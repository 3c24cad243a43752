"""What the tests of filters share."""

from __future__ import annotations

from psycopg import sql

from toolkit_core.database import Database
from toolkit_core.database.filters import condition
from toolkit_core.search.filter_language import parse_filter


def found(database: Database, text: str) -> set[int]:
    """Ids of the images that a filter finds."""
    wanted = parse_filter(text)
    assert wanted is not None
    where = condition(wanted)
    with database.transaction() as connection:
        query = sql.SQL("SELECT f.id FROM image_file f WHERE {}").format(where.sql)
        return {id for (id,) in connection.execute(query, where.parameters)}
