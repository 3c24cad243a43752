"""Batches: texts of like length together, so that little of one is padding, and how to tell that one was too large."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

_OUT_OF_MEMORY = re.compile("(out of|not enough|allocate) memory|alloc_failed|bad.alloc", re.IGNORECASE)


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


def is_out_of_memory(error: Exception) -> bool:
    """Whether torch or ONNX Runtime failed for want of memory.

    ONNX Runtime has no exception class for it, torch none on the CPU, and each provider words it in its own way.
    """
    return _OUT_OF_MEMORY.search(str(error)) is not None
