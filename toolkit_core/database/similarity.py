"""Nearest images by one vector: the statements that `search.ranking` chooses from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pgvector import HalfVector
from psycopg import sql
from psycopg.adapt import PyFormat

from ..records import SearchHit
from ..spaces import SPACES, Embedding, IndexKind
from .database import Connection
from .filters import Condition
from .index_effort import BESIDE_BY_SHARE, FEWEST_SKETCHED, SKETCHED_FOR_ONE, most_walked, set_effort
from .missing import IS_FOUND
from .segments import Segments
from .stored_text import disk_path
from .vectors import names

if TYPE_CHECKING:
    from typing_extensions import LiteralString


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
class Found:
    """The images nearest to one vector, nearest first, without those that others may tie with.

    unseen: no other image is nearer than this; None where there is no other one, as far as an index can tell.
    """

    hits: list[SearchHit]
    unseen: float | None


@dataclass(frozen=True)
class Candidates:
    """The images nearest to one vector, nearest first: their ids, int64, and cosine similarities, float64.

    unseen: see `Found`.
    """

    ids: NDArray[np.int64]
    similarities: NDArray[np.float64]
    unseen: float | None

    @property
    def lowest(self) -> float:
        """What images that are not among them have at most, also where an index ended early."""
        if self.unseen is not None:
            return self.unseen
        return float(self.similarities[-1]) if len(self.similarities) else -1.0


def nearest(
    connection: Connection, part: QueryVector, segments: Segments, depth: int, condition: Condition | None, share: float
) -> Found:
    """The `depth` images most like one vector, of those that fulfil a condition; approximate where an index is used.

    share: of the images, about how many fulfil the condition. An index may end early, so that there are more behind.
    """
    # The nearest may fulfil the condition more seldom than others do: the larger its share, the further they may fall
    # short of it.
    beside = 0 if condition is None else depth * (1 + BESIDE_BY_SHARE * share)
    set_effort(connection, segments, depth / max(share, 1e-6), beside)
    return _found(part, _near(connection, part, segments, depth, condition, _HIT_COLUMNS), depth)


def candidates(
    connection: Connection, part: QueryVector, segments: Segments, depth: int, condition: Condition | None, share: float
) -> Candidates:
    """The images that `nearest` gives, without what is known of them, and found with less effort."""
    set_effort(connection, segments, depth / max(share, 1e-6), roughly=True)
    lowest, rows = _near(connection, part, segments, depth, condition, "")
    return Candidates(*_columns(rows), _unseen(lowest, rows, depth))


def similarities(
    connection: Connection, part: QueryVector, ids: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The cosine similarities to one vector of those of some images that have the embedding, in no order."""
    parameters = {"vector_near": HalfVector(part.vector), "ids": ids.tolist()}
    # Planned anew each time: how many rows are open decides the plan.
    rows = connection.execute(_similarities_statement(part.embedding), parameters, prepare=False, binary=True)
    return _columns(rows.fetchall())


def described(
    connection: Connection,
    ids: NDArray[np.int64],
    scores: NDArray[np.float64],
    similarities: Mapping[str, NDArray[np.float64]],
) -> list[SearchHit]:
    """Scored images as hits, in the order given; one that is gone by now is left out."""
    statement = (
        "SELECT f.id, f.path, p.text, f.modified_at, f.favorite, f.rating FROM image_file f"
        " LEFT JOIN prompt_text p ON p.id = f.prompt_id WHERE f.id = ANY(%s)"
    )
    known = {id: columns for id, *columns in connection.execute(statement, [ids.tolist()], prepare=True, binary=True)}
    hits = []
    for row, id in enumerate(ids.tolist()):
        if id in known:
            path, prompt, date, favorite, rating = known[id]
            near = {name: float(column[row]) for name, column in similarities.items()}
            hits.append(SearchHit(id, disk_path(path), float(scores[row]), near, prompt, date, favorite, rating))
    return hits


