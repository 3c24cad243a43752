"""How far a vector index is searched: what trades recall for time."""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from .database import Connection
    from .segments import Segments

LARGEST_EF_SEARCH = 1000
# Rows that HNSW has to hold beside the nearest k to find 99% of them: HELD_BESIDE * k ** BY_DEPTH at 100,000 rows, more
# in a larger table, and never fewer than for FEWEST_WANTED. Measured by benchmarks/search.
HELD_BESIDE, BY_DEPTH, BY_ROWS, FEWEST_WANTED = 2.2, 0.55, 0.85, 20
# Rows held beside those under a condition: for each of the k one, and BESIDE_BY_SHARE times the share that fulfils it.
# That finds 99% where few of those near the query do. Measured likewise.
BESIDE_BY_SHARE = 9
# Rows that a binary quantised index names for one that is wanted, and at least.
SKETCHED_FOR_ONE, FEWEST_SKETCHED = 10, 400
# An index is walked by a share of its rows at most, and by so many always, where a filter refuses them: then comparing
# all that the filter lets through is faster.
WALKED_SHARE, FEWEST_WALKED = 1 / 50, 1_000
# Of an IVFFlat index's lists so many are looked at, lists ** PROBED: that finds 98% of the nearest at 100,000 and at
# 1,000,000 rows.
PROBED = 0.72

_present: WeakKeyDictionary[Connection, dict[str, str]] = WeakKeyDictionary()


def set_effort(
    connection: Connection, segments: Segments, depth: float, beside: float = 0, *, roughly: bool = False
) -> None:
    """Let the connection's next statements look far enough to find the nearest `depth` rows in a space's index.

    beside: so many rows further. roughly: enough for `depth` rows, though not quite the nearest.
    """
    if segments.index == "ivfflat":
        set_option(connection, "ivfflat.probes", round(segments.lists**PROBED))
    elif segments.index == "hnsw_binary":
        set_ef_search(connection, max((depth + beside) * SKETCHED_FOR_ONE, FEWEST_SKETCHED))
    elif roughly:
        set_ef_search(connection, depth)
    else:
        set_ef_search(connection, rows_held(segments.rows, depth) + beside)


def rows_held(rows: int, depth: float) -> float:
    """How many rows of so many in all an HNSW index has to hold to find the nearest `depth`."""
    depth = max(depth, FEWEST_WANTED)
    return depth + HELD_BESIDE * depth**BY_DEPTH * (rows / 100_000) ** BY_ROWS


def most_walked(rows: int) -> int:
    """How many of its rows an index is asked for where a filter refuses them."""
    return max(int(rows * WALKED_SHARE), FEWEST_WALKED)


def set_ef_search(connection: Connection, rows: float) -> None:
    """Let an HNSW index give so many rows at once, as far as it can: going on behind them costs more, a row."""
    set_option(connection, "hnsw.ef_search", min(round(rows), LARGEST_EF_SEARCH))


def set_option(connection: Connection, name: str, value: int) -> None:
    """Set what is not set already: each statement costs a tenth of a search."""
    if not connection.autocommit:
        # The transaction may be rolled back, and what was set with it.
        connection.execute("SELECT set_config(%s, %s, true)", [name, str(value)])
        return
    present = _present.setdefault(connection, {})
    if present.get(name) != str(value):
        connection.execute("SELECT set_config(%s, %s, false)", [name, str(value)])
        present[name] = str(value)
