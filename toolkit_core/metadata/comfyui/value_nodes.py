"""What ComfyUI's text and number nodes make of their widgets, as far as a file can say it."""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Mapping
from typing import Any

from ..values import parse_json

Values = Mapping[str, Any]
"""A node's widgets by input name, with links into them already resolved; None for what only a run can know."""
Value = Callable[[Values], Any]

MAX_TEXT = 2**20
"""A longer text is no prompt; it would come from texts that are joined to themselves again and again."""

_PATTERN = re.compile(r"[\\.^$*+?{}\[\]|()]")
_CHANCE = re.compile(r"[{|}]|__[^\s_]")
_AS_OPERATION = {
    "UPPERCASE": str.upper,
    "lowercase": str.lower,
    "Capitalize": str.capitalize,
    "Title Case": str.title,
}


def widget(name: str) -> Value:
    """Gives one of its inputs as it is."""
    return lambda values: values.get(name)


def outputs(*names: str | None) -> tuple[Value, ...]:
    """Gives inputs as they are, one an output slot; None for a slot that gives something else."""
    return tuple(widget(name) if name else unknown for name in names)


def unknown(values: Values) -> None:
    """Only a run knows."""


def joined(
    *names: str, by: str = "delimiter", default: str = " ", skip_empty: bool = False, strip: str | None = None
) -> Value:
    """Joins its texts by the text in the widget `by`, or by `default` where it has no such widget.

    What only a run can know is left out of it; None where nothing is known. strip: the widget that says whether white
    space around the texts goes.
    """

    def join(values: Values) -> str | None:
        separator = (_text(values, by) if by in values else default).replace("\\n", "\n")
        given = [values[name] for name in names if name in values]
        texts = [text for text in given if isinstance(text, str)]
        if given and not texts:
            return None
        if strip and values.get(strip) in (True, "true"):
            texts = [text.strip() for text in texts]
        return separator.join(text for text in texts if text or not skip_empty)

    return join


def joined_numbered(prefix: str, *, by: str = "delimiter", default: str = " ", count: str | None = None) -> Value:
    """Joins as many texts as there are of `prefix` and a number, up to the number in the widget `count`."""

    def join(values: Values) -> str | None:
        numbers = sorted(int(name[len(prefix) :]) for name in values if re.fullmatch(rf"{prefix}\d{{1,9}}", name))
        limit = values.get(count) if count else None
        names = [f"{prefix}{number}" for number in numbers if not isinstance(limit, int) or number <= limit]
        return joined(*names, by=by, default=default, skip_empty=True)(values)

    return join


def replaced(text: str, *pairs: tuple[str, str]) -> Value:
    """Replaces in the widget `text`, for each pair of widgets, the one's text by the other's."""

    def replace(values: Values) -> str | None:
        result = values.get(text)
        for find, by in pairs:
            if not isinstance(result, str):
                return None
            old, new = _text(values, find), _text(values, by)
            if old and len(result) + result.count(old) * len(new) > MAX_TEXT:
                return None
            result = result.replace(old, new) if old else result
        return result if isinstance(result, str) else None

    return replace


def unless_left_to_chance(name: str) -> Value:
    """A text in which a run replaces wildcards: the text itself where it has none."""

    def give(values: Values) -> str | None:
        text = values.get(name)
        return text if isinstance(text, str) and not _CHANCE.search(text) else None

    return give


def trimmed(values: Values) -> str | None:
    text, mode = values.get("string"), values.get("mode")
    if not isinstance(text, str):
        return None
    return text.strip() if mode == "Both" else text.lstrip() if mode == "Left" else text.rstrip()


def cased(values: Values) -> str | None:
    text, mode = values.get("string"), values.get("mode")
    if not isinstance(text, str):
        return None
    change = _AS_OPERATION.get(mode) if isinstance(mode, str) else None
    return change(text) if change else text


