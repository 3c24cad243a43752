"""Nearest images by one vector, or by a weighted sum of several: the statements that `search.ranking` chooses from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal, LiteralString

import numpy as np
from numpy.typing import NDArray
from pgvector import HalfVector
from psycopg import sql
from psycopg.adapt import PyFormat

from ..records import SearchHit
from ..spaces import SPACES, Embedding, IndexKind
from .database import Connection
from .filters import Condition
from .segments import Segments
from .stored_text import disk_path
from .vectors import names

SMALLEST_EF_SEARCH, LARGEST_EF_SEARCH = 100, 1000
# Rows that a binary quantised index, or the sketch, has to name for one that is wanted, and at least.
SKETCHED_FOR_ONE, FEWEST_SKETCHED = 10, 400
# Shares of an IVFFlat index's lists that are looked at, which finds 98% of the nearest at 100,000 and 1,000,000 rows.
PROBED_SHARE = 1 / 25


@dataclass(frozen=True)
class QueryVector:
    """What to be near to in one embedding: float32 of the space's width, and how much it counts.

    name: of the part of the query. A negative weight asks for images unlike the vector. threshold: the lowest cosine
    similarity to it.
    """

    name: str
    embedding: Embedding
    vector: NDArray[np.float32]
    weight: float
    threshold: float | None = None


@dataclass(frozen=True)
class Bounds:
    """Which of the ranked images are wanted.

    threshold: the lowest score. after: the score and the id of the image behind which to go on.
    """

    top_k: int
    condition: Condition | None = None
    threshold: float | None = None
    after: tuple[float, int] | None = None


@dataclass(frozen=True)
class Candidates:
    """The ids of images in the order of one vector, and the cosine similarity of the last of them."""

    ids: list[int] = field(default_factory=list)
    lowest: float = -1.0


def nearest(
    connection: Connection, part: QueryVector, segments: Segments, depth: int, condition: Condition | None, share: float
) -> list[SearchHit]:
    """The `depth` images most like one vector, of those that fulfil a condition; approximate where an index is used.

    share: of the images, about how many fulfil the condition. An index may end early, so fewer than `depth` do not say
    that there are no more.
    """
    return _hits(part, _near(connection, part, segments, depth, condition, share, _HIT_COLUMNS))


def candidates(
    connection: Connection, part: QueryVector, segments: Segments, depth: int, condition: Condition | None, share: float
) -> Candidates:
    """The images that `nearest` gives, without what is known of them."""
    rows = _near(connection, part, segments, depth, condition, share, "")
    return Candidates([id for id, _ in rows], rows[-1][1]) if rows else Candidates()


def ranked(
    connection: Connection, parts: Mapping[str, QueryVector], bounds: Bounds, ids: Sequence[int] | None
) -> list[SearchHit]:
    """The top k images by the exact weighted sum of cosine similarities, of some images or (None) of all.

    Only images that have all the embeddings of `parts` take part. Ties are in id order.
    """
    vectors = {name: _vector(name) for name in parts}
    if ids is None:
        # Each distance once, though many images may share a text.
        scans = [
            sql.SQL(
                "{score} AS MATERIALIZED (SELECT {owner}, 1 - (embedding <=> {vector}) AS score FROM {whole})"
            ).format(score=_scores(name), vector=vectors[name], **names(SPACES[part.embedding.space]))
            for name, part in parts.items()
        ]
        head = sql.SQL("WITH {} ").format(sql.SQL(", ").join(scans))
        joins = [
            sql.SQL(" JOIN {score} ON {score}.{owner} = f.{key}").format(
                score=_scores(name), key=_key(part.embedding), owner=names(SPACES[part.embedding.space])["owner"]
            )
            for name, part in parts.items()
        ]
    else:
        head = sql.SQL("")
        joins = [
            sql.SQL(
                " JOIN LATERAL (SELECT 1 - (v.embedding <=> {vector}) AS score FROM {whole} v"
                " WHERE v.{owner} = f.{key}) {score} ON true"
            ).format(
                vector=vectors[name],
                score=_scores(name),
                key=_key(part.embedding),
                **names(SPACES[part.embedding.space]),
            )
            for name, part in parts.items()
        ]
    score = sql.SQL(" + ").join(
        sql.SQL("{weight}::float8 * {score}.score").format(
            weight=sql.Placeholder(f"weight_{name}"), score=_scores(name)
        )
        for name in parts
    )
    thresholds = [
        sql.SQL(" AND {score}.score >= {threshold}::float8").format(
            score=_scores(name), threshold=sql.Placeholder(f"threshold_{name}")
        )
        for name, part in parts.items()
        if part.threshold is not None
    ]
    statement = sql.SQL(
        "{head}SELECT h.id, h.path, p.text, h.modified_at, h.favorite, h.rating, h.score, {columns} FROM ("
        " SELECT * FROM ("
        "  SELECT f.id, f.path, f.prompt_id, f.modified_at, f.favorite, f.rating, {score} AS score, {scores}"
        "  FROM image_file f{joins} WHERE f.error IS NULL{chosen}{condition}{thresholds}"
        " ) scored WHERE {within} ORDER BY score DESC, id LIMIT %(top_k)s"
        ") h LEFT JOIN prompt_text p ON p.id = h.prompt_id ORDER BY h.score DESC, h.id"
    ).format(
        head=head,
        columns=sql.SQL(", ").join(_scores(name) for name in parts),
        score=score,
        scores=sql.SQL(", ").join(sql.SQL("{0}.score AS {0}").format(_scores(name)) for name in parts),
        joins=sql.SQL("").join(joins),
        chosen=sql.SQL("" if ids is None else " AND f.id = ANY(%(ids)s)"),
        condition=_and(bounds.condition if ids is None else None),
        thresholds=sql.SQL("").join(thresholds),
        within=_WITHIN,
    )
    after_score, after_id = bounds.after or (None, None)
    parameters: dict[str, object] = {
        **(bounds.condition.parameters if bounds.condition and ids is None else {}),
        "top_k": bounds.top_k,
        "threshold": bounds.threshold,
        "after_score": after_score,
        "after_id": after_id,
        **({} if ids is None else {"ids": list(ids)}),
    }
    for name, part in parts.items():
        parameters[f"vector_{name}"] = HalfVector(part.vector)
        parameters[f"weight_{name}"] = part.weight
        parameters[f"threshold_{name}"] = part.threshold
    rows = connection.execute(statement, parameters, prepare=False)
    return [
        SearchHit(id, disk_path(path), score, dict(zip(parts, scores, strict=True)), prompt, date, favorite, rating)
        for id, path, prompt, date, favorite, rating, score, *scores in rows
    ]


def expected_matches(connection: Connection, condition: Condition) -> int:
    """How many images PostgreSQL expects to fulfil a condition, by its statistics."""
    explain = sql.SQL("EXPLAIN (FORMAT JSON) SELECT FROM image_file f WHERE f.error IS NULL AND {}")
    row = connection.execute(explain.format(condition.sql), condition.parameters, prepare=False).fetchone()
    assert row is not None
    return int(row[0][0]["Plan"]["Plan Rows"])


def matching(connection: Connection, condition: Condition, limit: int) -> list[int]:
    """The ids of images that fulfil a condition, `limit` of them at most."""
    statement = sql.SQL("SELECT f.id FROM image_file f WHERE f.error IS NULL AND {} LIMIT %(matching_limit)s")
    parameters = {**condition.parameters, "matching_limit": limit}
    rows = connection.execute(statement.format(condition.sql), parameters, prepare=False, binary=True)
    return [id for (id,) in rows]


def nearest_of(connection: Connection, part: QueryVector, depth: int, ids: Sequence[int]) -> list[SearchHit]:
    """The images most like a vector of the picture, of the images with some ids; exact.

    Faster than `ranked`, which has to look up the images before their vectors.
    """
    parameters = {"vector_near": HalfVector(part.vector), "depth": depth, "ids": list(ids)}
    statement = _statement_of_ids(part.embedding)
    return _hits(part, connection.execute(statement, parameters, prepare=False, binary=True).fetchall())


def _near(
    connection: Connection,
    part: QueryVector,
    segments: Segments,
    depth: int,
    condition: Condition | None,
    share: float,
    columns: LiteralString,
) -> list[tuple[Any, ...]]:
    """Id and cosine similarity of images, nearest first, and other columns of theirs."""
    _set_search_effort(connection, segments, depth, share)
    index = segments.index if segments.sealed_pages else "empty"
    if condition is None:
        statement = _plain_near_statement(part.embedding, index, segments.is_sketched, columns)
    else:
        statement = _near_statement(part.embedding, index, segments.is_sketched, columns, condition)
    parameters = {
        **(condition.parameters if condition else {}),
        "vector_near": HalfVector(part.vector),
        "depth": depth,
        "sketched": max(depth * SKETCHED_FOR_ONE, FEWEST_SKETCHED),
    }
    return connection.execute(statement, parameters, prepare=False, binary=True).fetchall()


def _near_statement(
    embedding: Embedding,
    index: IndexKind | Literal["empty"] | None,
    sketched: bool,
    columns: LiteralString,
    condition: Condition | None,
) -> sql.Composed:
    space = SPACES[embedding.space]
    form = {**names(space), "vector": _vector("near"), "width": sql.Literal(space.width), "fulfils": sql.SQL("")}
    if condition is not None:
        # A scalar subquery, which PostgreSQL cannot turn into a join that would lose the index's order.
        form["fulfils"] = sql.SQL(
            " WHERE (SELECT true FROM image_file f"
            " WHERE f.{key} = v.{owner} AND f.error IS NULL AND {condition} LIMIT 1)"
        ).format(key=_key(embedding), owner=form["owner"], condition=condition.sql)
    sealed = sql.SQL(_SEALED[index]).format(**form)
    opened = sql.SQL(_OPEN_SKETCHED if sketched else _OPEN).format(**form)
    return _of_images(embedding, sealed, opened, columns, condition)


def _of_images(
    embedding: Embedding,
    sealed: sql.Composed,
    opened: sql.Composed,
    columns: LiteralString,
    condition: Condition | None,
) -> sql.Composed:
    """The images of the owners that two subqueries name with their distances."""
    return sql.SQL(
        "WITH near AS MATERIALIZED ({sealed} UNION ALL {opened}),"
        " nearest AS (SELECT * FROM near ORDER BY distance LIMIT %(depth)s)"
        " SELECT f.id, 1 - n.distance{columns} FROM nearest n JOIN image_file f ON f.{key} = n.owner"
        " LEFT JOIN prompt_text p ON p.id = f.prompt_id"
        " WHERE f.error IS NULL{condition} ORDER BY n.distance, f.id LIMIT %(depth)s"
    ).format(sealed=sealed, opened=opened, columns=sql.SQL(columns), key=_key(embedding), condition=_and(condition))


@cache
def _plain_near_statement(
    embedding: Embedding, index: IndexKind | Literal["empty"] | None, sketched: bool, columns: LiteralString
) -> bytes:
    """The statement without a condition, which is written once: composing it takes as long as a search in an index."""
    return _near_statement(embedding, index, sketched, columns, None).as_bytes(None)


@cache
def _statement_of_ids(embedding: Embedding) -> bytes:
    chosen = sql.SQL(" WHERE v.{owner} = ANY(%(ids)s)").format(**names(SPACES[embedding.space]))
    form = {**names(SPACES[embedding.space]), "vector": _vector("near"), "fulfils": chosen}
    sealed, opened = (sql.SQL(_SCANNED.replace("{part}", part)).format(**form) for part in ("{sealed}", "{open}"))
    return _of_images(embedding, sealed, opened, _HIT_COLUMNS, None).as_bytes(None)


def _hits(part: QueryVector, rows: Sequence[tuple[Any, ...]]) -> list[SearchHit]:
    return [
        SearchHit(id, disk_path(path), score, {part.name: score}, prompt, date, favorite, rating)
        for id, score, path, prompt, date, favorite, rating in rows
    ]


def _set_search_effort(connection: Connection, segments: Segments, depth: int, share: float) -> None:
    if segments.index == "ivfflat":
        probes = max(round(segments.lists * PROBED_SHARE), 1)
        connection.execute("SELECT set_config('ivfflat.probes', %s, true)", [str(probes)])
    else:
        # As many rows at once as the condition leaves `depth` of: going on behind them costs more, a row.
        wanted = int(1.2 * depth / max(share, 1e-6)) * (SKETCHED_FOR_ONE if segments.index == "hnsw_binary" else 1)
        effort = min(max(wanted, SMALLEST_EF_SEARCH), LARGEST_EF_SEARCH)
        connection.execute("SELECT set_config('hnsw.ef_search', %s, true)", [str(effort)])


# The rows of a space's two parts that are nearest to a vector: owner and cosine distance.
_SCANNED: LiteralString = (
    "(SELECT v.{owner} AS owner, v.embedding <=> {vector} AS distance FROM {part} v{fulfils}"
    " ORDER BY (v.embedding <=> {vector}) + 0 LIMIT %(depth)s)"
)
_OPEN: LiteralString = _SCANNED.replace("{part}", "{open}")
_OPEN_SKETCHED: LiteralString = (
    "(SELECT o.{owner} AS owner, o.embedding <=> {vector} AS distance FROM (SELECT v.{owner} FROM {sketch} v{fulfils}"
    " ORDER BY v.bits <~> binary_quantize({vector})::bit({width}) LIMIT %(sketched)s) s JOIN {open} o USING ({owner})"
    " ORDER BY distance LIMIT %(depth)s)"
)
_BY_INDEX: LiteralString = (
    "(SELECT v.{owner} AS owner, v.embedding <=> {vector} AS distance FROM {sealed} v{fulfils}"
    " ORDER BY v.embedding <=> {vector} LIMIT %(depth)s)"
)
_SEALED: dict[IndexKind | Literal["empty"] | None, LiteralString] = {
    "empty": "(SELECT NULL::bigint AS owner, NULL::float8 AS distance WHERE false)",
    None: _SCANNED.replace("{part}", "{sealed}"),
    "hnsw": _BY_INDEX,
    "ivfflat": _BY_INDEX,
    "hnsw_binary": (
        "(SELECT s.{owner} AS owner, s.embedding <=> {vector} AS distance FROM (SELECT v.{owner}, v.embedding"
        " FROM {sealed} v{fulfils} ORDER BY binary_quantize(v.embedding)::bit({width}) <~>"
        " binary_quantize({vector})::bit({width}) LIMIT %(sketched)s) s ORDER BY distance LIMIT %(depth)s)"
    ),
}
_HIT_COLUMNS: LiteralString = ", f.path, p.text, f.modified_at, f.favorite, f.rating"
_WITHIN = sql.SQL(
    "(%(threshold)s::float8 IS NULL OR score >= %(threshold)s::float8)"
    " AND (%(after_id)s::bigint IS NULL OR score < %(after_score)s::float8"
    " OR (score = %(after_score)s::float8 AND id > %(after_id)s::bigint))"
)


def _and(condition: Condition | None) -> sql.Composable:
    return sql.SQL("") if condition is None else sql.SQL(" AND {}").format(condition.sql)


def _key(embedding: Embedding) -> sql.Identifier:
    """The column of image_file that leads to the vector's row."""
    return sql.Identifier({"image": "id", "prompt": "prompt_id"}.get(embedding.of, "negative_prompt_id"))


def _vector(name: str) -> sql.Composed:
    return sql.SQL("{}::halfvec").format(sql.Placeholder(f"vector_{name}", format=PyFormat.BINARY))


def _scores(name: str) -> sql.Identifier:
    return sql.Identifier(f"score_{name}")
