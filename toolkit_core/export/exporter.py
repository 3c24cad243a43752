"""One export: what is asked for, the snapshot it is read in, and the writer of its format."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeAlias

import numpy as np

from ..database import Connection, Database, export_rows, vectors
from ..database.export_rows import ExportBatch
from ..database.filters import Condition
from ..errors import ExportError
from ..records import ExportReport, Progress
from ..spaces import EMBEDDING_ALIASES, EMBEDDINGS, SPACES
from .contents import Contents
from .json_files import JsonFile, JsonFolder
from .parquet_file import ParquetFile
from .safetensors_file import SafetensorsFile
from .target import writing

ProgressCallback: TypeAlias = Callable[[Progress], None]

FORMATS = ("json", "safetensors", "parquet")


@dataclass(frozen=True)
class Selection:
    """The images to export, as far as they meet the condition: those of `ids` in their order, or all by id.

    One whose file is missing is exported only by its id.
    """

    ids: Iterable[int] | None = None
    condition: Condition | None = None


class Writer(Protocol):
    """Writes a format. Before `publish` nothing is to be seen at the target but names that end in .part.

    It is made with an ExitStack, at whose end it removes what was not published.
    """

    def write(self, batch: ExportBatch) -> None: ...

    def finish(self) -> tuple[int, int]:
        """Write what is left. Returns how many files there are, and their bytes."""
        ...

    def publish(self) -> None:
        """Give the files their names, in place of those of an earlier export."""
        ...


MakeWriter: TypeAlias = Callable[[Path, Contents, ExitStack], Writer]


def export(
    database: Database,
    target: Path,
    selection: Selection,
    format: str | None,
    embeddings: Sequence[str],
    progress: ProgressCallback | None,
) -> ExportReport:
    """Write the selected images to a target, a real path. See `Library.export`."""
    started = time.monotonic()
    names = _embedding_names(embeddings)
    with writing(target):
        format, make = _writer(target, format)
    # Before the transaction: whatever gives the ids may take long, or exchange an index.
    given = None if selection.ids is None else export_rows.distinct(selection.ids)
    missing = dict.fromkeys(names, 0)
    without = done = 0
    with database.transaction() as connection:
        export_rows.begin_snapshot(connection)
        if not export_rows.lock_target(connection, _lock_key(target)):
            raise ExportError(f"Another export is writing {str(target)!r}. Wait for its end, or name another target.")
        ids = export_rows.select(connection, given, selection.condition)
        contents = _contents(connection, len(ids), names)
        with ExitStack() as stack:
            with writing(target):
                writer = make(target, contents, stack)
            for batch in export_rows.batches(connection, ids, contents.embeddings):
                with writing(target):
                    writer.write(batch)
                lacking = {name: np.isnan(batch.vectors[name][:, 0]) for name in names}
                for name in names:
                    missing[name] += int(lacking[name].sum())
                without += int(np.all([np.ones(len(batch.images), bool), *lacking.values()], axis=0).sum())
                done += len(batch.images)
                if progress is not None:
                    progress(Progress("exporting", done, len(ids), batch.images[-1].path))
            with writing(target):
                files, size = writer.finish()
                writer.publish()
    return ExportReport(str(target), format, files, done, without, missing, size, time.monotonic() - started)


def _embedding_names(given: Sequence[str]) -> list[str]:
    names = list(dict.fromkeys(EMBEDDING_ALIASES.get(name, name) for name in given))
    for name in names:
        if name not in EMBEDDINGS:
            raise ExportError(f"{name!r} is no embedding. There are {', '.join(EMBEDDINGS)}.")
    return names


def _contents(connection: Connection, images: int, names: Sequence[str]) -> Contents:
    embeddings = tuple(EMBEDDINGS[name] for name in names)
    encoders = {e.name: vectors.encoder(connection, SPACES[e.space]) for e in embeddings}
    return Contents(images, embeddings, {name: made and made.name for name, made in encoders.items()})


def _writer(target: Path, format: str | None) -> tuple[str, MakeWriter]:
    """The format's name, and its writer for this target. Raises ExportError where they do not fit."""
    ending = target.suffix.lower().removeprefix(".")
    is_folder = target.is_dir()
    if format is None:
        format = "json" if ending not in FORMATS and (is_folder or not ending) else ending
    if format not in FORMATS:
        raise ExportError(
            f"{format!r} is no format of an export. Name a target that ends in .json, .safetensors or .parquet, or a "
            f"folder; or one of the formats {', '.join(FORMATS)}."
        )
    if format == "json" and (is_folder or ending not in FORMATS):
        return format, JsonFolder
    if ending != format:
        raise ExportError(f"The target {str(target)!r} does not end in .{format}, the format it is to have.")
    if is_folder:
        raise ExportError(f"The target {str(target)!r} is a folder. Name a file in it that ends in .{format}.")
    return format, {"json": JsonFile, "safetensors": SafetensorsFile, "parquet": ParquetFile}[format]


def _lock_key(target: Path) -> int:
    return int.from_bytes(hashlib.sha256(os.fsencode(target)).digest()[:8], "big", signed=True)
