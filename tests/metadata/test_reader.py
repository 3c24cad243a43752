"""Files of other generators, and of none."""

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
from toolkit_core.records import GenerationParameters, Lora

from .checks import check_types

Build = Callable[..., bytes]

A1111 = """a fox, <lora:fur:0.8>, {extra}
second line
Negative prompt: fog,
rain
Steps: 20, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 5, Seed: 18446744073709551615, Size: 512x768, \
Model hash: abc, Model: "base, v1: final", Denoising strength: 0.4, Lora hashes: "fur: 12, tail: 34", Version: v1.9"""


def test_a1111_settings_are_read_with_exact_types(png_with_texts: Build) -> None:
    found = read_generation_parameters(png_with_texts(parameters=A1111.format(extra="bright")))
    assert found == GenerationParameters(
        generator="AUTOMATIC1111",
        prompt="a fox, <lora:fur:0.8>, bright\nsecond line",
        negative_prompt="fog,\nrain",
        model="base, v1: final",
        loras=(Lora("fur", 0.8, 0.8),),
        sampler="DPM++ 2M",
        scheduler="Karras",
        steps=20,
        cfg_scale=5.0,
        seed=2**64 - 1,
        denoise=0.4,
    )


def test_negative_prompt_inside_a_line_is_part_of_the_prompt(png_with_texts: Build) -> None:
    found = read_generation_parameters(png_with_texts(parameters=A1111.format(extra="a sign 'Negative prompt: no'")))
    assert found.prompt == "a fox, <lora:fur:0.8>, a sign 'Negative prompt: no'\nsecond line"
    assert found.negative_prompt == "fog,\nrain"


def test_lora_tags_give_text_encoder_and_model_strengths(png_with_texts: Build) -> None:
    text = "<lora:one> <lora:two:0.5:0.25> <lora:three:te=0.1:unet=0.9>\nSteps: 1, Sampler: Euler, Seed: 1, Size: 8x8"
    loras = read_generation_parameters(png_with_texts(parameters=text)).loras
    assert loras == (Lora("one", 1.0, 1.0), Lora("two", 0.25, 0.5), Lora("three", 0.9, 0.1))


@pytest.mark.parametrize("text", ["", "\n", "just some words", "Steps: many", "a: b, c: d, e: f"])
def test_parameters_without_settings_are_no_metadata(text: str, png_with_texts: Build) -> None:
    assert read_generation_parameters(png_with_texts(parameters=text)) == GenerationParameters()


def test_novelai_steps_and_whole_model_name_are_read(png_with_texts: Build) -> None:
    comment = {"steps": 28, "sampler": "k_euler", "seed": 5, "scale": 6, "uc": "", "noise_schedule": "karras"}
    texts = {"Software": "NovelAI", "Source": "NovelAI Diffusion V4 37442FCA", "Description": " a fox "}
    found = read_generation_parameters(png_with_texts(**texts, Comment=json.dumps(comment)))
    assert found == GenerationParameters(
        generator="NovelAI",
        prompt="a fox",
        negative_prompt="",
        model="NovelAI Diffusion V4 37442FCA",
        sampler="k_euler",
        scheduler="karras",
        steps=28,
        cfg_scale=6.0,
        seed=5,
    )


def test_invokeai_metadata_is_read(png: Build, chunk: Build) -> None:
    metadata = {
        "positive_prompt": "a fox",
        "negative_prompt": "",
        "seed": 3,
        "steps": 30,
        "cfg_scale": 7,
        "scheduler": "euler",
        "model": {"name": "base", "hash": "x"},
        "loras": [{"model": {"name": "fur"}, "weight": 0.6}],
    }
    found = read_generation_parameters(png(chunk(b"tEXt", b"invokeai_metadata\0" + json.dumps(metadata).encode())))
    assert (found.generator, found.prompt, found.negative_prompt) == ("InvokeAI", "a fox", "")
    assert (found.seed, found.steps, found.cfg_scale, found.sampler) == (3, 30, 7.0, "euler")
    assert (found.model, found.loras) == ("base", (Lora("fur", 0.6),))


