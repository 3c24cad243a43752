"""The text that AUTOMATIC1111's web UI and its forks write: prompt, negative prompt, and a line of settings.

Read as the web UI itself reads it (`parse_generation_parameters`). `sd-parsers` is not used here: it
stops on a prompt that says "Negative prompt:" twice, and loses values that hold a comma or a colon.
"""

from __future__ import annotations

import re

from ..records import GenerationParameters, Lora, MetadataReading
from .carriers import Keywords
from .values import MAX_SEED, MAX_STEPS, as_integer, as_name, as_number

GENERATOR = "AUTOMATIC1111"

_SETTING = re.compile(r'(\w[\w \-/]{0,60}): ?("(?:\\.|[^\\"])*"|[^,]*)(?:,|$)')
_NEGATIVE = "Negative prompt:"
_LORA = re.compile(r"<lora:([^<>]+)>")
_KNOWN_SETTINGS = frozenset(("Steps", "Sampler", "CFG scale", "Seed", "Size", "Model", "Model hash", "Schedule type"))
_MAX_SETTINGS_LINE = 2**20


def read_automatic1111(texts: Keywords) -> MetadataReading | None:
    """What the `parameters` text says. None where it has no line of settings."""
    lines = texts.get("parameters", "").replace("\r\n", "\n").strip().split("\n")
    for index in range(len(lines) - 1, -1, -1):
        settings = _settings_of(lines[index])
        if settings:
            found_by = f"AUTOMATIC1111's settings line in {texts.where('parameters')}"
            return MetadataReading(_parameters(lines[:index], settings), found_by)
    return None


def _settings_of(line: str) -> dict[str, str] | None:
    """A line of settings by name; None where it has fewer than three known ones (the web UI asks for three, too)."""
    if "Steps:" not in line or len(line) > _MAX_SETTINGS_LINE:
        return None
    settings: dict[str, str] = {}
    for name, value in _SETTING.findall(line):
        settings.setdefault(name.strip(), value.strip().strip('"'))
    return settings if len(_KNOWN_SETTINGS & settings.keys()) >= 3 else None


def _parameters(lines: list[str], settings: dict[str, str]) -> GenerationParameters:
    start = next((index for index, line in enumerate(lines) if line.lstrip().startswith(_NEGATIVE)), len(lines))
    prompt = "\n".join(lines[:start]).strip()
    negative = "\n".join(lines[start:]).strip().removeprefix(_NEGATIVE).strip()
    return GenerationParameters(
        generator=GENERATOR,
        prompt=prompt,
        negative_prompt=negative,
        model=as_name(settings.get("Model")),
        loras=loras_in(prompt),
        sampler=as_name(settings.get("Sampler")),
        scheduler=as_name(settings.get("Schedule type")),
        steps=as_integer(settings.get("Steps"), MAX_STEPS),
        cfg_scale=as_number(settings.get("CFG scale")),
        guidance=as_number(settings.get("Distilled CFG Scale")),
        seed=as_integer(settings.get("Seed"), MAX_SEED),
        denoise=as_number(settings.get("Denoising strength")),
    )


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
