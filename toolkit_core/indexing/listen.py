"""Hearing of changes below a folder, from the operating system or by looking again and again."""

from __future__ import annotations

import logging
import math
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

logger = logging.getLogger(__name__)

# Between looks at whether the folder is still the same one.
TICK_SECONDS = 1.0
# Changes are handed over when none came for a step, or after the longest wait.
STEP_MS, LONGEST_WAIT_MS = 50, 1000
# The operating system's queue of changes may have run over behind this many (on Linux it holds 16,384).
MAY_HAVE_LOST_SOME = 5_000
# Where the operating system cannot tell of changes, the folder is walked so often. Whether it can is tried again after
# a tick, and after each failure that follows after twice as long, up to the longest pause.
POLL_SECONDS, LONGEST_PAUSE = 60.0, 900.0


@dataclass(frozen=True)
class Heard:
    """News of one folder.

    paths: of what came, changed or went in it, folders too. added: those of them that came.
    walk: there may be more news than these. gone: the folder itself cannot be had any more,
    or its name leads elsewhere.
    """

    folder: str
    paths: frozenset[str] = frozenset()
    added: frozenset[str] = frozenset()
    walk: bool = False
    gone: bool = False


class Listener:
    """Tells of changes below a folder, at any depth, from `start` to `stop`.

    The folder may come and go, as a drive does: that is told, and with every coming that a walk is due. Where its name
    is a link, and leads to another folder by now, that is followed.
    poll: seconds between walks, in place of what the operating system says, which knows nothing of what other machines
    do on a network share.
    """

    def __init__(self, folder: Path | str, tell: Callable[[Heard], None], poll: float | None = None) -> None:
        self._named = folder
        self._tell = tell
        self._poll = poll
        self._folder: str | None = None
        self._was_there = True
        # After a failure the folder is walked until then, by the monotonic clock; and for how long that was.
        self._walked_until = -math.inf
        self._pause = 0.0
        self._said = ""
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._listen, name=f"listen to {folder}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()

    def _listen(self) -> None:
        while not self._stopped.is_set():
            begun = time.monotonic()
            try:
                self._look()
            # A file's name that is no UTF-8 is among them. And panics of watchfiles are no Exceptions: nobody would see
            # that this thread has ended.
            except BaseException as error:
                if time.monotonic() - begun > self._pause:
                    self._pause = 0.0
                self._note_failure(error)

    def _look(self) -> None:
        """See whether the folder is there, and tell of it for as long as it is the same one."""
        folder = os.path.realpath(self._named)
        here = _identity(folder)
        if self._folder is not None and self._folder != folder:
            self._tell(Heard(self._folder, gone=True))
        self._folder = folder
        if here is None:
            if self._was_there:
                self._tell(Heard(folder, gone=True))
            self._was_there = False
            self._stopped.wait(TICK_SECONDS)
            return
        self._was_there = True
        pause = self._walked_until - time.monotonic()
        if pause > 0:
            self._tell(Heard(folder, walk=True))
            self._stopped.wait(min(pause, POLL_SECONDS))
        elif self._poll is not None:
            self._tell(Heard(folder, walk=True))
            self._stopped.wait(self._poll)
        else:
            self._follow(folder, here)

    def _follow(self, folder: str, here: tuple[int, int]) -> None:
        """Pass on what the operating system says, until the folder is another one or the listener is stopped."""
        try:
            self._pass_on(folder, here)
        except PermissionError as error:
            # On Linux no folder is listened to that would come after the one that may not be looked into.
            self._say(f"A part of {folder} cannot be listened to ({error}); all is walked every {POLL_SECONDS:g} s.")
            self._pass_on(folder, here, walk_every=POLL_SECONDS)
        except FileNotFoundError:
            if _identity(folder) == here:
                raise  # a folder in it went while it was looked at

    def _pass_on(self, folder: str, here: tuple[int, int], walk_every: float = math.inf) -> None:
        import watchfiles

        logging.getLogger("watchfiles").setLevel(logging.WARNING)  # it tells of every change
        next_walk = -math.inf
        for changes in watchfiles.watch(
            folder,
            watch_filter=None,
            debounce=LONGEST_WAIT_MS,
            step=STEP_MS,
            stop_event=self._stopped,
            rust_timeout=int(TICK_SECONDS * 1000),
            yield_on_timeout=True,
            raise_interrupt=False,
            force_polling=False,
            # It would ignore every error, that there are no watches left, too.
            ignore_permission_denied=walk_every < math.inf,
        ):
            paths = frozenset(path for _, path in changes)
            added = frozenset(path for change, path in changes if change == watchfiles.Change.added)
            # From the first answer on nothing is missed, so a walk that begins now finds the rest.
            walk = time.monotonic() >= next_walk or len(paths) >= MAY_HAVE_LOST_SOME
            if walk:
                next_walk = time.monotonic() + walk_every
            if paths or walk:
                self._tell(Heard(folder, paths, added, walk))
            if os.path.realpath(self._named) != folder or _identity(folder) != here:
                return
            if any(os.path.islink(path) and os.path.isdir(path) for path in added):  # noqa: PTH112, PTH114
                return  # Linux tells of what lies behind links that were there when listening began.

    def _note_failure(self, error: BaseException) -> None:
        """See that the folder is walked for a while in place of being listened to, for longer after each failure."""
        self._pause = min(max(2 * self._pause, TICK_SECONDS), LONGEST_PAUSE)
        self._walked_until = time.monotonic() + self._pause
        said = f"Changes of {self._named} cannot be listened to for now; it is walked every {POLL_SECONDS:g} s at least"
        if isinstance(error, OSError | RuntimeError):
            self._say(f"{said}: {error}")
        else:
            self._say(f"{said}: {type(error).__name__}: {error}", error)

    def _say(self, message: str, error: BaseException | None = None) -> None:
        """Log a warning, once until there is another one."""
        logger.log(logging.DEBUG if message == self._said else logging.WARNING, "%s", message, exc_info=error)
        self._said = message


def _identity(folder: str) -> tuple[int, int] | None:
    """What tells a folder from another one of its name, as on another drive; None where there is none."""
    try:
        status = os.stat(folder)  # noqa: PTH116 - asked every second
        return (status.st_dev, status.st_ino) if os.path.isdir(folder) else None  # noqa: PTH112
    except OSError:
        return None
