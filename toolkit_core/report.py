"""What the command line shows: progress bars and tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from typing import TYPE_CHECKING

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
from .records import (
    FailedFile,
    ImageRecord,
    IndexReport,
    LibraryStatus,
    Lora,
    Progress,
    RereadReport,
    SearchHit,
)

if TYPE_CHECKING:
    from .inspection import Inspection

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
    _print_spaces(console, report)
    _print_failures(console, report.failed)


def print_reread_report(console: Console, report: RereadReport) -> None:
    console.print(report.summary())
    if report.current:
        console.print("What is current was read by this version before; --all reads it, too.")
    _print_spaces(console, report.embedding)
    _print_failures(console, report.unread)


def _print_spaces(console: Console, report: IndexReport) -> None:
    table = Table("space", "embedded", "pending", "")
    for space, count in report.embedded.items():
        reason = report.refused.get(space) or report.skipped.get(space, "")
        table.add_row(space, str(count), str(report.pending[space]), Text(reason, "red" if reason else ""))
    console.print(table)


def _print_failures(console: Console, failures: Sequence[FailedFile]) -> None:
    for failed in failures[:MOST_FAILURES_SHOWN]:
        console.print(Text.assemble((printable(failed.path), "bold"), ": ", failed.error))
    if len(failures) > MOST_FAILURES_SHOWN:
        console.print(f"… and {len(failures) - MOST_FAILURES_SHOWN} more; --json lists them all.")


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


def print_inspection(console: Console, found: Inspection) -> None:
    """What a file says of how its picture was made, by which rule each value was found, and what texts it has."""
    console.print(Text(printable(found.path), "bold"))
    if found.error is not None:
        console.print(Text(found.error, "red"))
    if found.reading is None:
        return
    made, rules = found.reading.parameters, found.reading.rules
    console.print(Text(f"Found by: {printable(found.reading.found_by or 'nothing that is known here')}"))
    table = Table("field", Column("value", ratio=3), Column("rule", ratio=2))
    values = {field.name: getattr(made, field.name) for field in fields(made)}
    for name, value in {**values, "size": f"{found.width} x {found.height}" if found.width else None}.items():
        if value is not None and value != ():
            shown = _loras(value) if name == "loras" else str(value)
            table.add_row(name.replace("_", " "), Text(lines(shown)), Text(lines(rules.get(name, ""))))
    if table.row_count:
        console.print(table)
    for text in found.texts:
        console.print(Text(f"{text.source} {printable(text.name)!r}: {len(text.text)} characters"))
    if not found.texts:
        console.print("It has no texts.")


def print_texts(console: Console, found: Inspection) -> None:
    """The texts of a file as they are, each under a line that says where it lies."""
    console.print(Text(printable(found.path), "bold"), soft_wrap=True)
    if found.error is not None:
        console.print(Text(found.error, "red"))
    for text in found.texts:
        console.print(Text(f"--- {text.source} {printable(text.name)!r}", "bold"), soft_wrap=True)
        console.print(Text(lines(text.text)), soft_wrap=True)


def print_record(console: Console, record: ImageRecord) -> None:
    made = record.parameters
    size = f"{record.width} x {record.height}" if record.width else None
    rows: list[tuple[str, object]] = [
        ("path", record.path),
        ("prompt", made.prompt),
        ("negative prompt", made.negative_prompt),
        ("generator", made.generator),
        ("model", made.model),
        ("VAE", made.vae),
        ("LoRAs", _loras(made.loras)),
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
            ("read by older", _read_by_older(status.read_by_older)),
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


def lines(text: str) -> str:
    """A text of several lines on a terminal: printable but for its line ends and tabs."""
    return "\n".join("\t".join(map(printable, line.split("\t"))) for line in text.splitlines())


def _loras(loras: Sequence[Lora]) -> str:
    return ", ".join(
        lora.name if lora.strength_model is None else f"{lora.name} ({lora.strength_model})" for lora in loras
    )


def _read_by_older(images: int) -> str | None:
    return f"{images} images; `diffusion-toolkit reread` reads their metadata again" if images else None


def shortened(prompt: str | None, length: int = 120) -> Text:
    text = printable(prompt or "")
    return Text(text if len(text) <= length else text[: length - 1] + "…")


def _print_rows(console: Console, title: str, rows: Sequence[tuple[str, object]]) -> None:
    table = Table(show_header=False, title=title, title_justify="left")
    for name, value in rows:
        if value not in (None, ""):
            table.add_row(name, Text(printable(str(value))))
    console.print(table)
