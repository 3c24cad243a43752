"""Kept conditionings: whole tensors of a prompt, as bytes, by the encoder that made them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from .database import Connection
from .stored_text import stored_ranges
from .vectors import Vectors


def find_or_add_encoder(
    connection: Connection, name: str, probe: Vectors, same: Callable[[Vectors, Vectors], bool]
) -> int:
    """The id of the encoder whose probe, float32 of shape (rows, width), is the `same`; a new one where there is none.

    Two processes that ask at once get the same id.
    """
    connection.execute("SELECT pg_advisory_xact_lock(hashtext(current_schema() || ' conditioning encoders'))")
    rows, width = probe.shape
    known = connection.execute(
        "SELECT id, probe FROM conditioning_encoder WHERE width = %s AND cardinality(probe) = %s ORDER BY id",
        [width, rows * width],
    )
    for id, stored in known:
        if same(np.asarray(stored, dtype=np.float32).reshape(rows, width), probe):
            return id
    row = connection.execute(
        "INSERT INTO conditioning_encoder (name, probe, width) VALUES (%s, %s::real[], %s) RETURNING id",
        [name, probe.ravel().tolist(), width],
    ).fetchone()
    assert row is not None
    return row[0]


def pending(
    connection: Connection, encoder_id: int, paths: Sequence[str], after: int, limit: int
) -> list[tuple[int, str]]:
    """The next texts of the images at or below some paths that this encoder has nothing kept for, in id order."""
    parameters = {"encoder": encoder_id, "after": after, "limit": limit, **stored_ranges(paths)}
    return [(id, text) for id, text in connection.execute(PENDING, parameters)]


def write(connection: Connection, encoder_id: int, kept: Sequence[tuple[int, bytes]]) -> None:
    """Keep (prompt id, data) pairs. What another process kept meanwhile stays."""
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO conditioning (prompt_id, encoder_id, data) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING",
            [(prompt_id, encoder_id, data) for prompt_id, data in sorted(kept)],
        )


def read(connection: Connection, prompt_ids: Sequence[int]) -> list[dict[int, bytes]]:
    """What is kept for all of these prompts, by prompt id: one mapping an encoder, the newest encoder first."""
    rows = connection.execute(
        "SELECT encoder_id, prompt_id, data FROM conditioning WHERE prompt_id = ANY(%s) ORDER BY encoder_id DESC",
        [list(prompt_ids)],
    )
    by_encoder: dict[int, dict[int, bytes]] = {}
    for encoder_id, prompt_id, data in rows:
        by_encoder.setdefault(encoder_id, {})[prompt_id] = bytes(data)
    return [kept for kept in by_encoder.values() if kept.keys() >= set(prompt_ids)]


PENDING = """
    SELECT p.id, p.text
    FROM prompt_text p
    WHERE p.id > %(after)s
      AND NOT EXISTS (SELECT FROM conditioning c WHERE c.prompt_id = p.id AND c.encoder_id = %(encoder)s)
      AND p.id IN (
        SELECT unnest(ARRAY[f.prompt_id, f.negative_prompt_id])
        FROM image_file f
        WHERE f.path = ANY(%(itself)s)
           OR EXISTS (SELECT FROM unnest(%(below)s::text[], %(behind)s::text[]) AS root(below, behind)
                      WHERE f.path >= root.below AND f.path < root.behind))
    ORDER BY p.id
    LIMIT %(limit)s
"""