def cut(values: Values) -> str | None:
    text, start, end = (values.get(name) for name in ("string", "start", "end"))
    if not isinstance(text, str):
        return None
    return text[start if isinstance(start, int) else None : end if isinstance(end, int) else None]


def formatted(values: Values) -> str | None:
    """Python's format, for plain {names} only: a width or a precision in a file could ask for any amount of memory."""
    template = values.get("f_string")
    if not isinstance(template, str):
        return None
    parts: list[str] = []
    try:
        for literal, field, spec, conversion in string.Formatter().parse(template):
            value = values.get(f"values.{field}", values.get(field)) if field else None
            if field is not None and (spec or conversion or not isinstance(value, (str, int, float))):
                return None
            parts += [literal, "" if field is None else str(value)]
    except ValueError:
        return None
    return "".join(parts) if sum(map(len, parts)) <= MAX_TEXT else None


def replaced_by_pattern(values: Values) -> str | None:
    """A regular expression's replacement, for patterns that are plain text: any other could run for ever."""
    text, pattern, new = (values.get(name) for name in ("string", "regex_pattern", "replace"))
    if not (isinstance(text, str) and isinstance(pattern, str) and isinstance(new, str)):
        return None
    if not pattern or _PATTERN.search(pattern) or "\\" in new or max(len(text), len(new)) > MAX_TEXT // 64:
        return None
    count = values.get("count")
    flags = re.IGNORECASE if values.get("case_insensitive", True) else 0
    found = re.sub(
        pattern, lambda _: new, text, count=count if isinstance(count, int) and count > 0 else 0, flags=flags
    )
    return found if len(found) <= MAX_TEXT else None


def extracted_from_json(values: Values) -> str | None:
    """One member of a JSON object as text; "" where there is none, as the node gives."""
    text, key = values.get("json_string"), values.get("key")
    if not isinstance(text, str) or not isinstance(key, str):
        return None
    found = parse_json(text)
    value = found.get(key, "") if isinstance(found, dict) else ""
    return str(value) if isinstance(value, (str, bool, int, float)) else "" if value is None else None


def edited(values: Values) -> str | None:
    """pysssss's string function: append or replace, and no regular expression."""
    if values.get("action") != "append":
        find = values.get("text_b")
        is_pattern = isinstance(find, str) and find.startswith("/") and find.endswith("/")
        text = None if is_pattern else replaced("text_a", ("text_b", "text_c"))(values)
    else:
        separator = ", " if values.get("tidy_tags") == "yes" else ""
        text = joined("text_a", "text_b", "text_c", default=separator, skip_empty=True)(values)
    if text is None or values.get("tidy_tags") != "yes":
        return text
    return re.sub(r",{2,}", ",", " ".join(text.split()).replace(" ,", ",")).strip()


def with_trigger_words(values: Values) -> str | None:
    """LoRA Manager's prompt: the trigger words that are linked in, then the text."""
    words = [values[name] for name in values if name.startswith("trigger_words") and values[name]]
    text = values.get("text")
    if not isinstance(text, str):
        return None
    return ", ".join([*(word for word in words if isinstance(word, str)), text])


def active_trigger_words(values: Values) -> str | None:
    """LoRA Manager's trigger words as its toggles keep them: those that are active."""
    toggles = values.get("toggle_trigger_words")
    toggles = parse_json(toggles) if isinstance(toggles, str) else toggles
    if not isinstance(toggles, list):
        return None
    words = [_toggled(toggle, values) for toggle in toggles if isinstance(toggle, dict) and toggle.get("active")]
    return ", ".join(word for word in words if word)


def _toggled(toggle: Mapping[str, Any], values: Values) -> str:
    text, strength = toggle.get("text"), toggle.get("strength")
    text = text.strip() if isinstance(text, str) else ""
    if values.get("allow_strength_adjustment") and isinstance(strength, (int, float)) and text[:1] != "(":
        return f"({text}:{strength:.2f})"
    return text


def _text(values: Values, name: str) -> str:
    value = values.get(name)
    return value if isinstance(value, str) else ""
