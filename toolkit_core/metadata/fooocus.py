"""The JSON of Fooocus and its forks: Fooocus-MRE, RuinedFooocus and SimpleSDXL, which writes labels for keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..records import GenerationParameters, Lora, MetadataReading
from .values import MAX_SEED, MAX_STEPS, as_integer, as_name, as_number, as_text, as_vae, first_in, named_loras

if TYPE_CHECKING:
    from .carriers import Keywords

_KEYWORDS = ("parameters", "Comment")
_PROMPTS = ("prompt", "Prompt")
_MODELS = ("base_model", "base_model_name", "Base Model")
_MAX_LORAS = 100


def read_fooocus(texts: Keywords) -> MetadataReading | None:
    """What Fooocus's JSON says. None where there is no such JSON."""
    for keyword in _KEYWORDS:
        raw = texts.json(keyword)
        if isinstance(raw, dict) and is_fooocus(raw):
            return MetadataReading(_parameters(raw), f"Fooocus's JSON in {texts.where(keyword)}")
    return None


def is_fooocus(raw: Mapping[str, Any]) -> bool:
    """Whether a JSON object has a prompt and a base model as Fooocus or a fork of it names them."""
    return any(key in raw for key in _PROMPTS) and any(key in raw for key in _MODELS)


def _parameters(raw: Mapping[str, Any]) -> GenerationParameters:
    return GenerationParameters(
        generator="Fooocus",
        prompt=as_text(first_in(raw, *_PROMPTS)),
        negative_prompt=as_text(first_in(raw, "negative_prompt", "Negative Prompt", "Negative")),
        model=as_name(first_in(raw, *_MODELS)),
        vae=as_vae(first_in(raw, "vae", "VAE")),
        loras=_combined_loras(raw) or _listed_loras(raw.get("loras")) or _numbered_loras(raw),
        sampler=as_name(first_in(raw, "sampler", "sampler_name", "Sampler")),
        scheduler=as_name(first_in(raw, "scheduler", "Scheduler")),
        steps=as_integer(first_in(raw, "steps", "Steps"), MAX_STEPS),
        cfg_scale=as_number(first_in(raw, "guidance_scale", "cfg", "Guidance Scale")),
        seed=as_integer(first_in(raw, "seed", "Seed"), MAX_SEED),
        denoise=as_number(first_in(raw, "denoise", "denoising_strength")),
    )


def _combined_loras(raw: Mapping[str, Any]) -> tuple[Lora, ...]:
    """`lora_combined_1` or `LoRA 1`, …: "name : weight", or "True : name : weight"; "False" is switched off."""
    loras: list[Lora] = []
    for number in range(1, _MAX_LORAS):
        text = as_text(raw.get(f"lora_combined_{number}", raw.get(f"LoRA {number}")))
        enabled, name, weight = _three_of(text.split(" : ")) if text else ("", "", "")
        if enabled != "False" and (named := as_name(name)):
            loras.append(Lora(named, as_number(weight)))
    return tuple(loras)


def _three_of(parts: list[str]) -> tuple[str, str, str]:
    if len(parts) > 2 and parts[0] in ("True", "False"):
        return parts[0], " : ".join(parts[1:-1]), parts[-1]
    return "True", " : ".join(parts[:-1]), parts[-1]


def _listed_loras(entries: Any) -> tuple[Lora, ...]:
    """Fooocus's [name, weight, hash], or RuinedFooocus's [hash, "weight - name"]."""
    loras: list[Lora] = []
    for entry in (entries if isinstance(entries, list) else [])[:_MAX_LORAS]:
        if not isinstance(entry, list) or len(entry) < 2:
            continue
        weight, separator, name = (as_text(entry[1]) or "").partition(" - ")
        if not separator:
            name, weight = entry[0], entry[1]
        if named := as_name(name):
            loras.append(Lora(named, as_number(weight)))
    return tuple(loras)


def _numbered_loras(raw: Mapping[str, Any]) -> tuple[Lora, ...]:
    """Fooocus-MRE's `l1` and `w1` to `l5` and `w5`."""
    return named_loras((as_name(raw.get(f"l{number}")), raw.get(f"w{number}")) for number in range(1, 6))
