"""One run of the indexer: compare with the disk, read what is new, embed what is pending."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..conditioning import ConditioningEncoder
from ..database import Database, images, raw_metadata, revision, vectors
from ..database.images import KnownFile
from ..database.segments import seal
from ..encoders.pixels import Pixels, decode
from ..errors import ConditioningError, EncoderError, ImageError, WeightsMissing
from ..records import FailedFile, IndexReport, Progress
from ..space_encoders import SpaceEncoders
from ..spaces import SPACES, IndexKind, Space
from .continued import continued_rows
from .keep import keep_conditionings
from .read import ReadFile, read_file
from .scan import FoundFile, resolve, scan
from .sidecars import stamp
from .threads import ahead, batches

if TYPE_CHECKING:
    from ..metadata.comfyui.types import NodeTypes

ProgressCallback = Callable[[Progress], None]

FILES_A_BATCH = 32
TEXTS_A_BATCH = 256


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
        index: IndexKind = "hnsw",
        pair_index: bool = False,
        node_types: Callable[[], NodeTypes | None] = lambda: None,
    ) -> None:
        """See `Library.index`. index, pair_index: see `Settings`. node_types: asked once there is a file to read."""
        self._index: IndexKind = index
        self._pair_index = pair_index
        self._recursive = recursive
        self._reindex = reindex
        self._keep = keep
        self._node_types = node_types
        self._database = database
        self._encoders = encoders
        self._progress = progress or (lambda _: None)
        self._counts: Counter[str] = Counter()
        self._embedded: Counter[str] = Counter()
        self._failed: list[FailedFile] = []
        self._usable: set[str] = set()
        self._skipped: dict[str, str] = {}
        self._refused: dict[str, str] = {}

    def run(self, paths: Sequence[Path | str]) -> IndexReport:
        """Index folders and files. Raises PathNotFound where one of them does not exist, DatabaseError."""
        started = time.monotonic()
        resolved = resolve(paths)
        waiting = self._changed_files(resolved)
        with ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="read") as readers:
            self._read(readers, waiting)
            for space in SPACES.values():
                self._embed_pending(readers, space)
        kept = self._keep_conditionings(resolved)
        sealed = seal(self._database, kind=self._index, pair_index=self._pair_index, progress=self._progress)
        with self._database.transaction() as connection:
            pending = {space.name: vectors.count_pending(connection, space) for space in SPACES.values()}
        return IndexReport(
            new=self._counts["new"],
            changed=self._counts["changed"],
            unchanged=self._counts["unchanged"],
            moved=self._counts["moved"],
            failed=tuple(self._failed),
            embedded={name: self._embedded[name] for name in SPACES},
            pending=pending,
            skipped=self._skipped,
            refused=self._refused,
            kept_conditionings=kept,
            sealed=tuple(sealed),
            seconds=time.monotonic() - started,
        )

    def _changed_files(self, paths: Sequence[str]) -> list[FoundFile]:
        """What is on disk and not in the library as it is on disk."""
        known: dict[str, KnownFile] = {}
        with self._database.transaction() as connection:
            for path in paths:
                known.update((file.path, file) for file in images.known_files(connection, path, os.sep))
        changed = []
        for number, found in enumerate(scan(paths, recursive=self._recursive), 1):
            if isinstance(found, FailedFile):
                self._failed.append(found)
                continue
            row = known.get(found.path)
            now = (found.file_size, found.modified_at, stamp(found.sidecars))
            if row is not None and (row.file_size, row.modified_at, row.sidecars) == now and not self._reindex:
                self._counts["unchanged"] += 1
            else:
                changed.append(found)
            if number % 1000 == 0:
                self._progress(Progress("scan", number, None, found.path))
        return changed

    def _read(self, readers: ThreadPoolExecutor, changed: Sequence[FoundFile]) -> None:
        if not changed:
            return
        done = 0
        read = partial(read_file, node_types=self._node_types())
        for batch in batches(ahead(readers, read, changed), FILES_A_BATCH):
            self._write_files(batch)
            done += len(batch)
            self._progress(Progress("read", done, len(changed), batch[-1].path))

    def _write_files(self, batch: Sequence[ReadFile | FailedFile]) -> None:
        read = [item for item in batch if isinstance(item, ReadFile)]
        unopened = [item for item in batch if isinstance(item, FailedFile)]
        with self._database.transaction() as connection:
            known = images.known_paths(connection, [item.path for item in read])
            # Whoever asks to reindex wants a known file's metadata read again, though its content is the same.
            rows = [item.row for item in read if not (self._reindex and item.path in known)]
            continued = continued_rows(connection, rows, known)
        fresh = [item for item in read if item.path not in continued]
        # The file is as it was, and what lies beside it is not.
        redescribed = {path for path, (row, before) in continued.items() if row.sidecars != before.sidecars}
        # Encoding comes before the transaction, so that no lock is held while it takes its time.
        pictures = [(i, item.pixels) for i, item in enumerate(fresh) if item.pixels is not None]
        picture_vectors = self._encode(SPACES["clip_h"], [pixels for _, pixels in pictures])
        written = [*fresh, *(item for item in read if item.path in redescribed)]
        with self._database.transaction() as connection:
            metadata_ids = raw_metadata.write(connection, [item.texts for item in written])
        with self._database.transaction() as connection:
            for path, (row, before) in continued.items():
                images.continue_row(connection, before.id, path, row.modified_at)
            news = [images.mark_unopened(connection, item.path, item.error) for item in unopened]
            ids = images.write(
                connection,
                [replace(item.row, metadata_id=id) for item, id in zip(written, metadata_ids, strict=True)],
            )
            if picture_vectors is not None:
                vectors.write(connection, SPACES["clip_h"], [ids[i] for i, _ in pictures], picture_vectors)
                self._embedded["clip_h"] += len(pictures)
            if continued or fresh or any(news):
                revision.bump(connection)
        self._counts.update("changed" if item.path in known else "new" for item in fresh)
        for path, (_, before) in continued.items():
            self._counts["moved" if path != before.path else "changed" if path in redescribed else "unchanged"] += 1
        self._failed += unopened
        self._failed += [FailedFile(item.path, item.row.error) for item in fresh if item.row.error is not None]

    def _embed_pending(self, readers: ThreadPoolExecutor, space: Space) -> None:
        """Fill a space: the texts of this run, and whatever earlier runs left."""
        with self._database.transaction() as connection:
            total = vectors.count_pending(connection, space)
        done = last = 0
        while done < total and self._is_usable(space):
            with self._database.transaction() as connection:
                limit = TEXTS_A_BATCH if space.of == "text" else FILES_A_BATCH
                owners = vectors.pending(connection, space, last, limit)
            if not owners:
                break
            inputs: list[tuple[int, Any]] = list(owners)
            if space.of == "image":
                decoded = ahead(readers, _pixels_again, [path for _, path in owners])
                inputs = [(id, pixels) for (id, _), pixels in zip(owners, decoded, strict=True) if pixels is not None]
            embedded = self._encode(space, [value for _, value in inputs])
            if embedded is not None:
                with self._database.transaction() as connection:
                    vectors.write(connection, space, [id for id, _ in inputs], embedded)
                    revision.bump(connection)
                self._embedded[space.name] += len(inputs)
            last = owners[-1][0]
            done += len(owners)
            self._progress(Progress(space.name, done, total))

    def _keep_conditionings(self, paths: Sequence[str]) -> int:
        if self._keep is None:
            return 0
        try:
            return keep_conditionings(self._database, self._encoders, self._keep, paths, self._progress)
        except (ConditioningError, EncoderError) as error:
            self._refused["conditioning"] = str(error)
            return 0

    def _encode(self, space: Space, inputs: Sequence[Any]) -> vectors.Vectors | None:
        """The inputs' vectors; None where there are no inputs, or where the space is left out with its reason kept."""
        if not inputs or not self._is_usable(space):
            return None
        try:
            if space.of == "text":
                return self._encoders.text(space.name).encode(inputs)
            return self._encoders.image(space.name).encode(np.stack(inputs))
        except EncoderError as error:
            self._refused[space.name] = str(error)
        return None

    def _is_usable(self, space: Space) -> bool:
        """Whether the space has an encoder that it may be written with. The first question loads it."""
        if space.name in self._skipped or space.name in self._refused:
            return False
        if space.name in self._usable:
            return True
        try:
            self._encoders.adopt(space.name)
        except WeightsMissing as error:
            self._skipped[space.name] = str(error)
        except EncoderError as error:
            self._refused[space.name] = str(error)
        else:
            self._usable.add(space.name)
        return space.name in self._usable


def _pixels_again(path: str) -> Pixels | None:
    """The pixels of a file that has a row but no vector; None where it is gone or damaged by now."""
    try:
        return decode(Path(path).read_bytes()).pixels
    except (OSError, ImageError):
        return None
