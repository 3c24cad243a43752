"""From a sampler's model input back to the checkpoint, and the LoRAs that were put on the way."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from ...records import Lora
from ..values import as_name
from .graph import Graph
from .loras import is_lora_stack, loras_of
from .node import Link, Node, Origin
from .node_table import PIPES
from .sockets import is_pipe, may_carry_conditioning, model_input

_CHECKPOINT_WIDGETS = (
    "ckpt_name",
    "unet_name",
    "base_ckpt_name",
    "model_name",
    "model_path",
    "gguf_name",
    "diffusion_name",
    "model",
    "stage_c",
)


class Model(NamedTuple):
    """The checkpoint and the LoRAs, in the order in which they were applied, and where they are named."""

    name: str | None = None
    origin: Origin | None = None
    loras: tuple[Lora, ...] = ()
    lora_origins: tuple[Origin, ...] = ()


def read_model(graph: Graph, start: Link) -> Model:
    """The checkpoint and the LoRAs behind a model input. Of a merge, the first model counts."""
    loras: list[Lora] = []
    origins: list[Origin] = []
    seen_stacks: set[str] = set()

    def take(node: Node) -> None:
        own = loras_of(graph, node)
        loras.extend(reversed(own))
        if own:
            origins.append(Origin(node, ""))

    for node in _model_path(graph, start):
        take(node)
        for stack in _stacks_at(graph, node, seen_stacks):
            take(stack)
        if model_input(node) is None:
            found = graph.first([node], _CHECKPOINT_WIDGETS)
            name = as_name(found[0]) if found else None
            if found and name:
                return Model(name, found[1], tuple(reversed(loras)), tuple(reversed(origins)))
    return Model(None, None, tuple(reversed(loras)), tuple(reversed(origins)))


def _stacks_at(graph: Graph, node: Node, seen: set[str]) -> Iterator[Node]:
    """The LoRA stacks that are linked into a node, nearest first, each once in a graph."""

    def is_new_stack(stack: Node, name: str) -> bool:
        return is_lora_stack(stack, name) and stack.links[name].node not in seen

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
        link = _model_link(graph, node, link.slot)


def _model_link(graph: Graph, node: Node, slot: int) -> Link | None:
    """The model that a patch or merge is made on; through a pipe, a switch or a reroute where no input is a model."""
    outputs = PIPES.get(node.class_type, ())
    named = outputs[slot] if 0 <= slot < len(outputs) else None
    name = named if named in node.links else model_input(node)
    if name:
        return node.links[name]
    pipes = [name for name in node.links if is_pipe(node, name)]
    if len(pipes) > 1:
        return _filled_with_model(graph, node, pipes)
    passed = [node.links[name] for name in (*pipes, "guider") if name in node.links]
    passed += [link for name, link in node.links.items() if may_carry_conditioning(node, name)]
    return passed[0] if passed else None


def _filled_with_model(graph: Graph, node: Node, pipes: list[str]) -> Link | None:
    """Of several pipes, the first that a model was put into."""
    for name in pipes:
        for filled in graph.pipe(graph.nodes[node.links[name].node]):
            if model_input(filled) or any(widget in filled.inputs for widget in _CHECKPOINT_WIDGETS):
                return node.links[name]
    return None
