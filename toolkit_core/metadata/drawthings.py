"""Draw Things' JSON, which Apple's frameworks put into XMP's or EXIF's UserComment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..records import GenerationParameters, MetadataReading
from .values import MAX_SEED, MAX_STEPS, as_integer, as_name, as_number, as_text, named_loras, objects_in

if TYPE_CHECKING:
    from .carriers import Keywords


def read_drawthings(texts: Keywords) -> MetadataReading | None:
    """What Draw Things' JSON in `Comment` says. None where that is no such JSON."""
    raw = texts.json("Comment")
    if not isinstance(raw, dict) or not is_drawthings(raw):
        return None
    loras = ((as_name(entry.get("model")), entry.get("weight")) for entry in objects_in(raw.get("lora")))
    parameters = GenerationParameters(
        generator="Draw Things",
        prompt=as_text(raw.get("c")),
        negative_prompt=as_text(raw.get("uc")),
        model=as_name(raw.get("model")),
        loras=named_loras(loras),
        sampler=as_name(raw.get("sampler")),
        steps=as_integer(raw.get("steps"), MAX_STEPS),
        cfg_scale=as_number(raw.get("scale")),
        seed=as_integer(raw.get("seed"), MAX_SEED),
        denoise=as_number(raw.get("strength")),
    )
    return MetadataReading(parameters, f"Draw Things' JSON in {texts.where('Comment')}")


def is_drawthings(raw: Mapping[str, Any]) -> bool:
    return {"c", "uc", "sampler", "seed"} <= raw.keys()
