"""What the command line shows: progress bars and tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

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
from rich.table import Column, Table
from rich.text import Text

from .encoders.weights import WeightsLocation
from .records import ImageRecord, IndexReport, LibraryStatus, Progress, SearchHit

UNTRAINED = (
    "These weights are untrained: they find near-duplicates, not meaning. "
    "`diffusion-toolkit models` says how to get the real ones."
)
MOST_FAILURES_SHOWN = 20


@contextmanager
def progress_bars(console: Console) -> Iterator[Callable[[Progress], None]]:
    """One bar a stage while the block runs; the block is given the callback that moves them."""
    columns = (TextColumn("{task.description:>10}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with ProgressBars(*columns, console=console, transient=True) as bars:
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
            self._ids[name] = self._bars.add_task(name, total=progress.total)
        self._bars.update(self._ids[name], completed=progress.done, total=progress.total)


def print_index_report(console: Console, report: IndexReport) -> None:
    console.print(report.summary())
    table = Table("space", "embedded", "pending", "")
    for space, count in report.embedded.items():
        reason = report.refused.get(space) or report.skipped.get(space, "")
        table.add_row(space, str(count), str(report.pending[space]), Text(reason, "red" if reason else ""))
    console.print(table)
    for failed in report.failed[:MOST_FAILURES_SHOWN]:
        console.print(Text.assemble((printable(failed.path), "bold"), ": ", failed.error))
    if len(report.failed) > MOST_FAILURES_SHOWN:
        console.print(f"… and {len(report.failed) - MOST_FAILURES_SHOWN} more; --json lists them all.")


def print_hits(console: Console, hits: Sequence[SearchHit]) -> None:
    if not hits:
        console.print("Nothing found. See `diffusion-toolkit status` for what is indexed.")
        return
    names = list(hits[0].scores)
    path = Column("path", overflow="fold", ratio=1)
    table = Table("id", "score", *(names if len(names) > 1 else ()), path, Column("prompt", ratio=1))
    for hit in hits:
        scores = [f"{hit.scores[name]:.3f}" for name in names] if len(names) > 1 else []
        table.add_row(str(hit.id), f"{hit.score:.3f}", *scores, Text(printable(hit.path)), shortened(hit.prompt))
    console.print(table)


def print_inspection(console: Console, found: Mapping[str, Any]) -> None:
    table = Table(show_header=False, title=Text(printable(found["path"])), title_justify="left")
    for name, value in found.items():
        if name != "path" and value not in (None, [], ()):
            table.add_row(name, Text(printable(str(value))))
    console.print(table)


def print_record(console: Console, record: ImageRecord) -> None:
    made = record.parameters
    loras = ", ".join(f"{lora.name} ({lora.strength_model})" for lora in made.loras)
    size = f"{record.width} x {record.height}" if record.width else None
    rows: list[tuple[str, object]] = [
        ("path", record.path),
        ("prompt", made.prompt),
        ("negative prompt", made.negative_prompt),
        ("generator", made.generator),
        ("model", made.model),
        ("LoRAs", loras),
        ("sampler", made.sampler),
        ("scheduler", made.scheduler),
        ("steps", made.steps),
        ("CFG scale", made.cfg_scale),
        ("guidance", made.guidance),
        ("seed", made.seed),
        ("denoise", made.denoise),
        ("size", size),
        ("favorite", record.favorite),
        ("rating", record.rating),
        ("tags", ", ".join(record.tags)),
        ("embeddings", ", ".join(record.embeddings) or "none yet"),
        ("indexed", f"{record.indexed_at:%Y-%m-%d %H:%M}"),
        ("error", record.error),
    ]
    _print_rows(console, f"Image {record.id}", rows)


def print_status(console: Console, status: LibraryStatus) -> None:
    _print_rows(
        console,
        f"Library {status.database['library']}",
        [
            ("server", status.database["server"]),
            ("connect with", f"psql '{status.database['connection']}'"),
            ("images", status.images),
            ("failed", status.failed),
            ("prompts", status.prompts),
        ],
    )
    table = Table("space", "pending", "encoder")
    for space, pending in status.pending.items():
        made_by = status.encoders[space]
        table.add_row(space, str(pending), Text(made_by.name if made_by else "none yet"))
    console.print(table)


def print_weights(console: Console, locations: Mapping[str, WeightsLocation]) -> None:
    table = Table("space", "weights", "needs", show_lines=True)
    for space, location in locations.items():
        found = Text(str(location.path), "green") if location.path else Text(location.problem or "missing", "red")
        table.add_row(space, found, Text(location.needs))
    console.print(table)
    looked_in = dict.fromkeys(folder for location in locations.values() for folder in location.looked_in)
    for folder in looked_in:
        console.print(Text(f"looked in {folder}"))


def printable(text: str) -> str:
    """A text on one line of a terminal, whatever a file name holds."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


def shortened(prompt: str | None, length: int = 120) -> Text:
    text = printable(prompt or "")
    return Text(text if len(text) <= length else text[: length - 1] + "…")


def _print_rows(console: Console, title: str, rows: Sequence[tuple[str, object]]) -> None:
    table = Table(show_header=False, title=title, title_justify="left")
    for name, value in rows:
        if value not in (None, ""):
            table.add_row(name, Text(printable(str(value))))
    console.print(table)
