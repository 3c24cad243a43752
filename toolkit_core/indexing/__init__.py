"""From folders to rows: scan, read, decode, encode, write."""

from .indexer import Indexer, ProgressCallback
from .reembed import reembed_space
from .reread import Rereader

__all__ = ["Indexer", "ProgressCallback", "Rereader", "reembed_space"]
