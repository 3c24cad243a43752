"""GenerationParameters out of a ComfyUI graph: saver, final sampler, and what went into it."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

from ...records import GenerationParameters, MetadataReading
from ..carriers import Keywords
from ..values import MAX_SEED, MAX_STEPS, as_integer, as_name, as_number, as_text
from .conditioning import Texts, read_texts
from .graph import Graph, parse_graph
from .model import Model, read_model
from .node import Link, Node, Origin
from .rules import Findings
from .sampler import chain, dotted, find_final_sampler, find_generator, guiding, prompt_widget, settings
from .sockets import Role, pipe_input
from .types import NodeType, NodeTypes
from .vae import read_vae
from .workflow import prompt_of_workflow

GENERATOR = "ComfyUI"

_SEEDS = ("seed", "noise_seed")
_CFG = ("cfg", "cfg_scale")


def read_comfyui(texts: Keywords, node_types: NodeTypes | None = None) -> MetadataReading | None:
    """What the prompt graph says, or where there is none, the workflow. None where there is neither."""
    running = node_types or NodeTypes()
    graph = parse_graph(texts.json("prompt"), running.otherwise(_types(texts)))
    if graph is not None:
        parameters, rules = read_graph(graph)
        return MetadataReading(parameters, f"ComfyUI graph in {texts.where('prompt')}", rules)
    workflow = texts.json("workflow")
    if isinstance(workflow, dict) and isinstance(workflow.get("nodes"), list):
        types = running.otherwise(NodeTypes.from_workflow(workflow)).otherwise(NodeTypes.core())
        known = running.otherwise(NodeTypes.core()).otherwise(types)
        graph = parse_graph(prompt_of_workflow(workflow, types), known)
        parameters, rules = read_graph(graph) if graph else (GenerationParameters(generator=GENERATOR), {})
        return MetadataReading(parameters, f"ComfyUI workflow in {texts.where('workflow')}", rules)
    return None


def _types(texts: Keywords) -> NodeTypes:
    """ComfyUI's own nodes, and those of the workflow in the same file, which is read for a class of another pack."""

    @cache
    def workflow() -> NodeTypes:
        return NodeTypes.from_workflow(texts.json("workflow"))

    def lookup(class_type: str) -> NodeType | None:
        return workflow().definition(class_type)

    return NodeTypes.core().otherwise(NodeTypes(lookup))


def read_graph(graph: Graph) -> tuple[GenerationParameters, dict[str, str]]:
    """The parameters of the final sampler, and by field the rule that found each."""
    final = find_final_sampler(graph)
    found = Findings(graph)
    if final is None:
        _add_generator(graph, found)
        return GenerationParameters(generator=GENERATOR, **found.values), found.rules
    sampler = final.sampler
    positive = _side(graph, [sampler], "positive")
    texts = positive
    if not texts.joined():
        earlier = _side(graph, reversed(chain(graph, sampler)), "positive")
        texts = earlier if earlier.joined() else texts
    negative = _side(graph, [sampler], "negative")
    into = "earlier passes" if texts is not positive else str(sampler)
    found.add("prompt", texts.joined(), *texts.origins(), into=f"positive of {into}")
    found.add("negative_prompt", negative.joined(), *negative.origins(), into=f"negative of {sampler}")
    model = _model(graph, sampler)
    found.add("model", model.name, model.origin, into=f"model of {sampler}")
    found.add("loras", model.loras, *model.lora_origins, into=f"model of {sampler}")
    vae = read_vae(graph, sampler, final.savers)
    if vae:
        found.add("vae", vae.name, vae.origin, into=f"vae of {vae.decoder}")
    _add_settings(graph, sampler, found)
    if positive.guidance is not None:
        found.add("guidance", positive.guidance, positive.guidance_origin, into=f"positive of {sampler}")
    return GenerationParameters(generator=GENERATOR, **found.values), found.rules


def _add_settings(graph: Graph, sampler: Node, found: Findings) -> None:
    """Sampler, scheduler, steps, CFG scale, guidance, seed and denoise."""
    from_sigmas = settings(graph, sampler, "sigmas")
    names = graph.first(settings(graph, sampler, "sampler"), ("sampler_name",))
    if names is None and sampler.types.get("sampler") != "SAMPLER":
        names = graph.first([sampler], ("sampler",))
    guidance, node = guiding(graph, sampler)
    cfg = graph.first([node], [guidance.cfg]) if guidance.cfg else None
    if cfg is None and node is sampler:
        cfg = graph.first(settings(graph, sampler), _CFG)
    for field, setting, read in (
        ("sampler", names, as_name),
        ("scheduler", graph.first(from_sigmas, ("scheduler",)), as_name),
        ("steps", graph.first(from_sigmas, ("steps",)), lambda value: as_integer(value, MAX_STEPS)),
        ("cfg_scale", cfg, as_number),
        ("guidance", graph.first([sampler], ("guidance",)), as_number),
        ("seed", _seed(graph, sampler), lambda value: as_integer(value, MAX_SEED)),
        ("denoise", graph.first(from_sigmas, ("denoise", "denoise_strength")), as_number),
    ):
        if setting:
            found.add(field, read(setting[0]), setting[1])


def _add_generator(graph: Graph, found: Findings) -> None:
    """What a node says that makes a picture by itself, as those do that ask a service for it."""
    node = find_generator(graph)
    if node is None:
        return
    for field, name, read in (
        ("prompt", prompt_widget(node), as_text),
        ("negative_prompt", dotted(node, ("negative_prompt",)), as_text),
        ("model", dotted(node, ("model", "model_name")), as_name),
        ("seed", dotted(node, ("seed",)), lambda value: as_integer(value, MAX_SEED)),
    ):
        if name:
            value = graph.text(node, name) if read is as_text else graph.value(node, name)
            found.add(field, read(value), Origin(node, name))


def _side(graph: Graph, samplers: Iterable[Node], role: Role) -> Texts:
    """The texts of one side of these samplers."""
    starts: list[Link] = []
    for sampler in samplers:
        guidance, node = guiding(graph, sampler)
        name = guidance.positive if role == "positive" else guidance.negative
        link = _link(node, name) if name else None
        if link:
            starts.append(link)
    return read_texts(graph, starts, role)


def _model(graph: Graph, sampler: Node) -> Model:
    guidance, node = guiding(graph, sampler)
    link = _link(node, guidance.model)
    return read_model(graph, link) if link else Model()


def _link(node: Node, name: str) -> Link | None:
    """What is linked to an input, or to the pipe that stands in for it."""
    return node.links.get(name) or node.links.get(pipe_input(node) or "")


def _seed(graph: Graph, final: Node) -> tuple[object, Origin] | None:
    """The seed of the noise that the picture grew from: of the nearest pass that added any, else its own."""
    if not _adds_noise(graph, final):
        for sampler in chain(graph, final):
            if _adds_noise(graph, sampler):
                return graph.first(settings(graph, sampler, "noise"), _SEEDS)
    return graph.first(settings(graph, final, "noise"), _SEEDS)


def _adds_noise(graph: Graph, sampler: Node) -> bool:
    noise = sampler.links.get("noise")
    if noise and graph.nodes[noise.node].class_type == "DisableNoise":
        return False
    return graph.value(sampler, "add_noise") not in (False, "disable")