def expected_matches(connection: Connection, condition: Condition) -> int:
    """How many images PostgreSQL expects to fulfil a condition, by its statistics."""
    explain = sql.SQL("EXPLAIN (FORMAT JSON) SELECT FROM image_file f WHERE " + IS_FOUND + " AND {}")
    row = connection.execute(explain.format(condition.sql), condition.parameters, prepare=False).fetchone()
    assert row is not None
    return int(row[0][0]["Plan"]["Plan Rows"])


def matching(connection: Connection, condition: Condition, limit: int) -> list[int]:
    """The ids of images that fulfil a condition, `limit` of them at most."""
    statement = sql.SQL("SELECT f.id FROM image_file f WHERE " + IS_FOUND + " AND {} LIMIT %(matching_limit)s")
    parameters = {**condition.parameters, "matching_limit": limit}
    rows = connection.execute(statement.format(condition.sql), parameters, prepare=False, binary=True)
    return [id for (id,) in rows]


def nearest_matching(
    connection: Connection, part: QueryVector, depth: int, condition: Condition, most: int
) -> Found | None:
    """The `depth` images most like one vector, of those that fulfil a condition, each of which is compared.

    None where more than `most` images fulfil it.
    """
    parameters = {**condition.parameters, "vector_near": HalfVector(part.vector)}
    statement = _matching_statement(part.embedding, depth, condition, most)
    [(few, *_), *_] = rows = connection.execute(statement, parameters, prepare=False, binary=True).fetchall()
    return _found(part, _split([row[1:] for row in rows]), depth) if few else None


def _near(
    connection: Connection,
    part: QueryVector,
    segments: Segments,
    depth: int,
    condition: Condition | None,
    columns: LiteralString,
) -> tuple[float | None, list[tuple[Any, ...]]]:
    """Id and cosine similarity of images, nearest first, and other columns of theirs; before these the similarity of
    the last vector that was looked at, None where there were fewer than `depth`.
    """
    index = segments.index if segments.sealed_pages else "empty"
    walked = max(most_walked(segments.rows), depth)
    parameters = {**(condition.parameters if condition else {}), "vector_near": HalfVector(part.vector)}
    if condition is None:
        statement = _plain_near_statement(part.embedding, index, segments.is_sketched, depth, columns)
    else:
        statement = _near_statement(part.embedding, index, segments.is_sketched, depth, columns, condition, walked)
    return _split(connection.execute(statement, parameters, prepare=condition is None, binary=True).fetchall())


def _near_statement(
    embedding: Embedding,
    index: IndexKind | Literal["empty"] | None,
    sketched: bool,
    depth: int,
    columns: LiteralString,
    condition: Condition | None = None,
    walked: int = 0,
) -> sql.Composed:
    """walked: how many rows an index is asked for under a condition."""
    named = max(depth * SKETCHED_FOR_ONE, FEWEST_SKETCHED)
    form = {
        **names(SPACES[embedding.space]),
        "vector": vector_of("near"),
        "depth": sql.Literal(depth),
        "sketched": sql.Literal(named),
        "walked": sql.Literal(max(walked, named if index == "hnsw_binary" else depth)),
        "fulfils": sql.SQL(""),
    }
    if condition is not None:
        # A scalar subquery, which PostgreSQL cannot turn into a join that would lose the index's order.
        form["fulfils"] = sql.SQL(
            " WHERE (SELECT true FROM image_file f"
            " WHERE f.{key} = v.{owner} AND " + IS_FOUND + " AND {condition} LIMIT 1)"
        ).format(key=key_column(embedding), owner=form["owner"], condition=condition.sql)
    sealed = sql.SQL(_SEALED[index]).format(**form)
    opened = sql.SQL(_OPEN_SKETCHED if sketched else _OPEN).format(**form)
    return _of_images(embedding, sealed, opened, form["depth"], columns, condition)


