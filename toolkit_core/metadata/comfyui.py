"""GenerationParameters out of a ComfyUI graph: saver, final sampler, and what went into it."""

from __future__ import annotations

import re
from collections.abc import Iterable

from ..records import GenerationParameters, MetadataReading
from .carriers import Keywords
from .comfyui_conditioning import Texts, read_texts
from .comfyui_graph import Graph, Link, Node, parse_graph
from .comfyui_model import read_model
from .comfyui_nodes import GUIDERS, SAMPLERS, Guidance
from .comfyui_sockets import Role, infer_guidance
from .comfyui_types import NodeTypes
from .values import MAX_SEED, MAX_STEPS, as_integer, as_name, as_number, parse_json

GENERATOR = "ComfyUI"

_PICTURE_INPUT = re.compile(r"^(image|images|pixels|frames|video|videos)(_?\d*)$", re.IGNORECASE)
_PREVIEW = re.compile(r"preview|display|compare", re.IGNORECASE)
_SAVER = re.compile(r"save|combine|output", re.IGNORECASE)
_SEEDS = ("seed", "noise_seed")


def read_comfyui(texts: Keywords, node_types: NodeTypes | None = None) -> MetadataReading | None:
    """What the prompt graph says. None where there is neither a graph nor a workflow of ComfyUI's."""
    graph = parse_graph(parse_json(texts["prompt"])) if "prompt" in texts else None
    if graph is not None:
        return MetadataReading(_read_graph(graph), f"ComfyUI graph in {texts.where('prompt')}")
    workflow = parse_json(texts["workflow"]) if "workflow" in texts else None
    if isinstance(workflow, dict) and isinstance(workflow.get("nodes"), list):
        return MetadataReading(GenerationParameters(generator=GENERATOR), f"workflow in {texts.where('workflow')}")
    return None


def _read_graph(graph: Graph) -> GenerationParameters:
    final = find_final_sampler(graph)
    if final is None:
        return GenerationParameters(generator=GENERATOR)
    positive = _side(graph, [final], "positive")
    negative = _side(graph, [final], "negative")
    prompt = positive.joined()
    if not prompt:
        prompt = _side(graph, reversed(_chain(graph, final)), "positive").joined() or prompt
    guidance, guiding = _guiding(graph, final)
    model_link = guiding.links.get(guidance.model)
    model, loras = read_model(graph, model_link) if model_link else (None, ())
    sigmas = _source(graph, final, "sigmas")
    sampler = _source(graph, final, "sampler")
    return GenerationParameters(
        generator=GENERATOR,
        prompt=prompt,
        negative_prompt=negative.joined(),
        model=model,
        loras=loras,
        sampler=as_name(_first(graph, (final, sampler), ("sampler_name",))) or as_name(final.inputs.get("sampler")),
        scheduler=as_name(_first(graph, (final, sigmas), ("scheduler",))),
        steps=as_integer(_first(graph, (final, sigmas), ("steps",)), MAX_STEPS),
        cfg_scale=as_number(graph.value(guiding, guidance.cfg)) if guidance.cfg else None,
        guidance=positive.guidance,
        seed=_seed(graph, final),
        denoise=as_number(_first(graph, (final, sigmas), ("denoise", "denoise_strength"))),
    )


def find_final_sampler(graph: Graph) -> Node | None:
    """The last sampler before the saver.

    Savers of pictures count before other ends of the graph, and those before previews. A sampler that another candidate
    builds on is a first pass and no candidate; of several that are left, the nearest to its saver counts.
    """
    consumed = {link.node for node in graph.nodes.values() for link in node.links.values()}
    ends: list[list[Node]] = [[], [], []]
    for node in graph.nodes.values():
        shows = bool(_PREVIEW.search(node.class_type))
        if not shows and _SAVER.search(node.class_type) and any(_PICTURE_INPUT.match(name) for name in node.links):
            ends[0].append(node)
        elif node.id not in consumed or shows:
            ends[2 if shows else 1].append(node)
    for group in ends:
        last = _without_first_passes(graph, _samplers_before(graph, group))
        if last:
            return last[0]
    last = _without_first_passes(graph, [node for node in graph.nodes.values() if node.is_sampler])
    return last[0] if last else None


