"""Changes to JSON trees: what a file that was edited, damaged or made to do harm might say.

Trees are walked without recursion, and every change is made by a seeded `random.Random`, so that a run can be repeated.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import Any

MutateBytes = Callable[[bytes, int], bytes]
"""A change to plain bytes that gives at most so many: the fuzzer's own."""

Place = tuple[Any, Any]
"""A dict or list of a tree, and a key or index in it."""

SCALARS: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2**31, 2**53 + 1, 2**63, 2**64 - 1, 2**64, 10**39, -(2**70)),
    *(0.0, -0.0, 0.5, 1e-320, 1e308, 2.0**53, float("nan"), float("inf"), float("-inf")),
    *(
        "",
        " ",
        "\0",
        "None",
        "none",
        "NaN",
        "1e3",
        "1_0",
        "٣",
        "²",
        "0x10",
        "-1",
        " 7 ",
        "18446744073709551616",
        "true",
    ),
    *("\ud800", "\U0001f98a", "\u00a0", "\r\n", "é" * 9, "a" * 300, "Negative prompt:", "Steps: 1, ", "<lora:x:1>"),
    *([], {}, [[]], ["1", 0], ["1", -1], ["1", True], [1, 0], {"__value__": []}, {"": None}),
)
SPLICES = (
    "[",
    '{"a":',
    '"',
    "\\",
    ",",
    ":",
    "(",
    "<lora:",
    "\n",
    " ",
    "-",
    "9",
    "Steps: 1, ",
    "\\ud800",
    "1e",
    ", a: b",
)
_MOST_COPIES = 2_000


