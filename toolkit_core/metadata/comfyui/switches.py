"""Which of its inputs a switch passes on."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any

from .node import Node

Switch = Callable[[Mapping[str, Any]], Sequence[str]]
"""Takes a switch's inputs by name, gives the names of those that it passes on. None: not known."""

_CLASS = re.compile(r"switch|if.?else|index.?select|mux", re.IGNORECASE)
_NUMBERS = ("select", "index", "input", "Input", "selector", "input_selector")
_TRUTHS = ("boolean", "switch", "condition", "cond", "value", "evaluate", "bool")
CHOOSERS = frozenset((*_NUMBERS, *_TRUTHS))
"""The inputs that say what a switch passes on."""
_SIDES = (("on_true", "on_false"), ("if_true", "if_false"), ("tt_value", "ff_value"))
_MAX_CLASS = 200
_LAST_NUMBER = re.compile(r"(\d{1,9})$")


def by_truth(chooser: str, on_true: str, on_false: str) -> Switch:
    """Passes on one of two inputs, as a yes or no says."""
    return partial(_as_said, chooser, on_true, on_false)


def by_number(chooser: str) -> Switch:
    """Passes on the input whose name ends with the number in the widget `chooser`."""
    return lambda values: _numbered(values, values.get(chooser, 1))


def first_of(prefix: str) -> Switch:
    """Passes on the first of its inputs that is there."""
    return lambda values: sorted(name for name in values if name.startswith(prefix))[:1]


def last_first(prefix: str) -> Switch:
    """Passes on all of its inputs; a later one counts more."""
    return lambda values: sorted((name for name in values if name.startswith(prefix)), reverse=True)


def infer_switch(node: Node) -> Switch | None:
    """How a switch of unknown class chooses, by the names of its inputs; None where it is none, or can't be known."""
    if len(node.class_type) > _MAX_CLASS or not _is_switch(node.class_type):
        return None
    truth = next((name for name in _TRUTHS if name in node.inputs), None)
    sides = next((sides for sides in _SIDES if any(side in node.inputs for side in sides)), None)
    if truth and sides:
        return by_truth(truth, *sides)
    if truth == "boolean":
        return partial(_lettered, truth)
    number = next((name for name in _NUMBERS if name in node.inputs), None)
    return by_number(number) if number else None


@lru_cache(maxsize=2**10)
def _is_switch(class_type: str) -> bool:
    return bool(_CLASS.search(class_type))


def _as_said(chooser: str, on_true: str, on_false: str, values: Mapping[str, Any]) -> list[str]:
    said = values.get(chooser, False)
    return [] if said is None else [on_true if said else on_false]


def _numbered(values: Mapping[str, Any], number: Any) -> list[str]:
    if isinstance(number, bool) or not isinstance(number, int):
        return []
    return [name for name in values if (match := _LAST_NUMBER.search(name)) and int(match[1]) == number]


def _lettered(chooser: str, values: Mapping[str, Any]) -> list[str]:
    """The inputs of side a where it is true, else those of side b."""
    said = values.get(chooser)
    return [] if said is None else [name for name in values if name.endswith("_a" if said else "_b")]
