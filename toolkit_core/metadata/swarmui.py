"""SwarmUI's JSON: `sui_image_params`, with the parameters' names in lower case letters alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..records import GenerationParameters, Lora, MetadataReading
from .values import MAX_SEED, MAX_STEPS, as_integer, as_name, as_number, as_text, as_vae, first_in

if TYPE_CHECKING:
    from .carriers import Keywords

MARK = "sui_image_params"

_MAX_LORAS = 500


def read_swarmui(texts: Keywords) -> MetadataReading | None:
    """What SwarmUI's JSON in `parameters` says. None where that is no such JSON."""
    raw = texts.json("parameters")
    settings = raw.get(MARK) if isinstance(raw, dict) else None
    if not isinstance(settings, dict):
        return None
    parameters = GenerationParameters(
        generator="SwarmUI",
        prompt=as_text(settings.get("prompt")),
        negative_prompt=as_text(settings.get("negativeprompt")),
        model=as_name(settings.get("model")),
        vae=as_vae(settings.get("vae")),
        loras=_loras(settings.get("loras"), settings.get("loraweights"), settings.get("loratencweights")),
        sampler=as_name(first_in(settings, "sampler", "comfyuisampler", "autowebuisampler")),
        scheduler=as_name(first_in(settings, "scheduler", "comfyuischeduler")),
        steps=as_integer(settings.get("steps"), MAX_STEPS),
        cfg_scale=as_number(settings.get("cfgscale")),
        guidance=as_number(settings.get("fluxguidancescale")),
        seed=as_integer(settings.get("seed"), MAX_SEED),
        denoise=as_number(settings.get("initimagecreativity")),
    )
    return MetadataReading(parameters, f"SwarmUI's JSON in {texts.where('parameters')}")


def _loras(names: Any, weights: Any, clip_weights: Any) -> tuple[Lora, ...]:
    """Lists of the same length; older versions wrote them with commas between."""
    strengths, clip_strengths = _list_of(weights), _list_of(clip_weights)
    loras: list[Lora] = []
    for index, entry in enumerate(_list_of(names)):
        name = as_name(entry)
        strength = as_number(strengths[index]) if index < len(strengths) else None
        clip = as_number(clip_strengths[index]) if index < len(clip_strengths) else strength
        if name:
            loras.append(Lora(name, strength, clip))
    return tuple(loras)


def _list_of(value: Any) -> list[Any]:
    if isinstance(value, str):
        value = value.split(",")
    return value[:_MAX_LORAS] if isinstance(value, list) else []
