"""The top k images by a weighted sum of cosine similarities, exact."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from pgvector import HalfVector
from psycopg import sql

from ..records import SearchHit
from ..spaces import SPACES, Embedding
from .database import Connection
from .filters import Condition
from .missing import IS_FOUND
from .similarity import Bounds, QueryVector, and_, key_column, vector_of
from .stored_text import disk_path
from .vectors import names

if TYPE_CHECKING:
    from typing_extensions import LiteralString


def ranked(
    connection: Connection, parts: Mapping[str, QueryVector], bounds: Bounds, ids: Sequence[int] | None
) -> list[SearchHit]:
    """The top k images by the exact weighted sum of cosine similarities, of some images or (None) of all.

    Only images that have all the embeddings of `parts` take part. Ties are in id order.
    """
    embeddings = tuple((name, part.embedding, part.threshold is not None) for name, part in parts.items())
    condition = bounds.condition if ids is None else None
    statement = _statement_of_ids(embeddings) if ids is not None else _statement(embeddings, condition, of_ids=False)
    after_score, after_id = bounds.after or (None, None)
    parameters: dict[str, object] = {
        **(condition.parameters if condition else {}),
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


@lru_cache(256)
def _statement_of_ids(parts: tuple[tuple[str, Embedding, bool], ...]) -> bytes:
    """Written once for some parts, as writing it takes as long as running it."""
    return _statement(parts, None, of_ids=True).as_bytes(None)


def _statement(
    parts: tuple[tuple[str, Embedding, bool], ...], condition: Condition | None, *, of_ids: bool
) -> sql.Composed:
    """parts: name, embedding, and whether it has a threshold."""
    forms = {
        name: {
            **names(SPACES[embedding.space]),
            "key": key_column(embedding),
            "vector": vector_of(name),
            "score": _score(name),
            "weight": sql.Placeholder(f"weight_{name}"),
            "limit": sql.SQL(" AND {} >= {}::float8" if limited else "").format(
                sql.SQL("{}.score").format(_score(name)), sql.Placeholder(f"threshold_{name}")
            ),
        }
        for name, embedding, limited in parts
    }
    # Of all images: each distance once, though many may share a text.
    scans = "{score} AS MATERIALIZED (SELECT {owner}, 1 - (embedding <=> {vector}) AS score FROM {whole})"
    scanned = " JOIN {score} ON {score}.{owner} = f.{key}"
    looked_up = (
        " JOIN LATERAL (SELECT 1 - (v.embedding <=> {vector}) AS score FROM {whole} v"
        " WHERE v.{owner} = f.{key}) {score} ON true"
    )

    def each(text: LiteralString) -> list[sql.Composed]:
        return [sql.SQL(text).format(**form) for form in forms.values()]

    return sql.SQL(
        "{head}SELECT h.id, h.path, p.text, h.modified_at, h.favorite, h.rating, h.score, {columns} FROM ("
        " SELECT * FROM ("
        "  SELECT f.id, f.path, f.prompt_id, f.modified_at, f.favorite, f.rating, {score} AS score, {scores}"
        "  FROM image_file f{joins} WHERE " + IS_FOUND + "{chosen}{condition}{thresholds}"
        " ) scored WHERE {within} ORDER BY score DESC, id LIMIT %(top_k)s"
        ") h LEFT JOIN prompt_text p ON p.id = h.prompt_id ORDER BY h.score DESC, h.id"
    ).format(
        head=sql.SQL("" if of_ids else "WITH {} ").format(sql.SQL(", ").join(each(scans))),
        columns=sql.SQL(", ").join(each("{score}")),
        score=sql.SQL(" + ").join(each("{weight}::float8 * {score}.score")),
        scores=sql.SQL(", ").join(each("{score}.score AS {score}")),
        joins=sql.SQL("").join(each(looked_up if of_ids else scanned)),
        chosen=sql.SQL(" AND f.id = ANY(%(ids)s)" if of_ids else ""),
        condition=and_(condition),
        thresholds=sql.SQL("").join(each("{limit}")),
        within=_WITHIN,
    )


_WITHIN = sql.SQL(
    "(%(threshold)s::float8 IS NULL OR score >= %(threshold)s::float8)"
    " AND (%(after_id)s::bigint IS NULL OR score < %(after_score)s::float8"
    " OR (score = %(after_score)s::float8 AND id > %(after_id)s::bigint))"
)


def _score(name: str) -> sql.Identifier:
    return sql.Identifier(f"score_{name}")
