"""Images that fulfil a condition, where nothing is named to be similar to: their ids, or by their date or rating.

Those whose files are missing are left out; those that cannot be read are not, since a filter may ask for them.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import numpy as np
from numpy.typing import NDArray
from psycopg import sql

from ..records import SearchHit
from .database import Connection
from .filters import Condition
from .stored_text import disk_path

IDS_A_BATCH = 10_000
# Newest first; and best first, newest among equals. An order goes on behind (rating, date, id).
ORDERS: Mapping[str, str] = {
    "date": "coalesce(f.modified_at, '-infinity') DESC, f.id DESC",
    "rating": "coalesce(f.rating, -1) DESC, coalesce(f.modified_at, '-infinity') DESC, f.id DESC",
}
_BEHIND: Mapping[str, str] = {
    "date": "(coalesce(f.modified_at, '-infinity'), f.id) < (%(after_date)s::timestamptz, %(after_id)s)",
    "rating": "(coalesce(f.rating, -1), coalesce(f.modified_at, '-infinity'), f.id)"
    " < (%(after_rating)s, %(after_date)s::timestamptz, %(after_id)s)",
}


def ids(connection: Connection, condition: Condition | None) -> NDArray[np.int64]:
    """The ids of all images that fulfil a condition, in order: int64 of shape (n,)."""
    statement = sql.SQL("SELECT f.id FROM image_file f WHERE f.missing_since IS NULL AND {} ORDER BY f.id")
    # A cursor of the server's: the client would hold all rows of a plain one at once.
    with connection.cursor("listed_ids") as cursor:
        cursor.itersize = IDS_A_BATCH
        cursor.execute(
            statement.format(condition.sql if condition else sql.SQL("true")),
            condition.parameters if condition else {},
            binary=True,
        )
        return np.fromiter((id for (id,) in cursor), np.int64)


def listed(
    connection: Connection, order: str, top_k: int, condition: Condition | None, after: SearchHit | None
) -> list[SearchHit]:
    """The first `top_k` images that fulfil a condition, in an order of `ORDERS`; or the first behind another image."""
    parameters: dict[str, object] = {**(condition.parameters if condition else {}), "top_k": top_k}
    statement = sql.SQL(
        "SELECT f.id, f.path, p.text, f.modified_at, f.favorite, f.rating FROM image_file f"
        " LEFT JOIN prompt_text p ON p.id = f.prompt_id WHERE f.missing_since IS NULL AND {condition}{behind}"
        " ORDER BY {order} LIMIT %(top_k)s"
    ).format(
        condition=condition.sql if condition else sql.SQL("true"),
        behind=sql.SQL(f" AND {_BEHIND[order]}" if after else ""),  # pyright: ignore[reportArgumentType]
        order=sql.SQL(ORDERS[order]),  # pyright: ignore[reportArgumentType]
    )
    if after is not None:
        parameters["after_id"] = after.id
        parameters["after_date"] = _text(after.modified_at)
        parameters["after_rating"] = -1 if after.rating is None else after.rating
    rows = connection.execute(statement, parameters, prepare=False)
    return [
        SearchHit(id, disk_path(path), 0.0, {}, prompt, date, favorite, rating)
        for id, path, prompt, date, favorite, rating in rows
    ]


def _text(date: datetime | None) -> str:
    return "-infinity" if date is None else date.isoformat()
