"""The JSON of sites that generate: Civitai's, of its API and inside its graphs, and Tensor.Art's `generation_data`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..records import GenerationParameters, Lora, MetadataReading
from .values import (
    MAX_SEED,
    MAX_STEPS,
    as_integer,
    as_name,
    as_number,
    as_text,
    as_vae,
    name_in,
    named_loras,
    objects_in,
)

if TYPE_CHECKING:
    from .carriers import Keywords

KEYWORD = "extraMetadata"
"""What Civitai's own graphs name it, and where other JSON of this form is kept."""

_KEYWORDS = (KEYWORD, "generation_data")
_LORA_TYPES = ("lora", "LORA")
_NAMES = ("modelFileName", "name", "modelName", "label")


def read_civitai(texts: Keywords) -> MetadataReading | None:
    """What the site's JSON says. None where there is none."""
    for keyword in _KEYWORDS:
        raw = details_of(texts.json(keyword))
        if raw is not None:
            generator = "Tensor.Art" if keyword == "generation_data" else "Civitai"
            return MetadataReading(_parameters(raw, generator), f"{generator}'s JSON in {texts.where(keyword)}")
    return None


def details_of(value: Any) -> Mapping[str, Any] | None:
    """The object that has the prompt and the site's names of the settings: the value, or its "meta"."""
    if not isinstance(value, dict):
        return None
    meta = value.get("meta")
    if isinstance(meta, dict):
        nested = meta.get("meta")  # the API wraps it once more
        value = nested if isinstance(nested, dict) else meta
    return value if "prompt" in value and "steps" in value and {"cfgScale", "negativePrompt"} & value.keys() else None


def _parameters(raw: Mapping[str, Any], generator: str) -> GenerationParameters:
    return GenerationParameters(
        generator=generator,
        prompt=as_text(raw.get("prompt")),
        negative_prompt=as_text(raw.get("negativePrompt")),
        model=as_name(raw.get("Model")) or name_in(raw.get("baseModel"), *_NAMES),
        vae=as_vae(raw.get("VAE", raw.get("vae"))),
        loras=_loras(raw),
        sampler=as_name(raw.get("sampler", raw.get("samplerName"))),
        scheduler=as_name(raw.get("scheduler", raw.get("Schedule type"))),
        steps=as_integer(raw.get("steps"), MAX_STEPS),
        cfg_scale=as_number(raw.get("cfgScale")),
        guidance=as_number(raw.get("guidance")),
        seed=as_integer(raw.get("seed"), MAX_SEED),
        denoise=as_number(raw.get("denoise", raw.get("Denoising strength"))),
    )


def _loras(raw: Mapping[str, Any]) -> tuple[Lora, ...]:
    """The named LoRAs of Civitai's `resources` and Tensor.Art's `models`."""
    entries = [*objects_in(raw.get("resources")), *objects_in(raw.get("models"))]
    return named_loras(
        (name_in(entry, *_NAMES), entry.get("weight", entry.get("strength")))
        for entry in entries
        if entry.get("type") in _LORA_TYPES
    )
