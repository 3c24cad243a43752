"""Making sense of kept metadata again, without the files."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from ..database import Database, raw_metadata, rereading, revision
from ..database.rereading import Reread, StoredFile
from ..metadata import READER_VERSION, read_parameters, read_texts
from ..records import FailedFile, IndexReport, MetadataText, Progress, RereadReport
from .read import read_bytes
from .scan import FoundFile, find_file
from .sidecars import FolderSidecars, read_sidecars
from .stages import FILES_AHEAD, READERS, ahead

if TYPE_CHECKING:
    from ..metadata.comfyui.types import NodeTypes

Texts = tuple[MetadataText, ...]

ROWS_A_BATCH = 256


class Rereader:
    """Everything one run needs and counts. Use it once: `Rereader(…).run()`.

    A batch is committed at a time: a run that ends at any moment is taken up by the next one, which leaves out what was
    read already.
    """

    def __init__(
        self,
        database: Database,
        embed: Callable[[], IndexReport],
        progress: Callable[[Progress], None] | None = None,
        *,
        everything: bool = False,
        node_types: NodeTypes | None = None,
    ) -> None:
        """embed: fills what is pending. everything: also what this reader has read before. node_types: see
        `read_parameters`.
        """
        self._database = database
        self._embed = embed
        self._progress = progress or (lambda _: None)
        self._everything = everything
        self._node_types = node_types
        self._folders: dict[str, FolderSidecars] = {}
        self._from_kept = self._from_files = self._changed = self._current = 0
        self._unread: list[FailedFile] = []

    def run(self) -> RereadReport:
        """Read all rows, or those of an older reader, and embed what is new. Raises DatabaseError."""
        started = time.monotonic()
        self._read_all()
        return RereadReport(
            from_kept=self._from_kept,
            from_files=self._from_files,
            changed=self._changed,
            current=self._current,
            unread=tuple(self._unread),
            embedding=self._embed(),
            seconds=time.monotonic() - started,
        )

    def _read_all(self) -> None:
        with self._database.transaction() as connection:
            total = rereading.count(connection, READER_VERSION, everything=self._everything)
            self._current = rereading.count(connection, READER_VERSION, everything=True) - total
        done = last = 0
        with ThreadPoolExecutor(READERS, thread_name_prefix="reread") as readers:
            while True:
                with self._database.transaction() as connection:
                    files = rereading.waiting(
                        connection, READER_VERSION, last, ROWS_A_BATCH, everything=self._everything
                    )
                    kept = raw_metadata.read(connection, {f.metadata_id for f in files if f.metadata_id is not None})
                if not files:
                    return
                self._write(self._read_kept(files, kept) + self._read_files(readers, files))
                last = files[-1].id
                done += len(files)
                self._progress(Progress("reread", done, max(total, done)))

    def _read_kept(self, files: Sequence[StoredFile], kept: dict[int, Texts]) -> list[Reread]:
        read = {id: read_parameters(texts, self._node_types).parameters for id, texts in kept.items()}
        reread = [Reread(f, read[f.metadata_id], f.metadata_id) for f in files if f.metadata_id is not None]
        self._from_kept += len(reread)
        return reread

    def _read_files(self, readers: ThreadPoolExecutor, files: Sequence[StoredFile]) -> list[Reread]:
        """The rows whose metadata is not kept, from their files; it is kept from now on."""
        found: list[tuple[StoredFile, Texts]] = []
        lacking = [(file, find_file(file.path, self._folders)) for file in files if file.metadata_id is None]
        for (file, _), texts in zip(lacking, ahead(readers, _texts_of, lacking, FILES_AHEAD), strict=True):
            if isinstance(texts, FailedFile):
                self._unread.append(texts)
            else:
                found.append((file, texts))
        if not found:
            return []
        self._from_files += len(found)
        with self._database.transaction() as connection:
            ids = raw_metadata.write(connection, [texts for _, texts in found])
        return [
            Reread(file, read_parameters(texts, self._node_types).parameters, id)
            for (file, texts), id in zip(found, ids, strict=True)
        ]

    def _write(self, reread: Sequence[Reread]) -> None:
        if not reread:
            return
        with self._database.transaction() as connection:
            changed = rereading.write(connection, reread, READER_VERSION)
            if changed:
                revision.bump(connection)
        self._changed += changed


def _texts_of(stored: tuple[StoredFile, FoundFile | FailedFile]) -> Texts | FailedFile:
    """The texts of a row's file, if that is still the one that was indexed."""
    file, found = stored
    if isinstance(found, FailedFile):
        return found
    data = read_bytes(found)
    if isinstance(data, FailedFile):
        return data
    if hashlib.sha256(data).digest() != file.content_hash:
        return FailedFile(file.path, "It has changed since it was indexed. Index it.")
    return read_texts(data, read_sidecars(found.sidecars))
