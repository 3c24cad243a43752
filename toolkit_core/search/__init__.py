"""Finding images: a query, its vectors, and the ranking; and the language of filters."""

from .filter_language import parse_filter
from .query import PARTS, SORTS, Query, Sort, part_name, search

__all__ = ["PARTS", "SORTS", "Query", "Sort", "parse_filter", "part_name", "search"]
