"""Workflows of ComfyUI's templates: our prompts of them beside those that its own editor makes, in a real browser.

A fixed part of the templates; with DIFFUSION_TOOLKIT_ALL_TEMPLATES=1 all of them, which takes some minutes.
"""

from __future__ import annotations

import importlib.util
import json
import os
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from toolkit_core.metadata.comfyui import types
from toolkit_core.metadata.comfyui.types import NodeTypes
from toolkit_core.metadata.comfyui.workflow import prompt_of_workflow

Prompt = dict[str, dict[str, Any]]

TABLE = Path(types.__file__).with_name(types.CORE_NODES)
ALL = bool(os.environ.get("DIFFUSION_TOOLKIT_ALL_TEMPLATES"))
ONE_OF = 40
EDITOR_WIDGETS = ("CustomCombo", "ImageCompare", "Load3D", "Preview3D", "SaveGLB")
"""Their widgets in the editor are more than their inputs; what it saves of these is of no use to a run."""
LISTS_OF_THE_EDITOR = ("templates_graphic_design_recomposer.json",)
"""A list that the editor fills later makes it forget a value that the file has."""


def templates() -> dict[str, Any]:
    """The workflows of the installed template packages by file name."""
    found: dict[str, Any] = {}
    spec = importlib.util.find_spec("comfyui_workflow_templates_json")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        for path in sorted(Path(folder).glob("templates/*.json")):
            workflow = json.loads(path.read_text(encoding="utf-8"))
            if (
                isinstance(workflow, dict)
                and "nodes" in workflow
                and (ALL or zlib.crc32(path.name.encode()) % ONE_OF == 0)
            ):
                found[path.name] = workflow
    return found


@pytest.fixture(scope="module")
def editor(
    open_editor: Callable[[str], Any],
    prompt_by_editor: Callable[[Any, Any], Any],
    start_comfyui: Callable[..., Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Any]:
    """ComfyUI's editor in a browser, and the definitions of its server."""
    if not importlib.util.find_spec("comfyui_workflow_templates_json"):
        pytest.skip("comfyui_workflow_templates_json is not installed")
    with start_comfyui(tmp_path_factory.mktemp("editor") / "base") as comfyui:
        page = open_editor(comfyui.url)
        yield partial(prompt_by_editor, page), comfyui.get("/object_info")


@pytest.mark.timeout(1800)
def test_prompts_of_templates_are_those_of_the_editor(editor: Any) -> None:
    queue, definitions = editor
    types = NodeTypes.core()
    differences: list[str] = []
    nodes = 0
    for name, workflow in templates().items():
        theirs, ours = queue(workflow), prompt_of_workflow(workflow, types)
        nodes += len(ours)
        if not renumbers(workflow) and name not in LISTS_OF_THE_EDITOR:
            differences += [f"{name}: {difference}" for difference in compare(theirs, ours, definitions)]
    assert not differences, "\n".join(differences)
    assert nodes > (3000 if ALL else 50)


def test_the_table_says_what_comfyui_of_its_version_says(comfyui_source: Path, editor: Any) -> None:
    table = json.loads(TABLE.read_text(encoding="utf-8"))
    if f'"{table["comfyui"]}"' not in (comfyui_source / "comfyui_version.py").read_text(encoding="utf-8"):
        pytest.skip(f"the table is of ComfyUI {table['comfyui']}, another one is here")
    _, definitions = editor
    core, running = NodeTypes.core(), NodeTypes.from_object_info(definitions)
    for class_type in table["nodes"].keys() & definitions.keys():
        sockets = definitions[class_type]["input"]
        for name in (*sockets.get("required", ()), *sockets.get("optional", ())):
            assert core.input_type(class_type, name) == running.input_type(class_type, name), (class_type, name)
        assert core.widgets(class_type) == running.widgets(class_type), class_type
        slots = range(len(definitions[class_type]["output"]))
        assert [core.output_type(class_type, slot) for slot in slots] == [
            running.output_type(class_type, slot) for slot in slots
        ], class_type


def renumbers(workflow: Any) -> bool:
    """Whether nodes of two graphs have the same id: the editor gives one of them another when it loads them."""
    graphs = [workflow, *workflow.get("definitions", {}).get("subgraphs", [])]
    ids = [node["id"] for graph in graphs for node in graph["nodes"]]
    return len(ids) != len(set(ids))


def compare(theirs: Prompt, ours: Prompt, definitions: Any) -> Iterator[str]:
    used = {value[0] for node in ours.values() for value in node["inputs"].values() if isinstance(value, list)}
    for node_id in theirs.keys() - ours.keys():
        # the editor keeps nodes of a bypassed subgraph in a subgraph, linked to nothing
        if node_id.count(":") < 2 or node_id in used:
            yield f"node {node_id} is missing"
    for node_id, node in ours.items():
        class_type = node["class_type"]
        if node_id not in theirs:
            yield f"there is no node {node_id}"
        elif class_type in definitions:
            other = theirs[node_id]
            if class_type != other["class_type"]:
                yield f"{node_id} is {other['class_type']}, not {class_type}"
            for name in other["inputs"].keys() | node["inputs"].keys():
                yield from compare_input(f"{node_id} {class_type}", name, other["inputs"], node, definitions)


def compare_input(place: str, name: str, theirs: Any, node: Any, definitions: Any) -> Iterator[str]:
    ours, class_type = node["inputs"], node["class_type"]
    if name not in theirs:
        yield f"{place} has no {name}, found {ours[name]!r}"
    elif name in ours:
        if ours[name] != theirs[name]:
            yield f"{place}: {name} should be {theirs[name]!r}, found {ours[name]!r}"
    elif class_type not in EDITOR_WIDGETS and theirs[name] not in defaults(definitions[class_type], name):
        yield f"{place}: {name} should be {theirs[name]!r}, is missing"


def defaults(definition: Any, name: str) -> list[Any]:
    """What an input has where the file is older than it: the default, the first choice, or its type's empty value."""
    found: list[Any] = []
    pending: list[Any] = [definition["input"]]
    while pending:
        current = pending.pop()
        spec = current.get(name.rpartition(".")[2]) if isinstance(current, dict) else None
        if isinstance(spec, list) and spec:
            options = spec[1] if len(spec) > 1 else {}
            choices: list[Any] = spec[0] if isinstance(spec[0], list) else options.get("options") or [None]
            first = choices[0]["key"] if isinstance(choices[0], dict) else choices[0]
            found += [options.get("default"), first, "", 0, False]
        pending += current.values() if isinstance(current, dict) else current if isinstance(current, list) else ()
    return found
