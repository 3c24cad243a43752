"""Filters as SQL: a boolean expression over `f`, a row of `image_file`, with every value as a parameter."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any, Literal

from psycopg import sql
from psycopg.sql import Composed

from ..filters import (
    And,
    Aspect,
    Favorite,
    Filter,
    Has,
    Matches,
    Not,
    Number,
    Or,
    PathGlob,
    Period,
    Tag,
    Words,
)
from ..spaces import EMBEDDINGS, SPACES
from .path_globs import as_range, as_regex
from .stored_text import storable, stored_path
from .vectors import owner, table

if TYPE_CHECKING:
    from typing_extensions import LiteralString

# A number that a program computed in single precision, such as 0.6000000238, is the 0.6 that a person asks for.
TOLERANCE = 1e-6


@dataclass(frozen=True)
class Condition:
    """A boolean expression of SQL over the alias `f` of `image_file`. Where it is NULL, the image does not meet it.

    parameters: what its placeholders stand for, by name: filter_0, filter_1, …
    """

    sql: Composed
    parameters: Mapping[str, object]


def condition(wanted: Filter) -> Condition:
    """A filter as SQL, for a WHERE. PostgreSQL runs any that `parse_filter` gives."""
    writer = _Writer()
    return Condition(_format("({})", writer.write(wanted)), writer.parameters)


class _Writer:
    """Writes one condition and collects the values in it. Each part that is written stands in any place of an AND."""

    def __init__(self) -> None:
        self.parameters: dict[str, object] = {}

    def write(self, wanted: Filter) -> Composed:
        match wanted:
            case And(items):
                return self._joined(items, " AND ", " && ")
            case Or(items):
                return self._joined(items, " OR ", " || ")
            case Not(Words() as words):
                return _format("NOT {}", self._words([words], " && "))
            case Not(item):
                return _format("({}) IS NOT TRUE", self.write(item))
            case Words():
                return self._words([wanted], " && ")
            case Matches():
                return self._matches(wanted)
            case Number():
                return self._number(wanted)
            case Aspect():
                return self._aspect(wanted)
            case Period(start, end):
                return self._between(sql.SQL("f.modified_at"), "timestamptz", (">=", start), ("<", end))
            case PathGlob(pattern):
                return self._path(pattern)
            case Tag(pattern):
                return self._tag(pattern)
            case Favorite():
                return _format("f.favorite")
            case Has(name):
                return _has(name)

    def _value(self, value: object, cast: LiteralString) -> Composed:
        name = f"filter_{len(self.parameters)}"
        self.parameters[name] = value
        return _format("{}::{}", sql.Placeholder(name), sql.SQL(cast))

    def _joined(
        self, items: Sequence[Filter], operator: LiteralString, query_operator: Literal[" && ", " || "]
    ) -> Composed:
        """Parts joined by AND or OR. Those about words of one prompt become one full-text query."""
        parts: list[Composed] = []
        about = sorted((item for item in items if isinstance(item, Words)), key=lambda words: words.field)
        for _, group in groupby(about, key=lambda words: words.field):
            parts.append(self._words(list(group), query_operator))
        parts += [self.write(item) for item in items if not isinstance(item, Words)]
        return _format("({})", sql.SQL(operator).join(parts))

    def _words(self, words: Sequence[Words], operator: Literal[" && ", " || "]) -> Composed:
        # EXISTS, and not IN: of it PostgreSQL can make a join, a hash table, or a look-up of each image's prompt.
        return _format(
            "EXISTS (SELECT FROM prompt_text p WHERE p.id = f.{key} AND p.words @@ ({query}))",
            key=sql.Identifier(PROMPT_KEYS[words[0].field]),
            query=sql.SQL(operator).join([self._query(item) for item in words]),
        )

    def _query(self, words: Words) -> Composed:
        return _format("({})", sql.SQL(" || ").join([self._phrase(text, words.prefix) for text in _forms(words.text)]))

    def _phrase(self, text: str, prefix: bool) -> Composed:
        query = _format("phraseto_tsquery('simple', without_punctuation({}))", self._value(text, "text"))
        # As text a query is quoted words, and a prefix is marked behind the last of them; without words it is "".
        return _format("coalesce(nullif({}::text, '') || ':*', '')::tsquery", query) if prefix else query

    def _matches(self, matches: Matches) -> Composed:
        patterns = [pattern if matches.whole else f"*{pattern}*" for pattern in _forms(matches.pattern)]
        like = sql.SQL(", ").join([_format("lower({})", self._value(_like(pattern), "text")) for pattern in patterns])
        if matches.field == "model":
            # In the index's "C" order `lower` would leave all letters but ASCII's as they are.
            return _format(MODEL_IS, like=_like_text(sql.SQL('name.model COLLATE "default"'), like))
        if matches.field == "lora":
            return _format(ANY_LORA, like=_like_text(sql.SQL("lora #>> '{}'"), like))
        return _like_text(_column(matches.field), like)

    def _number(self, number: Number) -> Composed:
        column, cast = _column(number.field), NUMBER_TYPES[number.field]
        low, high = number.lowest, number.highest
        if cast == "float8":
            return self._between(
                column,
                "float8",
                (">=", None if low is None else float(low) - (TOLERANCE if number.lowest_is_in else -TOLERANCE)),
                ("<=", None if high is None else float(high) + (TOLERANCE if number.highest_is_in else -TOLERANCE)),
            )
        lowest = None if low is None else math.ceil(low) if number.lowest_is_in else math.floor(low) + 1
        highest = None if high is None else math.floor(high) if number.highest_is_in else math.ceil(high) - 1
        # A bound that the column's type cannot hold is on one side of all its values.
        limit = WHOLE_NUMBERS[cast]
        if (lowest is not None and lowest >= limit) or (highest is not None and highest < -limit):
            return _format("false")
        lowest = lowest if lowest is not None and lowest >= -limit else None
        highest = highest if highest is not None and highest < limit else None
        return self._between(column, cast, (">=", lowest), ("<=", highest))

    def _between(
        self, column: sql.Composable, cast: LiteralString, *bounds: tuple[Literal[">=", "<=", "<"], Any]
    ) -> Composed:
        parts = [
            _format("{} {} {}", column, sql.SQL(operator), self._value(bound, cast))
            for operator, bound in bounds
            if bound is not None
        ]
        return _format("({})", sql.SQL(" AND ").join(parts)) if parts else _format("{} IS NOT NULL", column)

    def _aspect(self, aspect: Aspect) -> Composed:
        return _format(
            ASPECTS[aspect.relation],
            width=self._value(aspect.width, "bigint"),
            height=self._value(aspect.height, "bigint"),
        )

    def _path(self, pattern: str) -> Composed:
        return _format(
            "({})", sql.SQL(" OR ").join([self._path_as_written(form) for form in _forms(pattern, stored_path)])
        )

    def _path_as_written(self, pattern: str) -> Composed:
        matches = _format("f.path ~ {}", self._value(as_regex(pattern), "text"))
        if (ends := as_range(pattern)) is None:
            return matches
        start, end = ends
        between = self._between(sql.SQL("f.path"), "text", (">=", start), ("<", end))
        return _format("({} AND {})", between, matches)

    def _tag(self, pattern: str) -> Composed:
        pattern = unicodedata.normalize("NFC", storable(pattern))  # as `normal_tag` stores them
        if "*" not in pattern:
            return _format("f.lower_tags @> ARRAY[lower({})]", self._value(pattern, "text"))
        return _format(
            "(f.tags <> '{{}}' AND EXISTS (SELECT FROM unnest(f.lower_tags) tag WHERE tag LIKE lower({})))",
            self._value(_escaped(pattern), "text"),
        )


def _forms(text: str, stored: Callable[[str], str] = storable) -> list[str]:
    """A text as it is, and in Unicode's composed and decomposed forms: prompts and names are stored as they were found.

    macOS writes file names decomposed. stored: makes of it what PostgreSQL takes.
    """
    given = stored(text)
    return list(dict.fromkeys([given, unicodedata.normalize("NFC", given), unicodedata.normalize("NFD", given)]))


def _format(text: LiteralString, *parts: sql.Composable, **named: sql.Composable) -> Composed:
    return sql.SQL(text).format(*parts, **named)


def _column(field: str) -> Composed:
    return _format("f.{}", sql.Identifier(COLUMNS.get(field, field)))


def _like(pattern: str) -> str:
    """A pattern for LIKE, of a text whose backslashes are slashes."""
    return _escaped(pattern.replace("\\", "/"))


def _escaped(pattern: str) -> str:
    return "".join(f"\\{c}" if c in "\\%_" else c for c in pattern).replace("*", "%")


def _like_text(value: sql.Composable, patterns: Composed) -> Composed:
    return _format("lower(translate({}, '\\', '/')) LIKE ANY (ARRAY[{}])", value, patterns)


def _has(name: str) -> Composed:
    if name in EMBEDDINGS:
        embedding = EMBEDDINGS[name]
        space = SPACES[embedding.space]
        return _format(
            "EXISTS (SELECT FROM {table} v WHERE v.{owner} = f.{key})",
            table=table(space),
            owner=owner(space),
            key=sql.Identifier(EMBEDDING_KEYS[embedding.of]),
        )
    if name in PROMPT_KEYS:
        return _format(HAS_PROMPT, key=sql.Identifier(PROMPT_KEYS[name]))
    return _format(HAS.get(name, "{} IS NOT NULL" if name in NUMBER_TYPES else "{} <> ''"), _column(name))


COLUMNS = {"cfg": "cfg_scale", "date": "modified_at", "tag": "tags", "lora": "loras"}
PROMPT_KEYS = {"prompt": "prompt_id", "negative": "negative_prompt_id"}
EMBEDDING_KEYS = {"image": "id", "prompt": "prompt_id", "negative_prompt": "negative_prompt_id"}
NUMBER_TYPES: dict[str, Literal["bigint", "integer", "smallint", "numeric", "float8"]] = {
    "id": "bigint",
    "rating": "smallint",
    "seed": "numeric",
    "steps": "integer",
    "width": "integer",
    "height": "integer",
    "cfg": "float8",
    "guidance": "float8",
    "denoise": "float8",
}
# By type, a number that its values are below, and not below the negative of; for numeric, what no filter reaches.
WHOLE_NUMBERS = {"smallint": 2**15, "integer": 2**31, "bigint": 2**63, "numeric": 2**200}

HAS: dict[str, LiteralString] = {
    "date": "{} IS NOT NULL",
    "tag": "{} <> '{{}}'",
    "lora": "{} <> '[]'",
}
# All images with an empty prompt share one row of prompt_text.
HAS_PROMPT = (
    "(f.{key} IS NOT NULL AND f.{key} IS DISTINCT FROM (SELECT id FROM prompt_text WHERE sha256 = sha256(''::bytea)))"
)

# In whole numbers, so that what is just within 2% is so on every machine.
ASPECTS: dict[str, LiteralString] = {
    "near": "(f.width > 0 AND f.height > 0 AND f.width * {height} * 102 >= f.height * {width} * 100"
    " AND f.width * {height} * 100 <= f.height * {width} * 102)",
    "wider": "(f.height > 0 AND f.width * {height} * 100 > f.height * {width} * 102)",
    "taller": "(f.width > 0 AND f.width * {height} * 102 < f.height * {width} * 100)",
}

# The few models of a library are read off the index, each by one look-up of the next one behind it.
MODEL_IS = """left(f.model, 400) COLLATE "C" IN (
    WITH RECURSIVE name AS (
        SELECT min(left(model, 400) COLLATE "C") AS model FROM image_file
        UNION ALL
        SELECT (SELECT min(left(i.model, 400) COLLATE "C") FROM image_file i
                WHERE left(i.model, 400) COLLATE "C" > name.model)
        FROM name WHERE name.model IS NOT NULL
    )
    SELECT name.model FROM name WHERE {like}
)"""
ANY_LORA = "(f.loras <> '[]' AND EXISTS (SELECT FROM jsonb_path_query(f.loras, '$[*].name') lora WHERE {like}))"
