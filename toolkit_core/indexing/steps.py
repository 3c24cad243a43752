"""The steps of files from what was read of them to rows and vectors: matched with the library, encoded, written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from ..database import Database, images, moved, raw_metadata, revision
from ..database.claims import FILE, Worker, file_key
from ..database.images import ImageRow, KnownFile
from ..encoders.pixels import Pixels
from ..records import FailedFile
from ..spaces import SPACES
from .continued import continued_rows
from .embedder import Embedder, Made, Waiting, no_vector
from .read import ReadFile
from .scan import FoundFile, find_file, presence

PICTURES = SPACES["clip_h"]


@dataclass(frozen=True)
class MatchedFiles:
    """A batch of files as they compare with the library.

    fresh: those to be written with their pixels. put_off: the paths of those that are not to be written yet, because
    the image that was there may be found elsewhere. continued: see `continued_rows`. redescribed: continued ones whose
    sidecars changed. known: the paths that have a row.
    """

    unopened: Sequence[FailedFile]
    fresh: Sequence[ReadFile]
    put_off: Collection[str]
    redescribed: Sequence[ReadFile]
    continued: Mapping[str, tuple[ImageRow, KnownFile]]
    known: Collection[str]

    @property
    def files(self) -> int:
        """How many files are dealt with when this is written."""
        return len(self.unopened) + len(self.fresh) + len(self.continued)

    @property
    def pictures(self) -> list[tuple[int, Pixels]]:
        """The pixels of the fresh files that can be decoded, by their place among them."""
        return [(i, item.pixels) for i, item in enumerate(self.fresh) if item.pixels is not None]


Job: TypeAlias = "MatchedFiles | Waiting"


@dataclass
class Tally:
    """What became of the files so far: how many are "new", "changed", "unchanged" or "moved", and which failed.

    again: those that are to be read once more, because another process took the row that they were to go on.
    put_off: the paths of those with new content in the place of another, see `Steps`.
    """

    counts: Counter[str] = field(default_factory=Counter)
    failed: list[FailedFile] = field(default_factory=list)
    again: list[FoundFile] = field(default_factory=list)
    put_off: set[str] = field(default_factory=set)


class Steps:
    """What is done to each batch of a run, in this order.

    overwrite: whether a file with new content in the place of another takes its row, with the favourite, rating and
    tags: as one that was edited does. Where the old content turns up in a later batch, that is the same image, moved,
    and what has its name now is another one. So such files are put off until all others are through.
    """

    def __init__(
        self,
        database: Database,
        embedder: Embedder,
        worker: Worker,
        tally: Tally,
        *,
        reindex: bool,
        overwrite: bool = False,
    ) -> None:
        self._tally = tally
        self._database = database
        self._embedder = embedder
        self._worker = worker
        self._reindex = reindex
        self.overwrite = overwrite
        # Rows that a batch which is not written yet goes on.
        self._taken: set[int] = set()
        # See `continued_rows`.
        self._behind: dict[bytes, str] = {}

    def matched(self, batch: Sequence[ReadFile | FailedFile]) -> MatchedFiles:
        """A batch beside what the library has of it."""
        read = [item for item in batch if isinstance(item, ReadFile)]
        with self._database.transaction() as connection:
            known = images.files_at(connection, [item.path for item in read])
            contents = moved.content_hashes(connection, [file.id for file in known.values()])
            same = {
                item.path: known[item.path]
                for item in read
                if item.path in known and contents.get(known[item.path].id) == item.row.content_hash
            }
            # Whoever asks to reindex wants a known file's metadata read again, though its content is the same.
            rows = [item.row for item in read if not (self._reindex and item.path in same)]
            # As they are before the rows are looked up: a row that is written by then is not gone any more.
            taken = frozenset(self._taken)
            continued = continued_rows(connection, rows, same, taken, self._behind)
        self._taken.update(before.id for _, before in continued.values())
        # The file is as it was, and what lies beside it is not.
        redescribed = {
            path
            for path, (row, before) in continued.items()
            if row.sidecars != before.sidecars or (self._reindex and path == before.path)
        }
        replaced = {path for path, file in known.items() if contents.get(file.id) is not None} - same.keys()
        put_off = set() if self.overwrite else replaced - continued.keys()
        return MatchedFiles(
            unopened=[item for item in batch if isinstance(item, FailedFile)],
            fresh=[item for item in read if item.path not in continued and item.path not in put_off],
            put_off=put_off,
            redescribed=[item for item in read if item.path in redescribed],
            continued=continued,
            known=known,
        )

    def encoded(self, job: Job) -> tuple[Job, Made | None]:
        """A batch with its vectors; None where it has none to be made, or its space is left out."""
        if isinstance(job, Waiting):
            return job, self._embedder.encode(job.space, job.values)
        return job, self._embedder.encode(PICTURES, [pixels for _, pixels in job.pictures])

    def write(self, encoded: tuple[MatchedFiles, Made | None]) -> None:
        """Write a batch of files with the vectors of its pictures, and give up the claim on it."""
        batch, made = encoded
        places = [i for i, _ in batch.pictures]
        errors = {places[row]: no_vector(PICTURES, error) for row, error in made.failed.items()} if made else {}
        fresh = [
            replace(item, row=replace(item.row, error=errors[i])) if i in errors else item
            for i, item in enumerate(batch.fresh)
        ]
        written = [*fresh, *batch.redescribed]
        with self._database.transaction() as connection:
            metadata_ids = raw_metadata.write(connection, [item.texts for item in written])
        with self._database.transaction() as connection:
            paths = [*batch.continued, *(item.path for item in (*batch.fresh, *batch.unopened)), *batch.put_off]
            before_now = moved.locked(connection, [before.id for _, before in batch.continued.values()], paths)
            continued = {
                path: (row, before)
                for path, (row, before) in batch.continued.items()
                if before_now.get(before.id) == (before.path, row.content_hash)
            }
            displaced = moved.continue_rows(connection, {before.id: row for row, before in continued.values()})
            # The others are gone by now, or nobody knows.
            unopened = [item for item in batch.unopened if presence(item.path) == "there"]
            news = [images.mark_unopened(connection, item.path, item.error) for item in unopened]
            ids = images.write(
                connection,
                [replace(item.row, metadata_id=id) for item, id in zip(written, metadata_ids, strict=True)],
            )
            if made is not None:
                self._embedder.write(connection, PICTURES, *made.of([ids[i] for i in places], ids))
            if continued or batch.fresh or any(news):
                revision.bump(connection)
            self._worker.release(connection, FILE, [file_key(path) for path in paths])
        self._taken.difference_update(before.id for _, before in batch.continued.values())
        # They are missing now, and maybe in front of what was given away.
        for content_hash in displaced:
            self._behind.pop(content_hash, None)
        self._tally.put_off |= set(batch.put_off)
        self._tally.counts.update("changed" if item.path in batch.known else "new" for item in batch.fresh)
        redescribed = {item.path for item in batch.redescribed}
        # What another process took the row of.
        lost = [find_file(path, {}) for path in batch.continued if path not in continued]
        self._tally.again += [found for found in lost if isinstance(found, FoundFile)]
        for path, (_, before) in continued.items():
            self._tally.counts[
                "moved" if path != before.path else "changed" if path in redescribed else "unchanged"
            ] += 1
        self._tally.failed += batch.unopened
        self._tally.failed += [FailedFile(item.path, item.row.error) for item in fresh if item.row.error is not None]
