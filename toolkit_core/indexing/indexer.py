"""One run of the indexer: compare with the disk, read what is new, embed what is pending.

Files are read and decoded, matched with the library, encoded and written at the same time, each stage some batches
ahead of the next. Prompts are embedded in between, whenever enough new ones are written.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from ..conditioning import ConditioningEncoder
from ..database import Database, images, raw_metadata, revision, vectors
from ..database.claims import FILE, file_key, worker
from ..database.images import ImageRow, KnownFile
from ..database.segments import seal
from ..database.vectors import Vectors
from ..encoders.pixels import Pixels
from ..errors import ConditioningError, EncoderError
from ..records import FailedFile, IndexReport, Progress, SealedSpace
from ..space_encoders import SpaceEncoders
from ..spaces import SPACES, IndexKind, Space
from .compare import compared, is_as_known
from .continued import continued_rows
from .embedder import PICTURES_A_BATCH, TEXT_SPACES, TEXTS_A_BATCH, Embedder, Waiting, decoded
from .gone import count_missing, note_undecodable, note_unseen
from .keep import keep_conditionings
from .read import ReadFile, read_file, read_pixels
from .scan import FoundFile, find_file, resolve
from .stages import BATCHES_AHEAD, FILES_AHEAD, StageClock, ahead, batches

if TYPE_CHECKING:
    from ..metadata.comfyui.types import NodeTypes

ProgressCallback = Callable[[Progress], None]

# Between looks at what other workers have claimed.
WAITING_SECONDS = 1.0
PICTURES = SPACES["clip_h"]


@dataclass(frozen=True)
class _Files:
    """A batch of files as they compare with the library.

    fresh: those to be written with their pixels. continued: see `continued_rows`. redescribed: continued ones whose
    sidecars changed. known: the paths that have a row.
    """

    unopened: Sequence[FailedFile]
    fresh: Sequence[ReadFile]
    redescribed: Sequence[ReadFile]
    continued: Mapping[str, tuple[ImageRow, KnownFile]]
    known: Collection[str]

    @property
    def pictures(self) -> list[tuple[int, Pixels]]:
        """The pixels of the fresh files that can be decoded, by their place among them."""
        return [(i, item.pixels) for i, item in enumerate(self.fresh) if item.pixels is not None]


_Job: TypeAlias = "_Files | Waiting"


class Indexer:
    """Everything one run needs and counts. Use it once: `Indexer(…).run(paths)`.

    What is committed stays: a run that ends at any moment, by an exception out of `progress` or by a kill, is taken up
    by the next one.
    """

    def __init__(
        self,
        database: Database,
        encoders: SpaceEncoders,
        progress: ProgressCallback | None = None,
        *,
        recursive: bool = True,
        reindex: bool = False,
        keep: ConditioningEncoder | None = None,
        embed: bool = True,
        index: IndexKind = "hnsw",
        pair_index: bool = False,
        node_types: Callable[[], NodeTypes | None] = lambda: None,
        devices: int = 1,
    ) -> None:
        """See `Library.index`. index, pair_index: see `Settings`. node_types: asked once there is a file to read.

        devices: how many batches may be encoded side by side.
        """
        self._devices = devices
        self._index: IndexKind = index
        self._pair_index = pair_index
        self._recursive = recursive
        self._reindex = reindex
        self._keep = keep
        self._embed = embed
        self._node_types = node_types
        self._database = database
        self._encoders = encoders
        self._progress = progress or (lambda _: None)
        self._clock = StageClock()
        self._counts: Counter[str] = Counter()
        self._failed: list[FailedFile] = []
        # Rows that a batch which is not written yet goes on.
        self._taken: set[int] = set()
        # Files that another worker has claimed.
        self._elsewhere: list[FoundFile] = []

    def run(self, paths: Sequence[Path | str]) -> IndexReport:
        """Index folders and files. Raises PathNotFound where one of them does not exist, DatabaseError."""
        started = time.monotonic()
        resolved = resolve(paths)
        waiting = self._clock.timed("scan", self._changed_files)(resolved)
        with ExitStack() as stack:
            self._reader_count = os.cpu_count() or 1
            self._readers, self._matcher, self._encoder = (
                stack.enter_context(ThreadPoolExecutor(count, thread_name_prefix=name))
                for name, count in (("read", self._reader_count), ("match", 1), ("encode", self._devices))
            )
            self._worker = stack.enter_context(worker(self._database))
            self._embedder = Embedder(self._database, self._encoders, self._worker)
            # Before the new files are read, for among these are those that were moved.
            gone = note_unseen(self._database, resolved, self._unseen)
            self._read_all(waiting)
            missing = count_missing(self._database, gone)
            pending = {space.name: self._embed_all_pending(space) for space in SPACES.values() if self._embed}
        stages = self._clock.shares()
        kept = self._keep_conditionings(resolved)
        sealed: list[SealedSpace] = []
        if self._embed:
            sealed = seal(self._database, kind=self._index, pair_index=self._pair_index, progress=self._progress)
        return IndexReport(
            new=self._counts["new"],
            changed=self._counts["changed"],
            unchanged=self._counts["unchanged"],
            moved=self._counts["moved"],
            failed=tuple(self._failed),
            missing=missing,
            embedded={name: self._embedder.embedded[name] for name in SPACES},
            pending=pending,
            skipped=self._embedder.skipped,
            refused=self._embedder.refused,
            kept_conditionings=kept,
            sealed=tuple(sealed),
            stages=stages,
            seconds=time.monotonic() - started,
        )

    def _changed_files(self, paths: Sequence[str]) -> list[FoundFile]:
        """What is on disk and not in the library as it is on disk."""
        changed = []
        self._unseen: list[str] = []
        unchanged = 0
        for number, (found, row) in enumerate(compared(self._database, paths, recursive=self._recursive), 1):
            if found is None:
                assert row is not None
                self._unseen.append(row.path)
            elif isinstance(found, FailedFile):
                self._failed.append(found)
            elif is_as_known(found, row) and not self._reindex:
                unchanged += 1
            else:
                changed.append(found)
            if number % 1000 == 0:
                self._progress(Progress("scan", number, None, found.path if found else None))
        self._counts["unchanged"] += unchanged
        return changed

    def _read_all(self, changed: Sequence[FoundFile]) -> None:
        """Read what no other worker has claimed, then whatever others claimed and did not finish."""
        while changed:
            self._elsewhere = []
            self._read(changed)
            if len(self._elsewhere) == len(changed):
                self._wait(len(changed))
            changed = self._elsewhere

    def _wait(self, items: int) -> None:
        """Give other workers time for what they have claimed."""
        self._progress(Progress("wait", 0, items))
        time.sleep(WAITING_SECONDS)

    def _claimed(self, changed: Sequence[FoundFile]) -> Iterator[FoundFile]:
        """The files that this worker has claimed, and that nobody has read since they were found to be changed."""
        for batch in batches(changed, PICTURES_A_BATCH):
            keys = {found.path: file_key(found.path) for found in batch}
            with self._database.transaction() as connection:
                mine = self._worker.claim(connection, FILE, list(keys.values()))
                rows = images.files_at(connection, list(keys))
                read = {found.path for found in batch if is_as_known(found, rows.get(found.path)) and not self._reindex}
                self._worker.release(connection, FILE, [keys[path] for path in read])
            self._counts["unchanged"] += len(read)
            unread = [found for found in batch if found.path not in read]
            self._elsewhere += [found for found in unread if keys[found.path] not in mine]
            yield from (found for found in unread if keys[found.path] in mine)

    def _read(self, changed: Sequence[FoundFile]) -> None:
        reading = partial(read_file, node_types=self._node_types(), decoded=self._embed)
        read = self._clock.timed("read", reading, self._reader_count)
        match = self._clock.timed("match", self._matched)
        encode = self._clock.timed("encode", self._encoded, self._devices)
        write = self._clock.timed("write", self._write_files)
        files = batches(ahead(self._readers, read, self._claimed(changed), FILES_AHEAD), PICTURES_A_BATCH)
        jobs = self._with_texts(ahead(self._matcher, match, files, BATCHES_AHEAD))
        done = 0
        for job, made in ahead(self._encoder, encode, jobs, self._devices + 1):
            if isinstance(job, Waiting):
                self._embedder.finish(job, made)
                continue
            write((job, made))
            done += len(job.unopened) + len(job.fresh) + len(job.continued)
            latest = next((item.path for item in (*job.fresh, *job.unopened)), None)
            self._progress(Progress("read", done, len(changed), latest, self._clock.shares()))

    def _matched(self, batch: Sequence[ReadFile | FailedFile]) -> _Files:
        read = [item for item in batch if isinstance(item, ReadFile)]
        with self._database.transaction() as connection:
            known = images.files_at(connection, [item.path for item in read])
            # Whoever asks to reindex wants a known file's metadata read again, though its content is the same.
            rows = [item.row for item in read if not (self._reindex and item.path in known)]
            # As they are before the rows are looked up: a row that is written by then is not gone any more.
            taken = frozenset(self._taken)
            continued = continued_rows(connection, rows, known, taken)
        self._taken.update(before.id for _, before in continued.values())
        # The file is as it was, and what lies beside it is not.
        redescribed = {path for path, (row, before) in continued.items() if row.sidecars != before.sidecars}
        return _Files(
            unopened=[item for item in batch if isinstance(item, FailedFile)],
            fresh=[item for item in read if item.path not in continued],
            redescribed=[item for item in read if item.path in redescribed],
            continued=continued,
            known=known,
        )

    def _with_texts(self, files: Iterator[_Files]) -> Iterator[_Job]:
        """The batches of files, and between them batches of the texts that were written meanwhile."""
        after = dict.fromkeys(TEXT_SPACES, 0)
        seen = 0
        for batch in files:
            yield batch
            seen += len(batch.fresh)
            if seen < TEXTS_A_BATCH or not self._embed:
                continue
            seen = 0
            for space in TEXT_SPACES:
                texts = next(self._embedder.waiting(space, after[space]), None)
                if texts is not None and texts.owners:
                    after[space] = texts.owners[-1]
                    yield texts

    def _encoded(self, job: _Job) -> tuple[_Job, Vectors | None]:
        if isinstance(job, Waiting):
            return job, self._embedder.encode(job.space, job.values)
        return job, self._embedder.encode(PICTURES, [pixels for _, pixels in job.pictures])

    def _write_files(self, encoded: tuple[_Files, Vectors | None]) -> None:
        batch, picture_vectors = encoded
        written = [*batch.fresh, *batch.redescribed]
        with self._database.transaction() as connection:
            metadata_ids = raw_metadata.write(connection, [item.texts for item in written])
        with self._database.transaction() as connection:
            continued = {
                path: before
                for path, (row, before) in batch.continued.items()
                if images.continue_row(connection, before, path, row.modified_at)
            }
            unopened = [item for item in batch.unopened if os.path.lexists(item.path)]  # the others are gone by now
            news = [images.mark_unopened(connection, item.path, item.error) for item in unopened]
            ids = images.write(
                connection,
                [replace(item.row, metadata_id=id) for item, id in zip(written, metadata_ids, strict=True)],
            )
            if picture_vectors is not None:
                self._embedder.write(connection, PICTURES, [ids[i] for i, _ in batch.pictures], picture_vectors)
            if continued or batch.fresh or any(news):
                revision.bump(connection)
            paths = [*batch.continued, *(item.path for item in (*batch.fresh, *batch.unopened))]
            self._worker.release(connection, FILE, [file_key(path) for path in paths])
        self._taken.difference_update(before.id for _, before in batch.continued.values())
        self._counts.update("changed" if item.path in batch.known else "new" for item in batch.fresh)
        redescribed = {item.path for item in batch.redescribed}
        # What another process took the row of is read again.
        lost = [find_file(path, {}) for path in batch.continued if path not in continued]
        self._elsewhere += [found for found in lost if isinstance(found, FoundFile)]
        for path, before in continued.items():
            self._counts["moved" if path != before.path else "changed" if path in redescribed else "unchanged"] += 1
        self._failed += batch.unopened
        self._failed += [FailedFile(item.path, item.row.error) for item in batch.fresh if item.row.error is not None]

    def _embed_all_pending(self, space: Space) -> int:
        """Fill a space: what is left of the texts of this run, and whatever earlier runs, or other workers, left.

        Returns how many are pending still.
        """
        total = self._count_pending(space)
        while total > 0:
            elsewhere = self._embed_pending(space, total)
            total = self._count_pending(space)
            if elsewhere == 0:
                break
            if total > 0:
                self._wait(total)
        return total

    def _count_pending(self, space: Space) -> int:
        with self._database.transaction() as connection:
            return vectors.count_pending(connection, space)

    def _embed_pending(self, space: Space, total: int) -> int:
        """Fill a space with what no other worker has claimed. Returns how many vectors others are at."""
        encode = self._clock.timed("encode", self._encoded, self._devices)
        waiting = self._embedder.waiting(space, 0)
        if space.of == "image":
            waiting = ahead(self._matcher, self._decoded, waiting, BATCHES_AHEAD)
        done = elsewhere = 0
        for job, made in ahead(self._encoder, encode, waiting, self._devices + 1):
            assert isinstance(job, Waiting)
            self._embedder.finish(job, made)
            done += len(job.owners)
            elsewhere += job.elsewhere
            self._progress(Progress(space.name, done, total, stages=self._clock.shares()))
        return elsewhere if self._embedder.is_usable(space) else 0

    def _decoded(self, waiting: Waiting) -> Waiting:
        """With pixels in place of paths; without files that are gone or damaged by now."""
        read = self._clock.timed("read", read_pixels, self._reader_count)
        owners, pixels = decoded(self._readers, waiting.owners, waiting.values, read)
        lost = set(waiting.owners).difference(owners)
        paths = zip(waiting.owners, waiting.values, strict=True)
        note_undecodable(self._database, {owner: path for owner, path in paths if owner in lost})
        return replace(waiting, owners=owners, values=pixels)

    def _keep_conditionings(self, paths: Sequence[str]) -> int:
        if self._keep is None:
            return 0
        try:
            return keep_conditionings(self._database, self._encoders, self._keep, paths, self._progress)
        except (ConditioningError, EncoderError) as error:
            self._embedder.refused["conditioning"] = str(error)
            return 0