def _of_images(
    embedding: Embedding,
    sealed: sql.Composed,
    opened: sql.Composed,
    depth: sql.Composable,
    columns: LiteralString,
    condition: Condition | None,
) -> sql.Composed:
    """The images of the owners that two subqueries name with their distances."""
    return sql.SQL(
        "WITH near AS MATERIALIZED ({sealed} UNION ALL {opened}),"
        " nearest AS MATERIALIZED (SELECT * FROM near ORDER BY distance LIMIT {depth}),"
        " hits AS (SELECT f.id, 1 - n.distance AS score{columns} FROM nearest n JOIN image_file f ON f.{key} = n.owner"
        "  LEFT JOIN prompt_text p ON p.id = f.prompt_id"
        "  WHERE " + IS_FOUND + "{condition} ORDER BY n.distance, f.id LIMIT {depth})"
        " SELECT " + _LOWEST + ", h.* FROM (VALUES (1)) one LEFT JOIN hits h ON true ORDER BY score DESC, id"
    ).format(
        sealed=sealed,
        opened=opened,
        depth=depth,
        columns=sql.SQL(columns),
        key=key_column(embedding),
        condition=and_(condition),
    )


@lru_cache(256)
def _plain_near_statement(
    embedding: Embedding, index: IndexKind | Literal["empty"] | None, sketched: bool, depth: int, columns: LiteralString
) -> bytes:
    """The statement without a condition. Writing and planning it take as long as a search in an index: it is written
    once, and prepared.

    The limits are written out, for a plan without them would not use the index.
    """
    return _near_statement(embedding, index, sketched, depth, columns).as_bytes(None)


@lru_cache(256)
def _similarities_statement(embedding: Embedding) -> bytes:
    form = {**names(SPACES[embedding.space]), "vector": vector_of("near"), "key": key_column(embedding)}
    statement = "SELECT v.{owner}, 1 - (v.embedding <=> {vector}) FROM {whole} v WHERE v.{owner} = ANY(%(ids)s)"
    if embedding.of != "image":
        statement = (
            "SELECT f.id, 1 - (v.embedding <=> {vector}) FROM image_file f JOIN {whole} v ON v.{owner} = f.{key}"
            " WHERE f.id = ANY(%(ids)s)"
        )
    return sql.SQL(statement).format(**form).as_bytes(None)


def _matching_statement(embedding: Embedding, depth: int, condition: Condition, most: int) -> sql.Composed:
    form = {
        **names(SPACES[embedding.space]),
        "vector": vector_of("near"),
        "key": key_column(embedding),
        "depth": sql.Literal(depth),
        "most": sql.Literal(most),
        "fulfils": sql.SQL(" WHERE v.{owner} = ANY((SELECT owners FROM few)::bigint[])").format(
            owner=names(SPACES[embedding.space])["owner"]
        ),
        "condition": condition.sql,
        "columns": sql.SQL(_HIT_COLUMNS),
    }
    sealed, opened = (sql.SQL(_SCANNED.replace("{part}", part)).format(**form) for part in ("{sealed}", "{open}"))
    return sql.SQL(
        "WITH chosen AS MATERIALIZED (SELECT f.id, f.{key} AS owner FROM image_file f"
        " WHERE " + IS_FOUND + " AND f.{key} IS NOT NULL AND {condition} LIMIT {most} + 1),"
        " few AS MATERIALIZED (SELECT array_agg(DISTINCT owner) AS owners FROM chosen HAVING count(*) <= {most}),"
        " near AS MATERIALIZED ({sealed_rows} UNION ALL {open_rows}),"
        " nearest AS MATERIALIZED (SELECT * FROM near ORDER BY distance LIMIT {depth}),"
        " hits AS (SELECT f.id, 1 - n.distance AS score{columns}"
        "  FROM nearest n JOIN chosen c USING (owner) JOIN image_file f ON f.id = c.id"
        "  LEFT JOIN prompt_text p ON p.id = f.prompt_id ORDER BY n.distance, f.id LIMIT {depth})"
        " SELECT EXISTS (SELECT FROM few), "
        + _LOWEST
        + ", h.* FROM (VALUES (1)) one LEFT JOIN hits h ON true ORDER BY score DESC, id"
    ).format(sealed_rows=sealed, open_rows=opened, **form)