class TreeMutator:
    """Changes trees with words and parts that the readers may know."""

    def __init__(self, vocabulary: Sequence[str], donors: Sequence[Any], mutate_bytes: MutateBytes) -> None:
        self._vocabulary = vocabulary
        self._donors = donors
        self._mutate_bytes = mutate_bytes
        self._changes = (
            *(self._delete, self._duplicate, self._swap, self._rename, self._wrap, self._become_text, self._chain),
            *(self._replace_by_scalar, self._replace_by_scalar, self._graft, self._change_text, self._change_text),
            *(self._rewire, self._rewire, self._rewire, self._reclass, self._reclass, self._change_number, self._fan),
        )

    def mutate(self, tree: Any, random: Random) -> Any:
        """Change a tree in place, and return it."""
        for _ in range(random.choice((1, 1, 1, 2, 3, 5))):
            places = list(places_of(tree))
            if places:
                random.choice(self._changes)(places, random)
        return tree

    def cross(self, tree: Any, other: Any, random: Random) -> Any:
        """Replace a part of a tree by one of another, in place, and return it."""
        places, parts = list(places_of(tree)), list(places_of(other))
        if places and parts:
            _put(random.choice(places), copy.deepcopy(_at(random.choice(parts))))
        return tree

    def _delete(self, places: list[Place], random: Random) -> None:
        holder, key = random.choice(places)
        del holder[key]

    def _duplicate(self, places: list[Place], random: Random) -> None:
        place = random.choice(places)
        for _ in range(random.choice((1, 1, 1, 1, 9, 200))):
            _add(place, copy.deepcopy(_at(place)), random)

    def _swap(self, places: list[Place], random: Random) -> None:
        one, other = random.choice(places), random.choice(places)
        first, second = copy.deepcopy(_at(one)), copy.deepcopy(_at(other))
        _put(one, second)
        _put(other, first)

    def _rename(self, places: list[Place], random: Random) -> None:
        named = [place for place in places if isinstance(place[0], dict)]
        if named:
            holder, key = random.choice(named)
            value = holder.pop(key)
            holder[random.choice(self._vocabulary)] = value

    def _wrap(self, places: list[Place], random: Random) -> None:
        place = random.choice(places)
        value = _at(place)
        key = random.choice(("__value__", "prompt", "output", "0", random.choice(self._vocabulary)))
        _put(place, random.choice(([value], {key: value}, [value, 0], json.dumps(value))))

    def _become_text(self, places: list[Place], random: Random) -> None:
        """The whole value of a text as its JSON, so that its characters can be changed."""
        values = [place for place in places if place[1] == 2 and isinstance(_at(place), (dict, list))]
        if values:
            place = random.choice(values)
            _put(place, self._changed(json.dumps(_at(place)), random))

    def _chain(self, places: list[Place], random: Random) -> None:
        """Many copies of a node, each linked to the one before it."""
        nodes = [(holder, key) for holder, key in places if _has(_at((holder, key)), "inputs", dict)]
        nodes = [(holder, key) for holder, key in nodes if isinstance(holder, dict)]
        if not nodes:
            return
        holder, key = random.choice(nodes)
        names = [name for name, value in holder[key]["inputs"].items() if is_link(value)]
        before = key
        for number in range(random.choice((2, 2, 5, 30, 300, _MOST_COPIES))):
            node = copy.copy(holder[key])
            node["inputs"] = {**node["inputs"], **{name: [before, node["inputs"][name][1]] for name in names}}
            before = f"{key}.{number}"
            holder[before] = node
        for name in names:
            holder[key]["inputs"][name] = [before, 0]

    def _fan(self, places: list[Place], random: Random) -> None:
        """Many inputs like one that there is, linked to one slot after another."""
        links = [(holder, key) for holder, key in places if isinstance(holder, dict) and is_link(holder.get(key))]
        if links:
            holder, name = random.choice(links)
            source = holder[name][0]
            for slot in range(random.choice((2, 9, 99, 999))):
                holder[f"{name}_{slot}"] = [source, slot]

    def _replace_by_scalar(self, places: list[Place], random: Random) -> None:
        value = random.choice(SCALARS) if random.random() < 0.7 else random.choice(self._vocabulary)
        _put(random.choice(places), copy.deepcopy(value))

    def _graft(self, places: list[Place], random: Random) -> None:
        parts = list(places_of(random.choice(self._donors)))
        if parts:
            place, part = random.choice(places), copy.deepcopy(_at(random.choice(parts)))
            _put(place, part) if random.random() < 0.5 else _add(place, part, random)

    def _change_text(self, places: list[Place], random: Random) -> None:
        texts = [place for place in places if isinstance(_at(place), str)]
        if texts:
            place = random.choice(texts)
            _put(place, self._changed(_at(place), random))

    def _changed(self, text: str, random: Random) -> str:
        at = random.randint(0, len(text))
        to = min(len(text), at + random.choice((0, 1, 5, 50)))
        way = random.randrange(4)
        if way == 0:
            changed = self._mutate_bytes(text.encode("utf-8", "surrogatepass"), len(text) + 64)
            return changed.decode("utf-8", "replace")
        if way == 1:
            piece = random.choice(SPLICES) * random.choice((1, 1, 2, 9, 9, 50, 2_000, 50_000))
        elif way == 2:
            piece = random.choice(self._vocabulary)
        else:
            piece = text[at:to] * random.choice((0, 2, 100))
        return text[:at] + piece[:100_000] + text[to:]

    def _rewire(self, places: list[Place], random: Random) -> None:
        """Another source or slot for a link, in API format or in a UI workflow's list of links."""
        links = [place for place in places if is_link(_at(place)) or _is_ui_link(_at(place))]
        ids = [key for holder, key in places if isinstance(holder, dict) and _has(holder[key], "class_type", str)]
        ids += [_at(place)["id"] for place in places if _has(_at(place), "id", int)]
        if not ids:
            return
        slot = random.choice((-1, 0, 0, 1, 1, 2, 3, 99, 2**70, True))
        if not links or random.random() < 0.2:
            named = [place for place in places if isinstance(place[0], dict)]
            _put(random.choice(named), [random.choice(ids), slot])
            return
        link = _at(random.choice(links))
        if len(link) == 2:
            link[:] = [random.choice(ids), slot]
        else:
            link[random.choice((0, 1, 2, 3, 4))] = random.choice((random.choice(ids), slot))

    def _reclass(self, places: list[Place], random: Random) -> None:
        classes = [(holder, key) for holder, key in places if key in ("class_type", "type")]
        if classes:
            _put(random.choice(classes), random.choice(self._vocabulary))

    def _change_number(self, places: list[Place], random: Random) -> None:
        numbers = [place for place in places if type(_at(place)) in (int, float)]
        if numbers:
            place = random.choice(numbers)
            number = _at(place)
            _put(place, random.choice((number + 1, number - 1, -number, str(number), [number], number * 2**40)))


def places_of(tree: Any) -> Iterator[Place]:
    """Every place in a tree."""
    pending = [tree]
    while pending:
        holder = pending.pop()
        keys = list(holder) if isinstance(holder, dict) else range(len(holder)) if isinstance(holder, list) else ()
        for key in keys:
            yield holder, key
            pending.append(holder[key])


def is_link(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and isinstance(value[0], str) and isinstance(value[1], int)


def _is_ui_link(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 6


def _has(value: Any, key: str, kind: type) -> bool:
    return isinstance(value, dict) and isinstance(value.get(key), kind)


def _at(place: Place) -> Any:
    """What is there; None where an earlier change took it away."""
    holder, key = place
    present = key in holder if isinstance(holder, dict) else key < len(holder)
    return holder[key] if present else None


def _put(place: Place, value: Any) -> None:
    holder, key = place
    if isinstance(holder, dict) or key < len(holder):
        holder[key] = value


def _add(place: Place, value: Any, random: Random) -> None:
    """Put a value beside a place."""
    holder, key = place
    if isinstance(holder, list):
        holder.insert(key, value)
    else:
        holder[f"{key}{random.randrange(1000)}"] = value
