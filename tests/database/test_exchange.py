"""A new index takes the old one's place beside those who search, write, and read for long."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from toolkit_core.database import Database
from toolkit_core.database.segments import seal
from toolkit_core.records import Progress

from .test_segments import ROWS, add, counts, nearest, same, stored


def test_open_transaction_holds_up_the_exchange_and_no_search_and_no_writer(
    database: Database, caplog: pytest.LogCaptureFixture, until_exchange_waits: Callable[[], None]
) -> None:
    written = add(database, 0, ROWS)
    seal(database, rows_worth_an_index=1000)
    [id, vector] = next(iter(written.items()))

    def search() -> list[int]:
        with database.transaction() as connection:
            return nearest(connection, vector, 1)

    seconds: list[float] = []
    with ThreadPoolExecutor(2) as pool:
        with database.transaction() as reader:
            reader.execute("SELECT image_embedding FROM image LIMIT 1")
            sealing = pool.submit(seal, database, rows_worth_an_index=1000, rebuild=True)
            until_exchange_waits()
            while not caplog.records:
                begun = time.monotonic()
                assert pool.submit(search).result(timeout=20) == [id]
                written |= pool.submit(add, database, ROWS + len(seconds), 1, seed=len(seconds)).result(timeout=20)
                seconds.append(time.monotonic() - begun)
            assert not sealing.done()
            time.sleep(2)
        assert [done.anew for done in sealing.result(timeout=60)] == [True]
    assert len(seconds) > 5
    assert max(seconds) < 2, "they wait for a try, or two, and not for the reader"
    [record] = caplog.records
    assert f"process {reader.info.backend_pid} (" in record.getMessage()
    assert same(stored(database), written)
    assert counts(database) == (ROWS, len(seconds), len(seconds))


def test_exchange_that_waits_is_stopped_by_its_progress(
    database: Database, until_exchange_waits: Callable[[], None]
) -> None:
    written = add(database, 0, ROWS)

    def stop(_: Progress) -> None:
        until_exchange_waits()
        raise KeyboardInterrupt

    with database.transaction() as reader:
        reader.execute("SELECT image_embedding FROM image LIMIT 1")
        with pytest.raises(KeyboardInterrupt):
            seal(database, rows_worth_an_index=1000, progress=stop)
    assert counts(database) == (0, ROWS, ROWS)
    assert same(stored(database), written)
