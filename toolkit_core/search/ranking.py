"""Which way to rank: by what the filter lets through and what the tables are, and how far to look."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ..database import Connection, pairs
from ..database.index_effort import rows_held
from ..database.segments import Segments, segments
from ..database.similarity import (
    Bounds,
    Candidates,
    Found,
    QueryVector,
    candidates,
    expected_matches,
    matching,
    nearest,
    nearest_matching,
)
from ..database.weighted import ranked
from ..records import Certainty, SearchHit
from ..spaces import PAIRED, SPACES
from .fusion import best, scored

# Candidates that each embedding names to a weighted search, at first and at most. Where images are to be unlike a
# vector, hardly any can be ruled out: the first look is as deep as is still fast.
FIRST_DEPTH, FIRST_DEPTH_OPPOSED, LARGEST_DEPTH = 150, 450, 1200
# A share of the depth behind which nothing of the top k may lie, for looking deeper to be held in vain.
SETTLED = 0.75
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
        hits = _looked_up(connection, parts, bounds, passed, most) if expected <= most else None
        if hits is not None:
            return Ranking(hits, "exact")
    if not leading or not (indexed or (len(parts) == 1 and bounds.condition is None)):
        return Ranking(ranked(connection, parts, bounds, None), "exact")
    look = _Look(connection, parts, leading, bounds, states, passed, share)
    if len(parts) == 1:
        return look.by_one(exact=not indexed)
    # Nothing in the index over pairs is near to a query that is like one of them and unlike the other. Under a
    # condition nobody would know how much of it was not looked at.
    paired = parts.keys() == leading.keys() == set(PAIRED) and bounds.condition is None
    if paired and pairs.usable(connection):
        return look.by_pairs()
    return look.fused()


def _looked_up(
    connection: Connection, parts: Mapping[str, QueryVector], bounds: Bounds, passed: int, most: int
) -> list[SearchHit] | None:
    """The top k of the images that fulfil the condition, each compared; None if they are more than `most`."""
    assert bounds.condition is not None
    [part, *others] = parts.values()
    if part.weight > 0 and not others:
        found = nearest_matching(connection, part, bounds.top_k + passed + 1, bounds.condition, most)
        if found is None:
            return None
        hits = _wanted(found, part, bounds)
        if found.unseen is None or _is_whole(hits, found, part, bounds):
            return hits
    ids = matching(connection, bounds.condition, most + 1)
    return None if len(ids) > most else ranked(connection, parts, bounds, ids)


@dataclass(frozen=True)
class _Costs:
    """What the ways to rank cost, in microseconds a row, measured by benchmarks/search."""

    parts: int
    rows: int
    wanted: int

    LOOKED_UP, SCANNED, WALKED = 4.0, 1.0, 40.0

    def most_looked_up(self, share: float, *, indexed: bool) -> int:
        """How many images may fulfil a condition, if that share does, for looking them all up to be the fastest way."""
        scanning = self.SCANNED * self.rows * self.parts
        # An index is walked until enough of its rows fulfil the condition: the fewer do, the longer.
        walking = self.WALKED * rows_held(self.rows, self.wanted / share) * self.parts
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
        bounds, depth = self.bounds, self.bounds.top_k + self.passed + 1
        while True:
            found = nearest(self.connection, part, self.states[part.name], depth, bounds.condition, self.share)
            hits = _wanted(found, part, bounds)
            if _is_whole(hits, found, part, bounds):
                return Ranking(hits, "exact" if exact else "index")
            if found.unseen is None or depth >= LARGEST_DEPTH:
                break
            depth *= 4
        # The index was walked far enough, or named texts that no image has. What there is, is found all the same.
        return Ranking(ranked(self.connection, self.parts, bounds, None), "exact")

    def by_pairs(self) -> Ranking:
        """By the index over prompt and picture at once, and by what is open in either space."""
        bounds = self.bounds
        depth = 2 * (bounds.top_k + self.passed)
        weighted = {name: (part.vector, part.weight) for name, part in self.parts.items()}
        named = set(pairs.candidates(self.connection, weighted, depth))
        for name, part in self.leading.items():
            if self.states[name].open_pages:
                opened = replace(self.states[name], sealed_pages=0)
                depth_there = max(depth, FIRST_DEPTH)
                found = candidates(self.connection, part, opened, depth_there, None, 1.0)
                named.update(found.ids.tolist())
        hits = ranked(self.connection, self.parts, replace(bounds, top_k=bounds.top_k + 1), sorted(named))
        # Of what ties with the last, not all may be named.
        if len(hits) > bounds.top_k and hits[-1].score < hits[-2].score:
            return Ranking(hits[:-1], "index")
        return self.fused()

    def fused(self) -> Ranking:
        """The threshold algorithm (Fagin, Lotem and Naor 2003): every vector names candidates, all of them are scored
        exactly, and that goes deeper until no image that was not named can score as high as the last of the top k.
        """
        bounds = self.bounds
        opposed = sum(-part.weight for part in self.parts.values() if part.weight < 0)
        depth = max(FIRST_DEPTH_OPPOSED if opposed else FIRST_DEPTH, 2 * (bounds.top_k + self.passed))
        largest = max(LARGEST_DEPTH, depth)
        while True:
            found = {
                name: candidates(self.connection, part, self.states[name], depth, bounds.condition, self.share)
                for name, part in self.leading.items()
            }
            if any(self._gave_up(name, named) for name, named in found.items()):
                break
            hits = best(self.connection, self.parts, scored(self.connection, self.parts, found), bounds)
            # What was not named is no nearer to any vector than the last that it named, and at best opposite to what
            # is asked to be unlike.
            best_unnamed = sum(self.parts[name].weight * named.lowest for name, named in found.items()) + opposed
            whole = len(hits) == bounds.top_k
            if (whole and hits[-1].score > best_unnamed) or (bounds.threshold or -1) > best_unnamed:
                return Ranking(hits, "index")
            whole = whole and not _may_tie(hits[-1], found)
            ended = all(named.unseen is None for named in found.values())
            if whole and (ended or depth >= largest or _settled(hits, found, depth)):
                return Ranking(hits, "budget")
            if ended or depth >= largest:
                break
            depth *= 2
        return Ranking(ranked(self.connection, self.parts, bounds, None), "exact")

    def _gave_up(self, name: str, named: Candidates) -> bool:
        """Whether an index may have been left before it came by enough that fulfil the condition."""
        return named.unseen is None and self.bounds.condition is not None and self.states[name].index is not None


def _wanted(found: Found, part: QueryVector, bounds: Bounds) -> list[SearchHit]:
    """The first `top_k` of what one vector found, behind the page before and above the thresholds."""
    after = bounds.after
    return [
        hit
        for hit in found.hits
        if not _is_too_low(hit.score, part, bounds)
        and (after is None or hit.score < after[0] or (hit.score == after[0] and hit.id > after[1]))
    ][: bounds.top_k]


def _is_whole(hits: Sequence[SearchHit], found: Found, part: QueryVector, bounds: Bounds) -> bool:
    """Whether no other image than those found belongs to the hits."""
    return len(hits) == bounds.top_k or (found.unseen is not None and _is_too_low(found.unseen, part, bounds))


def _is_too_low(similarity: float, part: QueryVector, bounds: Bounds) -> bool:
    return any(threshold is not None and similarity < threshold for threshold in (bounds.threshold, part.threshold))


def _may_tie(last: SearchHit, found: Mapping[str, Candidates]) -> bool:
    """Whether images that were not named may be as near to every vector as the last of the top k, as its copies are."""
    return all(named.unseen is not None and last.scores[name] <= named.unseen for name, named in found.items())


def _settled(hits: Sequence[SearchHit], found: Mapping[str, Candidates], depth: int) -> bool:
    """Whether the last part of the way brought nothing into the top k."""
    nearer = {id for named in found.values() for id in named.ids[: int(depth * SETTLED)].tolist()}
    return all(hit.id in nearer for hit in hits)
