"""What holds for every reading, whatever the file."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, get_args, get_origin, get_type_hints

from toolkit_core.metadata.values import MAX_SEED, MAX_STEPS
from toolkit_core.records import GenerationParameters

_LIMITS = {"seed": MAX_SEED, "steps": MAX_STEPS}


def check_types(found: GenerationParameters) -> None:
    """Every field holds exactly the type that it declares, every number is finite and in range."""
    assert type(found) is GenerationParameters
    _check_fields(found)


def _check_fields(record: Any) -> None:
    for name, hint in _hints(type(record)).items():
        value = getattr(record, name)
        if get_origin(hint) is tuple:
            (item, _) = get_args(hint)
            assert type(value) is tuple, f"{name} is {value!r}"
            for one in value:
                assert type(one) is item, f"{name} holds {one!r}"
                _check_fields(one)
            continue
        allowed = get_args(hint) or (hint,)
        assert type(value) in allowed, f"{name} is {value!r}"
        if type(value) is float:
            assert math.isfinite(value), f"{name} is {value}"
        if type(value) is int:
            assert 0 <= value <= _LIMITS.get(name, value), f"{name} is {value}"


@lru_cache
def _hints(record: type) -> dict[str, Any]:
    return get_type_hints(record)
