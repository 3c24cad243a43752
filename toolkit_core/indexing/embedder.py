"""Vectors of one run: which spaces have an encoder, what waits for one, and what was written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..database import Connection, Database, missing, revision, vectors
from ..database.claims import Worker
from ..database.vectors import Picture, Vectors
from ..encoders.base import ImageEncoder, TextEncoder
from ..encoders.pixels import Pixels
from ..errors import EncoderError, UnusableVectors, WeightsMissing
from ..records import FailedFile
from ..space_encoders import SpaceEncoders
from ..spaces import SPACES, Space
from .read import read_pixels

TEXT_SPACES = tuple(space for space in SPACES.values() if space.of == "text")
TEXTS_A_BATCH, PICTURES_A_BATCH = 256, 32
# Inputs that may all be such as no vector can be made of. Where none can be made of more than these, it is the weights.
FEW_INPUTS = 4
# Of a text that is named in an error.
CHARACTERS_SHOWN = 60


@dataclass(frozen=True)
class Waiting:
    """Owners that have no vector in a space, and what it is made of: texts, `Picture`s, or their pixels.

    contents: of the files whose pixels they are, by owner.
    claimed: by this worker, the owners among them. elsewhere: how many more there were that another one has claimed.
    """

    space: Space
    owners: Sequence[int]
    values: Sequence[Any]
    contents: Mapping[int, bytes] = field(default_factory=dict)
    claimed: Collection[int] = ()
    elsewhere: int = 0

    def held(self, connection: Connection) -> set[int]:
        """Those of the owners that may still be given a vector. See `vectors.held`."""
        return vectors.held(connection, self.space, self.owners, self.contents)

    def without(self, owners: Collection[int]) -> Waiting:
        """The same without some owners, claimed though they are."""
        kept = [row for row, owner in enumerate(self.owners) if owner not in owners]
        return replace(self, owners=[self.owners[row] for row in kept], values=[self.values[row] for row in kept])


@dataclass(frozen=True)
class Made:
    """What an encoder made of a batch of inputs.

    vectors: of the inputs in `rows`, float32 of shape (len(rows), width). failed: why the others have none, by row.
    """

    rows: Sequence[int]
    vectors: Vectors
    failed: Mapping[int, str]

    def of(self, owners: Sequence[int], held: Collection[int]) -> tuple[list[int], Vectors]:
        """Which of the inputs' owners are to be given vectors, and these. held: those that may be given one."""
        kept = [place for place, row in enumerate(self.rows) if owners[row] in held]
        return [owners[self.rows[place]] for place in kept], self.vectors[kept]


def batch_size(space: Space, wanted: int = 0) -> int:
    """How many texts, or pictures, are taken at once: more than usual where the encoder wants more."""
    return max(TEXTS_A_BATCH if space.of == "text" else PICTURES_A_BATCH, wanted)


def encoded(encoder: TextEncoder | ImageEncoder, space: Space, inputs: Sequence[Any]) -> Made:
    """What is made of texts, or of pictures of shape (224, 224, 3); at least one of them.

    An input that gives NaN, or nothing, does not keep the others from their vectors. Raises EncoderError, also where
    all of them do: then it is the weights.
    """
    found: dict[int, Any] = {}
    left = list(range(len(inputs)))
    while left and not found:
        try:
            found = dict(zip(left, _usable(encoder, space, [inputs[row] for row in left]), strict=True))
        except UnusableVectors as error:
            unusable = {left[row] for row in error.rows}
            left = [row for row in left if row not in unusable]
            if not left and len(inputs) > FEW_INPUTS:
                raise
    if not found:
        # Of inputs that good weights make good vectors of.
        probe = encoder.probe()
        vectors.halved(space, len(probe), probe)
    failed: dict[int, str] = {}
    for row in sorted(set(range(len(inputs))).difference(found)):
        try:
            [found[row]] = _usable(encoder, space, [inputs[row]])
        except UnusableVectors as error:
            failed[row] = str(error)
    rows = sorted(found)
    return Made(rows, np.array([found[row] for row in rows], np.float32).reshape(-1, space.width), failed)


def no_vector(space: Space, error: str, text: str | None = None) -> str:
    """What is told of an image that has no vector in a space: of its picture, or of a text of it."""
    begun = text and (text if len(text) <= CHARACTERS_SHOWN else text[:CHARACTERS_SHOWN] + "…")
    of = "it" if text is None else f"its text {begun!r}"
    return f"No {space.name} vector can be made of {of}: {error}"


def _usable(encoder: TextEncoder | ImageEncoder, space: Space, inputs: Sequence[Any]) -> Vectors:
    """Raises UnusableVectors, also for what the database would refuse."""
    made = encoder.encode(inputs) if isinstance(encoder, TextEncoder) else encoder.encode(np.stack(inputs))
    vectors.halved(space, len(inputs), made)
    return made


