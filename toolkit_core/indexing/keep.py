"""Keeping whole conditionings of the indexed prompts."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..conditioning import ConditioningEncoder, to_bytes
from ..database import Database, conditionings, revision
from ..encoders.identity import compare_probes
from ..records import Progress
from ..space_encoders import SpaceEncoders

# One conditioning of SDXL is 0.3 MB, one of FLUX 4 MB.
PROMPTS_A_BATCH = 8


def keep_conditionings(
    database: Database,
    encoders: SpaceEncoders,
    keep: ConditioningEncoder,
    paths: Sequence[str],
    progress: Callable[[Progress], None],
) -> int:
    """Keep the conditionings of all prompts and negative prompts of the images at or below the resolved paths.

    Returns how many were made. Raises EncoderMismatch where the encoder's CLIP-L or CLIP-G is not the library's, for
    the stored pooled vectors would not fit to them.
    """
    for space in keep.spaces:
        encoders.text(space)
    probe = keep.probe()
    with database.transaction() as connection:
        encoder_id = conditionings.find_or_add_encoder(
            connection, keep.name, probe, lambda stored, fresh: compare_probes(stored, fresh).same
        )
    made = last = 0
    while True:
        with database.transaction() as connection:
            batch = conditionings.pending(connection, encoder_id, paths, last, PROMPTS_A_BATCH)
        if not batch:
            return made
        kept = [(id, to_bytes(keep.encode(text))) for id, text in batch]
        with database.transaction() as connection:
            conditionings.write(connection, encoder_id, kept)
            revision.bump(connection)
        made += len(kept)
        last = batch[-1][0]
        progress(Progress("conditioning", made, None, None))
