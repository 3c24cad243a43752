"""The sampler that made the final picture, and the nodes that hold its settings."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from .graph import Graph
from .node import Link, Node
from .node_table import GUIDERS, SAMPLERS
from .semantics import Guidance
from .sockets import infer_guidance, is_pipe, may_carry_picture

_PICTURE_INPUT = re.compile(r"^(image|images|pixels|frames|video|videos)(_?\d*)$", re.IGNORECASE)
_PREVIEW = re.compile(r"preview|display|compare", re.IGNORECASE)
_SAVER = re.compile(r"save|combine|output|send", re.IGNORECASE)
_PICTURE_TYPES = ("IMAGE", "VIDEO")
_SEEDS = ("seed",)
_PROMPTS = ("prompt", "positive_prompt", "text_prompt")


class Final(NamedTuple):
    """The last sampler, and the ends of the graph that it was found from; none where it was found otherwise."""

    sampler: Node
    savers: list[Node]


def find_final_sampler(graph: Graph) -> Final | None:
    """The last sampler before the saver.

    Savers of pictures count before other ends of the graph, and those before previews. A sampler that another candidate
    builds on is a first pass and no candidate; of several that are left, the nearest to its saver counts.
    """
    for group in _ends(graph):
        last = _without_first_passes(graph, _samplers_before(graph, group))
        if last:
            return Final(last[0], group)
    last = _without_first_passes(graph, [node for node in graph.nodes.values() if graph.is_sampler(node)])
    return Final(last[0], []) if last else None


def find_generator(graph: Graph) -> Node | None:
    """In a graph without a sampler, the node before the saver that makes a picture of a prompt by itself.

    It has a seed, or takes no picture: others only work on one, as those that cut out what a prompt names.
    """
    for group in _ends(graph):
        for node in graph.upstream(group, may_carry_picture):
            if prompt_widget(node) and (dotted(node, _SEEDS) or not _takes_picture(node)):
                return node
    return None


def prompt_widget(node: Node) -> str | None:
    return dotted(node, _PROMPTS)


def dotted(node: Node, names: Sequence[str]) -> str | None:
    """An input of one of these names, also inside of a choice, as in "model.prompt"."""
    return next((name for name in node.inputs if name.rpartition(".")[2] in names), None)


def guiding(graph: Graph, sampler: Node) -> tuple[Guidance, Node]:
    """The node that holds positive, negative, model and CFG, and which inputs they are: the sampler, or its guider."""
    guidance = SAMPLERS.get(sampler.class_type) or infer_guidance(sampler)
    node = source(graph, sampler, guidance.by) if guidance.by else None
    if node is None:
        return guidance, sampler
    known = GUIDERS.get(node.class_type) or SAMPLERS.get(node.class_type)
    return known or infer_guidance(node), node


def chain(graph: Graph, final: Node) -> list[Node]:
    """The samplers that the final one builds on, nearest first."""
    return [node for node in graph.upstream([final], lambda *_: True) if node is not final and graph.is_sampler(node)]


def settings(graph: Graph, sampler: Node, *sockets: str) -> list[Node]:
    """The nodes that may hold a sampler's settings: itself, its parts at these sockets, and what fills its pipes."""
    _, node = guiding(graph, sampler)
    parts = [part for socket in sockets if (part := source(graph, sampler, socket))]
    own = [sampler, *parts, *([node] if node is not sampler else [])]
    return list({node.id: node for holder in own for node in _filled(graph, holder)}.values())


def source(graph: Graph, sampler: Node, socket: str) -> Node | None:
    """The node that made a sampler's noise, sampler or sigmas, behind those that split, flip or wrap them."""
    link: Link | None = sampler.links.get(socket)
    node: Node | None = None
    seen: set[str] = set()
    while link and link.node not in seen and graph.may_go_on():
        seen.add(link.node)
        node = graph.nodes[link.node]
        link = node.links.get(socket) or (next(iter(node.links.values())) if graph.is_reroute(node) else None)
    return node


def _filled(graph: Graph, node: Node) -> Iterator[Node]:
    return graph.pipe(node) if any(is_pipe(node, name) for name in node.links) else iter((node,))


def _ends(graph: Graph) -> list[list[Node]]:
    """The savers of pictures, other ends of the graph, and previews."""
    consumed = {link.node for node in graph.nodes.values() for link in node.links.values()}
    ends: list[list[Node]] = [[], [], []]
    for node in graph.nodes.values():
        shows = bool(_PREVIEW.search(node.class_type))
        if not shows and _SAVER.search(node.class_type) and _takes_picture(node):
            ends[0].append(node)
        elif node.id not in consumed or shows:
            ends[2 if shows else 1].append(node)
    return ends


def _takes_picture(node: Node) -> bool:
    return any(_PICTURE_INPUT.match(name) or node.types.get(name) in _PICTURE_TYPES for name in node.links)


def _samplers_before(graph: Graph, savers: list[Node]) -> list[Node]:
    """The samplers that are met first on the way back from the savers."""

    def follow(node: Node, name: str) -> bool:
        if graph.is_sampler(node) or not may_carry_picture(node, name):
            return False
        return node.id not in picture_savers or _is_picture(node, name)

    picture_savers = {node.id for node in savers if _takes_picture(node)}
    return [node for node in graph.upstream(savers, follow) if graph.is_sampler(node)]


def _is_picture(node: Node, name: str) -> bool:
    return bool(_PICTURE_INPUT.match(name)) or node.types.get(name) in _PICTURE_TYPES


def _without_first_passes(graph: Graph, samplers: list[Node]) -> list[Node]:
    sources = [graph.nodes[link.node] for sampler in samplers for link in sampler.links.values()]
    earlier = {node.id for node in graph.upstream(_distinct(sources), lambda *_: True)}
    return [sampler for sampler in samplers if sampler.id not in earlier] or samplers


def _distinct(nodes: Iterable[Node]) -> list[Node]:
    return list({node.id: node for node in nodes}.values())
