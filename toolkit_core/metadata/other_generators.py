"""NovelAI, InvokeAI and Fooocus through `sd-parsers`, and Midjourney's description."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..records import GenerationParameters, Lora, MetadataReading
from .carriers import Keywords
from .values import MAX_SEED, MAX_STEPS, as_integer, as_name, as_number, as_text, parse_json

if TYPE_CHECKING:
    from sd_parsers.data import PromptInfo

_MAX_PATTERN_TEXT = 4_000
"""What sd-parsers matches with patterns whose time grows with the square of the length."""
_INVOKEAI_KEYS = ("invokeai_metadata", "sd-metadata", "Dream")
_MIDJOURNEY_JOB = re.compile(r"Job ID:\s*[0-9a-f-]{36}\s*$")
_MIDJOURNEY_FLAGS = re.compile(r"\s--[a-z]+\b.*$", re.DOTALL)
_MIDJOURNEY_VERSION = re.compile(r"\s--(?:v|version)\s+(\S+)")
_FOOOCUS_LORA = re.compile(r"(.{1,500}?) ?: ?(-?[\d.]{1,20})")


def read_novelai(texts: Keywords) -> MetadataReading | None:
    """NovelAI's Description, Source and JSON Comment. None where they are not NovelAI's."""
    if not {"Comment", "Description", "Source"} <= texts.keys() or not isinstance(parse_json(texts["Comment"]), dict):
        return None
    if len(texts["Source"]) > _MAX_PATTERN_TEXT:
        return None
    from sd_parsers.parsers import NovelAIParser

    info = NovelAIParser().parse(texts)
    # sd-parsers leaves the steps among the rest, and cuts the hash that tells NovelAI's models apart off their name
    return _reading(
        "NovelAI",
        f"NovelAI's JSON in {texts.where('Comment')}",
        info,
        model=texts["Source"],
        steps=info.metadata.get("steps"),
        scheduler=info.metadata.get("noise_schedule"),
        denoise=info.samplers[0].parameters.get("strength"),
        negative=info.samplers[0].negative_prompts[0].value if info.samplers[0].negative_prompts else None,
    )


def read_invokeai(texts: Keywords) -> MetadataReading | None:
    """InvokeAI's metadata of three generations. None where there is none."""
    if not any(key in texts for key in _INVOKEAI_KEYS) or len(texts.get("Dream", "")) > _MAX_PATTERN_TEXT:
        return None
    from sd_parsers.parsers import InvokeAIParser

    info = InvokeAIParser().parse(texts)
    # sd-parsers drops an empty negative prompt, and keeps newer versions' model entries, which say "name", as they are
    raw = parse_json(texts["invokeai_metadata"]) if "invokeai_metadata" in texts else None
    raw = raw if isinstance(raw, dict) else {}
    keyword = next(key for key in _INVOKEAI_KEYS if key in texts)
    return _reading(
        "InvokeAI",
        f"InvokeAI's metadata in {texts.where(keyword)}",
        info,
        model=_member(raw.get("model"), "model_name", "name"),
        negative=raw.get("negative_prompt"),
        loras=_invokeai_loras(raw.get("loras")),
        denoise=info.metadata.get("strength"),
    )


def read_fooocus(texts: Keywords) -> MetadataReading | None:
    """Fooocus's JSON in `parameters`. None where that is no such JSON."""
    raw = parse_json(texts.get("parameters", ""))
    if not isinstance(raw, dict) or "base_model" not in raw:
        return None
    from sd_parsers.parsers import FooocusParser

    info = FooocusParser().parse(texts)
    found_by = f"Fooocus's JSON in {texts.where('parameters')}"
    return _reading("Fooocus", found_by, info, negative=raw.get("negative_prompt"), loras=_fooocus_loras(raw))


def read_midjourney(texts: Keywords) -> MetadataReading | None:
    """Midjourney's Description: the prompt, its flags, and a job id. None where there is no job id."""
    description = texts.get("Description", "")
    job = _MIDJOURNEY_JOB.search(description)
    if job is None:
        return None
    command = description[: job.start()]
    version = _MIDJOURNEY_VERSION.search(command)
    parameters = GenerationParameters(
        generator="Midjourney",
        prompt=_MIDJOURNEY_FLAGS.sub("", command).strip(),
        model=version[1] if version else None,
    )
    return MetadataReading(parameters, f"Midjourney's job in {texts.where('Description')}")


def _reading(
    generator: str,
    found_by: str,
    info: PromptInfo,
    *,
    model: Any = None,
    negative: Any = None,
    loras: tuple[Lora, ...] = (),
    steps: Any = None,
    scheduler: Any = None,
    denoise: Any = None,
) -> MetadataReading:
    """What sd-parsers found, with exact types; the named values stand in where it found none or another."""
    sampler = info.samplers[0]
    settings = sampler.parameters
    prompts = [text for prompt in sampler.prompts if (text := as_text(prompt.value))]
    negatives = [text for prompt in sampler.negative_prompts if (text := as_text(prompt.value))]
    parameters = GenerationParameters(
        generator=generator,
        prompt="\n".join(prompts),
        negative_prompt="\n".join(negatives) or as_text(negative),
        model=as_name(model) or (as_name(sampler.model.name) if sampler.model else None),
        loras=loras,
        sampler=as_name(sampler.name),
        scheduler=as_name(settings.get("scheduler")) or as_name(scheduler),
        steps=as_integer(settings.get("steps", steps), MAX_STEPS),
        cfg_scale=as_number(settings.get("cfg_scale")),
        seed=as_integer(settings.get("seed"), MAX_SEED),
        denoise=as_number(denoise),
    )
    return MetadataReading(parameters, found_by)


def _invokeai_loras(entries: Any) -> tuple[Lora, ...]:
    """InvokeAI's list of {"lora" or "model": {"model_name" or "name"}, "weight"}."""
    loras: list[Lora] = []
    for entry in entries if isinstance(entries, list) else ():
        if not isinstance(entry, dict):
            continue
        name = _member(entry.get("lora") or entry.get("model"), "model_name", "name")
        if name:
            loras.append(Lora(name, as_number(entry.get("weight"))))
    return tuple(loras)


def _fooocus_loras(raw: Mapping[str, Any]) -> tuple[Lora, ...]:
    """Fooocus's `lora_combined_1` to `_5`, each "file name : weight"."""
    texts = [as_text(raw.get(f"lora_combined_{number}")) for number in range(1, 6)]
    matches = [_FOOOCUS_LORA.fullmatch(text) for text in texts if text]
    return tuple(Lora(match[1], as_number(match[2])) for match in matches if match)


def _member(value: Any, *names: str) -> str | None:
    if not isinstance(value, dict):
        return None
    return next((name for key in names if (name := as_name(value.get(key)))), None)
