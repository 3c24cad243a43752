"""From folders to rows: scan, read, decode, encode, write."""

from .indexer import Indexer, ProgressCallback
from .reembed import reembed_space
from .reread import Rereader
from .watch import Follower, FollowOptions

__all__ = ["FollowOptions", "Follower", "Indexer", "ProgressCallback", "Rereader", "reembed_space"]
