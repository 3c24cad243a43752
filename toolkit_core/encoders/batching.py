"""Batches: of how much at once an encoder is fastest, what goes into one, and how to tell that one was too large."""

from __future__ import annotations

import re
from collections.abc import Iterable

# How much faster twice as much at once has to be, to be worth its memory.
WORTHWHILE = 1.05
# Comparisons that say so before it is believed, and how many may say otherwise: the machine may be busy meanwhile.
WANTED, OTHERWISE = 5, 1

_OUT_OF_MEMORY = re.compile("(out of|not enough|allocate) memory|alloc_failed|bad.alloc", re.IGNORECASE)


class BatchSize:
    """How much an encoder takes at once, in pictures or padded tokens, found while it works.

    Twice as much is tried, by turns with the present size, so that whatever slows the machine down slows both. The
    size is doubled for as long as that is clearly faster, and stays as it is from then on.

    size: the one found so far.
    """

    def __init__(self, first: int, at_most: int) -> None:
        self.size = first
        self._at_most = at_most
        self._start_comparing()

    def _start_comparing(self) -> None:
        # The first batch of a size is slow: libraries choose how to compute it, and get the memory for it.
        self._is_warm = False
        self._faster = self._not_faster = 0
        # Units a second, by size, of the comparison that is under way. Which is first changes: texts become longer.
        self._rates: dict[int, float] = {}
        self._larger_first = False

    @property
    def is_settled(self) -> bool:
        return 2 * self.size > self._at_most

    def limit(self, left: int) -> int:
        """What the next batch may count for, where so much is left to be encoded."""
        larger = 2 * self.size
        if self.is_settled or left < larger or larger in self._rates:
            return self.size
        return larger if self._larger_first or self.size in self._rates else self.size

    def took(self, seconds: float, count: int, limit: int) -> None:
        """Learn from a batch that was as full as its limit allows. count: of what was in it, padding included."""
        if self.is_settled:
            return
        self._rates[limit] = count / max(seconds, 1e-9)
        if len(self._rates) == 2:
            self._compare(self._rates[2 * self.size] >= WORTHWHILE * self._rates[self.size])

    def _compare(self, is_faster: bool) -> None:
        self._rates.clear()
        self._larger_first = not self._larger_first
        if not self._is_warm:
            self._is_warm = True
        elif is_faster:
            self._faster += 1
        else:
            self._not_faster += 1
        if self._not_faster > OTHERWISE:
            self._at_most = self.size
        elif self._faster == WANTED:
            self.size *= 2
            self._start_comparing()

    def ran_out(self, enough_for: int) -> None:
        """Take no more than this from now on: memory was too small for twice as much."""
        self.size = self._at_most = min(self.size, enough_for)


def fitting(lengths: Iterable[int], limit: int) -> int:
    """How many rows of these lengths, shortest first, make a batch: as many as count for `limit` with their padding.

    One, where it is longer than that; none of none.
    """
    count = 0
    for length in lengths:
        if count and (count + 1) * length > limit:
            break
        count += 1
    return count


def is_out_of_memory(error: Exception) -> bool:
    """Whether torch or ONNX Runtime failed for want of memory.

    ONNX Runtime has no exception class for it, torch none on the CPU, and each provider words it in its own way.
    """
    return _OUT_OF_MEMORY.search(str(error)) is not None
