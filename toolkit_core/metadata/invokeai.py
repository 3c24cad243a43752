"""InvokeAI's metadata of four generations: `invokeai_metadata`, `invokeai_graph`, `sd-metadata` and `Dream`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..records import GenerationParameters, MetadataReading
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
    parse_json,
)

if TYPE_CHECKING:
    from .carriers import Keywords

_NEGATIVE = re.compile(r"\[([^\[\]]*)\]")
_SPACES = re.compile(r" {2,}")
_SWITCH = re.compile(r"\s-([A-Za-z]) ?([^\s-][^\s]{0,100})")
_METADATA_NODES = ("core_metadata", "metadata_accumulator")
_NAMES = ("name", "model_name")


def read_invokeai(texts: Keywords) -> MetadataReading | None:
    """What the newest of its texts that has a prompt says, else the newest. None where there is none."""
    readings: list[MetadataReading] = []
    for keyword, read in _GENERATIONS.items():
        parameters = read(texts[keyword]) if keyword in texts else None
        if parameters:
            readings.append(MetadataReading(parameters, f"InvokeAI's metadata in {texts.where(keyword)}"))
    return next((reading for reading in readings if reading.parameters.prompt), next(iter(readings), None))


def _read_metadata(text: str) -> GenerationParameters | None:
    raw = parse_json(text)
    return _of_core_metadata(raw) if isinstance(raw, dict) else None


def _read_graph(text: str) -> GenerationParameters | None:
    """The graph's node that collects the metadata, with the texts that are linked into it."""
    raw = parse_json(text)
    nodes = raw.get("nodes") if isinstance(raw, dict) else None
    nodes = nodes if isinstance(nodes, dict) else {}
    for node_id, node in nodes.items():
        if isinstance(node, dict) and node.get("type") in _METADATA_NODES:
            return _of_core_metadata({**_linked_values(raw.get("edges"), nodes, node_id), **_said(node)})
    return None


def _said(node: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in node.items() if value is not None}


def _linked_values(edges: Any, nodes: Mapping[str, Any], node_id: str) -> dict[str, Any]:
    """The values of the primitive nodes that are linked into a node, by its field."""
    values: dict[str, Any] = {}
    for edge in edges if isinstance(edges, list) else ():
        source, destination = (edge.get("source"), edge.get("destination")) if isinstance(edge, dict) else (None, None)
        if not (isinstance(source, dict) and isinstance(destination, dict)) or destination.get("node_id") != node_id:
            continue
        node, field = nodes.get(as_text(source.get("node_id")) or ""), as_text(destination.get("field"))
        if isinstance(node, dict) and node.get("value") is not None and field:
            values[field] = node["value"]
    return values


def _of_core_metadata(raw: Mapping[str, Any]) -> GenerationParameters:
    entries = objects_in(raw.get("loras"))
    loras = ((name_in(entry.get("lora") or entry.get("model"), *_NAMES), entry.get("weight")) for entry in entries)
    return GenerationParameters(
        generator="InvokeAI",
        prompt=as_text(raw.get("positive_prompt")),
        negative_prompt=as_text(raw.get("negative_prompt")),
        model=name_in(raw.get("model"), *_NAMES),
        vae=as_vae(name_in(raw.get("vae"), *_NAMES)),
        loras=named_loras(loras),
        sampler=as_name(raw.get("scheduler")),
        steps=as_integer(raw.get("steps"), MAX_STEPS),
        cfg_scale=as_number(raw.get("cfg_scale")),
        guidance=as_number(raw.get("guidance")),
        seed=as_integer(raw.get("seed"), MAX_SEED),
        denoise=as_number(raw.get("strength")),
    )


def _read_sd_metadata(text: str) -> GenerationParameters | None:
    raw = parse_json(text)
    image = raw.get("image") if isinstance(raw, dict) else None
    if not isinstance(image, dict):
        return None
    prompts = image.get("prompt")
    entries = prompts if isinstance(prompts, list) else [prompts]
    texts = [as_text(entry.get("prompt") if isinstance(entry, dict) else entry) for entry in entries]
    prompt, negative = _without_negative("\n".join(text for text in texts if text))
    return GenerationParameters(
        generator="InvokeAI",
        prompt=prompt,
        negative_prompt=negative,
        model=as_name(raw.get("model_weights")),
        sampler=as_name(image.get("sampler")),
        steps=as_integer(image.get("steps"), MAX_STEPS),
        cfg_scale=as_number(image.get("cfg_scale")),
        seed=as_integer(image.get("seed"), MAX_SEED),
        denoise=as_number(image.get("strength")),
    )


def _read_dream(text: str) -> GenerationParameters | None:
    """The command line of the first versions: "a fox [fog]" -s 50 -S 42 -C 7.5 -A k_lms"""
    command = text.strip()
    end = command.rfind('" -') if '" -' in command else command.rfind('"')
    if not command.startswith('"') or end == 0:
        return None
    switches = dict(_SWITCH.findall(command[end + 1 :]))
    prompt, negative = _without_negative(command[1:end].replace('\\"', '"'))
    return GenerationParameters(
        generator="InvokeAI",
        prompt=prompt,
        negative_prompt=negative,
        sampler=as_name(switches.get("A")),
        steps=as_integer(switches.get("s"), MAX_STEPS),
        cfg_scale=as_number(switches.get("C")),
        seed=as_integer(switches.get("S"), MAX_SEED),
        denoise=as_number(switches.get("f")),
    )


def _without_negative(prompt: str) -> tuple[str, str]:
    """Prompt and negative prompt: what is in brackets is not wanted, as InvokeAI 2 conditions on it."""
    negatives = [text.strip() for text in _NEGATIVE.findall(prompt)]
    positive = _SPACES.sub(" ", _NEGATIVE.sub(" ", prompt)) if negatives else prompt
    return positive.strip(), " ".join(text for text in negatives if text)


_GENERATIONS = {
    "invokeai_metadata": _read_metadata,
    "invokeai_graph": _read_graph,
    "sd-metadata": _read_sd_metadata,
    "Dream": _read_dream,
}
