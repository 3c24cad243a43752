"""Texts beside a picture."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from toolkit_core.metadata import SIDECAR_SUFFIXES, read_generation_parameters, read_parameters, read_texts
from toolkit_core.records import GenerationParameters, MetadataText

Build = Callable[..., bytes]

A1111 = "a duck\nNegative prompt: fog\nSteps: 15, Sampler: Euler a, CFG scale: 5, Seed: 3, Size: 8x8, Model: base"


def test_a_text_beside_the_picture_is_read(png: Build) -> None:
    reading = read_parameters(read_texts(png(), {".txt": A1111}))
    assert (reading.parameters.prompt, reading.parameters.seed) == ("a duck", 3)
    assert reading.found_by == "AUTOMATIC1111's settings line in the sidecar '.txt'"


def test_a_graph_beside_the_picture_is_read(graph: Any, png: Build) -> None:
    assert read_generation_parameters(png(), {".json": json.dumps(graph.nodes)}).prompt == "a red fox"


def test_what_the_file_says_counts_before_its_sidecar(png_with_texts: Build) -> None:
    texts = read_texts(png_with_texts(parameters=A1111), {".txt": A1111.replace("duck", "fox")})
    assert texts[-1] == MetadataText("sidecar", ".txt", A1111.replace("duck", "fox"))
    assert read_parameters(texts).parameters.prompt == "a duck"


def test_a_sidecar_of_another_program_does_not_come_before_the_file(png_with_texts: Build) -> None:
    comment = json.dumps({"sampler": "k_euler", "scale": 6, "uc": "", "steps": 28})
    data = png_with_texts(Software="NovelAI", Description="a fox", Comment=comment)
    assert read_generation_parameters(data, {".txt": A1111}).generator == "NovelAI"


def test_a_sidecar_says_the_prompt_that_a_workflow_alone_does_not(png_with_texts: Build) -> None:
    data = png_with_texts(workflow='{"nodes": [], "links": []}')
    assert read_generation_parameters(data, {".txt": A1111}).prompt == "a duck"
    assert read_generation_parameters(data, {".txt": "a caption"}).generator == "ComfyUI"


def test_a_byte_order_mark_is_no_part_of_the_text(png: Build) -> None:
    assert read_texts(png(), {".txt": "\ufeffa duck"}) == (MetadataText("sidecar", ".txt", "a duck"),)


@pytest.mark.parametrize("suffix", SIDECAR_SUFFIXES)
@pytest.mark.parametrize(
    "text",
    ["", "a duck on a pond, masterpiece", '{"caption": "a duck"}', '{"prompt": "a duck"}', "[1, 2]", "prompt: a duck"],
)
def test_a_caption_beside_a_picture_is_not_taken_for_its_prompt(suffix: str, text: str, png: Build) -> None:
    assert read_generation_parameters(png(), {suffix: text}) == GenerationParameters()
