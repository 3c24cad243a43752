"""What images a person wants to see, as a tree of conditions. `search.filter_language` reads it from text.

An image that lacks what a condition is about does not meet it, and so meets its negation.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Literal, TypeAlias

from .spaces import EMBEDDINGS

PromptField: TypeAlias = Literal["prompt", "negative"]
TextField: TypeAlias = Literal["model", "lora", "vae", "generator", "sampler", "scheduler", "error"]
NumberField: TypeAlias = Literal["id", "rating", "seed", "steps", "cfg", "guidance", "denoise", "width", "height"]

HAS = (
    *("prompt", "negative", "model", "lora", "vae", "generator", "sampler", "scheduler", "error", "tag", "date"),
    *("rating", "seed", "steps", "cfg", "guidance", "denoise", "width", "height"),
    *EMBEDDINGS,
)
"""What an image may have or lack: a text that is not empty, a number, a tag, a date, a stored embedding."""


@dataclass(frozen=True)
class And:
    items: tuple[Filter, ...]


@dataclass(frozen=True)
class Or:
    items: tuple[Filter, ...]


@dataclass(frozen=True)
class Not:
    item: Filter


@dataclass(frozen=True)
class Words:
    """The words of `text`, one after the other, in a prompt. `prefix`: the last one is only how a word begins."""

    field: PromptField
    text: str
    prefix: bool = False


@dataclass(frozen=True)
class Matches:
    """A text that has `pattern` in it, in letters of any case; `*` stands for any characters, / and \\ are the same.

    whole: the pattern is the whole text. Of several LoRAs one is enough.
    """

    field: TextField
    pattern: str
    whole: bool = False


@dataclass(frozen=True)
class Number:
    """A number between two bounds, each of them inside unless said otherwise; None where there is no bound."""

    field: NumberField
    lowest: Decimal | None
    highest: Decimal | None
    lowest_is_in: bool = True
    highest_is_in: bool = True


@dataclass(frozen=True)
class Aspect:
    """A width that is to the height as `width` to `height`, to within 2%; or that is wider or taller than that."""

    width: int
    height: int
    relation: Literal["near", "wider", "taller"] = "near"


@dataclass(frozen=True)
class Period:
    """A file that was modified at `start` or later, and before `end`. Both know their time zone."""

    start: datetime | None
    end: datetime | None


@dataclass(frozen=True)
class PathGlob:
    """A file's path. `*` and `?` stand for characters of one name, `**` for any; / and \\ are the same.

    A pattern that is not absolute may begin at any folder. One without wildcards also means all that lies below it.
    """

    pattern: str


@dataclass(frozen=True)
class Tag:
    """A whole tag, in letters of any case; `*` stands for any characters."""

    pattern: str


@dataclass(frozen=True)
class Favorite:
    """An image that is marked as a favourite."""


@dataclass(frozen=True)
class Has:
    """An image that has one of `HAS`."""

    name: str


Filter: TypeAlias = And | Or | Not | Words | Matches | Number | Aspect | Period | PathGlob | Tag | Favorite | Has
