"""Types of sockets and names of widgets, from a running ComfyUI's definitions, a workflow, and the table."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolkit_core.metadata.comfyui.types import NodeTypes


@pytest.mark.parametrize(
    ("class_type", "name", "expected"),
    [
        ("KSampler", "positive", "CONDITIONING"),
        ("KSampler", "sampler_name", "COMBO"),
        ("CLIPTextEncode", "text", "STRING"),
        ("StringFormat", "values.b", "*"),
        ("ResizeImageMaskNode", "input", "IMAGE,MASK"),
        ("ResizeImageMaskNode", "resize_type.width", "INT"),
        ("BatchImagesNode", "images.image7", "IMAGE"),
        ("KSampler", "no such input", None),
        ("no such class", "positive", None),
    ],
)
def test_the_type_of_an_input(class_type: str, name: str, expected: str | None) -> None:
    assert NodeTypes.core().input_type(class_type, name) == expected


def test_the_type_of_an_output_is_by_slot() -> None:
    types = NodeTypes.core()
    assert [types.output_type("CheckpointLoaderSimple", slot) for slot in range(3)] == ["MODEL", "CLIP", "VAE"]
    assert types.output_type("CheckpointLoaderSimple", 3) is None
    assert types.output_type("CheckpointLoaderSimple", -1) is None
    assert types.output_type("no such class", 0) is None


def test_what_follows_a_seed_belongs_to_no_input() -> None:
    names = ("seed", None, "steps", "cfg", "sampler_name", "scheduler", "denoise")
    assert NodeTypes.core().widgets("KSampler") == names


def test_the_inputs_of_a_dynamic_combo_follow_its_value() -> None:
    types = NodeTypes.core()
    assert types.widgets("ResizeImageMaskNode", ["scale by multiplier", 2.0]) == (
        "resize_type",
        "resize_type.multiplier",
        "scale_method",
    )
    assert types.widgets("ResizeImageMaskNode", [["no", "text"]]) == ("resize_type", "scale_method")


def test_a_class_without_widgets_has_none_and_an_unknown_class_is_not_known() -> None:
    assert NodeTypes.core().widgets("VAEDecode") == ()
    assert NodeTypes.core().widgets("no such class") is None


DEFINITION: dict[str, Any] = {
    "input": {
        "required": {
            "late": ["STRING", {"multiline": True}],
            "first": [["a", "b"], {"control_after_generate": True}],
            "forced": ["INT", {"forceInput": True}],
            "model": ["MODEL"],
        },
        "optional": {"seed": ["INT", {"control_after_generate": False}]},
    },
    "input_order": {"required": ["first", "late"], "optional": ["seed"]},
    "output": ["CONDITIONING", ["a", "b"]],
}


def test_a_running_comfyui_says_what_its_custom_nodes_have() -> None:
    types = NodeTypes.from_object_info({"Custom": DEFINITION})
    assert types.input_type("Custom", "forced") == "INT"
    assert types.input_type("Custom", "first") == "COMBO"
    assert [types.output_type("Custom", slot) for slot in (0, 1)] == ["CONDITIONING", "COMBO"]
    assert types.widgets("Custom") == ("first", None, None, "late", "seed")


def test_frontends_before_1_16_kept_a_value_for_a_forced_input() -> None:
    types = NodeTypes.from_object_info({"Custom": DEFINITION})
    assert types.widgets("Custom", ["a", "fixed", "", "text", 0, 7]) == ("first", None, None, "late", None, "seed")


WORKFLOW: dict[str, Any] = {
    "nodes": [
        {"type": "Custom", "inputs": [{"name": "cond", "type": "CONDITIONING"}], "outputs": []},
        {"type": "Custom", "inputs": [{"name": "any", "type": 0}], "outputs": [{"name": "x", "type": "STRING"}]},
        {"type": "KSampler", "inputs": [{"name": "positive", "type": "OTHER"}]},
    ],
    "definitions": {"subgraphs": [{"nodes": [{"type": "Inner", "inputs": [{"name": "a", "type": "MODEL"}]}]}]},
}


def test_a_workflow_says_what_its_nodes_have_also_inside_subgraphs() -> None:
    types = NodeTypes.from_workflow(WORKFLOW)
    assert (types.input_type("Custom", "cond"), types.input_type("Custom", "any")) == ("CONDITIONING", "*")
    assert types.output_type("Custom", 0) == "STRING"
    assert types.input_type("Inner", "a") == "MODEL"


def test_the_first_source_that_knows_answers() -> None:
    types = NodeTypes.from_workflow(WORKFLOW).otherwise(NodeTypes.core())
    assert types.input_type("KSampler", "positive") == "OTHER"
    assert types.input_type("KSampler", "model") == "MODEL"
    assert types.widgets("KSampler") == NodeTypes.core().widgets("KSampler")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["nodes", "type", "inputs", "outputs", "name", "definitions", "subgraphs"]), inner
        )
    ),
    max_leaves=12,
)


@given(JSON)
def test_no_workflow_raises(workflow: Any) -> None:
    types = NodeTypes.from_workflow(workflow)
    assert types.output_type("", 0) is None or isinstance(types.output_type("", 0), str)


def test_the_table_is_not_read_before_it_is_asked() -> None:
    code = (
        "import sys; from toolkit_core.metadata.comfyui import types as t; t.NodeTypes.core();"
        "sys.exit(t._core_table.cache_info().currsize)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
