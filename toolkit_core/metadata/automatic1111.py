"""What AUTOMATIC1111's web UI, its forks, Fooocus's and ComfyUI's copies of its text say (see `infotext`)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..records import GenerationParameters, Lora, MetadataReading
from .infotext import Infotext, parse_infotext
from .values import MAX_SEED, MAX_STEPS, as_integer, as_name, as_number, as_text, as_vae, named_loras, objects_in

if TYPE_CHECKING:
    from .carriers import Keywords

GENERATOR = "AUTOMATIC1111"

_LORA = re.compile(r"<lora:([^<>]{1,500})>")
_FORGE_VERSION = re.compile(r"f\d")
_HASHED_NAME = re.compile(r"\([0-9a-fA-F]+\)$")
_MAX_LORAS = 500


def read_automatic1111(texts: Keywords) -> MetadataReading | None:
    """What the `parameters` text says. None where it has no line of settings."""
    infotext = parse_infotext(texts.get("parameters", ""))
    if infotext is None:
        return None
    found_by = f"AUTOMATIC1111's settings line in {texts.where('parameters')}"
    return MetadataReading(_parameters(infotext), found_by)


def _parameters(infotext: Infotext) -> GenerationParameters:
    settings = infotext.settings
    generator = _generator(infotext)
    # Fooocus writes the prompt as its styles expanded it, and beside it what was typed, which its own format names
    prompt = settings.get("Raw prompt", infotext.prompt)
    scheduler = settings.get("Schedule type") or settings.get("Scheduler")
    sampler = as_name(settings.get("Sampler"))
    return GenerationParameters(
        generator=generator,
        prompt=prompt,
        negative_prompt=settings.get("Raw negative prompt", infotext.negative_prompt),
        model=as_name(settings.get("Model")) or _checkpoint_in(infotext.resources),
        vae=as_vae(settings.get("VAE")),
        loras=_loras(prompt, infotext),
        sampler=sampler if sampler != "Undefined" else None,
        # SD.Next's "Scheduler" is the class of the sampler once more
        scheduler=as_name(scheduler) if generator != "SD.Next" else None,
        steps=as_integer(settings.get("Steps"), MAX_STEPS),
        cfg_scale=as_number(settings.get("CFG scale", settings.get("CFG Scale"))),
        guidance=as_number(settings.get("Distilled CFG Scale")),
        seed=as_integer(settings.get("Seed"), MAX_SEED),
        denoise=as_number(settings.get("Denoising strength")),
    )


def _generator(infotext: Infotext) -> str:
    """The program that says in its settings who it is; else the web UI."""
    version = infotext.settings.get("Version", "")
    if infotext.settings.get("App") == "SD.Next":
        return "SD.Next"
    if version.startswith(("Fooocus", "ComfyUI")):
        return version[: len("Fooocus")]
    if _FORGE_VERSION.match(version):
        return "Forge"
    if "Civitai metadata" in infotext.resources and not version:
        return "Civitai"
    return GENERATOR


def loras_in(prompt: str) -> tuple[Lora, ...]:
    """The LoRAs of `<lora:name:1.0>` and `<lora:name:text encoder:model>` tags, also with `te=` and `unet=`."""
    loras: list[Lora] = []
    for tag in _LORA.findall(prompt):
        name, *weights = (part.strip() for part in tag.split(":"))
        named = dict(weight.split("=", 1) for weight in weights if "=" in weight)
        positional = [weight for weight in weights if "=" not in weight]
        clip = named.get("te", positional[0] if positional else "1.0")
        model = named.get("unet", positional[1] if len(positional) > 1 else clip)
        if name:
            loras.append(Lora(name, as_number(model), as_number(clip)))
    return tuple(loras)


def _loras(prompt: str, infotext: Infotext) -> tuple[Lora, ...]:
    """From the prompt's tags; where there are none, from the settings that name LoRAs."""
    settings = infotext.settings
    return (
        loras_in(prompt)
        or _loras_with_weights(settings.get("Lora weights", ""))
        or _loras_in_resources(infotext.resources)
        or _additional_networks(settings)
        or _hashed_loras(settings.get("Lora hashes", ""))
    )


def _loras_with_weights(text: str) -> tuple[Lora, ...]:
    """Fooocus's "name: 0.5, other: 1"."""
    pairs = [entry.rpartition(":") for entry in text.split(", ")][:_MAX_LORAS]
    return named_loras((name.strip(), weight) for name, _, weight in pairs)


def _hashed_loras(text: str) -> tuple[Lora, ...]:
    """The web UI's "name: hash, other: hash"; the strengths are not said."""
    names = [entry.rpartition(":")[0].strip() for entry in text.split(", ")][:_MAX_LORAS]
    return tuple(Lora(name) for name in names if name)


def _additional_networks(settings: Mapping[str, str]) -> tuple[Lora, ...]:
    """The Additional Networks extension's numbered settings; weight A is the model's, B the text encoder's."""
    loras: list[Lora] = []
    for number in range(1, _MAX_LORAS):
        model = as_name(settings.get(f"AddNet Model {number}"))
        if model is None:
            break
        strength = settings.get(f"AddNet Weight A {number}", settings.get(f"AddNet Weight {number}"))
        clip = settings.get(f"AddNet Weight B {number}", strength)
        loras.append(Lora(_HASHED_NAME.sub("", model), as_number(strength), as_number(clip)))
    return tuple(loras)


def _resources_of(resources: Mapping[str, Any], kind: str) -> list[dict[str, Any]]:
    """Civitai's resources of a kind, which stands in their "type" or in their "air": urn:air:sdxl:lora:…"""
    entries = objects_in(resources.get("Civitai resources"))
    return [entry for entry in entries if entry.get("type") == kind or f":{kind}:" in (as_text(entry.get("air")) or "")]


def _loras_in_resources(resources: Mapping[str, Any]) -> tuple[Lora, ...]:
    entries = _resources_of(resources, "lora")
    return named_loras((as_name(entry.get("modelName")), entry.get("weight")) for entry in entries)


def _checkpoint_in(resources: Mapping[str, Any]) -> str | None:
    names = [as_name(entry.get("modelName")) for entry in _resources_of(resources, "checkpoint")]
    return next((name for name in names if name), None)
