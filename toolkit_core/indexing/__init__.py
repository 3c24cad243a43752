"""From folders to rows: scan, read, decode, encode, write."""

from .indexer import Indexer, ProgressCallback

__all__ = ["Indexer", "ProgressCallback"]
