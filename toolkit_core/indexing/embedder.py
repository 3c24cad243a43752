"""Vectors of one run: which spaces have an encoder, what waits for one, and what was written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..database import Connection, Database, revision, vectors
from ..database.claims import Worker
from ..database.vectors import Picture, Vectors
from ..encoders.base import ImageEncoder, TextEncoder
from ..encoders.pixels import Pixels
from ..errors import EncoderError, WeightsMissing
from ..space_encoders import SpaceEncoders
from ..spaces import SPACES, Space
from .read import read_pixels

TEXT_SPACES = tuple(space for space in SPACES.values() if space.of == "text")
TEXTS_A_BATCH, PICTURES_A_BATCH = 256, 32


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

    def held(self, connection: Connection, made: Vectors) -> tuple[list[int], Vectors]:
        """Those of the owners that may still be given their vectors, and these. See `vectors.held`."""
        held = vectors.held(connection, self.space, self.owners, self.contents)
        rows = [row for row, owner in enumerate(self.owners) if owner in held]
        return [self.owners[row] for row in rows], made[rows]


def batch_size(space: Space) -> int:
    """How many texts, or pictures, are taken at once."""
    return TEXTS_A_BATCH if space.of == "text" else PICTURES_A_BATCH


def encoded(encoder: TextEncoder | ImageEncoder, inputs: Sequence[Any]) -> Vectors:
    """The vectors of texts, or of pictures of shape (224, 224, 3); at least one of them. Raises EncoderError."""
    return encoder.encode(inputs) if isinstance(encoder, TextEncoder) else encoder.encode(np.stack(inputs))


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


def unclaimed(database: Database, worker: Worker, space: Space, after: int = 0) -> Iterator[Waiting]:
    """What waits in a space behind an owner and no other worker has claimed, in batches, claimed by this one.

    A batch is empty where others have claimed all of it.
    """
    while True:
        with database.transaction() as connection:
            found = dict(vectors.pending(connection, space, after, batch_size(space)))
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

    embedded: vectors written, by space. skipped, refused: see `IndexReport`.
    """

    def __init__(self, database: Database, encoders: SpaceEncoders, worker: Worker) -> None:
        self.embedded: Counter[str] = Counter()
        self.skipped: dict[str, str] = {}
        self.refused: dict[str, str] = {}
        self._database = database
        self._encoders = encoders
        self._worker = worker
        self._usable: set[str] = set()

    def encode(self, space: Space, inputs: Sequence[Any]) -> Vectors | None:
        """The vectors of texts or of pictures; None where there are none, or where the space is left out."""
        if not inputs or not self.is_usable(space):
            return None
        try:
            of_space = self._encoders.text if space.of == "text" else self._encoders.image
            return encoded(of_space(space.name), inputs)
        except EncoderError as error:
            self.refused[space.name] = str(error)
        return None

    def write(self, connection: Connection, space: Space, owners: Sequence[int], made: Vectors) -> None:
        """Write vectors, unless the space went over to other weights while they were made: then they stay pending.

        owners: see `vectors.write`.
        """
        if self._encoders.is_current(connection, space.name):
            vectors.write(connection, space, owners, made)
            self.embedded[space.name] += len(owners)

    def finish(self, waiting: Waiting, made: Vectors | None) -> None:
        """Write what waited, where it could be encoded, and give up the claim."""
        with self._database.transaction() as connection:
            if made is not None:
                self.write(connection, waiting.space, *waiting.held(connection, made))
                revision.bump(connection)
            self._worker.release(connection, waiting.space.name, list(waiting.claimed))

    def waiting(self, space: Space, after: int) -> Iterator[Waiting]:
        """See `unclaimed`. Ends where the space cannot be used."""
        batches = unclaimed(self._database, self._worker, space, after)
        while self.is_usable(space) and (batch := next(batches, None)) is not None:
            yield batch

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
