"""Commands that keep a library equal to folders, and remove what is gone from it."""

from __future__ import annotations

import math
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from ..records import IndexReport, Progress
from ..report import print_missing, progress_bars
from .options import (
    ComfyUI,
    DatabaseUrl,
    Device,
    Dtype,
    Embed,
    Home,
    Json,
    LibraryName,
    Weights,
    err,
    opened,
    out,
    print_json,
    typed_path,
)

# A hundred years: more than the time that any file has been missing.
LONGEST_DAYS = 36_500.0


def _number(value: float) -> float:
    if math.isnan(value):  # which is in every range
        raise typer.BadParameter("nan is no number of days.")
    return value


def watch(
    folders: Annotated[
        list[Path],
        typer.Argument(parser=typed_path, help="Folders, at any depth. They may come later, as a drive does."),
    ],
    poll: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            min=1.0,
            max=86_400.0,
            help="Look at the folders so often, in place of being told of changes. For network shares.",
            show_default=False,
        ),
    ] = None,
    embed: Embed = True,
    comfyui: ComfyUI = None,
    weights: Weights = None,
    home: Home = None,
    database_url: DatabaseUrl = None,
    library: LibraryName = None,
    device: Device = None,
    dtype: Dtype = None,
    as_json: Json = False,
) -> None:
    """Keep the library equal to folders while they change: new, changed, moved and deleted files. Ctrl+C ends it.

    A file is found by its metadata as soon as it is written, and embedded when nothing else is to be done. What is
    deleted, or lies on a drive that is not there, is marked as missing; `prune` removes it. With --json one object a
    line.
    """
    with (
        _ended_by_signals() as stop,
        opened(home, database_url, library, weights, device, dtype, comfyui) as images,
        _Display(as_json) as display,
    ):
        images.watch(folders, display.report, display.progress, poll=poll, embed=embed, stop=stop)


def prune(
    folders: Annotated[
        list[Path] | None,
        typer.Argument(parser=typed_path, help="Only what lay in or below these.", show_default=False),
    ] = None,
    days: Annotated[
        float,
        typer.Option(callback=_number, help="Only what has been missing for so many days.", min=0.0, max=LONGEST_DAYS),
    ] = 0.0,
    yes: Annotated[bool, typer.Option("--yes", help="Remove it.")] = False,
    home: Home = None,
    database_url: DatabaseUrl = None,
    library: LibraryName = None,
    as_json: Json = False,
) -> None:
    """List the images whose files are missing; with --yes, remove them from the library for good.

    Their favourites, ratings, tags and vectors go with them, and prompts that no other image has, those of pictures
    that were replaced among them. A file that is back by then stays.
    """
    with opened(home, database_url, library) as images:
        found = images.missing(folders or None, timedelta(days=days))
        if not yes:
            if as_json:
                print_json(found)
            elif found:
                print_missing(out, found)
                out.print("Nothing was removed. --yes removes them from the library for good.")
            else:
                out.print("No image is missing.")
            return
        with progress_bars(err) as progress:
            pruned = images.prune([image.id for image in found], progress)
    if as_json:
        print_json(pruned)
    else:
        out.print(f"{pruned.images} images and {pruned.texts} prompts removed.")
        if pruned.left:
            out.print(
                f"{pruned.left} images were left: another process indexes into this library, and may find their files "
                "under another name. Run this again when it is through."
            )


class _Display:
    """Progress while there is something to do, and a line for what was done."""

    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json
        self._bars = ExitStack()
        self._shown: Callable[[Progress], None] | None = None

    def __enter__(self) -> _Display:
        return self

    def __exit__(self, *raised: object) -> None:
        self._clear()

    def progress(self, progress: Progress) -> None:
        if self._shown is None:
            self._shown = self._bars.enter_context(progress_bars(err))
        self._shown(progress)

    def report(self, report: IndexReport) -> None:
        self._clear()
        embedded = {space: count for space, count in report.embedded.items() if count}
        if not (report.new or report.changed or report.moved or report.failed or report.missing or embedded):
            return
        if self._as_json:
            print_json(report, indent=None)
            out.file.flush()
            return
        files = report.summary() if report.new or report.changed or report.moved or report.failed else ""
        gone = f"{report.missing} missing" if report.missing and not files else ""
        vectors = ", ".join(f"{count} {space}" for space, count in embedded.items())
        out.print(
            f"{datetime.now().astimezone():%H:%M:%S} ",
            "; ".join(filter(None, [files, gone, vectors and f"{vectors} embedded"])),
            highlight=False,
        )

    def _clear(self) -> None:
        self._bars.close()
        self._shown = None


@contextmanager
def _ended_by_signals() -> Iterator[threading.Event]:
    """Ctrl+C, and what a service is ended with, are the ways to end a watch, and no errors.

    They set the event, too, for an exception that comes while Python collects garbage is lost.
    """
    stop = threading.Event()

    def end(*_: Any) -> None:
        stop.set()
        raise KeyboardInterrupt

    heard = [number for number in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, end) for number in heard}
    try:
        yield stop
    except KeyboardInterrupt:
        pass
    finally:
        for number, handler in before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
    err.print("Stopped.")
