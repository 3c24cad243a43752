"""Which reader counts, and hostile texts of any kind."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from toolkit_core.metadata import read_generation_parameters
from toolkit_core.records import GenerationParameters

from .checks import check_types

Build = Callable[..., bytes]

A1111 = "a fox\nNegative prompt: fog\nSteps: 20, Sampler: Euler, CFG scale: 5, Seed: 3, Size: 8x8"


def test_a_graph_without_prompt_leaves_the_parameters_beside_it_to_be_read(png_with_texts: Build) -> None:
    nodes = {"1": {"class_type": "Everything", "inputs": {}}}
    found = read_generation_parameters(
        png_with_texts(prompt=json.dumps(nodes), parameters=A1111),
    )
    assert found.steps == 20


def test_a_graph_inside_a_json_string_is_read(graph: Any, png_with_texts: Build) -> None:
    found = read_generation_parameters(png_with_texts(prompt=json.dumps(json.dumps(graph.nodes))))
    assert found.prompt == "a red fox"


def test_where_a_graph_cannot_say_the_prompt_the_parameters_beside_it_can(graph: Any, png_with_texts: Build) -> None:
    graph.add("llm", "TextGenerate", prompt="describe it")
    graph.wire("yes", text=["llm", 0])
    texts = {"prompt": json.dumps(graph.nodes), "parameters": A1111}
    assert (read_generation_parameters(png_with_texts(**texts)).prompt or "").startswith("a fox")


HOSTILE = [
    "\n" * 100_000,
    " " * 100_000,
    "a" * 100_000,
    "a: " * 50_000,
    '"' * 100_000,
    "<lora:" * 20_000,
    "[" * 100_000,
    "[a" * 50_000,
    "Hashes: {}, " * 10_000,
    'Civitai resources: [{"' * 5_000,
    " --no a" * 15_000,
    "<x xmlns='a'>" * 8_000,
    "Seed: 1\n" * 12_000,
]


@pytest.mark.timeout(60)  # a hang, not a speed: linear work takes a small part of a second
@pytest.mark.parametrize("keyword", ["parameters", "Dream", "Source", "Description", "prompt", "other"])
@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: repr(text[:6]))
def test_long_runs_of_anything_do_not_hang_the_reader(keyword: str, text: str, png: Build, chunk: Build) -> None:
    texts = {"Comment": '{"sampler": "x"}', "Source": "x", "Description": "x", keyword: f"Steps: 1, {text}\n{text}!"}
    data = png(*(chunk(b"tEXt", f"{key}\0{value}".encode()) for key, value in texts.items()))
    block = b"MM\0*\0\0\0\x08\0\x01\x01\x0e\0\x02" + (len(text) + 4).to_bytes(4, "big") + b"\0\0\0\x1a" + bytes(4)
    check_types(read_generation_parameters(data))
    check_types(read_generation_parameters(png(chunk(b"eXIf", block + b"abcd" + text.encode()))))


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "9" * 10_000])
def test_numbers_that_json_should_not_hold_leave_the_rest_readable(
    number: str, graph: Any, png_with_texts: Build
) -> None:
    text = json.dumps(graph.nodes).replace('"cfg": 6.5', f'"cfg": {number}')
    found = read_generation_parameters(png_with_texts(prompt=text))
    assert (found.prompt, found.cfg_scale) == ("a red fox", None)


@pytest.mark.parametrize(
    "text", ["[" * 200_000, '{"a":' * 200_000, "", "null", "[]", "{", '""', '{"1": {"class_type": "KSampler"}}']
)
def test_json_of_any_shape_is_survived(text: str, png_with_texts: Build) -> None:
    assert read_generation_parameters(png_with_texts(prompt=text, workflow=text)).prompt is None


def test_a_workflow_alone_names_its_generator(png_with_texts: Build) -> None:
    found = read_generation_parameters(png_with_texts(workflow='{"nodes": [], "links": []}'))
    assert found == GenerationParameters(generator="ComfyUI")


def test_importing_the_reader_is_cheap() -> None:
    heavy = {"torch", "PIL", "numpy"}
    code = f"import sys, toolkit_core.metadata; sys.exit(bool({heavy} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0


IDS = st.sampled_from(["1", "2", "3", "4", "5"])
CLASSES = st.sampled_from(
    [
        "KSampler",
        "KSamplerAdvanced",
        "SamplerCustomAdvanced",
        "SaveImage",
        "CLIPTextEncode",
        "ControlNetApplyAdvanced",
        "ConditioningCombine",
        "CFGGuider",
        "StringConcatenate",
        "StringReplace",
        "StringSubstring",
        "ComfySwitchNode",
        "ImpactSwitch",
        "Any Switch (rgthree)",
        "LoraLoader",
        "Unseen",
    ]
)
NAMES = st.sampled_from(
    [
        "model",
        "positive",
        "negative",
        "latent_image",
        "images",
        "samples",
        "text",
        "string_a",
        "string_b",
        "delimiter",
        "string",
        "find",
        "replace",
        "start",
        "end",
        "guider",
        "noise",
        "sampler",
        "sigmas",
        "seed",
        "noise_seed",
        "steps",
        "cfg",
        "sampler_name",
        "scheduler",
        "denoise",
        "add_noise",
        "clip",
        "conditioning_1",
        "conditioning_2",
        "on_true",
        "on_false",
        "switch",
        "select",
        "input1",
        "any_01",
        "lora_name",
        "lora_1",
        "loras",
        "lora_stack",
        "guidance",
        "value",
    ]
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES | st.text(), inner, max_size=3),
    max_leaves=8,
)
LINKS = st.tuples(IDS, st.integers(-1, 3)).map(list)
NODES = st.fixed_dictionaries({"class_type": CLASSES, "inputs": st.dictionaries(NAMES, LINKS | ANYTHING, max_size=12)})
GRAPHS = st.dictionaries(IDS, NODES | ANYTHING, max_size=5)
FUZZ = settings(
    max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@FUZZ
@given(GRAPHS | ANYTHING)
def test_no_graph_raises(png_with_texts: Build, value: Any) -> None:
    check_types(read_generation_parameters(png_with_texts(prompt=json.dumps(value))))


KEYS = ["c", "uc", "sampler", "seed", "scale", "v4_prompt", "caption", "char_captions", "prompt", "Prompt", "steps"]
KEYS += ["base_model", "cfgScale", "negativePrompt", "meta", "resources", "models", "loras", "lora", "nodes", "edges"]
KEYS += ["sui_image_params", "reqBody", "num_inference_steps", "use_stable_diffusion_model", "use_lora_model", "app_id"]
KEYS += ["positive_prompt", "app_version", "model", "vae", "lora_combined_1", "l1", "Comment", "parameters", "image"]
INNER_OBJECTS = st.dictionaries(st.sampled_from(KEYS), ANYTHING, max_size=4)
KNOWN_OBJECTS = st.dictionaries(
    st.sampled_from(KEYS), SCALARS | INNER_OBJECTS | st.lists(INNER_OBJECTS, max_size=2), max_size=6
)
OTHER_KEYWORDS = ["parameters", "Comment", "invokeai_metadata", "invokeai_graph", "sd-metadata", "Dream", "prompt"]
OTHER_KEYWORDS += ["workflow", "extraMetadata", "generation_data", "XML:com.adobe.xmp", "Raw profile type exif"]


@FUZZ
@given(
    st.sampled_from(OTHER_KEYWORDS),
    ANYTHING.map(json.dumps) | KNOWN_OBJECTS.map(json.dumps) | st.text(st.characters(exclude_categories=["Cs"])),
)
def test_no_text_of_another_generator_raises(png: Build, chunk: Build, keyword: str, text: str) -> None:
    extra = [chunk(b"tEXt", key + b"\0x") for key in (b"Description", b"Source")]
    check_types(read_generation_parameters(png(chunk(b"tEXt", keyword.encode() + b"\0" + text.encode()), *extra)))


HEADS = [b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe1\x01\x00Exif\0\0", b"RIFF\xff\0\0\0WEBPEXIF\xff\0\0\0"]
HEADS += [b"GIF89a\x01\0\x01\0\0\0\0!\xfe", b"\xff\xd8\xff\xfe\x01\0", b"RIFF\xff\0\0\0WEBPVP8L\xff\0\0\0"]
HEADS += [b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08", b"\0\0\0\x08ftyp\0\0\0\xffmeta\0\0\0\0", b"\xff\xd8\xff\xe0"]


@FUZZ
@given(st.sampled_from(HEADS), st.binary(max_size=400))
def test_no_bytes_raise(head: bytes, rest: bytes) -> None:
    check_types(read_generation_parameters(head + rest))
