"""The table of nodes beside ComfyUI's own definitions, and the page that says how to add a line."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from toolkit_core.metadata.comfyui import node_table, semantics
from toolkit_core.metadata.comfyui.conditioning import read_texts
from toolkit_core.metadata.comfyui.graph import Graph, parse_graph
from toolkit_core.metadata.comfyui.node import Link
from toolkit_core.metadata.comfyui.node_table import CONDITIONING, GUIDERS, SAMPLERS
from toolkit_core.metadata.comfyui.sampler import find_final_sampler
from toolkit_core.metadata.comfyui.sockets import infer_guidance
from toolkit_core.metadata.comfyui.types import CORE_NODES, NodeTypes
from toolkit_core.records import GenerationParameters

PAGE = Path(__file__).parents[2] / "docs/node-table.md"
TABLE = Path(node_table.__file__).with_name(CORE_NODES)
TYPES = NodeTypes.core()
_TEXTS = re.compile(r"text|prompt|clip_[lgh]|t5|llama|bert|qwen|lyrics|caption|tags", re.IGNORECASE)


@cache
def core_nodes() -> dict[str, Any]:
    return json.loads(TABLE.read_text(encoding="utf-8"))["nodes"]


def core_classes() -> list[str]:
    return sorted(core_nodes())


def outputs(class_type: str) -> Iterator[str]:
    slot = 0
    while (kind := TYPES.output_type(class_type, slot)) is not None:
        yield kind
        slot += 1


def inputs(class_type: str) -> dict[str, str]:
    """The plain inputs of one of ComfyUI's own classes, and their types."""
    names = [entry[0] for entry in core_nodes()[class_type][0]]
    return {name: kind for name in names if (kind := TYPES.input_type(class_type, name))}


def wired(class_type: str) -> Graph:
    """A graph with one node of this class: an encoder at each conditioning input, and a text in each widget."""
    nodes: dict[str, Any] = {"node": {"class_type": class_type, "inputs": {}}}
    for name, kind in inputs(class_type).items():
        if kind == "CONDITIONING":
            nodes[name] = {"class_type": "CLIPTextEncode", "inputs": {"text": f"linked {name}"}}
            nodes["node"]["inputs"][name] = [name, 0]
        elif kind == "STRING":
            nodes["node"]["inputs"][name] = f"text {name}"
        elif kind in ("INT", "FLOAT"):
            nodes["node"]["inputs"][name] = 1
        elif kind not in ("COMBO", "BOOLEAN"):
            nodes[f"a {kind}"] = {"class_type": f"Makes {kind}", "inputs": {}}
            nodes["node"]["inputs"][name] = [f"a {kind}", 0]
    graph = parse_graph(nodes)
    assert graph
    return graph


def texts_of(class_type: str, slot: int, role: Any) -> set[str]:
    return {text for text, _ in read_texts(wired(class_type), [Link("node", slot)], role).texts}


def conditioning_slots(class_type: str) -> list[int]:
    return [slot for slot, kind in enumerate(outputs(class_type)) if kind == "CONDITIONING"]


UNLISTED = [name for name in core_classes() if conditioning_slots(name) and name not in CONDITIONING]


@pytest.mark.parametrize("class_type", UNLISTED)
def test_a_core_node_that_has_no_line_passes_each_side_on(class_type: str) -> None:
    kinds = inputs(class_type)
    linked = {name for name, kind in kinds.items() if kind == "CONDITIONING"}
    widgets = {name for name, kind in kinds.items() if kind == "STRING" and _TEXTS.search(name)}
    for slot in conditioning_slots(class_type):
        found = texts_of(class_type, slot, "positive")
        if {"positive", "negative"} <= linked:
            side = "negative" if conditioning_slots(class_type).index(slot) else "positive"
            assert found == {f"linked {side}"}
        else:
            assert found == {f"linked {name}" for name in linked} | {f"text {name}" for name in widgets}


@pytest.mark.parametrize("class_type", [name for name in CONDITIONING if any(outputs(name))])
def test_a_line_of_a_core_node_names_its_sockets(class_type: str) -> None:
    kinds = inputs(class_type)
    lines = CONDITIONING[class_type]
    assert len(lines) in (1, max(conditioning_slots(class_type)) + 1)
    for line in lines:
        assert {kinds.get(name) for name in line.inputs} <= {"CONDITIONING"}
        assert {kinds.get(name) for name in line.texts} <= {"STRING"}


@pytest.mark.parametrize("class_type", [name for name in core_classes() if "GUIDER" in outputs(name)])
def test_every_core_guider_is_read_by_its_sockets_as_by_its_line(class_type: str) -> None:
    assert infer_guidance(wired(class_type).nodes["node"]) == GUIDERS[class_type]


def test_no_core_node_is_taken_for_a_sampler_that_is_none() -> None:
    graphs = {name: wired(name) for name in core_classes()}
    samplers = {name for name, graph in graphs.items() if graph.is_sampler(graph.nodes["node"])}
    assert samplers <= SAMPLERS.keys()


@pytest.mark.parametrize("class_type", [name for name in SAMPLERS if any(outputs(name))])
def test_every_core_sampler_is_found_before_its_saver(class_type: str) -> None:
    graph = wired(class_type)
    nodes = {name: {"class_type": node.class_type, "inputs": node.inputs} for name, node in graph.nodes.items()}
    nodes["decode"] = {"class_type": "VAEDecode", "inputs": {"samples": ["node", 0]}}
    nodes["save"] = {"class_type": "SaveImage", "inputs": {"images": ["decode", 0]}}
    whole = parse_graph(nodes)
    assert whole
    final = find_final_sampler(whole)
    assert final
    assert final.sampler.id == "node"


def test_the_line_of_the_page_reads_the_node_of_the_page(
    graph: Any, read_graph: Callable[[Any], GenerationParameters], monkeypatch: pytest.MonkeyPatch
) -> None:
    graph.add("yes", "SceneEncode", scene="a red fox", camera="50 mm", clip=["checkpoint", 1])
    assert read_graph(graph.nodes).prompt is None
    line = re.search(r'"SceneEncode": encodes\((.*)\),', PAGE.read_text(encoding="utf-8"))
    assert line
    widgets = [name.strip().strip('"') for name in line[1].split(",")]
    monkeypatch.setitem(CONDITIONING, "SceneEncode", semantics.encodes(*widgets))
    assert read_graph(graph.nodes).prompt == "a red fox\n50 mm"


def test_every_line_that_the_page_shows_is_in_the_table() -> None:
    source = Path(node_table.__file__).read_text(encoding="utf-8")
    shown = re.findall(r"^\| .* \| `(\".*)` \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(shown) == 6
    assert [line for line in shown if line not in source] == []
