"""A new index takes the old one's place beside those who search, write, and read for long."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import pytest

from toolkit_core.database import Connection, Database, segments
from toolkit_core.database.segments import index_of, seal
from toolkit_core.records import Progress
from toolkit_core.spaces import Space

from .test_segments import CLIP_H, ROWS, add, counts, nearest, same, stored

T = TypeVar("T")


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def waiting(database: Database) -> int:
    """How many wait for a lock of this library's tables."""
    with database.transaction() as connection:
        row = connection.execute(
            "SELECT count(*) FROM pg_locks l JOIN pg_class c ON c.oid = l.relation"
            " WHERE NOT l.granted AND c.relnamespace = current_schema()::regnamespace"
        ).fetchone()
    assert row is not None
    return row[0]


def test_search_that_comes_in_the_middle_of_an_exchange_is_told_of_the_new_parts(database: Database) -> None:
    add(database, 0, ROWS)
    seal(database, rows_worth_an_index=1000)

    def looked(look: Callable[[Connection, Space], T]) -> T:
        with database.transaction() as connection:
            return look(connection, CLIP_H)

    looks = (segments.segments, index_of)
    before = [looked(look) for look in looks]
    with ThreadPoolExecutor(2) as pool:
        with database.transaction() as connection:
            segments.build_next(connection, CLIP_H, "hnsw", ROWS, own_server=True)
            segments._exchange(connection, CLIP_H)
            looking = [pool.submit(looked, look) for look in looks]
            until(lambda: waiting(database) == len(looks) or any(future.done() for future in looking))
        assert [future.result() for future in looking] == before


def test_searches_find_the_nearest_through_every_exchange(database: Database) -> None:
    written = add(database, 0, ROWS)
    seal(database, rows_worth_an_index=1000)
    stop = threading.Event()

    def search(wanted: int) -> int:
        searches = 0
        while not stop.is_set():
            with database.transaction() as connection:
                assert nearest(connection, written[wanted], 1) == [wanted]
            searches += 1
        return searches

    with ThreadPoolExecutor(3) as pool:
        searching = [pool.submit(search, id) for id in list(written)[:3]]
        try:
            for _ in range(4):
                assert [done.anew for done in seal(database, rows_worth_an_index=1000, rebuild=True)] == [True]
        finally:
            stop.set()
        assert all(future.result() for future in searching)


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
