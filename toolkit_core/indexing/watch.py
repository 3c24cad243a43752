"""Following folders: a library is kept equal to them while they change.

What is heard of a file is acted on when the file has been still for a moment, so that one that is being written is not
read half. Its metadata is read at once, and it is embedded when there is nothing else to do. Whatever was not heard is
found by a walk: in the beginning, when a folder comes back, and every now and then.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Protocol

from ..database import Database
from ..database.moved import PRUNING
from ..errors import DatabaseError, PathNotFound
from ..metadata import SIDECAR_SUFFIXES
from ..named_paths import named_path
from ..records import IndexReport, Progress
from .catch_up import catch_up
from .compare import compared
from .gone import hand_on, note_gone
from .listen import Heard, Listener
from .scan import EPOCH, FoundFile, is_picture, presence, real_path, scan

logger = logging.getLogger(__name__)

ProgressCallback = Callable[[Progress], None]

# How long a file has to stay the same before it is read, and for how long embedding waits for that.
SETTLE_SECONDS, PATIENCE_SECONDS = 0.5, 10.0
WALK_SECONDS = 900.0
FILES_A_RUN = 500
RETRY_SECONDS = 2.0
# How long a file in the place of another one waits at most for others, one of which may be that one.
PUT_OFF_SECONDS = 10.0
# Encoders that had nothing to do for so long give their memory back.
UNLOAD_SECONDS = 300.0
_TICK_SECONDS, _CALM_TICK_SECONDS = 0.1, 1.0


class FollowingLibrary(Protocol):
    """What of `Library` is used here."""

    database: Database

    def index(
        self,
        paths: Sequence[Path | str],
        progress: ProgressCallback | None = None,
        *,
        embed: bool = True,
        overwrite: bool = True,
    ) -> IndexReport: ...

    def unload(self) -> None: ...


class _Interrupted(Exception):
    """Something more urgent came up."""


@dataclass(frozen=True)
class FollowOptions:
    """How folders are followed.

    poll: seconds between walks, in place of what the operating system tells; for network shares.
    walk_every: seconds between walks that find what was not heard.
    since: where given, what lay in the folders before that is not indexed, unless it was modified since the library has
    some of them; see `catch_up`.
    is_idle: asked before and during walks and embedding; while it says False, new files are read for their metadata,
    and nothing else is done.
    embed: fills what is pending; None for no embeddings.
    on_report: told what was done, each time.
    progress: see `Library.index`.
    """

    poll: float | None = None
    walk_every: float = WALK_SECONDS
    since: datetime | None = None
    is_idle: Callable[[], bool] = lambda: True
    embed: Callable[[FollowingLibrary, ProgressCallback], IndexReport] | None = lambda library, progress: library.index(
        [], progress
    )
    on_report: Callable[[IndexReport], None] = lambda _: None
    progress: ProgressCallback = lambda _: None


@dataclass
class _Unsettled:
    """A file as it was when it was last looked at. By the monotonic clock: when to look again, and when it came."""

    seen: tuple[int, int] | None
    due: float
    came: float


class Follower:
    """Keeps a library equal to some folders. Use it once: `Follower(…).run(stop)`.

    opened: gives the library for a piece of work. After a DatabaseError the work is tried again until it is done.
    """

    def __init__(
        self,
        opened: Callable[[], AbstractContextManager[FollowingLibrary]],
        folders: Sequence[Path | str],
        options: FollowOptions,
    ) -> None:
        self._opened = opened
        self._folders = list(dict.fromkeys(str(named_path(folder).absolute()) for folder in folders))
        self._options = options
        self._heard: deque[Heard] = deque()
        self._has_heard = threading.Event()
        self._gone: set[str] = set()
        self._unsettled: dict[str, _Unsettled] = {}
        self._unwalked: set[str] = set()
        # Folders that came, in whose place there may have been others before.
        self._came: set[str] = set()
        # Files with new content in the place of another, which may have been moved to where nobody has looked yet.
        self._put_off: dict[str, None] = {}
        self._put_off_from = self._put_off_until = 0.0
        # Held while any of these has something in it: `_keep_pruning_out`.
        self._moving = ExitStack()
        self._moving_in: Database | None = None
        self._moving_since = EPOCH
        self._present: set[str] = set()
        self._next_walk = time.monotonic() + options.walk_every
        self._is_pending = False
        self._unload_at: float | None = None
        self._stop = threading.Event()

    def run(self, stop: threading.Event) -> None:
        """Follow until `stop` is set. Raises what cannot be mended by trying again."""
        self._stop = stop
        failed = False
        with ExitStack() as stack:
            for folder in self._folders:
                listener = Listener(folder, self._hear, self._options.poll)
                listener.start()
                stack.callback(listener.stop)
            stack.callback(self._let_pruning_in)
            while not stop.is_set():
                try:
                    if not self._work():
                        self._has_heard.wait(_TICK_SECONDS if self._unsettled or self._put_off else _CALM_TICK_SECONDS)
                    failed = False
                except _Interrupted:
                    continue
                except DatabaseError as error:
                    self._let_pruning_in()
                    if not failed:
                        logger.warning("The library is not kept up to date for now, and will be: %s", error)
                    failed = True
                    stop.wait(RETRY_SECONDS)

    def _hear(self, heard: Heard) -> None:
        self._heard.append(heard)
        self._has_heard.set()

    def _work(self) -> bool:
        """Do the most urgent piece of work. Returns whether there was one."""
        self._take_news()
        if self._unsettled and self._moving_in is None:
            with self._opened() as library:
                self._keep_pruning_out(library.database)
        elif not (self._gone or self._unsettled or self._came or self._unwalked or self._put_off):
            self._hand_on()
        if self._gone and self._is_worth_noting():
            self._note_gone()
        elif still := self._settled():
            self._read(still)
        elif self._came and self._options.is_idle():
            self._note_replaced()
        elif self._unwalked and self._options.is_idle():
            self._walk(min(self._unwalked))
        elif self._may_overwrite():
            self._overwrite()
        elif self._is_pending and not self._put_off and not self._is_settling() and self._options.is_idle():
            self._embed()
        elif self._unload_at is not None and time.monotonic() > self._unload_at:
            self._unload()
        else:
            return False
        return True

    def _take_news(self) -> None:
        self._has_heard.clear()
        while self._heard:
            heard = self._heard.popleft()
            if heard.gone:
                self._lose(heard.folder)
            if heard.walk:
                if heard.folder not in self._present:
                    logger.info("%s is followed.", heard.folder)
                self._present.add(heard.folder)
                self._unwalked.add(heard.folder)
                if self._options.since is not None:
                    self._unsettle_all(heard.folder, self._options.since)
            listings = _Listings()
            for path in heard.paths:
                self._take(str(real_path(path)), listings, came=path in heard.added)
        if time.monotonic() > self._next_walk:
            self._next_walk = time.monotonic() + self._options.walk_every
            self._unwalked |= self._present

    def _lose(self, folder: str) -> None:
        """Give up what is due in a folder that is not there, or that nobody may look into."""
        if presence(folder, of="anything") == "gone":
            logger.warning("%s is not there. What the library has of it is kept, and marked.", folder)
            self._gone.add(folder)
        elif os.path.isdir(folder):  # noqa: PTH112
            logger.info("%s is not followed any more: what was named leads elsewhere.", folder)
        else:
            logger.warning("%s cannot be looked into. What the library has of it stays as it is.", folder)
        self._present.discard(folder)
        self._unwalked.discard(folder)

    def _take(self, path: str, listings: _Listings, *, came: bool) -> None:
        """Note what was heard of one path."""
        is_there = presence(path, of="anything") == "there"
        if is_there:
            self._gone.discard(path)
            if came and os.path.isdir(path):  # noqa: PTH112
                # What came with it, or right after it, may not be heard of; nor what went with another of its name.
                self._unsettle_all(path)
                self._came.add(path)
        else:
            self._unsettled.pop(path, None)
            self._gone.add(path)
        for picture in listings.pictures_of(path):
            if is_there or picture != path:
                self._unsettle(picture)

    def _unsettle_all(self, folder: str, since: datetime | None = None) -> None:
        for found in scan([folder]):
            if isinstance(found, FoundFile) and (since is None or found.modified_at >= since):
                self._unsettle(found.path)

    def _unsettle(self, path: str) -> None:
        now = time.monotonic()
        before = self._unsettled.get(path)
        self._unsettled[path] = _Unsettled(None, now, before.came if before else now)

    def _settled(self) -> list[str]:
        """The files that have not changed since they were last looked at, a run of them at most."""
        now = time.monotonic()
        still: list[str] = []
        for path in [path for path, file in self._unsettled.items() if file.due <= now]:
            try:
                status = Path(path).stat()
            except OSError:
                del self._unsettled[path]
                self._gone.add(path)
                continue
            seen = (status.st_size, status.st_mtime_ns)
            if self._unsettled[path].seen == seen:
                still.append(path)
                if len(still) == FILES_A_RUN:
                    break
            else:
                self._unsettled[path] = _Unsettled(seen, now + SETTLE_SECONDS, self._unsettled[path].came)
        return still

    def _is_worth_noting(self) -> bool:
        """Whether to open the library for what is gone: not for a temporary file, before there is another reason.

        A folder looks the same by now, and so it waits.
        """
        return bool(self._unsettled) or self._options.is_idle() or any(map(is_picture, self._gone))

    def _may_overwrite(self) -> bool:
        """Whether what was there before the files that are put off would have turned up elsewhere by now."""
        if not self._put_off or self._came or self._unwalked:
            return False
        return time.monotonic() > (self._put_off_until if self._unsettled else self._put_off_from)

    def _note_replaced(self) -> None:
        """Find out what folders that came do not hold of what lay in others of their names."""
        came = list(self._came)
        outermost = [folder for folder in came if self._came.isdisjoint(map(str, Path(folder).parents))]
        with self._opened() as library:
            for folder in outermost:
                for found, row in compared(library.database, [folder]):
                    if self._is_stopped():
                        raise _Interrupted
                    if found is None and row is not None:
                        self._gone.add(row.path)
        self._came.difference_update(came)

    def _note_gone(self) -> None:
        gone = list(self._gone)
        with self._opened() as library:
            self._keep_pruning_out(library.database)
            marked = note_gone(library.database, gone)
        self._gone.difference_update(gone)
        if marked:
            self._report(IndexReport(missing=marked))

    def _read(self, paths: list[str]) -> None:
        with self._opened() as library:
            try:
                report = library.index(paths, self._watched(self._is_stopped), embed=False, overwrite=False)
            except PathNotFound:
                return  # One is gone since it was looked at, and is left out next time.
        for path in paths:
            self._unsettled.pop(path, None)
        self._report(report)

    def _overwrite(self) -> None:
        """Read the files that have taken the place of others, none of which was found elsewhere."""
        paths = [path for path in self._put_off if presence(path) == "there"]
        with self._opened() as library:
            try:
                report = library.index(paths, self._watched(self._is_stopped), embed=False)
            except PathNotFound:
                return  # See `_read`.
        self._put_off.clear()
        self._report(report)

    def _walk(self, folder: str) -> None:
        progress = self._watched(lambda: self._is_stopped() or not self._options.is_idle())
        with self._opened() as library, suppress(PathNotFound):  # it is gone then, and will be heard to be
            self._keep_pruning_out(library.database)
            index = partial(library.index, progress=progress, embed=False, overwrite=False)
            if self._options.since is None:
                self._report(index([folder]))
            else:
                for report in catch_up(library.database, folder, progress, index):
                    self._report(report)
        self._unwalked.discard(folder)
        # Also what earlier runs left.
        self._is_pending = True

    def _embed(self) -> None:
        self._is_pending = False
        if self._options.embed is None:
            return
        waits = self._watched(self._has_something_better)
        try:
            with self._opened() as library:
                report = self._options.embed(library, waits)
        except (_Interrupted, DatabaseError):
            self._is_pending = True
            raise
        self._unload_at = time.monotonic() + UNLOAD_SECONDS
        self._report(report)

    def _keep_pruning_out(self, database: Database) -> None:
        """Until all that was heard of is dealt with: what is missing may be what came elsewhere."""
        if self._moving_in is not database:
            self._let_pruning_in()
            self._moving_since = self._moving.enter_context(database.among(PRUNING))
            self._moving_in = database

    def _hand_on(self) -> None:
        """What is missing still has moved nowhere, but copies of it may be there."""
        if self._moving_in is not None:
            with self._opened() as library:
                if library.database is self._moving_in:
                    hand_on(library.database, self._moving_since)
        self._let_pruning_in()

    def _let_pruning_in(self) -> None:
        self._moving_in = None
        with suppress(DatabaseError):  # The server is gone, and the lock with it.
            self._moving.close()

    def _unload(self) -> None:
        self._unload_at = None
        with self._opened() as library:
            library.unload()

    def _watched(self, is_urgent: Callable[[], bool]) -> ProgressCallback:
        """Passes progress on, and ends the work where something is more urgent."""

        def progress(done: Progress) -> None:
            if is_urgent():
                raise _Interrupted
            self._options.progress(done)

        return progress

    def _is_stopped(self) -> bool:
        return self._stop.is_set()

    def _has_something_better(self) -> bool:
        """Whether there is more to do than to embed, or that may not be done now."""
        if self._heard:
            self._take_news()
        return (
            self._is_stopped()
            or not self._options.is_idle()
            or bool(self._gone)
            or bool(self._came)
            or bool(self._unwalked)
            or self._may_overwrite()
            or self._is_settling()
            or bool(self._settled())
        )

    def _is_settling(self) -> bool:
        """Whether there are files that will soon be still. One that is written to all the time holds nothing up."""
        earliest = time.monotonic() - PATIENCE_SECONDS
        return any(file.came > earliest for file in self._unsettled.values())

    def _report(self, report: IndexReport) -> None:
        if report.new or report.changed or report.moved:
            self._is_pending = True
        if report.put_off:
            now = time.monotonic()
            self._put_off_from = now + SETTLE_SECONDS
            self._put_off_until = self._put_off_until if self._put_off else now + PUT_OFF_SECONDS
            self._put_off.update(dict.fromkeys(report.put_off))
        self._options.on_report(report)


class _Listings:
    """The pictures of folders, each folder listed once, to find those that a sidecar may belong to."""

    def __init__(self) -> None:
        self._names: dict[str, list[str]] = {}

    def pictures_of(self, path: str) -> list[str]:
        """The picture that a path is of, or those that are there and it may be a sidecar of."""
        folder, name = os.path.split(path)
        if is_picture(name):
            return [path]
        suffix = max((suffix for suffix in SIDECAR_SUFFIXES if name.lower().endswith(suffix)), key=len, default=None)
        if suffix is None:
            return []
        stem = name[: -len(suffix)]
        if folder not in self._names:
            try:
                self._names[folder] = [entry for entry in os.listdir(folder) if is_picture(entry)]  # noqa: PTH208
            except OSError:
                self._names[folder] = []
        return [str(Path(folder, entry)) for entry in self._names[folder] if stem in (entry, Path(entry).stem)]
