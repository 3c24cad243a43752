"""Values out of untrusted JSON and text: the exact type, or None."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

from ..records import GenerationParameters, Lora

MAX_SEED = 2**64 - 1
MAX_STEPS = 2**31 - 1
MAX_JSON = 16 * 2**20
"""Characters; graphs with pictures inside have some millions."""
PADDING = "\0\ufeff \t\r\n"
"""What programs leave around a text."""
_MAX_DIGITS = 40
_MAX_ENTRIES = 500
_BUILT_IN_VAE = frozenset(("automatic", "auto", "default", "default (model)", "baked vae", "built-in"))


def parse_json(text: str) -> Any:
    """The value of a JSON text, None where it is none or is longer than MAX_JSON.

    NaN and Infinity are read as programs write them. A JSON string that holds JSON is read once more.
    """
    if len(text) > MAX_JSON:
        return None
    value: Any = text.strip(PADDING)
    for _ in range(2):
        try:
            value = json.loads(value, parse_int=_integer_of_digits)
        except (ValueError, RecursionError):
            return None
        if not isinstance(value, str):
            return value
    return None


def _integer_of_digits(digits: str) -> int | None:
    """Long runs of digits are no number that a program wrote, and Python's conversion of them is quadratic."""
    return int(digits) if len(digits) <= _MAX_DIGITS else None


def as_text(value: Any) -> str | None:
    """The text itself, None for anything else."""
    return value if isinstance(value, str) else None


def as_name(value: Any) -> str | None:
    """A text that names something (a model, a sampler): stripped, None where nothing is left or it says "None"."""
    if not isinstance(value, str):
        return None
    name = value.strip()
    return name if name and name.lower() != "none" else None


def as_vae(value: Any) -> str | None:
    """The name of a VAE; None where it says that the checkpoint's own is used."""
    name = as_name(value)
    return name if name and name.lower() not in _BUILT_IN_VAE else None


def name_in(value: Any, *keys: str) -> str | None:
    """The first name under these keys of an object, or the value itself where it is a text."""
    if not isinstance(value, dict):
        return as_name(value)
    return next((name for key in keys if (name := as_name(value.get(key)))), None)


def first_in(value: Mapping[str, Any], *keys: str) -> Any:
    """The first value under these keys of an object that is not null."""
    return next((value[key] for key in keys if value.get(key) is not None), None)


def objects_in(value: Any) -> list[dict[str, Any]]:
    """The objects among the first elements of a list; none where it is no list."""
    return [entry for entry in value[:_MAX_ENTRIES] if isinstance(entry, dict)] if isinstance(value, list) else []


def named_loras(pairs: Iterable[tuple[str | None, Any]]) -> tuple[Lora, ...]:
    """The LoRAs of names and strengths, without those that have no name."""
    return tuple(Lora(name, as_number(strength)) for name, strength in pairs if name)


def as_integer(value: Any, maximum: int) -> int | None:
    """An integer from 0 to `maximum`, from an int, an integral float or decimal digits."""
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        digits = value.strip()
        if not (digits.isascii() and digits.isdigit() and len(digits) <= _MAX_DIGITS):
            return None
        value = int(digits)
    if isinstance(value, float) and math.isfinite(value) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and 0 <= value <= maximum else None


def as_number(value: Any) -> float | None:
    """A finite float, from a number or its decimal text."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def has_content(parameters: GenerationParameters) -> bool:
    """Whether there is more than the generator's name."""
    return parameters != GenerationParameters(generator=parameters.generator)
