"""Making all vectors of a space again with other weights, while the old ones go on serving."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from ..database import Database, reembedding, vectors
from ..encoders.base import ImageEncoder, TextEncoder
from ..encoders.identity import compare_probes
from ..records import Progress
from ..spaces import IndexKind, Space
from .embedder import Made, Waiting, batch_size, encoded, with_pixels
from .stages import BATCHES_AHEAD, READERS, ahead


def reembed_space(
    database: Database,
    space: Space,
    encoder: TextEncoder | ImageEncoder,
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
            begun, fresh = vectors.probe(connection, space, "next_encoder"), encoder.probe()
            if begun.shape != fresh.shape or not compare_probes(begun, fresh).same:
                reembedding.begin(connection, space, encoder.name, fresh)
        made = _fill(database, space, encoder, progress, devices)
        reembedding.switch(database, space, kind, progress)
    return made


def _fill(
    database: Database,
    space: Space,
    encoder: TextEncoder | ImageEncoder,
    progress: Callable[[Progress], None],
    devices: int,
) -> int:
    with database.transaction() as connection:
        total = vectors.count_pending(connection, space, "next")
    made = 0
    with (
        ThreadPoolExecutor(READERS, thread_name_prefix="read") as readers,
        ThreadPoolExecutor(1, thread_name_prefix="decode") as decoder,
        ThreadPoolExecutor(devices, thread_name_prefix="encode") as encoding,
    ):
        batches = _lacking(database, space, encoder)
        if space.of == "image":
            batches = ahead(decoder, lambda batch: with_pixels(readers, batch)[0], batches, BATCHES_AHEAD)
        for batch, new in ahead(encoding, partial(_encoded, encoder), batches, devices + 1):
            if new is not None:
                with database.transaction() as connection:
                    owners, of_them = new.of(batch.owners, batch.held(connection))
                    if owners:
                        reembedding.write(connection, space, owners, of_them)
                made += len(owners)
            progress(Progress(f"reembed {space.name}", made, max(total, made)))
    return made


def _lacking(database: Database, space: Space, encoder: TextEncoder | ImageEncoder) -> Iterator[Waiting]:
    """The owners without a new vector."""
    after = 0
    while True:
        with database.transaction() as connection:
            found = vectors.pending(connection, space, after, batch_size(space, encoder.at_once), "next")
        if not found:
            return
        yield Waiting(space, [owner for owner, _ in found], [value for _, value in found])
        after = found[-1][0]


def _encoded(encoder: TextEncoder | ImageEncoder, batch: Waiting) -> tuple[Waiting, Made | None]:
    return batch, encoded(encoder, batch.space, batch.values) if batch.values else None