def _columns(rows: Sequence[tuple[Any, ...]]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    return (np.array([row[0] for row in rows], np.int64), np.array([row[1] for row in rows], np.float64))


def _split(rows: Sequence[tuple[Any, ...]]) -> tuple[float | None, list[tuple[Any, ...]]]:
    """The first column, which all rows share, and the others. A row that is there only for the first has no others."""
    return rows[0][0], [row[1:] for row in rows if row[1] is not None]


def _found(part: QueryVector, near: tuple[float | None, Sequence[tuple[Any, ...]]], depth: int) -> Found:
    lowest, rows = near
    hits = [
        SearchHit(id, disk_path(path), score, {part.name: score}, prompt, date, favorite, rating)
        for id, score, path, prompt, date, favorite, rating in rows
        if lowest is None or score > lowest
    ]
    return Found(hits, _unseen(lowest, rows, depth))


def _unseen(lowest: float | None, rows: Sequence[tuple[Any, ...]], depth: int) -> float | None:
    # Images that share a text are left out behind the last of `depth`, though their text was looked at.
    left_out = [float(rows[-1][1])] if len(rows) >= depth else []
    return max([*left_out, *([] if lowest is None else [lowest])], default=None)


# The similarity of the last of the nearest vectors.
_LOWEST: LiteralString = "(SELECT CASE WHEN count(*) >= {depth} THEN 1 - max(distance) END FROM nearest)"
# The rows of a space's two parts that are nearest to a vector: owner and cosine distance.
_SCANNED: LiteralString = (
    "(SELECT v.{owner} AS owner, (v.embedding <=> {vector}) + 0 AS distance FROM {part} v{fulfils}"
    " ORDER BY distance LIMIT {depth})"
)
_OPEN: LiteralString = _SCANNED.replace("{part}", "{open}")
# The query's signs are a subquery's, to be made once and not for every row. So is each candidate's distance: a join
# would stay planned for the size that the table had at first.
_OPEN_SKETCHED: LiteralString = (
    "(SELECT * FROM (SELECT s.{owner} AS owner,"
    " (SELECT o.embedding <=> {vector} FROM {open} o WHERE o.{owner} = s.{owner}) AS distance FROM"
    " (SELECT v.{owner} FROM {sketch} v{fulfils} ORDER BY v.bits <~> (SELECT binary_quantize({vector})::bit({width}))"
    " LIMIT {sketched}) s) compared WHERE distance IS NOT NULL ORDER BY distance LIMIT {depth})"
)
_BY_INDEX: LiteralString = (
    "(SELECT v.{owner} AS owner, v.distance FROM (SELECT w.{owner}, w.embedding <=> {vector} AS distance"
    " FROM {sealed} w ORDER BY w.embedding <=> {vector} LIMIT {walked}) v{fulfils} LIMIT {depth})"
)
_SEALED: dict[IndexKind | Literal["empty"] | None, LiteralString] = {
    "empty": "(SELECT NULL::bigint AS owner, NULL::float8 AS distance WHERE false)",
    None: _SCANNED.replace("{part}", "{sealed}"),
    "hnsw": _BY_INDEX,
    "ivfflat": _BY_INDEX,
    "hnsw_binary": (
        "(SELECT s.{owner} AS owner, s.embedding <=> {vector} AS distance FROM (SELECT * FROM (SELECT w.{owner},"
        " w.embedding FROM {sealed} w ORDER BY binary_quantize(w.embedding)::bit({width}) <~>"
        " binary_quantize({vector})::bit({width}) LIMIT {walked}) v{fulfils} LIMIT {sketched}) s"
        " ORDER BY distance LIMIT {depth})"
    ),
}
_HIT_COLUMNS: LiteralString = ", f.path, p.text, f.modified_at, f.favorite, f.rating"


def and_(condition: Condition | None) -> sql.Composable:
    return sql.SQL("") if condition is None else sql.SQL(" AND {}").format(condition.sql)


def key_column(embedding: Embedding) -> sql.Identifier:
    """The column of image_file that leads to the vector's row."""
    return sql.Identifier({"image": "id", "prompt": "prompt_id"}.get(embedding.of, "negative_prompt_id"))


def vector_of(name: str) -> sql.Composed:
    return sql.SQL("{}::halfvec").format(sql.Placeholder(f"vector_{name}", format=PyFormat.BINARY))
