"""The fields of the filter language, and what may stand behind each."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from functools import partial
from typing import TypeVar

from ..filters import (
    HAS,
    And,
    Aspect,
    Favorite,
    Filter,
    Has,
    Matches,
    Not,
    Number,
    NumberField,
    Or,
    PathGlob,
    Period,
    PromptField,
    Tag,
    TextField,
    Words,
)

NUMBER = re.compile(r"-?[0-9]{1,30}(\.[0-9]{1,30})?")
SIZE = re.compile(r"([0-9]{1,9})[x×]([0-9]{1,9})", re.IGNORECASE)
RATIO = re.compile(r"([0-9]{1,4}(?:\.[0-9]{1,2})?):([0-9]{1,4}(?:\.[0-9]{1,2})?)")
DATE = re.compile(r"([0-9]{4})(?:-([0-9]{1,2})(?:-([0-9]{1,2}))?)?")
YEARS = range(1971, 3000)
"""The years whose days Windows can place in its time zone."""
WORD_CATEGORIES = frozenset(("Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Mc", "Nd", "Nl", "No", "So"))
LONGEST_SHOWN = 60
SHAPES: dict[str, Aspect] = {
    "portrait": Aspect(1, 1, "taller"),
    "landscape": Aspect(1, 1, "wider"),
    "square": Aspect(1, 1),
}

Bound = TypeVar("Bound")


class Mistake(Exception):
    """What is wrong with a filter, and where. `parse_filter` makes a FilterError of it."""

    def __init__(self, position: int, what: str) -> None:
        super().__init__(what)
        self.position = position
        self.what = what


@dataclass(frozen=True)
class Value:
    """What stands behind a field, without its quotes. The positions are its own and that of the comparison before."""

    text: str
    quoted: bool
    position: int
    comparison: str = ""
    start: int = 0

    def place(self, at: int) -> int:
        """The position of a character of the text in the filter."""
        return self.position + at + (1 + self.text.count('"', 0, at) if self.quoted else 0)

    def refused(self, possible: str) -> Mistake:
        return Mistake(self.position, f"{_short(self.text)} is not possible here. {possible}")


@dataclass(frozen=True)
class _Field:
    """read: makes a condition of a value. examples: what values look like, for a person. has: what `none` is about."""

    read: Callable[[Value], Filter]
    examples: str
    comparisons: tuple[str, ...] = ()
    has: str | None = None


def field_condition(name: str, position: int, values: list[Value]) -> Filter:
    """The condition of one field and the values behind it, of which any is enough. Raises Mistake."""
    known = name.lower()
    if known not in FIELDS:
        close = difflib.get_close_matches(known, FIELDS, 1)
        meant = f" Did you mean {close[0]}?" if close else ""
        raise Mistake(
            position, f"There is no field {_short(name)}.{meant} {listed('Fields', FIELDS)} Quote text with a colon."
        )
    conditions = tuple(_condition(known, FIELDS[known], value) for value in values)
    return conditions[0] if len(conditions) == 1 else Or(conditions)


def words(field: PromptField, value: Value) -> Filter:
    """The condition that a prompt has these words. Raises Mistake."""
    text = value.text
    prefix = text.endswith("*") and _in_word(text[:-1])
    for at, character in enumerate(text.removesuffix("*")):
        # In quotes, one that stands by itself is punctuation.
        if character == "*" and not (value.quoted and not _in_word(text[:at]) and not _in_word(text[at + 1 : at + 2])):
            raise Mistake(
                value.place(at), 'A * is only possible at the end, for how the last word begins: cathed*, "red fo*"'
            )
    if not any(map(_in_word, text)):
        raise value.refused("A prompt is searched by words, and here is neither a letter nor a digit.")
    return Words(field, text.removesuffix("*") if prefix else text, prefix)


def free_words(value: Value) -> Filter:
    """The condition that the prompt has these words, or any of them if commas join them. Raises Mistake."""
    if value.quoted or not value.text.strip(","):
        return words("prompt", value)
    parts = re.finditer("[^,]+", value.text)
    found = tuple(words("prompt", Value(part[0], False, value.position + part.start())) for part in parts)
    return found[0] if len(found) == 1 else Or(found)


def listed(what: str, names: Iterable[str]) -> str:
    return f"{what}: {', '.join(names)}."


def _short(text: str) -> str:
    return repr(text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}…")


def _in_word(text: str) -> bool:
    """Whether a text ends in a letter, a digit, a mark on one, or a pictogram."""
    return text != "" and unicodedata.category(text[-1]) in WORD_CATEGORIES


def _condition(name: str, field: _Field, value: Value) -> Filter:
    if value.comparison and value.comparison not in field.comparisons:
        possible = " or ".join(field.comparisons)
        but = f"Only {possible} is possible for it" if possible else "It takes no comparison"
        raise Mistake(value.start, f"{value.comparison} cannot stand behind {name}. {but}. {field.examples}")
    if field.has is not None and value.text.lower() == "none" and not value.quoted:
        if value.comparison not in ("", "="):
            raise Mistake(value.start, f"{value.comparison} has no meaning with none. {field.examples}")
        return Not(Has(field.has))
    if not value.text.strip():
        raise Mistake(value.position, f"The value of {name} is empty. {field.examples}")
    return field.read(value)


def _text(field: TextField, value: Value) -> Filter:
    return Matches(field, value.text, whole=value.comparison == "=")


def _favorite(value: Value) -> Filter:
    answer = {"true": True, "yes": True, "false": False, "no": False}.get(value.text.lower())
    if answer is None:
        raise value.refused(FIELDS["favorite"].examples)
    return Favorite() if answer else Not(Favorite())


def _number(field: NumberField, value: Value) -> Filter:
    def read(text: str) -> Decimal:
        if not NUMBER.fullmatch(text):
            raise value.refused(FIELDS[field].examples)
        return Decimal(text)

    lowest, highest = _range(value, read, FIELDS[field].examples)
    if lowest is not None and highest is not None and lowest > highest:
        raise value.refused(BACKWARDS)
    if ".." in value.text:
        return Number(field, lowest, highest)
    return {
        ">": Number(field, lowest, None, lowest_is_in=False),
        ">=": Number(field, lowest, None),
        "<": Number(field, None, highest, highest_is_in=False),
        "<=": Number(field, None, highest),
    }.get(value.comparison, Number(field, lowest, highest))


def _date(value: Value) -> Filter:
    def read(text: str) -> tuple[datetime, datetime]:
        start_and_end = _period(text)
        if start_and_end is None:
            raise value.refused(FIELDS["date"].examples)
        return start_and_end

    first, last = _range(value, read, FIELDS["date"].examples)
    start, end = first and first[0], last and last[1]
    if start is not None and end is not None and start >= end:
        raise value.refused(BACKWARDS)
    if ".." in value.text:
        return Period(start, end)
    return {
        ">": Period(end, None),
        ">=": Period(start, None),
        "<": Period(None, start),
        "<=": Period(None, end),
    }.get(value.comparison, Period(start, end))


def _range(value: Value, read: Callable[[str], Bound], examples: str) -> tuple[Bound | None, Bound | None]:
    """The two ends of `a..b`, `a..` or `..b`; of a single value, that value twice."""
    low, dots, high = value.text.partition("..")
    if not dots:
        bound = read(low)
        return bound, bound
    if value.comparison or not (low or high):
        raise value.refused(examples)
    return read(low) if low else None, read(high) if high else None


def _period(text: str) -> tuple[datetime, datetime] | None:
    """The first moment of a year, a month or a day, and the first one behind it; None if the text is none of them."""
    match = DATE.fullmatch(text)
    if match is None or int(match[1]) not in YEARS:
        return None
    year, month, day = int(match[1]), int(match[2] or 1), int(match[3] or 1)
    try:
        start = datetime(year, month, day)  # noqa: DTZ001 - a day of this machine's time zone
        if match[3]:
            end = datetime.fromordinal(start.toordinal() + 1)
        elif match[2]:
            end = datetime(year + month // 12, month % 12 + 1, 1)  # noqa: DTZ001
        else:
            end = datetime(year + 1, 1, 1)  # noqa: DTZ001
    except ValueError:
        return None
    return start.astimezone(), end.astimezone()


def _size(value: Value) -> Filter:
    match = SIZE.fullmatch(value.text)
    if match is None:
        raise value.refused(FIELDS["size"].examples)
    width, height = Decimal(match[1]), Decimal(match[2])
    return And((Number("width", width, width), Number("height", height, height)))


def _aspect(value: Value) -> Filter:
    if (shape := SHAPES.get(value.text.lower())) is not None:
        return shape
    match = RATIO.fullmatch(value.text)
    if match is None or not (Fraction(match[1]) and Fraction(match[2])):
        raise value.refused(FIELDS["aspect"].examples)
    ratio = Fraction(match[1]) / Fraction(match[2])
    return Aspect(ratio.numerator, ratio.denominator)


def _has(value: Value) -> Filter:
    name = value.text.lower()
    if name not in HAS:
        close = difflib.get_close_matches(name, HAS, 1)
        meant = f"Did you mean {close[0]}? " if close else ""
        raise value.refused(meant + listed("An image can have", HAS))
    return Has(name)


def _texts(field: TextField, examples: str) -> _Field:
    return _Field(
        partial(_text, field), f"{examples} * stands for any characters, = asks for the whole text.", ("=",), field
    )


def _numbers(field: NumberField, examples: str) -> _Field:
    return _Field(partial(_number, field), f"Values look like {examples}.", COMPARISONS, field)


BACKWARDS = "This range runs backwards: the smaller end comes first."
COMPARISONS = (">", ">=", "<", "<=", "=")
TEXT_EXAMPLES: dict[TextField, str] = {
    "model": 'Values look like juggernaut, "juggernaut xl", sd_xl*base or =sd_xl_base_1.0.safetensors.',
    "lora": 'Values look like detail or "add detail".',
    "vae": "Values look like sdxl_vae.",
    "generator": "Values look like comfyui or automatic1111.",
    "sampler": 'Values look like euler, "dpm++ 2m" or =euler.',
    "scheduler": "Values look like karras.",
    "error": "Values look like truncated.",
}
NUMBER_EXAMPLES: dict[NumberField, str] = {
    "rating": "4, >=4, 3..5 or none",
    "seed": "123, 100..200 or none",
    "cfg": "7, 5.5..8, <4 or none",
    "guidance": "3.5, 2..4 or none",
    "denoise": "0.6, <1 or none",
    "steps": "20, >=20, 20..30 or none",
    "width": "1024, >=1024 or 512..768",
    "height": "1024, >=1024 or 512..768",
}
FIELDS: dict[str, _Field] = {
    "prompt": _Field(partial(words, "prompt"), 'Values look like fox, cathed* or "red fox".', has="prompt"),
    "negative": _Field(partial(words, "negative"), 'Values look like blurry, waterm* or "bad hands".', has="negative"),
    "favorite": _Field(_favorite, "Values are true and false."),
    "tag": _Field(lambda value: Tag(value.text), 'Values look like portrait, "to print", por* or none.', has="tag"),
    **{field: _texts(field, examples) for field, examples in TEXT_EXAMPLES.items()},
    **{field: _numbers(field, examples) for field, examples in NUMBER_EXAMPLES.items()},
    "size": _Field(_size, "Values look like 1024x1024."),
    "aspect": _Field(_aspect, "Values look like portrait, landscape, square, 16:9 or 2:3."),
    "date": _Field(
        _date,
        "Values look like 2026, 2026-01, 2026-01-31, >=2026-05-03, 2026-01..2026-03 or none, with years from "
        f"{YEARS[0]} to {YEARS[-1]}.",
        COMPARISONS,
        "date",
    ),
    "path": _Field(lambda value: PathGlob(value.text), 'Values look like renders/**, "my renders/*.png" or C:/art.'),
    "id": _Field(partial(_number, "id"), "Values look like 12, 5..9 or >=100.", COMPARISONS),
    "has": _Field(_has, listed("Values are", HAS)),
}
