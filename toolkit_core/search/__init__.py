"""Finding images: a query, its vectors, and the ranking."""

from .query import PARTS, SORTS, Query, Sort, condition_of, part_name, search

__all__ = ["PARTS", "SORTS", "Query", "Sort", "condition_of", "part_name", "search"]
