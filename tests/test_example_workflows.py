"""The example workflows open without a broken link, and what the nodes' texts name is there.

The nodes' names, inputs and outputs are taken from the locale file, so that no ComfyUI is needed.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
NODES: dict[str, Any] = json.loads((REPOSITORY / "locales/en/nodeDefs.json").read_text(encoding="utf-8"))
WORKFLOWS = sorted((REPOSITORY / "example_workflows").glob("*.json"))
API_WORKFLOWS = sorted((REPOSITORY / "example_workflows/api").glob("*.json"))

every_workflow = pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
every_api_workflow = pytest.mark.parametrize("path", API_WORKFLOWS, ids=lambda path: path.stem)
every_node = pytest.mark.parametrize("node_id", sorted(NODES))

TITLE_HEIGHT = 30
TYPES_OF_WIDGETS = {"STRING": str, "INT": int, "FLOAT": (int, float), "BOOLEAN": bool, "COMBO": str}


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def pack_nodes(workflow: dict[str, Any]) -> list[dict[str, Any]]:
    return [node for node in workflow["nodes"] if node["type"].startswith("DiffusionToolkit")]


def widget_inputs(node: dict[str, Any]) -> list[dict[str, Any]]:
    return [slot for slot in node["inputs"] if "widget" in slot]


def test_each_node_is_used_in_a_workflow() -> None:
    used = {node["type"] for path in WORKFLOWS for node in pack_nodes(read(path))}
    assert used == set(NODES)


@every_workflow
def test_ids_are_unique_and_below_the_next_free_one(path: Path) -> None:
    workflow = read(path)
    nodes = [node["id"] for node in workflow["nodes"]]
    links = [link[0] for link in workflow["links"]]
    assert len(set(nodes)) == len(nodes)
    assert len(set(links)) == len(links)
    assert max(nodes) <= workflow["last_node_id"]
    assert max(links) <= workflow["last_link_id"]
    assert len({read(other)["id"] for other in WORKFLOWS}) == len(WORKFLOWS)


@every_workflow
def test_each_link_joins_slots_of_one_type_that_know_it(path: Path) -> None:
    workflow = read(path)
    nodes = {node["id"]: node for node in workflow["nodes"]}
    for id, source, output_slot, target, input_slot, link_type in workflow["links"]:
        output, end = nodes[source]["outputs"][output_slot], nodes[target]["inputs"][input_slot]
        assert id in output["links"]
        assert end["link"] == id
        assert output["type"] == link_type
        assert end["type"] in (link_type, "*")


@every_workflow
def test_each_slot_names_only_links_that_exist(path: Path) -> None:
    workflow = read(path)
    named = [slot["link"] for node in workflow["nodes"] for slot in node["inputs"] if slot["link"] is not None]
    named += [id for node in workflow["nodes"] for slot in node["outputs"] for id in slot["links"] or ()]
    assert sorted(named) == sorted(2 * [link[0] for link in workflow["links"]])


@every_workflow
def test_nodes_do_not_overlap(path: Path) -> None:
    boxes = [(*node["pos"], *node["size"]) for node in read(path)["nodes"]]
    for i, (x, y, width, height) in enumerate(boxes):
        for other_x, other_y, other_width, other_height in boxes[:i]:
            beside = x >= other_x + other_width or other_x >= x + width
            above = y - TITLE_HEIGHT >= other_y + other_height or other_y - TITLE_HEIGHT >= y + height
            assert beside or above, (x, y, other_x, other_y)


@every_workflow
def test_widget_values_fit_the_inputs_of_the_packs_nodes(path: Path) -> None:
    for node in pack_nodes(read(path)):
        widgets = widget_inputs(node)
        assert len(node["widgets_values"]) == len(widgets)
        for slot, value in zip(widgets, node["widgets_values"], strict=True):
            assert isinstance(value, TYPES_OF_WIDGETS[slot["type"]]), (slot["name"], value)


@every_workflow
def test_slots_of_the_packs_nodes_are_those_of_the_nodes(path: Path) -> None:
    for node in pack_nodes(read(path)):
        texts = NODES[node["type"]]
        names = list(texts["inputs"])
        assert {slot["name"] for slot in node["inputs"]} == set(names)
        # The values are read by position, so the order of the widgets is the order of the node's inputs.
        widgets = [slot["name"] for slot in widget_inputs(node)]
        assert widgets == sorted(widgets, key=names.index)
        assert [slot["name"] for slot in node["outputs"]] == [output["name"] for output in texts["outputs"].values()]


@every_workflow
def test_each_workflow_has_its_api_form(path: Path) -> None:
    api = read(path.parent / "api" / path.name)
    nodes = {str(node["id"]): node for node in read(path)["nodes"] if node["type"] != "MarkdownNote"}
    assert {id: node["class_type"] for id, node in api.items()} == {id: node["type"] for id, node in nodes.items()}
    for id, node in nodes.items():
        if node["type"].startswith("DiffusionToolkit"):
            widgets = zip(widget_inputs(node), node["widgets_values"], strict=True)
            values = {slot["name"]: value for slot, value in widgets if slot["link"] is None}
            given = {name: value for name, value in api[id]["inputs"].items() if not isinstance(value, list)}
            assert given == values


@every_api_workflow
def test_api_links_name_outputs_that_exist(path: Path) -> None:
    api = read(path)
    ui = {str(node["id"]): node for node in read(path.parents[1] / path.name)["nodes"]}
    links = {
        (id, name, source, output)
        for id, node in api.items()
        for name, value in node["inputs"].items()
        if isinstance(value, list)
        for source, output in [value]
    }
    assert all(output < len(ui[source]["outputs"]) for _, _, source, output in links)
    assert len(links) == len(read(path.parents[1] / path.name)["links"])


@every_node
def test_help_page_names_every_input_and_output(node_id: str) -> None:
    page = (REPOSITORY / "web/docs" / f"{node_id}.md").read_text(encoding="utf-8")
    texts = NODES[node_id]
    assert page.startswith(f"# {texts['display_name']}\n")
    for section, slots in (("Inputs", texts["inputs"]), ("Outputs", texts["outputs"])):
        found = re.search(rf"^## {section}\n(.*?)^## ", page, re.DOTALL | re.MULTILINE)
        assert found is not None
        assert re.findall(r"^\| `(\w+)` \|", found[1], re.MULTILINE) == [slot["name"] for slot in slots.values()]


@every_node
def test_every_text_of_a_node_is_there_and_can_be_shown(node_id: str) -> None:
    node = NODES[node_id]
    slots = [*node["inputs"].values(), *node["outputs"].values()]
    texts = [node["display_name"], node["description"], *(slot[key] for slot in slots for key in ("name", "tooltip"))]
    for text in texts:
        assert text
        # vue-i18n, which shows them, reads these as syntax.
        assert not set("{}@|") & set(text)
