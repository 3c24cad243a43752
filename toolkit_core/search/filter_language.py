"""The language of filters: one grammar for the command line, the node and the panel.

    favorite:true rating:>=4 model:juggernaut (fox or "snow owl") -negative:blurry date:2026-01..2026-03

The grammar knows terms and how they combine; `filter_values` knows the fields and what may stand behind them.
"""

from __future__ import annotations

import functools
from collections.abc import Collection
from typing import Any

from lark import Lark, Token
from lark.exceptions import UnexpectedCharacters, UnexpectedToken

from ..errors import FilterError
from ..filters import And, Filter, Not, Or
from .filter_values import Mistake, Value, field_condition, free_words

LONGEST_FILTER = 4000
"""Characters of a filter, at most."""
DEEPEST_NESTING = 30
"""Parentheses inside one another, at most: PostgreSQL's parser has a stack, too."""
MOST_CONDITIONS = 200

# A name needs its colon, or a comparison, directly behind it: "a fox: red" is a mistake that is worth being told.
GRAMMAR = r"""
start: alternatives
?alternatives: terms (_OR terms)*
?terms: _term (_AND? _term)*
_term: condition | negation
negation: (NOT | MINUS) _term
?condition: LPAR alternatives RPAR -> group
    | WORD -> words
    | QUOTED -> words
    | FIELD value (_COMMA value)* -> field
value: COMPARISON? (VALUE | QUOTED)

LPAR: "("
RPAR: ")"
MINUS: /-(?=\S)/
_OR.3: /or(?=[\s()"|]|\Z)|\|/i
_AND.3: /and(?=[\s()"|]|\Z)/i
NOT.3: /not(?=[\s()"|]|\Z)/i
FIELD.2: /[^\W\d]\w*(:|(?=[<>=]))/
_COMMA.2: ","
COMPARISON.2: />=|<=|>|<|=/
QUOTED.1: /"(?:[^"]|"")*"/
VALUE: /[^\s()",|<>=][^\s()",|]*/
WORD: /(?!(and|or|not)(?=[\s()"|]|\Z))[^\s()",|\-][^\s()"|]*/i
%ignore /\s+/
"""

TERM = 'a word, a "phrase", a field such as model:, - before what is not wanted, or a part in parentheses'


def parse_filter(text: str) -> Filter | None:
    """The filter that a person wrote; None for a blank text. docs/filters.md has the whole language.

    Dates are in this machine's time zone. Raises FilterError, which shows where the mistake is and what is possible
    there.
    """
    if not text.strip():
        return None
    try:
        _check_size(text)
        return _parse(text)
    except Mistake as mistake:
        raise FilterError(text, mistake.position, mistake.what) from mistake.__cause__


def _check_size(text: str) -> None:
    if len(text) > LONGEST_FILTER:
        raise Mistake(LONGEST_FILTER, f"It has {len(text)} characters; {LONGEST_FILTER} are the most.")
    if (position := text.find("\0")) >= 0:
        raise Mistake(position, "This is a NUL character, which no text in the library has. Remove it.")


def _parse(text: str) -> Filter:
    opened: list[Token] = []
    conditions = 0
    try:
        parser = _parser().parse_interactive(text)
        for token in parser.iter_parse():
            if token.type == "LPAR":
                opened.append(token)
            elif token.type == "RPAR" and not opened:
                raise Mistake(_position(token), "There is no ( that this ) would close. Remove it, or quote it.")
            elif token.type == "RPAR":
                opened.pop()
            conditions += token.type in ("WORD", "QUOTED", "VALUE")
            conditions += token.count(",") if token.type == "WORD" else 0
            if len(opened) > DEEPEST_NESTING:
                raise Mistake(_position(token), f"Parentheses go {DEEPEST_NESTING} deep at most.")
            if conditions > MOST_CONDITIONS:
                raise Mistake(_position(token), f"This is one condition too many; a filter has {MOST_CONDITIONS}.")
        return parser.feed_eof()
    except UnexpectedCharacters as error:
        raise _out_of_place(error.pos_in_stream, text[error.pos_in_stream], error.allowed, opened) from None
    except UnexpectedToken as error:
        at_end = error.token.type == "$END"
        position = len(text) if at_end else _position(error.token)
        raise _out_of_place(position, "" if at_end else str(error.token), error.expected, opened) from None


class _Conditions:
    """What becomes of each rule of the grammar. Terms keep their order; single ones are not wrapped."""

    def start(self, children: list[Filter]) -> Filter:
        return children[0]

    def alternatives(self, children: list[Filter]) -> Filter:
        return Or(tuple(children))

    def terms(self, children: list[Filter]) -> Filter:
        return And(tuple(children))

    def negation(self, children: list[Any]) -> Filter:
        item = children[1]
        return item.item if isinstance(item, Not) else Not(item)

    def group(self, children: list[Any]) -> Filter:
        return children[1]

    def words(self, children: list[Token]) -> Filter:
        return free_words(_value(children[0]))

    def field(self, children: list[Any]) -> Filter:
        field, *values = children
        return field_condition(str(field).removesuffix(":"), _position(field), values)

    def value(self, children: list[Token]) -> Value:
        comparison = children[0] if len(children) == 2 else None
        return _value(children[-1], comparison)


def _value(token: Token, comparison: Token | None = None) -> Value:
    position = _position(token)
    start = position if comparison is None else _position(comparison)
    quoted = token.type == "QUOTED"
    text = token[1:-1].replace('""', '"') if quoted else str(token)
    return Value(text, quoted, position, str(comparison or ""), start)


@functools.cache
def _parser() -> Lark:
    return Lark(GRAMMAR, parser="lalr", lexer="contextual", transformer=_Conditions(), maybe_placeholders=False)


def _position(token: Token) -> int:
    assert token.start_pos is not None
    return token.start_pos


def _out_of_place(position: int, found: str, expected: Collection[str], opened: list[Token]) -> Mistake:
    """What is wrong with `found`, "" for the end. expected: the tokens of the grammar that may stand there instead."""
    if found.startswith('"'):
        return Mistake(position, 'This quote is not closed. Close it with ", and write a " inside of it twice.')
    if found.startswith("-"):
        return Mistake(position, "A - stands directly before what is not wanted: -blurry. Quote a dash that is text.")
    if not found and "RPAR" in expected:
        return Mistake(_position(opened[-1]), "This ( is never closed. Add a ), or quote it.")
    here = f"{found!r} cannot stand here" if found else "Something is missing at the end"
    if "VALUE" in expected:
        return Mistake(position, f'{here}. What is possible is a value, such as 4, >=4 or "a name".')
    return Mistake(position, f"{here}. What is possible is {TERM}. Words of the language are searched in quotes.")