def test_fooocus_seed_in_a_string_is_an_exact_integer(png_with_texts: Build) -> None:
    parameters = {
        "prompt": "a fox",
        "negative_prompt": "",
        "base_model": "base",
        "base_model_hash": "x",
        "sampler": "euler",
        "scheduler": "karras",
        "seed": "6952411511246973023",
        "steps": 30,
        "guidance_scale": 4,
        "lora_combined_1": "fur.safetensors : 0.1",
    }
    found = read_generation_parameters(png_with_texts(parameters=json.dumps(parameters)))
    assert (found.generator, found.seed, found.cfg_scale) == ("Fooocus", 6952411511246973023, 4.0)
    assert (found.negative_prompt, found.loras) == ("", (Lora("fur.safetensors", 0.1),))


def test_a_midjourney_description_is_split_from_its_flags(png_with_texts: Build) -> None:
    text = "a fox --ar 3:2 --v 6.1 Job ID: b3ce08bd-5016-4c49-bbb5-de6857321513"
    found = read_generation_parameters(png_with_texts(Description=text))
    assert found == GenerationParameters(generator="Midjourney", prompt="a fox", model="6.1")


def test_a_description_without_a_job_is_no_metadata(png_with_texts: Build) -> None:
    assert read_generation_parameters(png_with_texts(Description="a fox --v 6.1")) == GenerationParameters()


def test_a_graph_without_prompt_leaves_the_parameters_beside_it_to_be_read(png_with_texts: Build) -> None:
    nodes = {"1": {"class_type": "Everything", "inputs": {}}}
    found = read_generation_parameters(
        png_with_texts(prompt=json.dumps(nodes), parameters=A1111.format(extra="bright")),
    )
    assert found.steps == 20


def test_a_graph_inside_a_json_string_is_read(graph: Any, png_with_texts: Build) -> None:
    found = read_generation_parameters(png_with_texts(prompt=json.dumps(json.dumps(graph.nodes))))
    assert found.prompt == "a red fox"


def test_where_a_graph_cannot_say_the_prompt_the_parameters_beside_it_can(graph: Any, png_with_texts: Build) -> None:
    graph.add("llm", "TextGenerate", prompt="describe it")
    graph.wire("yes", text=["llm", 0])
    texts = {"prompt": json.dumps(graph.nodes), "parameters": A1111.format(extra="bright")}
    assert (read_generation_parameters(png_with_texts(**texts)).prompt or "").startswith("a fox")


HOSTILE = [
    "\n" * 100_000,
    " " * 100_000,
    "a" * 100_000,
    "a: " * 50_000,
    '"' * 100_000,
    "<lora:" * 20_000,
    "[" * 100_000,
]


@pytest.mark.timeout(60)  # a hang, not a speed: linear work takes a small part of a second
@pytest.mark.parametrize("keyword", ["parameters", "Dream", "Source", "Description", "prompt"])
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
    heavy = {"torch", "PIL", "sd_parsers", "numpy"}
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


@FUZZ
@given(
    st.sampled_from(["parameters", "Comment", "invokeai_metadata", "sd-metadata", "Dream", "prompt", "workflow"]),
    ANYTHING.map(json.dumps) | st.text(st.characters(exclude_categories=["Cs"])),
)
def test_no_text_of_another_generator_raises(png: Build, chunk: Build, keyword: str, text: str) -> None:
    extra = [chunk(b"tEXt", key + b"\0x") for key in (b"Description", b"Source")]
    check_types(read_generation_parameters(png(chunk(b"tEXt", keyword.encode() + b"\0" + text.encode()), *extra)))


HEADS = [b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe1\x01\x00Exif\0\0", b"RIFF\xff\0\0\0WEBPEXIF\xff\0\0\0"]
HEADS += [b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08", b"\0\0\0\x08ftyp\0\0\0\xffmeta\0\0\0\0", b"\xff\xd8\xff\xe0"]


@FUZZ
@given(st.sampled_from(HEADS), st.binary(max_size=400))
def test_no_bytes_raise(head: bytes, rest: bytes) -> None:
    check_types(read_generation_parameters(head + rest))
