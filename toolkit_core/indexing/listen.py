"""Hearing of changes below a folder, from the operating system or by looking again and again."""

from __future__ import annotations

import logging
import os
import threading
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
# Where the operating system cannot tell of changes, the folder is walked so often.
POLL_SECONDS = 60.0


@dataclass(frozen=True)
class Heard:
    """News of one folder.

    paths: of what came, changed or went in it, folders too. added: those of them that came.
    walk: there may be more news than these. gone: the folder itself cannot be had any more.
    """

    folder: str
    paths: frozenset[str] = frozenset()
    added: frozenset[str] = frozenset()
    walk: bool = False
    gone: bool = False


class Listener:
    """Tells of changes below a folder, at any depth, from `start` to `stop`.

    The folder may come and go, as a drive does: that is told, and with every coming that a walk is due.
    poll: seconds between walks, in place of what the operating system says, which knows nothing of what other machines
    do on a network share.
    """

    def __init__(self, folder: Path | str, tell: Callable[[Heard], None], poll: float | None = None) -> None:
        self._named = folder
        self._tell = tell
        self._poll = poll
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._listen, name=f"listen to {folder}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()

    def _listen(self) -> None:
        was_there = True
        while not self._stopped.is_set():
            folder = os.path.realpath(self._named)
            here = _identity(folder)
            if here is None:
                if was_there:
                    self._tell(Heard(folder, gone=True))
                was_there = False
                self._stopped.wait(TICK_SECONDS)
                continue
            was_there = True
            if self._poll is not None:
                self._tell(Heard(folder, walk=True))
                self._stopped.wait(self._poll)
                continue
            self._follow(folder, here)

    def _follow(self, folder: str, here: tuple[int, int]) -> None:
        """Pass on what the operating system says, until the folder is another one or the listener is stopped."""
        import watchfiles

        logging.getLogger("watchfiles").setLevel(logging.WARNING)  # it tells of every change
        is_new = True
        try:
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
                ignore_permission_denied=True,
            ):
                paths = frozenset(path for _, path in changes)
                added = frozenset(path for change, path in changes if change == watchfiles.Change.added)
                # From the first answer on nothing is missed, so a walk that begins now finds the rest.
                walk, is_new = is_new or len(paths) >= MAY_HAVE_LOST_SOME, False
                if paths or walk:
                    self._tell(Heard(folder, paths, added, walk))
                if _identity(folder) != here:
                    return
        except FileNotFoundError:
            return  # gone since it was looked at
        except (OSError, RuntimeError) as error:
            logger.warning("%s cannot be watched (%s); it is walked every %d s.", folder, error, POLL_SECONDS)
            self._poll = POLL_SECONDS


def _identity(folder: str) -> tuple[int, int] | None:
    """What tells a folder from another one of its name, as on another drive; None where there is none."""
    try:
        status = os.stat(folder)  # noqa: PTH116 - asked every second
        return (status.st_dev, status.st_ino) if os.path.isdir(folder) else None  # noqa: PTH112
    except OSError:
        return None
