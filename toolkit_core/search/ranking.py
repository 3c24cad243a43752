"""Which way to rank: by what the filter lets through and what the tables are, and how far to look."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..database import Connection
from ..database.segments import Segments, segments
from ..database.similarity import (
    Bounds,
    Candidates,
    QueryVector,
    candidates,
    expected_matches,
    matching,
    ranked,
)
from ..records import Certainty, SearchHit
from ..spaces import SPACES

# Candidates that each embedding names to a weighted search, at first and at most.
FIRST_DEPTH, LARGEST_DEPTH = 400, 1600
# An index that is walked for what fulfils a filter meets the best of it in less good order.
WIDER_FOR_A_FILTER = 5
# So many images are always looked up rather than looked for.
FEWEST_LOOKED_UP = 1_000


@dataclass(frozen=True)
class Ranking:
    """The best hits in order, and how sure that is.

    certainty: see `SearchResults`.
    """

    hits: list[SearchHit]
    certainty: Certainty


def rank(connection: Connection, parts: Mapping[str, QueryVector], bounds: Bounds, passed: int = 0) -> Ranking:
    """The top k images by the weighted sum of their cosine similarities to the vectors of `parts`.

    passed: how many images rank before those that are wanted, where `bounds.after` says so.
    """
    states = {name: segments(connection, SPACES[part.embedding.space]) for name, part in parts.items()}
    indexed = any(state.index is not None or state.is_sketched for state in states.values())
    leading = {name: part for name, part in parts.items() if part.weight > 0}
    costs = _Costs(len(parts), sum(state.rows for state in states.values()), bounds.top_k + passed)
    if bounds.condition is not None:
        expected = expected_matches(connection, bounds.condition)
        # An estimate may be far off; whether few match is known when they are read, and what they may number is bounded.
        most = costs.most_looked_up(expected, indexed=indexed and bool(leading))
        ids = matching(connection, bounds.condition, most + 1) if expected <= most else None
        if ids is not None and len(ids) <= most:
            return Ranking(ranked(connection, parts, bounds, ids), "exact")
    if not leading or not (indexed or (len(parts) == 1 and bounds.condition is None)):
        return Ranking(ranked(connection, parts, bounds, None), "exact")
    if len(parts) == 1:
        return _by_one(connection, parts, bounds, states, passed, exact=not indexed)
    return _fused(connection, parts, leading, bounds, states, passed)


@dataclass(frozen=True)
class _Costs:
    """What the ways to rank cost, in microseconds a row, measured by benchmarks/search.py."""

    parts: int
    rows: int
    wanted: int

    LOOKED_UP, SCANNED, WALKED = 4.0, 1.0, 12.0

    def most_looked_up(self, expected: int, *, indexed: bool) -> int:
        """How many images may fulfil a condition for looking them all up to be the fastest way."""
        scanning = self.SCANNED * self.rows
        if not indexed:
            return int(scanning / (self.LOOKED_UP * self.parts))
        # An index is walked until enough of its rows fulfil the condition: the fewer do, the longer.
        share = max(expected, 1) / max(self.rows / self.parts, 1)
        walking = self.WALKED * self.wanted / min(share, 1.0) * self.parts
        return int(max(min(scanning, walking) / (self.LOOKED_UP * self.parts), FEWEST_LOOKED_UP))


def _by_one(
    connection: Connection,
    parts: Mapping[str, QueryVector],
    bounds: Bounds,
    states: Mapping[str, Segments],
    passed: int,
    *,
    exact: bool,
) -> Ranking:
    [(name, part)] = parts.items()
    depth = bounds.top_k + passed
    while True:
        wider = depth if bounds.condition is None else depth * WIDER_FOR_A_FILTER
        found = candidates(connection, part, states[name], wider, bounds.condition)
        hits = ranked(connection, parts, bounds, found.ids)
        if len(hits) == bounds.top_k or _unwanted_behind(found.lowest, part, bounds):
            return Ranking(hits, "exact" if exact else "index")
        if len(found.ids) < wider or depth >= LARGEST_DEPTH:
            break
        depth *= 4
    # The index ended early, or named texts that no image has. What there is, is found all the same.
    return Ranking(ranked(connection, parts, bounds, None), "exact")


def _unwanted_behind(similarity: float, part: QueryVector, bounds: Bounds) -> bool:
    """Whether a threshold leaves out whatever is less like the only vector than this."""
    thresholds = [threshold for threshold in (bounds.threshold, part.threshold) if threshold is not None]
    return any(similarity < threshold for threshold in thresholds)


def _fused(
    connection: Connection,
    parts: Mapping[str, QueryVector],
    leading: Mapping[str, QueryVector],
    bounds: Bounds,
    states: Mapping[str, Segments],
    passed: int,
) -> Ranking:
    """The threshold algorithm (Fagin, Lotem and Naor 2003): every vector names candidates, all of them are scored
    exactly, and that goes deeper until no image that was not named can score as high as the last of the top k.
    """
    opposed = sum(-part.weight for part in parts.values() if part.weight < 0)
    depth = max(FIRST_DEPTH, 2 * (bounds.top_k + passed))
    while True:
        found = [
            (part, candidates(connection, part, states[name], depth, bounds.condition))
            for name, part in leading.items()
        ]
        named = {id for _, part_candidates in found for id in part_candidates.ids}
        hits = ranked(connection, parts, bounds, sorted(named))
        # What was not named is no nearer to any vector than the last that it named, and at best opposite to what is
        # asked to be unlike.
        best_unnamed = sum(part.weight * part_candidates.lowest for part, part_candidates in found) + opposed
        if len(hits) == bounds.top_k and hits[-1].score >= best_unnamed:
            return Ranking(hits, "index")
        if bounds.threshold is not None and best_unnamed < bounds.threshold:
            return Ranking(hits, "index")
        ended = all(len(part_candidates.ids) < depth for _, part_candidates in found)
        if ended or depth >= max(LARGEST_DEPTH, 2 * (bounds.top_k + passed)):
            break
        if len(hits) == bounds.top_k and _settled(hits, found, depth):
            return Ranking(hits, "budget")
        depth *= 4
    if len(hits) < bounds.top_k:
        return Ranking(ranked(connection, parts, bounds, None), "exact")
    return Ranking(hits, "budget")


def _settled(hits: Sequence[SearchHit], found: Sequence[tuple[QueryVector, Candidates]], depth: int) -> bool:
    """Whether looking twice as far brought nothing into the top k."""
    nearer = {id for _, part_candidates in found for id in part_candidates.ids[: depth // 2]}
    return all(hit.id in nearer for hit in hits)
