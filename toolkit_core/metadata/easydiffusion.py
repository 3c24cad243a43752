"""Easy Diffusion's fields: PNG texts, JSON, or lines of text, under the API's names or the UI's labels."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PureWindowsPath
from typing import TYPE_CHECKING, Any

from ..records import GenerationParameters, Lora, MetadataReading
from .values import MAX_SEED, MAX_STEPS, as_integer, as_name, as_number, as_text, as_vae, parse_json

if TYPE_CHECKING:
    from .carriers import Keywords

KEYWORD = "easydiffusion"
"""Where all fields in one text are kept; in a PNG each has a keyword of its own."""

_LABELS = {
    "prompt": "Prompt",
    "negative_prompt": "Negative Prompt",
    "seed": "Seed",
    "use_stable_diffusion_model": "Stable Diffusion model",
    "clip_skip": "Clip Skip",
    "use_controlnet_model": "ControlNet model",
    "use_vae_model": "VAE model",
    "sampler_name": "Sampler",
    "scheduler_name": "Scheduler",
    "width": "Width",
    "height": "Height",
    "num_inference_steps": "Steps",
    "guidance_scale": "Guidance Scale",
    "distilled_guidance_scale": "Distilled Guidance",
    "prompt_strength": "Prompt Strength",
    "use_lora_model": "LoRA model",
    "lora_alpha": "LoRA Strength",
    "use_hypernetwork_model": "Hypernetwork model",
    "use_embeddings_model": "Embedding models",
}
_NEEDED = ("prompt", "seed", "num_inference_steps", "use_stable_diffusion_model")
_LINE = re.compile(r"([A-Za-z][A-Za-z ]{2,30}): ?(.*)")
_MAX_LINES = 10_000
_MAX_LORAS = 500


def read_easydiffusion(texts: Keywords) -> MetadataReading | None:
    """What Easy Diffusion's fields say. None where they are not all there that every picture of it has."""
    if KEYWORD in texts:
        fields, keyword = fields_in(texts[KEYWORD]), KEYWORD
    else:
        fields = _fields_of(texts)
        keyword = next((name for name in ("num_inference_steps", "Steps") if name in texts), "")
    if fields is None:
        return None
    parameters = GenerationParameters(
        generator="Easy Diffusion",
        prompt=as_text(fields.get("prompt")),
        negative_prompt=as_text(fields.get("negative_prompt")),
        model=_file_name(fields.get("use_stable_diffusion_model")),
        vae=as_vae(_file_name(fields.get("use_vae_model"))),
        loras=_loras(fields.get("use_lora_model"), fields.get("lora_alpha")),
        sampler=as_name(fields.get("sampler_name")),
        scheduler=as_name(fields.get("scheduler_name")),
        steps=as_integer(fields.get("num_inference_steps"), MAX_STEPS),
        cfg_scale=as_number(fields.get("guidance_scale")),
        guidance=as_number(fields.get("distilled_guidance_scale")),
        seed=as_integer(fields.get("seed"), MAX_SEED),
        denoise=as_number(fields.get("prompt_strength")),
    )
    return MetadataReading(parameters, f"Easy Diffusion's fields in {texts.where(keyword)}")


def fields_in(text: str) -> dict[str, Any] | None:
    """The fields of a JSON or text sidecar, or of an EXIF comment, by the API's names. None where it is another's."""
    value = parse_json(text) if text.lstrip().startswith("{") else _lines_of(text)
    if not isinstance(value, dict):
        return None
    request = value.get("reqBody")  # as the UI itself saves a task
    return _fields_of(request if isinstance(request, dict) else value)


def _lines_of(text: str) -> dict[str, str]:
    """`Label: value` lines; a line that begins with no label goes on with the value before."""
    labels = set(_LABELS.values())
    values: dict[str, list[str]] = {}
    label = ""
    for line in text.splitlines()[:_MAX_LINES]:
        named = _LINE.fullmatch(line)
        if named and named[1] in labels and named[1] not in values:
            label = named[1]
            values[label] = [named[2]]
        elif label in ("Prompt", "Negative Prompt"):
            values[label].append(line)
        elif not label and line.strip():
            return {}
    return {name: "\n".join(lines) for name, lines in values.items()}


def _fields_of(value: Mapping[str, Any]) -> dict[str, Any] | None:
    fields: dict[str, Any] = {}
    for name, label in _LABELS.items():
        if name in value or label in value:
            fields[name] = value.get(name, value.get(label))
    return fields if all(name in fields for name in _NEEDED) else None


def _loras(models: Any, strengths: Any) -> tuple[Lora, ...]:
    names, weights = _list_of(models), _list_of(strengths)
    loras: list[Lora] = []
    for index, entry in enumerate(names):
        name = _file_name(entry)
        if name:
            loras.append(Lora(name, as_number(weights[index]) if index < len(weights) else None))
    return tuple(loras)


def _list_of(value: Any) -> list[Any]:
    """A list, its text as Python prints it, its elements with commas between, or one element alone."""
    if isinstance(value, str):
        value = [element.strip().strip("'\"") for element in value.strip().strip("[]").split(",")]
    return value[:_MAX_LORAS] if isinstance(value, list) else [value]


def _file_name(value: Any) -> str | None:
    """A model's name; of a path from the root, which says how one machine is laid out, the file's alone."""
    name = as_name(value)
    path = PureWindowsPath(name) if name else None
    return path.name if path and (path.drive or path.root) else name