def _samplers_before(graph: Graph, savers: list[Node]) -> list[Node]:
    """The samplers that are met first on the way back from the savers."""

    def follow(node: Node, name: str) -> bool:
        return not node.is_sampler and (bool(_PICTURE_INPUT.match(name)) or node.id not in picture_savers)

    picture_savers = {node.id for node in savers if any(_PICTURE_INPUT.match(name) for name in node.links)}
    return [node for node in graph.upstream(savers, follow) if node.is_sampler]


def _without_first_passes(graph: Graph, samplers: list[Node]) -> list[Node]:
    sources = [graph.nodes[link.node] for sampler in samplers for link in sampler.links.values()]
    earlier = {node.id for node in graph.upstream(_distinct(sources), lambda *_: True)}
    return [sampler for sampler in samplers if sampler.id not in earlier] or samplers


def _distinct(nodes: Iterable[Node]) -> list[Node]:
    return list({node.id: node for node in nodes}.values())


def _guiding(graph: Graph, sampler: Node) -> tuple[Guidance, Node]:
    """The node that holds positive, negative, model and CFG: the sampler, or its guider."""
    guider = _source(graph, sampler, "guider")
    if guider:
        return GUIDERS.get(guider.class_type) or infer_guidance(guider.inputs, guider.links), guider
    return SAMPLERS.get(sampler.class_type) or infer_guidance(sampler.inputs, sampler.links), sampler


def _side(graph: Graph, samplers: Iterable[Node], role: Role) -> Texts:
    """The texts of one side of these samplers."""
    starts: list[Link] = []
    for sampler in samplers:
        guidance, node = _guiding(graph, sampler)
        link = node.links.get((guidance.positive if role == "positive" else guidance.negative) or "")
        if link:
            starts.append(link)
    return read_texts(graph, starts, role)


def _chain(graph: Graph, final: Node) -> list[Node]:
    """The samplers that the final one builds on, nearest first."""
    return [node for node in graph.upstream([final], lambda *_: True) if node is not final and node.is_sampler]


def _seed(graph: Graph, final: Node) -> int | None:
    """The seed of the noise that the picture grew from: of the nearest pass that added any, else its own."""
    if not _adds_noise(graph, final):
        for sampler in _chain(graph, final):
            if _adds_noise(graph, sampler):
                return _own_seed(graph, sampler)
    return _own_seed(graph, final)


def _adds_noise(graph: Graph, sampler: Node) -> bool:
    noise = sampler.links.get("noise")
    if noise and graph.nodes[noise.node].class_type == "DisableNoise":
        return False
    return graph.value(sampler, "add_noise") not in (False, "disable")


def _own_seed(graph: Graph, sampler: Node) -> int | None:
    return as_integer(_first(graph, (sampler, _source(graph, sampler, "noise")), _SEEDS), MAX_SEED)


def _source(graph: Graph, sampler: Node, socket: str) -> Node | None:
    """The node that made a sampler's noise, sampler or sigmas, behind those that split, flip or wrap them."""
    link: Link | None = sampler.links.get(socket)
    node: Node | None = None
    seen: set[str] = set()
    while link and link.node not in seen:
        seen.add(link.node)
        node = graph.nodes[link.node]
        link = node.links.get(socket) or (next(iter(node.links.values())) if node.is_reroute else None)
    return node


def _first(graph: Graph, nodes: Iterable[Node | None], names: Iterable[str]) -> object:
    """The first widget of these names on these nodes that holds a value."""
    for node in nodes:
        for name in names if node else ():
            if node and name in node.inputs and (value := graph.value(node, name)) is not None:
                return value
    return None
