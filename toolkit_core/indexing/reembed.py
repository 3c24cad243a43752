"""Making all vectors of a space again with other weights, while the old ones go on serving."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeAlias

import numpy as np

from ..database import Database, reembedding, vectors
from ..encoders.base import Encoder, ImageEncoder, TextEncoder
from ..encoders.identity import compare_probes
from ..records import Progress
from ..spaces import IndexKind, Space
from .read import read_pixels
from .stages import ahead

TEXTS_A_BATCH, PICTURES_A_BATCH, BATCHES_AHEAD = 256, 32, 2

_Batch: TypeAlias = "tuple[list[int], list[Any]]"


def reembed_space(
    database: Database,
    space: Space,
    encoder: Encoder,
    kind: IndexKind,
    progress: Callable[[Progress], None],
    devices: int = 1,
) -> int:
    """Make every vector of a space with an encoder, then let them take the old ones' place.

    A run that ends early is taken up by the next one with the same weights. Returns how many vectors this one made.
    Raises DatabaseError where another process is at it, EncoderError.
    """
    with reembedding.alone(database, space):
        with database.transaction() as connection:
            begun, fresh = reembedding.probe(connection, space), encoder.probe()
            if begun is None or begun.shape != fresh.shape or not compare_probes(begun, fresh).same:
                reembedding.begin(connection, space, encoder.name, fresh)
        made = _fill(database, space, encoder, progress, devices)
        reembedding.switch(database, space, kind, progress)
    return made


def _fill(
    database: Database, space: Space, encoder: Encoder, progress: Callable[[Progress], None], devices: int
) -> int:
    with database.transaction() as connection:
        total = vectors.count_pending(connection, space, "next")
    made = looked_at = 0
    with (
        ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="read") as readers,
        ThreadPoolExecutor(1, thread_name_prefix="decode") as decoder,
        ThreadPoolExecutor(devices, thread_name_prefix="encode") as encoding,
    ):
        batches = _lacking(database, space)
        if space.of == "image":
            batches = ahead(decoder, partial(_decoded, readers), batches, BATCHES_AHEAD)
        for (owners, values), embedded in ahead(encoding, partial(_encoded, encoder), batches, devices + 1):
            if owners:
                with database.transaction() as connection:
                    reembedding.write(connection, space, owners, embedded)
            made += len(owners)
            looked_at += len(values)
            progress(Progress(f"reembed {space.name}", looked_at, max(total, looked_at)))
    return made


def _lacking(database: Database, space: Space) -> Iterator[_Batch]:
    """The owners without a new vector, and their texts or paths."""
    after = 0
    while True:
        with database.transaction() as connection:
            size = TEXTS_A_BATCH if space.of == "text" else PICTURES_A_BATCH
            found = vectors.pending(connection, space, after, size, "next")
        if not found:
            return
        yield [owner for owner, _ in found], [value for _, value in found]
        after = found[-1][0]


def _decoded(readers: ThreadPoolExecutor, batch: _Batch) -> _Batch:
    """With pixels in place of paths, and without files that are gone or damaged by now."""
    pictures = list(zip(batch[0], readers.map(read_pixels, batch[1]), strict=True))
    there = [(owner, pixels) for owner, pixels in pictures if pixels is not None]
    return [owner for owner, _ in there], [pixels for _, pixels in there]


def _encoded(encoder: Encoder, batch: _Batch) -> tuple[_Batch, vectors.Vectors]:
    _, values = batch
    if not values:
        return batch, np.empty((0, 0), np.float32)
    if isinstance(encoder, TextEncoder):
        return batch, encoder.encode(values)
    assert isinstance(encoder, ImageEncoder)
    return batch, encoder.encode(np.stack(values))
