"""Finding images: a query, its vectors, and the ranking; and the language of filters."""

from .filter_language import parse_filter
from .query import Query, embedding_name, search

__all__ = ["Query", "embedding_name", "parse_filter", "search"]
