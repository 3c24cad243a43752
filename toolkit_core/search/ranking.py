"""Which way to rank: by what the filter lets through and what the tables are, and how far to look."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ..database import Connection, pairs
from ..database.segments import Segments, segments
from ..database.similarity import (
    Bounds,
    Candidates,
    QueryVector,
    candidates,
    expected_matches,
    matching,
    nearest,
    nearest_of,
    ranked,
)
from ..records import Certainty, SearchHit
from ..spaces import PAIRED, SPACES

# Candidates that each embedding names to a weighted search, at first and at most. Where images are to be unlike a
# vector, hardly any can be ruled out: the first look is as deep as is still fast.
FIRST_DEPTH, FIRST_DEPTH_OPPOSED, LARGEST_DEPTH = 150, 600, 1200
# An index that is walked for what fulfils a filter meets the best of it in less good order.
WIDER_FOR_A_FILTER = 2
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
    share = 1.0
    if bounds.condition is not None:
        costs = _Costs(len(parts), max(state.rows for state in states.values()), bounds.top_k + passed)
        expected = expected_matches(connection, bounds.condition)
        share = min(max(expected, 1) / max(costs.rows, 1), 1.0)
        # An estimate may be far off. Whether few match is known when they are read, as far as few.
        most = costs.most_looked_up(share, indexed=indexed and bool(leading))
        ids = matching(connection, bounds.condition, most + 1) if expected <= most else None
        if ids is not None and len(ids) <= most:
            return Ranking(_of_ids(connection, parts, bounds, ids), "exact")
    if not leading or not (indexed or (len(parts) == 1 and bounds.condition is None)):
        return Ranking(ranked(connection, parts, bounds, None), "exact")
    look = _Look(connection, parts, leading, bounds, states, passed, share)
    if len(parts) == 1:
        return look.by_one(exact=not indexed)
    if parts.keys() == set(PAIRED) and pairs.usable(connection):
        return look.by_pairs()
    return look.fused()


def _of_ids(
    connection: Connection, parts: Mapping[str, QueryVector], bounds: Bounds, ids: Sequence[int]
) -> list[SearchHit]:
    """The top k of some images, all of which are compared."""
    part = next(iter(parts.values()))
    plain = part.weight > 0 and part.threshold is bounds.threshold is bounds.after is None
    if len(parts) == 1 and part.embedding.of == "image" and plain:
        return nearest_of(connection, part, bounds.top_k, ids)
    return ranked(connection, parts, bounds, ids)


@dataclass(frozen=True)
class _Costs:
    """What the ways to rank cost, in microseconds a row, measured by benchmarks/search."""

    parts: int
    rows: int
    wanted: int

    LOOKED_UP, SCANNED, WALKED = 4.0, 1.0, 25.0

    def most_looked_up(self, share: float, *, indexed: bool) -> int:
        """How many images may fulfil a condition, if that share does, for looking them all up to be the fastest way."""
        scanning = self.SCANNED * self.rows * self.parts
        # An index is walked until enough of its rows fulfil the condition: the fewer do, the longer.
        walking = self.WALKED * self.wanted * WIDER_FOR_A_FILTER / share * self.parts
        cheapest = min(scanning, walking) if indexed else scanning
        return int(max(cheapest / (self.LOOKED_UP * self.parts), FEWEST_LOOKED_UP))


@dataclass(frozen=True)
class _Look:
    """One search in the indexes: what is looked for, and where."""

    connection: Connection
    parts: Mapping[str, QueryVector]
    leading: Mapping[str, QueryVector]
    bounds: Bounds
    states: Mapping[str, Segments]
    passed: int
    share: float

    def by_one(self, *, exact: bool) -> Ranking:
        """By the only vector there is."""
        [part] = self.leading.values()
        bounds, depth = self.bounds, self.bounds.top_k + self.passed
        while True:
            wider = depth if bounds.condition is None else depth * WIDER_FOR_A_FILTER
            state = self.states[part.name]
            found = nearest(self.connection, part, state, wider, bounds.condition, self.share)
            hits = [hit for hit in found if self._is_wanted(hit, part)][: bounds.top_k]
            if len(hits) == bounds.top_k or (found and self._is_too_low(found[-1].score, part)):
                return Ranking(hits, "exact" if exact else "index")
            if len(found) < wider or depth >= LARGEST_DEPTH:
                break
            depth *= 4
        # The index ended early, or named texts that no image has. What there is, is found all the same.
        return Ranking(ranked(self.connection, self.parts, bounds, None), "exact")

    def by_pairs(self) -> Ranking:
        """By the index over prompt and picture at once, and by what is open in either space."""
        bounds = self.bounds
        depth = (bounds.top_k + self.passed) * (2 if bounds.condition is None else WIDER_FOR_A_FILTER)
        weighted = {name: (part.vector, part.weight) for name, part in self.parts.items()}
        named = set(pairs.candidates(self.connection, weighted, depth, bounds.condition))
        for name, part in self.leading.items():
            if self.states[name].open_pages:
                opened = replace(self.states[name], sealed_pages=0)
                depth_there = max(depth, FIRST_DEPTH)
                named.update(candidates(self.connection, part, opened, depth_there, bounds.condition, 1.0).ids)
        hits = ranked(self.connection, self.parts, bounds, sorted(named))
        return Ranking(hits, "index") if len(hits) == bounds.top_k else self.fused()

    def fused(self) -> Ranking:
        """The threshold algorithm (Fagin, Lotem and Naor 2003): every vector names candidates, all of them are scored
        exactly, and that goes deeper until no image that was not named can score as high as the last of the top k.
        """
        bounds = self.bounds
        opposed = sum(-part.weight for part in self.parts.values() if part.weight < 0)
        depth = max(FIRST_DEPTH_OPPOSED if opposed else FIRST_DEPTH, 2 * (bounds.top_k + self.passed))
        largest = max(LARGEST_DEPTH, depth)
        while True:
            found = [
                (part, candidates(self.connection, part, self.states[name], depth, bounds.condition, self.share))
                for name, part in self.leading.items()
            ]
            named = {id for _, part_candidates in found for id in part_candidates.ids}
            hits = ranked(self.connection, self.parts, bounds, sorted(named))
            # What was not named is no nearer to any vector than the last that it named, and at best opposite to what
            # is asked to be unlike.
            best_unnamed = sum(part.weight * part_candidates.lowest for part, part_candidates in found) + opposed
            whole = len(hits) == bounds.top_k
            if (whole and hits[-1].score >= best_unnamed) or (bounds.threshold or -1) > best_unnamed:
                return Ranking(hits, "index")
            ended = all(len(part_candidates.ids) < depth for _, part_candidates in found)
            if ended or depth >= largest or (whole and _settled(hits, found, depth)):
                break
            depth *= 2
        return Ranking(hits, "budget") if whole else Ranking(ranked(self.connection, self.parts, bounds, None), "exact")

    def _is_wanted(self, hit: SearchHit, part: QueryVector) -> bool:
        after = self.bounds.after
        return not self._is_too_low(hit.score, part) and (
            after is None or hit.score < after[0] or (hit.score == after[0] and hit.id > after[1])
        )

    def _is_too_low(self, similarity: float, part: QueryVector) -> bool:
        thresholds = (self.bounds.threshold, part.threshold)
        return any(threshold is not None and similarity < threshold for threshold in thresholds)


def _settled(hits: Sequence[SearchHit], found: Sequence[tuple[QueryVector, Candidates]], depth: int) -> bool:
    """Whether looking twice as far brought nothing into the top k."""
    nearer = {id for _, part_candidates in found for id in part_candidates.ids[: depth // 2]}
    return all(hit.id in nearer for hit in hits)
