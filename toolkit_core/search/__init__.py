"""Finding images: a query, its vectors, and the ranking."""

from .query import Query, embedding_name, search

__all__ = ["Query", "embedding_name", "search"]
