"""Finding images: a query, its vectors, and the ranking; and the language of filters."""

from .filter_language import parse_filter
from .pages import MOST_RESULTS, no_such_page
from .query import PARTS, SORTS, Query, Sort, condition_of, part_name, search

__all__ = [
    "MOST_RESULTS",
    "PARTS",
    "SORTS",
    "Query",
    "Sort",
    "condition_of",
    "no_such_page",
    "parse_filter",
    "part_name",
    "search",
]
