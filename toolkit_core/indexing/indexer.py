"""One run of the indexer: compare with the disk, read what is new, embed what is pending.

Files are read and decoded, matched with the library, encoded and written at the same time, each stage some batches
ahead of the next. Prompts are embedded in between, whenever enough new ones are written.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ..conditioning import ConditioningEncoder
from ..database import Database, images, missing, vectors
from ..database.claims import FILE, file_key, worker
from ..database.moved import PRUNING
from ..database.segments import seal
from ..errors import ConditioningError, EncoderError
from ..records import IndexReport, Progress, SealedSpace
from ..space_encoders import SpaceEncoders
from ..spaces import SPACES, IndexKind, Space
from .compare import compared, is_as_known
from .embedder import PICTURES_A_BATCH, TEXT_SPACES, TEXTS_A_BATCH, Embedder, Waiting, with_pixels
from .gone import hand_on, note_undecodable, note_unseen
from .keep import keep_conditionings
from .read import read_file, read_pixels
from .scan import FoundFile, Walk, resolve
from .stages import BATCHES_AHEAD, FILES_AHEAD, READERS, StageClock, ahead, batches
from .steps import PICTURES, Job, MatchedFiles, Steps, Tally

if TYPE_CHECKING:
    from ..metadata.comfyui.types import NodeTypes

ProgressCallback = Callable[[Progress], None]

# Between looks at what other workers have claimed.
WAITING_SECONDS = 1.0


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
        overwrite: bool = True,
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
        self._may_overwrite = overwrite
        self._node_types = node_types
        self._database = database
        self._encoders = encoders
        self._progress = progress or (lambda _: None)
        self._clock = StageClock()
        self._tally = Tally()
        # Files that another worker has claimed.
        self._elsewhere: list[FoundFile] = []

    def run(self, paths: Sequence[Path | str]) -> IndexReport:
        """Index folders and files. Raises PathNotFound and ImageError as `resolve` does, DatabaseError."""
        started = time.monotonic()
        resolved = resolve(paths, recursive=self._recursive)
        with ExitStack() as stack:
            self._readers, self._matcher, self._encoder = (
                stack.enter_context(ThreadPoolExecutor(count, thread_name_prefix=name))
                for name, count in (("read", READERS), ("match", 1), ("encode", self._devices))
            )
            self._worker = stack.enter_context(worker(self._database))
            self._embedder = Embedder(self._database, self._encoders, self._worker)
            self._steps = Steps(self._database, self._embedder, self._worker, self._tally, reindex=self._reindex)
            with self._database.among(PRUNING) as begun:
                waiting = self._clock.timed("scan", self._changed_files)(resolved)
                folders = [*resolved, *self._walk.links]
                # Before the new files are read, for among these are those that were moved.
                note_unseen(self._database, folders, self._unseen)
                put_off = self._read_all(waiting)
                if self._may_overwrite:
                    hand_on(self._database, begun)
            with self._database.transaction() as connection:
                gone = missing.count_below(connection, folders)
            pending = self._embed_all_pending() if self._embed else {}
        stages = self._clock.shares()
        kept = self._keep_conditionings(resolved)
        sealed: list[SealedSpace] = []
        if self._embed:
            sealed = seal(self._database, kind=self._index, pair_index=self._pair_index, progress=self._progress)
        return IndexReport(
            new=self._tally.counts["new"],
            changed=self._tally.counts["changed"],
            unchanged=self._tally.counts["unchanged"],
            moved=self._tally.counts["moved"],
            failed=tuple(dict.fromkeys([*self._tally.failed, *self._embedder.failed.values()])),
            missing=gone,
            put_off=tuple(found.path for found in put_off),
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
        self._walk = Walk(recursive=self._recursive)
        self._unseen: list[str] = []
        unchanged = 0
        for number, (found, row) in enumerate(compared(self._database, paths, self._walk), 1):
            if not isinstance(found, FoundFile):
                if row is not None:
                    self._unseen.append(row.path)
                if found is not None:
                    self._tally.failed.append(found)
            elif is_as_known(found, row) and not self._reindex:
                unchanged += 1
            else:
                changed.append(found)
            if number % 1000 == 0:
                self._progress(Progress("scan", number, None, found.path if found else None))
        self._tally.counts["unchanged"] += unchanged
        return changed

    def _read_all(self, changed: Sequence[FoundFile]) -> Sequence[FoundFile]:
        """Read all files; those that have taken another one's place after all others. Returns those not read."""
        self._read_shared(changed, overwrite=False)
        put_off = [found for found in changed if found.path in self._tally.put_off]
        if not self._may_overwrite:
            return put_off
        self._read_shared(put_off, overwrite=True)
        return ()

    def _read_shared(self, changed: Sequence[FoundFile], *, overwrite: bool) -> None:
        """Read what no other worker has claimed, then whatever others claimed and did not finish.

        overwrite: see `Steps`.
        """
        self._steps.overwrite = overwrite
        while changed:
            self._elsewhere = []
            self._read(changed)
            if len(self._elsewhere) == len(changed):
                self._wait(len(changed))
            changed = self._elsewhere + self._tally.again
            self._tally.again.clear()

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
            self._tally.counts["unchanged"] += len(read)
            unread = [found for found in batch if found.path not in read]
            self._elsewhere += [found for found in unread if keys[found.path] not in mine]
            yield from (found for found in unread if keys[found.path] in mine)

    def _read(self, changed: Sequence[FoundFile]) -> None:
        reading = partial(read_file, node_types=self._node_types(), decoded=self._embed)
        read = self._clock.timed("read", reading, READERS)
        match = self._clock.timed("match", self._steps.matched)
        encode = self._clock.timed("encode", self._steps.encoded, self._devices)
        write = self._clock.timed("write", self._steps.write)
        size = partial(self._embedder.batch_size, PICTURES)
        files = batches(ahead(self._readers, read, self._claimed(changed), FILES_AHEAD), size)
        jobs = self._with_texts(ahead(self._matcher, match, files, BATCHES_AHEAD))
        done = 0
        for job, made in ahead(self._encoder, encode, jobs, self._devices + 1):
            if isinstance(job, Waiting):
                self._embedder.finish(job, made)
                continue
            write((job, made))
            done += job.files
            latest = next((item.path for item in (*job.fresh, *job.unopened)), None)
            self._progress(Progress("read", done, len(changed), latest, self._clock.shares()))

    def _with_texts(self, files: Iterator[MatchedFiles]) -> Iterator[Job]:
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

    def _embed_all_pending(self) -> dict[str, int]:
        """Fill every space: what is left of the texts of this run, and whatever earlier runs, or other workers, left.

        Returns how many are pending still, by space.
        """
        return {space.name: self._fill(space) for space in SPACES.values()}

    def _fill(self, space: Space) -> int:
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
        encode = self._clock.timed("encode", self._steps.encoded, self._devices)
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
        """With pixels in place of pictures; without files that are gone, damaged or other ones by now."""
        read = self._clock.timed("read", read_pixels, READERS)
        there, lost = with_pixels(self._readers, waiting, read)
        note_undecodable(self._database, lost)
        return there

    def _keep_conditionings(self, paths: Sequence[str]) -> int:
        if self._keep is None:
            return 0
        try:
            return keep_conditionings(self._database, self._encoders, self._keep, paths, self._progress)
        except (ConditioningError, EncoderError) as error:
            self._embedder.refused["conditioning"] = str(error)
            return 0
