"""How far an index is looked at, as the server knows it."""

from __future__ import annotations

import pytest

from toolkit_core.database import Connection, Database
from toolkit_core.database.index_effort import LARGEST_EF_SEARCH, set_effort
from toolkit_core.database.segments import Segments


def ef_search(connection: Connection) -> int:
    row = connection.execute("SHOW hnsw.ef_search").fetchone()
    assert row is not None
    return int(row[0])


def of_rows(rows: int) -> Segments:
    return Segments("hnsw", sealed_pages=rows // 3, open_pages=0)


def test_larger_tables_and_more_results_are_looked_at_further(database: Database) -> None:
    efforts = []
    with database.autocommit() as connection:
        for rows, depth in ((100_000, 20), (100_000, 200), (1_000_000, 20), (1_000_000, 200)):
            set_effort(connection, of_rows(rows), depth)
            efforts.append(ef_search(connection))
        set_effort(connection, of_rows(1_000_000), 10**9)
        assert ef_search(connection) == LARGEST_EF_SEARCH
    small, small_deep, large, large_deep = efforts
    assert 20 < small < small_deep < large_deep
    assert small < large


def test_effort_is_right_again_after_a_transaction_was_rolled_back(database: Database) -> None:
    with database.autocommit() as connection:
        set_effort(connection, of_rows(100_000), 20)
        before = ef_search(connection)
    with pytest.raises(ZeroDivisionError), database.transaction() as connection:
        set_effort(connection, of_rows(1_000_000), 300)
        assert ef_search(connection) > before
        raise ZeroDivisionError
    with database.autocommit() as connection:
        set_effort(connection, of_rows(100_000), 20)
        assert ef_search(connection) == before
