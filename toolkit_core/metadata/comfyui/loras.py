"""The LoRAs that one node applies, in the forms in which node packs name them and their strengths."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from ...records import Lora
from ..values import as_name, as_number, parse_json
from .graph import Graph
from .node import Node
from .node_table import LORA_TAGS

_STACK = re.compile(r"lora_stack|^(prev_)?loras?$", re.IGNORECASE)
_STACK_TYPES = frozenset(("LORA_STACK", "WANVIDLORA", "HYVIDLORA"))
_WIDGET = re.compile(r"^lora(?:_name)?(?:_?(\d{1,4}))?$|^lora_?(\d{1,4})_name$", re.IGNORECASE)
_MODEL_STRENGTHS = ("strength_model", "lora_model_strength", "model_strength", "model_str", "model_weight")
_CLIP_STRENGTHS = ("strength_clip", "lora_clip_strength", "clip_strength", "clip_str", "clip_weight")
_ONE_STRENGTH = ("strength", "lora_wt", "lora_strength")
_TAG = re.compile(r"<lora:([^<>:]{1,500})((?::[^<>:]{0,100}){0,8})>", re.IGNORECASE)
_MAX_TAGS = 1000


def is_lora_stack(node: Node, name: str) -> bool:
    """Whether LoRAs that another node lists are linked in here."""
    kind = node.types.get(name)
    return kind in _STACK_TYPES if kind else bool(_STACK.search(name))


def loras_of(graph: Graph, node: Node) -> list[Lora]:
    """`lora_name`, numbered ones, lists of names, entries that are objects of their own, and tags in a text."""
    if graph.value(node, "toggle") in (False, "False", "Off", "off"):
        return []
    loras: list[Lora | None] = []
    count = next(
        (value for name in ("lora_count", "num_loras") if (value := graph.value(node, name)) is not None), None
    )
    for name, raw in node.inputs.items():
        match = _WIDGET.match(name)
        if name == "loras":
            loras.extend(_from_list(raw))
        elif match and isinstance(raw, dict):
            loras.append(_from_entry(raw))
        elif match and not (name in node.links and is_lora_stack(node, name)):
            number = match[1] or match[2]
            if not (number and isinstance(count, int) and int(number) > count):
                loras.append(_from_widgets(graph, node, graph.value(node, name), number))
    loras.extend(_from_names(graph.value(node, "lora_names"), graph.value(node, "lora_weights")))
    for name in LORA_TAGS.get(node.class_type, ()):
        loras.extend(_from_tags(graph.text(node, name) or ""))
    return [lora for lora in loras if lora]


def _from_list(raw: Any) -> list[Lora | None]:
    """LoRA Manager's list of {"name", "strength", "active"}, also as JSON text."""
    entries = raw.get("__value__") if isinstance(raw, dict) else parse_json(raw) if isinstance(raw, str) else raw
    return [_from_entry(entry) for entry in (entries if isinstance(entries, list) else ()) if isinstance(entry, dict)]


def _from_entry(entry: dict[str, Any]) -> Lora | None:
    name = as_name(entry.get("lora")) or as_name(entry.get("name"))
    clip = entry.get("strengthTwo", entry.get("clipStrength"))
    if name is None or entry.get("on") is False or entry.get("active") is False:
        return None
    return _applied(name, as_number(entry.get("strength")), as_number(clip))


def _from_widgets(graph: Graph, node: Node, value: Any, number: str | None) -> Lora | None:
    name = as_name(value)
    if name is None or (number and graph.value(node, f"switch_{number}") == "Off"):
        return None
    is_simple = "simple" in (graph.value(node, "input_mode"), graph.value(node, "mode"))
    one = _first_number(graph, node, _ONE_STRENGTH, number)
    if is_simple and one is not None:
        return _applied(name, one, one)
    model = _first_number(graph, node, _MODEL_STRENGTHS, number)
    return _applied(name, one if model is None else model, _first_number(graph, node, _CLIP_STRENGTHS, number))


def _first_number(graph: Graph, node: Node, widgets: Iterable[str], number: str | None) -> float | None:
    forms = (f"{{}}_{number}", f"lora_{number}_{{}}", f"lora{number}_{{}}") if number else ("{}",)
    names = (form.format(widget) for widget in widgets for form in forms)
    values = (as_number(graph.value(node, name)) for name in names if name in node.inputs)
    return next((value for value in values if value is not None), None)


def _from_names(names: Any, weights: Any) -> list[Lora | None]:
    """Names and weights as two lists with commas, as SwarmUI gives them."""
    if not isinstance(names, str) or not isinstance(weights, str):
        return []
    return [
        _applied(name, as_number(weight), as_number(weight))
        for raw, weight in zip(names.split(","), weights.split(","), strict=False)
        if (name := as_name(raw))
    ]


def _from_tags(text: str) -> list[Lora | None]:
    """`<lora:name:strength>` or `<lora:name:model:clip>`: in ComfyUI the model's comes first."""
    loras: list[Lora | None] = []
    for match, _ in zip(_TAG.finditer(text), range(_MAX_TAGS), strict=False):
        strengths = [as_number(strength) for strength in match[2].split(":")[1:]]
        model = strengths[0] if strengths else 1.0
        clip = strengths[1] if len(strengths) > 1 and strengths[1] is not None else model
        name = as_name(match[1])
        loras.append(_applied(name, model, clip) if name else None)
    return loras


def _applied(name: str, model: float | None, clip: float | None) -> Lora | None:
    """A LoRA of strength 0 is not applied at all."""
    return None if model == 0 and not clip else Lora(name, model, clip)
