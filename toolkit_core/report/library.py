"""What was done to a library, and how it stands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path

from rich.console import Console
from rich.filesize import decimal
from rich.table import Column, Table
from rich.text import Text

from ..encoders.weights import WeightsLocation
from ..records import (
    ExportReport,
    FailedFile,
    FailedImage,
    ImportReport,
    IndexReport,
    LibraryStatus,
    MissingImage,
    RereadReport,
    SealedSpace,
    UnfoundFolder,
)
from .text import print_rows, printable

UNTRAINED = (
    "These weights are untrained: they find near-duplicates, not meaning. "
    "`diffusion-toolkit models` says how to get the real ones."
)
MOST_FAILURES_SHOWN = 20
MOST_FOLDERS_SHOWN = 20


def print_index_report(console: Console, report: IndexReport) -> None:
    console.print(report.summary())
    if pace := report.pace():
        console.print(pace)
    _print_spaces(console, report)
    _print_failures(console, report.failed)


def print_reread_report(console: Console, report: RereadReport) -> None:
    console.print(report.summary())
    if report.current:
        console.print("What is current was read by this version before; --all reads it, too.")
    _print_spaces(console, report.embedding)
    _print_failures(console, report.unread)


def print_failed(console: Console, images: Sequence[FailedImage]) -> None:
    if not images:
        console.print("Every image that is there could be read.")
    for image in images:
        console.print(_failure(image), soft_wrap=True)


def print_import_report(console: Console, report: ImportReport) -> None:
    console.print(Text(printable(report.summary())), soft_wrap=True)
    console.print(f"Indexed: {report.indexing.summary()}")
    console.print(
        f"{report.curated:,} images changed by what is said of them there: {report.favorites:,} new favourites, "
        f"{report.rated:,} rated, {report.tagged:,} tagged"
    )
    if report.tagger_tags:
        console.print(
            f"{report.tagger_tags:,} tags made by taggers were left out; --tagger-tags 0.5 takes the surer ones."
        )
    if report.unsupported:
        kinds = ", ".join(
            f"{count:,} {printable(suffix) or 'without a suffix'}" for suffix, count in report.unsupported.items()
        )
        console.print(Text(f"No pictures: {kinds}"))
    if report.unfound:
        _print_unfound(console, report.unfound)
    if report.indexing.pending:
        _print_spaces(console, report.indexing)
    _print_failures(console, report.indexing.failed)


def _print_unfound(console: Console, folders: Sequence[UnfoundFolder]) -> None:
    table = Table(
        Column("folder there", overflow="fold"),
        Column("not found", justify="right"),
        Column("of", justify="right"),
        Column("one was looked for at", overflow="fold"),
    )
    for folder in folders[:MOST_FOLDERS_SHOWN]:
        looked_for = printable(folder.looked_for) if folder.looked_for else "nowhere: no such path on this machine"
        table.add_row(Text(printable(folder.folder)), f"{folder.unfound:,}", f"{folder.images:,}", Text(looked_for))
    console.print(table)
    if len(folders) > MOST_FOLDERS_SHOWN:
        console.print(f"… and {len(folders) - MOST_FOLDERS_SHOWN} more; --json lists them all.")
    lost = next((folder.folder for folder in folders if folder.unfound == folder.images), None)
    if lost is not None:
        console.print(
            Text(f'If a folder is elsewhere on this machine, say where: --map "{printable(lost)}=FOLDER HERE"'),
            soft_wrap=True,
        )


def print_missing(console: Console, images: Sequence[MissingImage]) -> None:
    """How many images are missing, by the folder that they lay in, and whether that is there."""
    table = Table(Column("folder", overflow="fold"), Column("missing", justify="right"), "since", "")
    by_folder = groupby(sorted(images, key=_folder), key=_folder)
    for folder, group in by_folder:
        lost = list(group)
        curated = sum(image.is_curated for image in lost)
        remarks = [f"{curated} favourites, rated or tagged"] if curated else []
        if not Path(folder).is_dir():
            remarks.append("the folder is not there: is its drive connected?")
        since = min(image.missing_since for image in lost)
        table.add_row(Text(printable(folder)), f"{len(lost):,}", f"{since:%Y-%m-%d %H:%M}", "; ".join(remarks))
    console.print(table)


def print_sealed(console: Console, sealed: Sequence[SealedSpace]) -> None:
    """What came into the indexes, by space."""
    table = Table("space", Column("vectors", justify="right"), "index", Column("seconds", justify="right"))
    for space in sealed:
        done = "built anew" if space.anew else "brought up to date"
        table.add_row(space.space, f"{space.rows:,}", done, f"{space.seconds:.1f}")
    console.print(table)


def print_export_report(console: Console, report: ExportReport) -> None:
    console.print(Text(printable(report.summary())), soft_wrap=True)
    for name, images in report.missing.items():
        if images:
            console.print(f"{images} images have no {name}.")


def print_tags(console: Console, tags: Mapping[str, int]) -> None:
    if not tags:
        console.print("No image has a tag. `diffusion-toolkit curate` gives them.")
        return
    table = Table(Column("tag", overflow="fold"), Column("images", justify="right"))
    for tag, images in tags.items():
        table.add_row(Text(printable(tag)), str(images))
    console.print(table)


def print_status(console: Console, status: LibraryStatus) -> None:
    print_rows(
        console,
        f"Library {status.database['library']}",
        [
            ("server", status.database["server"]),
            ("connect with", f"psql '{status.database['connection']}'"),
            ("images", status.images),
            ("failed", _failed(status.failed)),
            ("missing", _missing(status.missing)),
            ("prompts", status.prompts),
            ("read by older", _read_by_older(status.read_by_older)),
        ],
    )
    counts = [Column(name, justify="right") for name in ("pending", "sealed", "open", "size")]
    table = Table("space", counts[0], "index", *counts[1:], "encoder")
    for space, pending in status.pending.items():
        index, made_by = status.indexes[space], status.encoders[space]
        table.add_row(
            space,
            f"{pending:,}",
            index.index or "none",
            f"{index.sealed:,}",
            f"{index.open:,}",
            decimal(index.bytes),
            Text(made_by.name if made_by else "none yet"),
        )
    console.print(table)
    for space, again in status.reembedding.items():
        console.print(
            Text(
                f"{space} is being made again with {printable(again.encoder)}: {again.done:,} vectors so far. "
                f"`diffusion-toolkit reindex {space}` goes on, with --abandon it is given up."
            )
        )


def print_weights(console: Console, locations: Mapping[str, WeightsLocation]) -> None:
    table = Table("space", "weights", "needs", show_lines=True)
    for space, location in locations.items():
        found = Text(str(location.path), "green") if location.path else Text(location.problem or "missing", "red")
        table.add_row(space, found, Text(location.needs))
    console.print(table)
    looked_in = dict.fromkeys(folder for location in locations.values() for folder in location.looked_in)
    for folder in looked_in:
        console.print(Text(f"looked in {folder}"))


def _print_spaces(console: Console, report: IndexReport) -> None:
    table = Table("space", "embedded", "pending", "")
    for space, count in report.embedded.items():
        reason = report.refused.get(space) or report.skipped.get(space, "")
        table.add_row(space, str(count), str(report.pending[space]), Text(reason, "red" if reason else ""))
    console.print(table)
    if report.sealed:
        print_sealed(console, report.sealed)


def _print_failures(console: Console, failures: Sequence[FailedFile]) -> None:
    for failed in failures[:MOST_FAILURES_SHOWN]:
        console.print(_failure(failed))
    if len(failures) > MOST_FAILURES_SHOWN:
        console.print(f"… and {len(failures) - MOST_FAILURES_SHOWN} more; --json lists them all.")


def _failure(failed: FailedFile | FailedImage) -> Text:
    return Text.assemble((printable(failed.path), "bold"), ": ", printable(failed.error))


def _folder(image: MissingImage) -> str:
    return str(Path(image.path).parent)


def _failed(images: int) -> str | None:
    return f"{images} images; `diffusion-toolkit failures` lists them" if images else None


def _missing(images: int) -> str | None:
    return f"{images} images; `diffusion-toolkit prune` lists them" if images else None


def _read_by_older(images: int) -> str | None:
    return f"{images} images; `diffusion-toolkit reread` reads their metadata again" if images else None