def with_pixels(
    readers: ThreadPoolExecutor, waiting: Waiting, read: Callable[[Picture], Pixels | None] = read_pixels
) -> tuple[Waiting, dict[int, Picture]]:
    """Waiting pictures with their pixels in their place, and those, by owner, whose files have none for them by now."""
    pictures: Sequence[Picture] = waiting.values
    read_by_now = list(zip(waiting.owners, pictures, readers.map(read, pictures), strict=True))
    there = {owner: pixels for owner, _, pixels in read_by_now if pixels is not None}
    return (
        replace(
            waiting,
            owners=list(there),
            values=list(there.values()),
            contents={owner: picture.content_hash for owner, picture, _ in read_by_now},
        ),
        {owner: picture for owner, picture, _ in read_by_now if owner not in there},
    )


def unclaimed(
    database: Database, worker: Worker, space: Space, after: int = 0, size: Callable[[Space], int] = batch_size
) -> Iterator[Waiting]:
    """What waits in a space behind an owner and no other worker has claimed, in batches, claimed by this one.

    A batch is empty where others have claimed all of it. size: of the next batch.
    """
    while True:
        with database.transaction() as connection:
            found = dict(vectors.pending(connection, space, after, size(space)))
            claimed = worker.claim(connection, space.name, list(found))
            # Another worker may have written some, and given them up, since they were looked up.
            owners = sorted(claimed - vectors.present(connection, space, list(claimed)))
        if not found:
            return
        values = [found[id] for id in owners]
        yield Waiting(space, owners, values, claimed=claimed, elsewhere=len(found) - len(claimed))
        after = max(found)


class Embedder:
    """Encodes for one run. A space whose weights cannot be used is left out from then on, and the reason kept.

    embedded: vectors written, by space. skipped, refused: see `IndexReport`. failed: what no vector can be made of, by
    space and owner: a picture's file, or that of an image with the text.
    """

    def __init__(self, database: Database, encoders: SpaceEncoders, worker: Worker) -> None:
        self.embedded: Counter[str] = Counter()
        self.skipped: dict[str, str] = {}
        self.refused: dict[str, str] = {}
        self.failed: dict[tuple[str, int], FailedFile] = {}
        self._database = database
        self._encoders = encoders
        self._worker = worker
        self._usable: set[str] = set()

    def batch_size(self, space: Space) -> int:
        """How many texts, or pictures, are to be encoded at once."""
        return batch_size(space, self._encoders.at_once(space.name))

    def encode(self, space: Space, inputs: Sequence[Any]) -> Made | None:
        """What is made of texts or of pictures; None where there are none, or where the space is left out."""
        if not inputs or not self.is_usable(space):
            return None
        try:
            of_space = self._encoders.text if space.of == "text" else self._encoders.image
            return encoded(of_space(space.name), space, inputs)
        except EncoderError as error:
            self.refused[space.name] = str(error)
        return None

    def write(self, connection: Connection, space: Space, owners: Sequence[int], made: Vectors) -> bool:
        """Write vectors, unless the space went over to other weights while they were made: then they stay pending.

        owners: see `vectors.write`. Returns whether the weights are still the space's.
        """
        is_current = self._encoders.is_current(connection, space.name)
        if is_current and owners:
            vectors.write(connection, space, owners, made)
            self.embedded[space.name] += len(owners)
        return is_current

    def finish(self, waiting: Waiting, made: Made | None) -> None:
        """Write what waited, where it could be encoded, and give up the claim."""
        with self._database.transaction() as connection:
            if made is not None:
                held = waiting.held(connection)
                if self.write(connection, waiting.space, *made.of(waiting.owners, held)):
                    self._note_failed(connection, waiting, made.failed, held)
                revision.bump(connection)
            self._worker.release(connection, waiting.space.name, list(waiting.claimed))

    def _note_failed(
        self, connection: Connection, waiting: Waiting, failed: Mapping[int, str], held: Collection[int]
    ) -> None:
        """Record it of pictures, so that no later run tries again in vain. Texts are tried again, and told, by each."""
        space = waiting.space
        rows = {waiting.owners[row]: row for row in failed if waiting.owners[row] in held}
        if not rows:
            return
        if space.of == "image":
            errors = {owner: no_vector(space, failed[row]) for owner, row in rows.items()}
            paths = missing.mark_unembeddable(connection, errors)
        else:
            errors = {owner: no_vector(space, failed[row], waiting.values[row]) for owner, row in rows.items()}
            paths = missing.with_text(connection, list(rows))
        self.failed.update({(space.name, owner): FailedFile(path, errors[owner]) for owner, path in paths.items()})

    def waiting(self, space: Space, after: int) -> Iterator[Waiting]:
        """See `unclaimed`. Ends where the space cannot be used."""
        batches = unclaimed(self._database, self._worker, space, after, self.batch_size)
        while self.is_usable(space) and (batch := next(batches, None)) is not None:
            failed = {owner for name, owner in self.failed if name == space.name}
            yield batch.without(failed) if failed else batch

    def is_usable(self, space: Space) -> bool:
        """Whether the space has an encoder that it may be written with. The first question loads it."""
        if space.name in self.skipped or space.name in self.refused:
            return False
        if space.name in self._usable:
            return True
        try:
            self._encoders.adopt(space.name)
        except WeightsMissing as error:
            self.skipped[space.name] = str(error)
        except EncoderError as error:
            self.refused[space.name] = str(error)
        else:
            self._usable.add(space.name)
        return space.name in self._usable
