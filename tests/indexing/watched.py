"""A library that follows a folder in a thread, and what it has of it, for the tests of that."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from toolkit_core.indexing import Follower, FollowOptions
from toolkit_core.library import Library
from toolkit_core.records import IndexReport

SECONDS = 60.0


def state(library: Library) -> dict[str, tuple[int, str | None, str | None, bool, int]]:
    """By path: id, prompt, error, whether it is missing, and how many embeddings it has."""
    with library.database.transaction() as connection:
        rows = connection.execute(
            "SELECT path, id, prompt, error, missing_since IS NOT NULL,"
            " num_nonnulls(prompt_embedding, negative_prompt_embedding, image_embedding, clip_l_embedding,"
            " clip_g_embedding) FROM image"
        )
        return {path: tuple(rest) for path, *rest in rows}  # pyright: ignore[reportReturnType]


def until(condition: Callable[[], bool], what: Callable[[], object] = lambda: None) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, what()
        time.sleep(0.02)


class Watched:
    """A library that follows a folder in a thread, and what it reports."""

    def __init__(self, library: Library, run: Callable[[threading.Event], None]) -> None:
        self.library = library
        self.stop = threading.Event()
        self.reports: list[IndexReport] = []
        self._error: BaseException | None = None

        def target() -> None:
            try:
                run(self.stop)
            except BaseException as error:
                self._error = error

        self.thread = threading.Thread(target=target)

    @property
    def embedded(self) -> int:
        return sum(sum(report.embedded.values()) for report in self.reports)

    def id(self, path: Path) -> int:
        return state(self.library)[str(path)][0]

    def until_equal(self, *paths: Path, missing: int = 0) -> None:
        """Wait until these files, and no others, are there and have all their embeddings."""

        def is_equal() -> bool:
            rows = state(self.library)
            there = {path for path, (*_, error, gone, count) in rows.items() if not gone and not error and count == 5}
            return there == set(map(str, paths)) and len(rows) == len(paths) + missing

        self.until(is_equal)

    def until(self, condition: Callable[[], bool]) -> None:
        until(lambda: condition() or self._error is not None, lambda: state(self.library))
        if self._error is not None:
            raise self._error

    def end(self) -> None:
        self.stop.set()
        self.thread.join(SECONDS)
        assert not self.thread.is_alive()
        if self._error is not None:
            raise self._error


@contextmanager
def watching(library: Library, folder: Path, **options: Any) -> Iterator[Watched]:
    watched = Watched(library, lambda stop: library.watch([folder], reports.append, stop=stop, **options))
    reports = watched.reports
    watched.thread.start()
    try:
        yield watched
    finally:
        watched.end()


@contextmanager
def following(library: Library, folder: Path, **options: Any) -> Iterator[Watched]:
    """With the options that `Library.watch` has none of."""
    reports: list[IndexReport] = []
    follower = Follower(lambda: nullcontext(library), [folder], FollowOptions(on_report=reports.append, **options))
    watched = Watched(library, follower.run)
    watched.reports = reports
    watched.thread.start()
    try:
        yield watched
    finally:
        watched.end()
