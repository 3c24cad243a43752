"""Vectors of one run: which spaces have an encoder, what waits for one, and what was written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..database import Connection, Database, vectors
from ..database.vectors import Vectors
from ..errors import EncoderError, WeightsMissing
from ..space_encoders import SpaceEncoders
from ..spaces import SPACES, Space

TEXT_SPACES = tuple(space for space in SPACES.values() if space.of == "text")
TEXTS_A_BATCH = 256


@dataclass(frozen=True)
class Waiting:
    """Owners that have no vector in a space, and what it is made of: texts, the paths of files, or their pixels."""

    space: Space
    owners: Sequence[int]
    values: Sequence[Any]


class Embedder:
    """Encodes for one run. A space whose weights cannot be used is left out from then on, and the reason kept.

    embedded: vectors written, by space. skipped, refused: see `IndexReport`.
    """

    def __init__(self, database: Database, encoders: SpaceEncoders) -> None:
        self.embedded: Counter[str] = Counter()
        self.skipped: dict[str, str] = {}
        self.refused: dict[str, str] = {}
        self._database = database
        self._encoders = encoders
        self._usable: set[str] = set()

    def encode(self, space: Space, inputs: Sequence[Any]) -> Vectors | None:
        """The vectors of texts or of pictures; None where there are none, or where the space is left out."""
        if not inputs or not self.is_usable(space):
            return None
        try:
            if space.of == "text":
                return self._encoders.text(space.name).encode(inputs)
            return self._encoders.image(space.name).encode(np.stack(inputs))
        except EncoderError as error:
            self.refused[space.name] = str(error)
        return None

    def write(self, connection: Connection, space: Space, owners: Sequence[int], made: Vectors) -> None:
        vectors.write(connection, space, owners, made)
        self.embedded[space.name] += len(owners)

    def waiting(self, space: Space, after: int, batch: int) -> Iterator[Waiting]:
        """What waits in a space behind an owner, in batches, as long as the space can be used."""
        while self.is_usable(space):
            with self._database.transaction() as connection:
                found = vectors.pending(connection, space, after, batch)
            if not found:
                return
            owners, values = zip(*found, strict=True)
            yield Waiting(space, owners, values)
            after = owners[-1]

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
