"""Where the pages of searches ended, so that the next one goes on there, whatever was added meanwhile."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

import numpy as np

# The ends of so many searches are kept.
MOST_SEARCHES = 100


class PageEnds:
    """The ends of pages by search and number, as long as ComfyUI runs.

    changes: how often one became another, and those behind it void: their pages are to be looked for again.
    """

    def __init__(self) -> None:
        self.changes = 0
        self._ends: OrderedDict[str, dict[int, str | None]] = OrderedDict()

    def begin(self, search: str, page: int) -> str | int:
        """What `Library.search` takes as a page: where the one before it ended, else the number, to be counted."""
        return self._ends.get(search, {}).get(page - 1) or page

    def note(self, search: str, page: int, end: str | None) -> None:
        """Where a page ended; None where nothing was found at all."""
        known = self._ends.pop(search, {})
        if known.get(page, end) != end:
            known = {number: at for number, at in known.items() if number < page}
            self.changes += 1
        self._ends[search] = {**known, page: end}
        if len(self._ends) > MOST_SEARCHES:
            self._ends.popitem(last=False)


def identity(search: Mapping[str, Any]) -> str:
    """What tells the inputs of a search from others: a digest of them, arrays by their values."""
    digest = blake2b(digest_size=16)
    for name, value in search.items():
        digest.update(name.encode())
        digest.update(value.tobytes() if isinstance(value, np.ndarray) else repr(value).encode("utf-8", "replace"))
    return digest.hexdigest()
