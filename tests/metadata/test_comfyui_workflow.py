"""Workflows as ComfyUI's editor saves them, built in code, made into the prompts that it would queue."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from toolkit_core.metadata import read_generation_parameters, read_parameters, read_texts
from toolkit_core.metadata.comfyui.types import NodeTypes
from toolkit_core.metadata.comfyui.workflow import prompt_of_workflow

Prompt = dict[str, dict[str, Any]]
SUBGRAPH = "11111111-2222-3333-4444-555555555555"
OTHER_SUBGRAPH = "99999999-2222-3333-4444-555555555555"


def socket(name: str, kind: str, link: Any = None, widget: bool = False) -> dict[str, Any]:
    return {"name": name, "type": kind, "link": link, **({"widget": {"name": name}} if widget else {})}


def node(
    node_id: int | str, class_type: str, *inputs: dict[str, Any], outputs: str = "", **more: Any
) -> dict[str, Any]:
    given = [{"name": kind, "type": kind} for kind in outputs.split()]
    return {"id": node_id, "type": class_type, "inputs": list(inputs), "outputs": given, "mode": 0, **more}


def convert(*nodes: dict[str, Any], links: Any = (), **more: Any) -> Prompt:
    workflow = {"nodes": list(nodes), "links": list(links), **more}
    return prompt_of_workflow(workflow, NodeTypes.from_workflow(workflow).otherwise(NodeTypes.core()))


def encoder(*, link: Any = 1, text: Any = "a fox", text_link: Any = None, node_id: int = 2, **more: Any) -> Any:
    inputs = [socket("clip", "CLIP", link)]
    inputs += [socket("text", "STRING", text_link, widget=True)] if text_link is not None else []
    return node(node_id, "CLIPTextEncode", *inputs, outputs="CONDITIONING", widgets_values=[text], **more)


CHECKPOINT = node(1, "CheckpointLoaderSimple", outputs="MODEL CLIP VAE", widgets_values=["base.safetensors"])


@pytest.mark.parametrize(
    "link",
    [
        [1, 1, 1, 2, 0, "CLIP"],
        [1, "1", "1", "2", "0", "CLIP"],
        {"id": 1, "origin_id": 1, "origin_slot": 1, "target_id": 2, "target_slot": 0, "type": "CLIP"},
    ],
    ids=["version 0.4", "numbers as texts", "version 1"],
)
def test_links_and_widgets_become_inputs(link: Any) -> None:
    assert convert(encoder(), CHECKPOINT, links=[link]) == {
        "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "base.safetensors"}},
        "2": {"class_type": "CLIPTextEncode", "inputs": {"text": "a fox", "clip": ["1", 1]}},
    }


def test_nodes_come_in_order_of_execution() -> None:
    late, early = encoder(link=None, order=5), {**CHECKPOINT, "order": 1}
    assert list(convert(late, early)) == ["1", "2"]
    assert list(with_subgraph(host())) == ["1", "12:5", "20"]


def test_what_the_editor_keeps_behind_a_seed_is_no_input() -> None:
    seed = 2**63 + 1
    prompt = convert(node(3, "KSampler", widgets_values=[seed, "randomize", 20, 7.5, "euler", "normal", 1]))
    assert prompt["3"]["inputs"] == {
        "seed": seed,
        "steps": 20,
        "cfg": 7.5,
        "sampler_name": "euler",
        "scheduler": "normal",
        "denoise": 1,
    }


def test_a_list_that_is_a_value_is_no_link() -> None:
    prompt = convert(node(1, "Custom", widgets_values={"loras": [1, 2]}))
    assert prompt["1"]["inputs"] == {"loras": {"__value__": [1, 2]}}


def test_a_muted_node_and_what_is_linked_to_it_are_left_out() -> None:
    prompt = convert({**CHECKPOINT, "mode": 2}, encoder(), links=[[1, 1, 1, 2, 0, "CLIP"]])
    assert prompt == {"2": {"class_type": "CLIPTextEncode", "inputs": {"text": "a fox"}}}


def test_a_bypassed_node_passes_on_the_input_of_the_same_type() -> None:
    lora = node(3, "LoraLoader", socket("model", "MODEL", 1), socket("clip", "CLIP", 2), outputs="MODEL CLIP", mode=4)
    strange = node(4, "Custom", socket("a", "MODEL", 3), socket("b", "MODEL", 4), outputs="IMAGE", mode=4)
    links = [[1, 1, 0, 3, 0], [2, 1, 1, 3, 1], [3, 3, 0, 4, 0], [5, 3, 1, 2, 0], [6, 4, 0, 5, 0]]
    prompt = convert(
        CHECKPOINT, lora, strange, encoder(link=5), node(5, "SaveImage", socket("images", "IMAGE", 6)), links=links
    )
    assert prompt["2"]["inputs"]["clip"] == ["1", 1]
    assert prompt["5"]["inputs"] == {}
    assert prompt.keys() == {"1", "2", "5"}


def test_reroutes_and_notes_are_of_the_editor_only() -> None:
    reroutes = [
        node(10, "Reroute", socket("", "*", 1), outputs="CLIP"),
        node(11, "Reroute (rgthree)", socket("", "*", 2), outputs="CLIP"),
    ]
    notes = [node(12, "Note", widgets_values=["text"]), node(13, "MarkdownNote", widgets_values=["text"])]
    links = [[1, 1, 1, 10, 0], [2, 10, 0, 11, 0], [3, 11, 0, 2, 0]]
    prompt = convert(CHECKPOINT, *reroutes, *notes, encoder(link=3), links=links)
    assert prompt.keys() == {"1", "2"}
    assert prompt["2"]["inputs"]["clip"] == ["1", 1]


def test_a_primitive_is_the_value_of_the_widgets_that_it_is_linked_to() -> None:
    primitive = node(4, "PrimitiveNode", outputs="STRING", widgets_values=["a wolf", "fixed"])
    prompt = convert(primitive, encoder(link=None, text="", text_link=1), links=[[1, 4, 0, 2, 1]])
    assert prompt == {"2": {"class_type": "CLIPTextEncode", "inputs": {"text": "a wolf"}}}


@pytest.mark.parametrize("names", [("SetNode", "GetNode"), ("easy setNode", "easy getNode")])
def test_what_is_set_under_a_name_is_got_by_it(names: tuple[str, str]) -> None:
    setter = node(4, names[0], socket("CLIP", "CLIP", 1), outputs="CLIP", widgets_values=["the clip"])
    getter = node(5, names[1], outputs="CLIP", widgets_values=["the clip"])
    prompt = convert(CHECKPOINT, setter, getter, encoder(link=2), links=[[1, 1, 1, 4, 0], [2, 5, 0, 2, 0]])
    assert prompt.keys() == {"1", "2"}
    assert prompt["2"]["inputs"]["clip"] == ["1", 1]


def test_links_made_everywhere_are_links() -> None:
    ue = {"upstream": 1, "upstream_slot": 1, "downstream": 2, "downstream_slot": 0, "type": "CLIP"}
    assert convert(CHECKPOINT, encoder(link=None), extra={"ue_links": [ue]})["2"]["inputs"]["clip"] == ["1", 1]


def test_a_link_in_a_circle_gives_nothing() -> None:
    circle = [node(10, "Reroute", socket("", "*", 1)), node(11, "Reroute", socket("", "*", 2))]
    links = [[1, 11, 0, 10, 0], [2, 10, 0, 11, 0], [3, 11, 0, 2, 0]]
    assert convert(*circle, encoder(link=3), links=links)["2"]["inputs"] == {"text": "a fox"}


def subgraph(*nodes: Any, links: Any, inputs: Any = (), subgraph_id: str = SUBGRAPH, outputs: Any = ()) -> Any:
    return {
        "id": subgraph_id,
        "nodes": list(nodes),
        "links": [
            dict(zip(("id", "origin_id", "origin_slot", "target_id", "target_slot"), link, strict=True))
            for link in links
        ],
        "inputs": [{"name": name, "type": kind} for name, kind in inputs],
        "outputs": [{"name": name, "type": kind} for name, kind in outputs],
        "inputNode": {"id": -10},
        "outputNode": {"id": -20},
    }


ENCODING = subgraph(
    encoder(link=1, text="inner", text_link=2, node_id=5),
    links=[[1, -10, 0, 5, 0], [2, -10, 1, 5, 1], [3, 5, 0, -20, 0]],
    inputs=[("clip", "CLIP"), ("text", "STRING")],
    outputs=[("CONDITIONING", "CONDITIONING")],
)


def host(node_id: int = 12, link: Any = 1, text_link: Any = None, subgraph_id: str = SUBGRAPH, **more: Any) -> Any:
    inputs = [socket("clip", "CLIP", link), socket("text", "STRING", text_link, widget=True)]
    return node(node_id, subgraph_id, *inputs, outputs="CONDITIONING", **more)


def guided(link: int) -> Any:
    return node(20, "BasicGuider", socket("conditioning", "CONDITIONING", link), outputs="GUIDER")


def with_subgraph(instance: Any, *more: Any, links: Any = (), definitions: Any = (ENCODING,)) -> Prompt:
    all_links = [[1, 1, 1, instance["id"], 0], [2, instance["id"], 0, 20, 0], *links]
    return convert(
        CHECKPOINT, instance, guided(2), *more, links=all_links, definitions={"subgraphs": list(definitions)}
    )


def test_a_subgraph_is_its_nodes_under_the_id_of_its_instance() -> None:
    assert with_subgraph(host()) == {
        "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "base.safetensors"}},
        "12:5": {"class_type": "CLIPTextEncode", "inputs": {"text": "inner", "clip": ["1", 1]}},
        "20": {"class_type": "BasicGuider", "inputs": {"conditioning": ["12:5", 0]}},
    }


@pytest.mark.parametrize(
    "shown",
    [
        {"widgets_values": ["shown"]},
        {"widgets_values": [None, "shown"], "properties": {"proxyWidgets": [["5", "other"], ["5", "text"]]}},
        {"widgets_values": ["shown"], "properties": {"proxyWidgets": [["-1", "text"]]}},
    ],
    ids=["in the order of the inputs", "by inner node", "by input"],
)
def test_a_widget_that_a_subgraph_shows_has_the_value_of_its_instance(shown: Any) -> None:
    assert with_subgraph(host(**shown))["12:5"]["inputs"]["text"] == "shown"


def test_a_widget_that_is_only_shown_is_set_in_its_node() -> None:
    inner = subgraph(
        encoder(link=1, text="inner", node_id=5),
        links=[[1, -10, 0, 5, 0], [3, 5, 0, -20, 0]],
        inputs=[("clip", "CLIP")],
        outputs=[("CONDITIONING", "CONDITIONING")],
    )
    shown = host(widgets_values=["shown"], properties={"proxyWidgets": [["5", "text"]]})
    assert with_subgraph(shown, definitions=[inner])["12:5"]["inputs"]["text"] == "shown"
    assert with_subgraph(host(), definitions=[inner])["12:5"]["inputs"]["text"] == "inner"


def test_a_link_into_a_subgraph_counts_before_its_widget() -> None:
    text = node(6, "PrimitiveString", outputs="STRING", widgets_values=["linked"])
    prompt = with_subgraph(host(text_link=9, widgets_values=["shown"]), text, links=[[9, 6, 0, 12, 1]])
    assert prompt["12:5"]["inputs"]["text"] == ["6", 0]


def test_subgraphs_lie_in_each_other() -> None:
    outer = subgraph(
        host(node_id=7, link=1, text_link=2, widgets_values=["middle"]),
        links=[[1, -10, 0, 7, 0], [2, -10, 1, 7, 1], [3, 7, 0, -20, 0]],
        inputs=[("clip", "CLIP"), ("text", "STRING")],
        outputs=[("CONDITIONING", "CONDITIONING")],
        subgraph_id=OTHER_SUBGRAPH,
    )
    instance = host(subgraph_id=OTHER_SUBGRAPH)
    prompt = with_subgraph(instance, definitions=[outer, ENCODING])
    assert prompt["12:7:5"]["inputs"] == {"text": "middle", "clip": ["1", 1]}
    assert prompt["20"]["inputs"]["conditioning"] == ["12:7:5", 0]
    shown = with_subgraph({**instance, "widgets_values": ["outermost"]}, definitions=[outer, ENCODING])
    assert shown["12:7:5"]["inputs"]["text"] == "outermost"


def test_a_bypassed_or_muted_subgraph_has_no_nodes() -> None:
    assert with_subgraph(host(mode=2)).keys() == {"1", "20"}
    passed = with_subgraph(host(mode=4))
    assert passed.keys() == {"1", "20"}
    assert passed["20"]["inputs"] == {}


def test_a_subgraph_in_itself_ends() -> None:
    endless = {**ENCODING, "nodes": [*ENCODING["nodes"], host(node_id=8, link=None)]}
    assert with_subgraph(host(), definitions=[endless]).keys() == {"1", "12:5", "20"}


def test_the_nodes_of_an_old_group_node_have_its_values_and_links() -> None:
    group = {
        "nodes": [
            {"type": "CheckpointLoaderSimple", "outputs": [{"name": name} for name in "MCV"], "widgets_values": ["x"]},
            {
                "type": "LoraLoader",
                "inputs": [socket("model", "MODEL"), socket("clip", "CLIP")],
                "outputs": [{"name": "MODEL", "type": "MODEL"}, {"name": "CLIP", "type": "CLIP"}],
                "widgets_values": ["one", 1, 1],
            },
            {"type": "CLIPTextEncode", "inputs": [socket("clip", "CLIP")], "outputs": [{}], "widgets_values": ["a"]},
        ],
        "links": [[0, 0, 1, 0, 1, "MODEL"], [1, 1, 2, 0, 2, "CLIP"], [None, 0, 1, 1, 9, "CLIP"]],
        "external": [],
    }
    instance = node(
        30,
        "workflow>my group",
        socket("clip", "CLIP", 1),
        outputs="CLIP VAE MODEL CONDITIONING",
        widgets_values=["y.safetensors", "two", 0.5, 0.25, "a wolf"],
    )
    prompt = convert(
        CHECKPOINT,
        instance,
        guided(2),
        links=[[1, 1, 1, 30, 0], [2, 30, 3, 20, 0]],
        extra={"groupNodes": {"my group": group}},
    )
    assert prompt["30:0"]["inputs"] == {"ckpt_name": "y.safetensors"}
    assert prompt["30:1"]["inputs"] == {
        "lora_name": "two",
        "strength_model": 0.5,
        "strength_clip": 0.25,
        "model": ["30:0", 0],
        "clip": ["1", 1],
    }
    assert prompt["30:2"]["inputs"] == {"text": "a wolf", "clip": ["30:1", 1]}
    assert prompt["20"]["inputs"]["conditioning"] == ["30:2", 0]


def unknown(*inputs: Any, outputs: str = "", values: Any = (), **more: Any) -> dict[str, Any]:
    return convert(node(1, "NeverSeen", *inputs, outputs=outputs, widgets_values=values, **more))["1"]["inputs"]


def test_the_widgets_of_a_class_never_seen_have_the_names_of_their_sockets() -> None:
    sockets = [socket("clip", "CLIP"), socket("seed", "INT", widget=True), socket("text", "STRING", widget=True)]
    assert unknown(*sockets, values=[7, "fixed", "a fox"]) == {"seed": 7, "text": "a fox"}


def test_widgets_that_a_file_names_need_no_definition() -> None:
    named = {"prompt": "a fox", "seed": 7, "control_after_generate": "fixed"}
    assert unknown(values=["a fox", 7, "fixed"], widgets_values_named=named) == {"prompt": "a fox", "seed": 7}


def test_the_one_text_of_a_class_never_seen_is_its_text_where_the_sockets_leave_no_doubt() -> None:
    clip = socket("clip", "CLIP")
    assert unknown(clip, outputs="CONDITIONING", values=["a fox", 1.0]) == {"text": "a fox"}
    assert unknown(outputs="STRING", values=["a fox"]) == {"text": "a fox"}
    assert unknown(outputs="MODEL CLIP", values=["a.safetensors"]) == {"ckpt_name": "a.safetensors"}
    assert unknown(clip, outputs="CONDITIONING", values=["a fox", "A1111"]) == {}
    assert unknown(socket("image", "IMAGE"), outputs="STRING", values=["describe it"]) == {}
    assert unknown(socket("model", "MODEL"), outputs="MODEL", values=["a.safetensors"]) == {}


def test_from_a_value_of_another_type_on_names_are_not_known() -> None:
    prompt = convert(node(3, "KSampler", widgets_values=[7, "fixed", 20, "euler", "normal", 1.0]))
    assert prompt["3"]["inputs"] == {"seed": 7, "steps": 20}


def test_the_loras_of_a_power_loader_are_read_without_definitions() -> None:
    one = {"on": True, "lora": "one.safetensors", "strength": 0.5}
    prompt = convert(
        node(
            3, "Power Lora Loader (rgthree)", widgets_values=[{}, {"type": "PowerLoraLoaderHeaderWidget"}, one, {}, ""]
        )
    )
    assert prompt["3"]["inputs"] == {"lora_1": one}


def text_to_image() -> dict[str, Any]:
    sampler_inputs = [socket("model", "MODEL", 1), socket("positive", "CONDITIONING", 4)]
    sampler_inputs += [socket("negative", "CONDITIONING", 5), socket("latent_image", "LATENT", 6)]
    values = [7, "randomize", 20, 6.5, "euler", "karras", 0.75]
    return {
        "nodes": [
            CHECKPOINT,
            encoder(link=2, text="a red fox"),
            encoder(link=3, text="blurry", node_id=3),
            node(4, "EmptyLatentImage", outputs="LATENT", widgets_values=[512, 512, 1]),
            node(5, "KSampler", *sampler_inputs, outputs="LATENT", widgets_values=values),
            node(6, "VAEDecode", socket("samples", "LATENT", 7), socket("vae", "VAE", 8), outputs="IMAGE"),
            node(7, "SaveImage", socket("images", "IMAGE", 9), widgets_values=["ComfyUI"]),
        ],
        "links": [
            [1, 1, 0, 5, 0],
            [2, 1, 1, 2, 0],
            [3, 1, 1, 3, 0],
            [4, 2, 0, 5, 1],
            [5, 3, 0, 5, 2],
            [6, 4, 0, 5, 3],
            [7, 5, 0, 6, 0],
            [8, 1, 2, 6, 1],
            [9, 6, 0, 7, 0],
        ],
    }


def test_a_workflow_alone_is_read(png_with_texts: Callable[..., bytes]) -> None:
    reading = read_parameters(read_texts(png_with_texts(workflow=json.dumps(text_to_image()))))
    found = reading.parameters
    assert (found.prompt, found.negative_prompt, found.model) == ("a red fox", "blurry", "base.safetensors")
    assert (found.seed, found.steps, found.cfg_scale) == (7, 20, 6.5)
    assert (found.sampler, found.scheduler, found.denoise) == ("euler", "karras", 0.75)
    assert reading.found_by == "ComfyUI workflow in PNG text 'workflow'"


def test_the_graph_counts_before_the_workflow(graph: Any, png_with_texts: Callable[..., bytes]) -> None:
    graph.wire("yes", text="what was queued")
    data = png_with_texts(workflow=json.dumps(text_to_image()), prompt=json.dumps(graph.nodes))
    assert read_generation_parameters(data).prompt == "what was queued"
    empty = png_with_texts(workflow=json.dumps(text_to_image()), prompt="{}")
    assert read_generation_parameters(empty).prompt == "a red fox"


EDITED_BY_HAND = {"depth_controlnet.png", "lora.png"}
"""Their workflow names the weights without the folder that the prompt has, so it is not the one that was queued."""


def test_the_workflows_of_real_pictures_are_read_like_their_prompts(corpus: Path) -> None:
    differing: set[str] = set()
    compared = 0
    for path in sorted(corpus.rglob("*")):
        texts = read_texts(path.read_bytes()) if path.is_file() else ()
        by_prompt = read_parameters(texts)
        by_workflow = read_parameters([text for text in texts if "prompt" not in (text.name, text.text[:6].lower())])
        if by_prompt.found_by and by_prompt.found_by.startswith("ComfyUI graph") and by_workflow.found_by:
            compared += 1
            if by_prompt.parameters != by_workflow.parameters:
                differing.add(path.name)
    assert differing <= EDITED_BY_HAND
    assert compared >= 50


def bomb(levels: int, width: int) -> dict[str, Any]:
    """Subgraphs of subgraphs: `width` to the power of `levels` nodes."""

    def name(level: int) -> str:
        return f"{level:08}-0000-0000-0000-000000000000"

    definitions = [
        subgraph(*(node(number, name(level + 1)) for number in range(width)), links=[], subgraph_id=name(level))
        for level in range(levels)
    ]
    definitions.append(
        subgraph(*(encoder(link=None, node_id=n) for n in range(width)), links=[], subgraph_id=name(levels))
    )
    return {"nodes": [node(1, name(0))], "links": [], "definitions": {"subgraphs": definitions}}


def seconds_for(workflow: dict[str, Any]) -> float:
    started = time.perf_counter()
    prompt_of_workflow(workflow, NodeTypes.from_workflow(workflow).otherwise(NodeTypes.core()))
    return time.perf_counter() - started


@pytest.mark.timeout(60)  # a hang, not a speed
@pytest.mark.parametrize("size", [(9, 10), (2, 250), (3000, 1)], ids=["high", "wide", "deep"])
def test_a_bomb_of_subgraphs_is_bounded(size: tuple[int, int]) -> None:
    assert len(prompt_of_workflow(bomb(*size), NodeTypes.core())) < 200_000


@pytest.mark.timeout(60)
def test_long_chains_and_wide_nodes_do_not_hang_the_reader() -> None:
    count = 5_000
    chain = [node(number, "Reroute", socket("", "*", number), outputs="*") for number in range(1, count)]
    chain += [encoder(link=count + number, node_id=count + number) for number in range(1, count)]
    links = [[number, number - 1, 0, number, 0] for number in range(1, count)]
    links += [[count + number, number, 0, count + number, 0] for number in range(1, count)]
    seconds_for({"nodes": chain, "links": links})
    wide = node(1, "X", *(socket(f"a{n}", "A", n) for n in range(20_000)), outputs="A " * 20_000, mode=4)
    users = [encoder(link=20_000 + number, node_id=number) for number in range(2, 20_000)]
    links = [[20_000 + number, 1, number, number, 0] for number in range(2, 20_000)]
    seconds_for({"nodes": [wide, *users], "links": links})


NAMES = st.sampled_from(["a", "text", "clip", "", "CLIP"])
IDS = st.integers(-20, 6) | st.sampled_from(["1", "-10", "-20"])
VALUES = st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.lists(st.integers(), max_size=3)
SOCKETS = st.fixed_dictionaries(
    {"name": NAMES, "type": st.sampled_from(["CLIP", "*", "A,CLIP", ""]), "link": IDS | st.none()},
    optional={"widget": st.fixed_dictionaries({"name": NAMES})},
)
CLASSES = st.sampled_from(
    ["CLIPTextEncode", "Reroute", "PrimitiveNode", "SetNode", "GetNode", "New", "workflow>g", SUBGRAPH, OTHER_SUBGRAPH]
)
NODES = st.fixed_dictionaries(
    {
        "id": IDS,
        "type": CLASSES,
        "mode": st.sampled_from([0, 0, 2, 4]),
        "inputs": st.lists(SOCKETS | VALUES, max_size=3),
        "outputs": st.lists(SOCKETS | VALUES, max_size=3) | VALUES,
        "widgets_values": st.lists(VALUES, max_size=4) | st.dictionaries(NAMES, VALUES) | VALUES,
    },
    optional={
        "properties": st.fixed_dictionaries({"proxyWidgets": st.lists(st.tuples(IDS, NAMES).map(list), max_size=3)}),
    },
)
SLOTS = st.integers(-9, 3)
LINKS = st.lists(st.tuples(IDS, IDS, SLOTS, IDS, SLOTS).map(list) | VALUES, max_size=8)
GRAPH = {"nodes": st.lists(NODES | VALUES, max_size=5), "links": LINKS}
DEFINITIONS = st.fixed_dictionaries(
    {"id": st.sampled_from([SUBGRAPH, OTHER_SUBGRAPH]), "inputs": st.lists(SOCKETS | VALUES, max_size=3), **GRAPH}
)
GROUPS = st.fixed_dictionaries({"g": st.fixed_dictionaries({**GRAPH, "external": LINKS, "config": VALUES}) | VALUES})
WORKFLOWS = st.fixed_dictionaries(
    {
        **GRAPH,
        "definitions": st.fixed_dictionaries({"subgraphs": st.lists(DEFINITIONS | VALUES, max_size=3)}) | VALUES,
        "extra": st.fixed_dictionaries({"groupNodes": GROUPS | VALUES, "ue_links": LINKS}) | VALUES,
    }
)


@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(WORKFLOWS)
def test_no_workflow_raises_and_every_link_leads_to_a_node(workflow: Any) -> None:
    prompt = prompt_of_workflow(workflow, NodeTypes.from_workflow(workflow).otherwise(NodeTypes.core()))
    for entry in prompt.values():
        links = [value for value in entry["inputs"].values() if isinstance(value, list)]
        assert all(link[0] in prompt and link[1] >= 0 for link in links)
