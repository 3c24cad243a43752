"""Progress bars."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.progress import Progress as ProgressBars

from ..records import Progress


@contextmanager
def progress_bars(console: Console) -> Iterator[Callable[[Progress], None]]:
    """One bar a stage while the block runs; the block is given the callback that moves them."""
    columns = (TextColumn("{task.description:>10}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    more = (TextColumn("{task.fields[rate]}"), TextColumn("{task.fields[stages]}", style="dim"))
    with ProgressBars(*columns, *more, console=console, transient=True) as bars:
        yield _Tasks(bars, lambda progress: progress.stage)


@contextmanager
def download_bars(console: Console) -> Iterator[Callable[[Progress], None]]:
    """One bar a file, in bytes, while the block runs."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with ProgressBars(*columns, TimeRemainingColumn(), console=console) as bars:
        yield _Tasks(bars, lambda progress: progress.item or progress.stage)


class _Tasks:
    """The bars of a display, each made when its name first comes up."""

    def __init__(self, bars: ProgressBars, name: Callable[[Progress], str]) -> None:
        self._bars = bars
        self._name = name
        self._ids: dict[str, TaskID] = {}

    def __call__(self, progress: Progress) -> None:
        name = self._name(progress)
        if name not in self._ids:
            self._ids[name] = self._bars.add_task(name, total=progress.total, rate="", stages="")
        task = self._bars.tasks[self._ids[name]]
        rate = f"{task.speed:,.1f}/s" if task.speed else ""
        self._bars.update(task.id, completed=progress.done, total=progress.total, rate=rate, stages=progress.busy())
