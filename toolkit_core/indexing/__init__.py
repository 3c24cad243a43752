"""From folders to rows: scan, read, decode, encode, write."""

from .indexer import Indexer, ProgressCallback
from .reread import Rereader

__all__ = ["Indexer", "ProgressCallback", "Rereader"]
