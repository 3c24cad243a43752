"""From a sampler's model input back to the checkpoint, and the LoRAs that were put on the way."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from ..records import Lora
from .comfyui_graph import Graph, Link, Node
from .comfyui_sockets import is_model, is_pipe, may_carry_conditioning
from .values import as_name, as_number

_CHECKPOINT_WIDGETS = (
    "ckpt_name",
    "unet_name",
    "base_ckpt_name",
    "model_name",
    "model_path",
    "gguf_name",
    "diffusion_name",
    "model",
)
_LORA_STACK = re.compile(r"lora_stack|^(prev_)?loras?$", re.IGNORECASE)
_LORA_WIDGET = re.compile(r"^lora(?:_name)?(?:_?(\d+))?$", re.IGNORECASE)
_MODEL_STRENGTHS = ("strength_model", "lora_model_strength", "model_strength", "model_str", "model_weight", "strength")
_CLIP_STRENGTHS = ("strength_clip", "lora_clip_strength", "clip_strength", "clip_str", "clip_weight")


def read_model(graph: Graph, start: Link) -> tuple[str | None, tuple[Lora, ...]]:
    """The checkpoint's name and the LoRAs, in the order in which they were applied.

    Of a merge, the first model counts.
    """
    checkpoint: str | None = None
    loras: list[Lora] = []
    seen_stacks: set[str] = set()
    for node in _model_path(graph, start):
        loras.extend(reversed(_loras_of(graph, node)))
        for stack in _stacks_at(graph, node, seen_stacks):
            loras.extend(reversed(_loras_of(graph, stack)))
        if not any(is_model(name) for name in node.links):
            checkpoint = _checkpoint_of(graph, node)
            if checkpoint:
                break
    return checkpoint, tuple(reversed(loras))


def _stacks_at(graph: Graph, node: Node, seen: set[str]) -> Iterator[Node]:
    """The LoRA stacks that are linked into a node, nearest first, each once in a graph."""

    def is_new_stack(stack: Node, name: str) -> bool:
        return bool(_LORA_STACK.search(name)) and stack.links[name].node not in seen

    stacks = [graph.nodes[link.node] for name, link in node.links.items() if is_new_stack(node, name)]
    for stack in graph.upstream(stacks, is_new_stack):
        seen.add(stack.id)
        yield stack


def _model_path(graph: Graph, start: Link) -> Iterator[Node]:
    seen: set[str] = set()
    link: Link | None = start
    while link and link.node not in seen:
        seen.add(link.node)
        node = graph.nodes[link.node]
        yield node
        link = _model_link(node)


def _model_link(node: Node) -> Link | None:
    """The model that a patch or merge is made on; through a pipe, a switch or a reroute where no input is named so."""
    for matches in (is_model, is_pipe, lambda name: name == "guider"):
        for name, link in node.links.items():
            if matches(name):
                return link
    passed = [link for name, link in node.links.items() if may_carry_conditioning(name)]
    return passed[0] if passed else None


def _checkpoint_of(graph: Graph, node: Node) -> str | None:
    for name in _CHECKPOINT_WIDGETS:
        checkpoint = as_name(graph.value(node, name))
        if checkpoint:
            return checkpoint
    return None


def _loras_of(graph: Graph, node: Node) -> list[Lora]:
    """The LoRAs that one node applies: `lora_name`, numbered ones, or entries that are objects of their own."""
    loras: list[Lora | None] = []
    for name, raw in node.inputs.items():
        match = _LORA_WIDGET.match(name)
        if isinstance(raw, dict) and isinstance(raw.get("__value__"), list) and name == "loras":
            loras.extend(_from_entry(entry) for entry in raw["__value__"] if isinstance(entry, dict))
        elif match and isinstance(raw, dict):
            loras.append(_from_entry(raw))
        elif match and not (name in node.links and _LORA_STACK.search(name)):
            loras.append(_from_widgets(graph, node, graph.value(node, name), match[1]))
    return [lora for lora in loras if lora]


def _from_entry(entry: dict[str, Any]) -> Lora | None:
    name = as_name(entry.get("lora")) or as_name(entry.get("name"))
    if name is None or entry.get("on") is False or entry.get("active") is False:
        return None
    clip = entry.get("strengthTwo", entry.get("clipStrength"))
    return Lora(name, as_number(entry.get("strength")), as_number(clip))


def _from_widgets(graph: Graph, node: Node, value: Any, number: str | None) -> Lora | None:
    name = as_name(value)
    if name is None or (number and graph.value(node, f"switch_{number}") == "Off"):
        return None
    suffix = f"_{number}" if number else ""
    model = _first_number(graph, node, [f"{widget}{suffix}" for widget in (*_MODEL_STRENGTHS, "lora_wt")])
    clip = _first_number(graph, node, [f"{widget}{suffix}" for widget in _CLIP_STRENGTHS])
    if model == 0 and not clip:  # such a LoRA is not applied at all
        return None
    return Lora(name, model, clip)


def _first_number(graph: Graph, node: Node, names: list[str]) -> float | None:
    return next((number for name in names if (number := as_number(graph.value(node, name))) is not None), None)
