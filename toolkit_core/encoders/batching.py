"""Texts of like length together, so that little of a batch is padding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence


def batches_by_length(token_ids: Sequence[Sequence[int]], budget: int) -> Iterator[list[int]]:
    """Row numbers in batches of like length, shortest first; each at most `budget` tokens with its padding."""
    rows: list[int] = []
    for row in sorted(range(len(token_ids)), key=lambda row: len(token_ids[row])):
        if rows and (len(rows) + 1) * len(token_ids[row]) > budget:
            yield rows
            rows = []
        rows.append(row)
    if rows:
        yield rows
