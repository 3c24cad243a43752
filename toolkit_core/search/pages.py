"""Where the pages of a search begin and end."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from numbers import Integral

import numpy as np

from ..errors import SearchError
from ..records import SearchHit

MOST_RESULTS = 10_000


@dataclass(frozen=True)
class Page:
    """Up to `top_k` images of a search.

    after: the image that they come behind; None from the best one on. passed: how many images there are up to it.
    skipped: how many more lie before the page, which are found to be left out. search: what tells it from others.
    """

    top_k: int
    search: str
    after: SearchHit | None = None
    passed: int = 0
    skipped: int = 0

    @classmethod
    def of(cls, page: str | int | None, top_k: int, search: str) -> Page:
        """page: as `Library.search` takes it. Raises SearchError for none of this search."""
        if page is None:
            return cls(top_k, search)
        if isinstance(page, str):
            return cls(top_k, search)._from(page)
        if not isinstance(page, Integral) or page < 1:
            raise SearchError(f"page is {page}; the first page is 1.")
        return cls(top_k, search, skipped=(int(page) - 1) * top_k)

    @property
    def reach(self) -> int:
        """How many images behind `after` have to be found for it."""
        return min(self.skipped + self.top_k, MOST_RESULTS)

    def cut(self, found: Sequence[SearchHit]) -> tuple[list[SearchHit], int]:
        """Its images among the first `reach`, and how many images come before them.

        Raises SearchError where it lies deeper than pages are counted.
        """
        if self.skipped + self.top_k > MOST_RESULTS and len(found) == MOST_RESULTS:
            raise SearchError(
                f"Page {self.skipped // self.top_k + 1} of {self.top_k} images each ends behind image {MOST_RESULTS}, "
                "which is as far as pages are counted. Go on from page to page there, or find fewer images with a "
                "filter or a threshold."
            )
        return list(found[self.skipped :]), self.passed + min(self.skipped, len(found))

    def end(self, found: Sequence[SearchHit]) -> str | None:
        """The text that the next page is asked for with; None where nothing was ever found."""
        last = found[-1] if found else self.after
        if last is None:
            return None
        date = None if last.modified_at is None else last.modified_at.isoformat()
        values = [self.passed + len(found), last.id, last.score, date, last.rating, self.search]
        return base64.urlsafe_b64encode(json.dumps(values, separators=(",", ":")).encode()).decode()

    def _from(self, text: str) -> Page:
        try:
            passed, id, score, date, rating, search = json.loads(base64.urlsafe_b64decode(text))
            modified_at = None if date is None else datetime.fromisoformat(date)
            last = SearchHit(
                int(id), "", float(score), {}, None, modified_at, rating=None if rating is None else int(rating)
            )
            if not (0 < int(passed) <= 2**31 and abs(last.id) < 2**63 and np.isfinite(last.score)):
                raise ValueError(text)
        except (ValueError, TypeError, OverflowError, RecursionError) as error:
            raise SearchError(
                f"{text!r} is no page of a search; take `next_page` of the results before it, or its number."
            ) from error
        if search != self.search:
            raise SearchError("That page is of another search: ask for it as the page before was asked for.")
        return Page(self.top_k, search, last, int(passed))


def no_such_page(page: int, top_k: int, found: int) -> str:
    """In words that a search, which finds `found` images, has no such page."""
    pages = -(-found // top_k)
    return (
        f"There is no page {page}: the search finds {_counted(found, 'image')}, which {_counted(pages, 'page')} "
        f"of {top_k} hold{'s' if pages == 1 else ''}."
    )


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
