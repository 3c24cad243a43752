"""Programs with a format of their own."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from toolkit_core.metadata import read_generation_parameters, read_parameters
from toolkit_core.records import GenerationParameters, Lora, MetadataReading, MetadataText

Build = Callable[..., bytes]


def read(**texts: Any) -> MetadataReading:
    pairs = [(name.replace("_dash_", "-"), value) for name, value in texts.items()]
    return read_parameters(
        [MetadataText("png", name, value if isinstance(value, str) else json.dumps(value)) for name, value in pairs]
    )


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


NOVELAI_4 = {
    "prompt": "two foxes",
    "steps": 23,
    "scale": 5.5,
    "seed": 2**53 + 1,
    "sampler": "k_euler_ancestral",
    "noise_schedule": "karras",
    "strength": 0.7,
    "v4_prompt": {
        "caption": {
            "base_caption": "two foxes",
            "char_captions": [
                {"char_caption": "red fox", "centers": [{"x": 0.5, "y": 0.5}]},
                {"char_caption": "grey fox"},
            ],
        }
    },
    "v4_negative_prompt": {"caption": {"base_caption": "fog", "char_captions": [{"char_caption": ""}]}},
    "uc": "fog",
    "request_type": "PromptGenerateRequest",
}


def test_novelai_4_has_a_caption_for_every_character() -> None:
    found = read(Software="NovelAI", Description="two foxes", Source="NovelAI Diffusion V4.5", Comment=NOVELAI_4)
    assert found.found_by == "NovelAI's JSON in PNG text 'Comment'"
    assert found.parameters == GenerationParameters(
        generator="NovelAI",
        prompt="two foxes\nred fox\ngrey fox",
        negative_prompt="fog",
        model="NovelAI Diffusion V4.5",
        sampler="k_euler_ancestral",
        scheduler="karras",
        steps=23,
        cfg_scale=5.5,
        seed=2**53 + 1,
    )


def test_novelais_texts_inside_one_json_are_read_as_in_a_png() -> None:
    texts = {"Software": "NovelAI", "Source": "NovelAI Diffusion V4.5", "Comment": json.dumps(NOVELAI_4)}
    reading = read_parameters([MetadataText("exif", "UserComment", json.dumps(texts))])
    assert (reading.parameters.model, reading.parameters.steps) == ("NovelAI Diffusion V4.5", 23)
    assert reading.found_by == "NovelAI's JSON in EXIF 'UserComment'"


def test_invokeais_vae_guidance_and_strength_are_read() -> None:
    metadata = {"positive_prompt": "a fox", "vae": {"name": "ae"}, "guidance": 4, "strength": 0.5, "app_version": "6.0"}
    found = read(invokeai_metadata=metadata).parameters
    assert (found.vae, found.guidance, found.denoise) == ("ae", 4.0, 0.5)


def test_invokeais_graph_gives_what_is_linked_into_its_metadata() -> None:
    nodes = {
        "meta": {
            "id": "meta",
            "type": "core_metadata",
            "steps": 30,
            "positive_prompt": None,
            "model": {"name": "base"},
        },
        "text": {"type": "string", "value": "a fox"},
        "seed": {"type": "integer", "value": 9},
    }
    edges = [
        {"source": {"node_id": node, "field": "value"}, "destination": {"node_id": "meta", "field": field}}
        for node, field in (("text", "positive_prompt"), ("seed", "seed"))
    ]
    found = read(invokeai_graph={"nodes": nodes, "edges": edges}).parameters
    assert (found.prompt, found.seed, found.steps, found.model) == ("a fox", 9, 30, "base")


@pytest.mark.parametrize("prompt", [[{"prompt": "a fox [fog] at dawn", "weight": 1.0}], "a fox [fog] at dawn"])
def test_invokeai_2_puts_the_negative_prompt_in_brackets(prompt: Any) -> None:
    image = {"prompt": prompt, "steps": 50, "cfg_scale": 7.5, "seed": 4, "sampler": "k_lms"}
    found = read(sd_dash_metadata={"app_id": "invoke-ai/InvokeAI", "model_weights": "base", "image": image}).parameters
    assert (found.prompt, found.negative_prompt, found.model) == ("a fox at dawn", "fog", "base")
    assert (found.steps, found.cfg_scale, found.seed, found.sampler) == (50, 7.5, 4, "k_lms")


def test_invokeai_1_writes_a_command_line() -> None:
    found = read(Dream='"a \\"fox\\" [fog]" -s 50 -S 42 -W 512 -H 512 -C 7.5 -A k_lms -f 0.75').parameters
    assert (found.prompt, found.negative_prompt) == ('a "fox"', "fog")
    assert (found.steps, found.seed, found.cfg_scale, found.sampler, found.denoise) == (50, 42, 7.5, "k_lms", 0.75)


FOOOCUS_FORKS = {
    "Fooocus-MRE": (
        "Comment",
        {
            "prompt": "a fox",
            "negative_prompt": "fog",
            "real_prompt": ["cinematic a fox"],
            "seed": 3,
            "steps": 30,
            "cfg": 4,
            "sampler": "euler",
            "scheduler": "karras",
            "base_model": "base",
            "l1": "fur",
            "w1": 0.5,
            "l2": "None",
            "w2": 1,
        },
    ),
    "RuinedFooocus": (
        "parameters",
        {
            "Prompt": "a fox",
            "Negative": "fog",
            "seed": 3,
            "steps": 30,
            "cfg": 4,
            "sampler_name": "euler",
            "scheduler": "karras",
            "base_model_name": "base",
            "loras": [["12ab", "0.5 - fur"]],
            "software": "RuinedFooocus",
        },
    ),
    "SimpleSDXL": (
        "parameters",
        {
            "Prompt": "a fox",
            "Negative Prompt": "fog",
            "Seed": "3",
            "Steps": 30,
            "Guidance Scale": 4,
            "Sampler": "euler",
            "Scheduler": "karras",
            "Base Model": "base",
            "LoRA 1": "fur : 0.5",
        },
    ),
    "Fooocus's list": (
        "parameters",
        {
            "prompt": "a fox",
            "negative_prompt": "fog",
            "seed": "3",
            "steps": 30,
            "guidance_scale": 4,
            "sampler": "euler",
            "scheduler": "karras",
            "base_model": "base",
            "vae": "Default (model)",
            "loras": [["fur", 0.5, "12ab"]],
        },
    ),
    "switched loras": (
        "parameters",
        {
            "prompt": "a fox",
            "negative_prompt": "fog",
            "seed": "3",
            "steps": 30,
            "guidance_scale": 4,
            "sampler": "euler",
            "scheduler": "karras",
            "base_model": "base",
            "lora_combined_1": "True : fur : 0.5",
            "lora_combined_2": "False : tail : 1.0",
        },
    ),
}


@pytest.mark.parametrize(("keyword", "raw"), FOOOCUS_FORKS.values(), ids=FOOOCUS_FORKS)
@pytest.mark.parametrize("source", ["png", "comment", "exif"])
def test_every_fork_of_fooocus_is_read(keyword: str, raw: dict[str, Any], source: str) -> None:
    text = MetadataText(source, keyword if source == "png" else source, json.dumps(raw))
    assert read_parameters([text]).parameters == GenerationParameters(
        generator="Fooocus",
        prompt="a fox",
        negative_prompt="fog",
        model="base",
        loras=(Lora("fur", 0.5),),
        sampler="euler",
        scheduler="karras",
        steps=30,
        cfg_scale=4.0,
        seed=3,
    )


@pytest.mark.parametrize("source", ["png", "exif", "stealth", "sidecar"])
def test_swarmui_is_read_wherever_it_writes(source: str) -> None:
    settings = {
        "prompt": "a fox",
        "negativeprompt": "",
        "model": "Flux/base",
        "seed": 2**53 + 1,
        "steps": 20,
        "cfgscale": 1.0,
        "fluxguidancescale": 3.5,
        "sampler": "euler",
        "scheduler": "simple",
        "vae": "ae",
        "loras": ["fur", "tail"],
        "loraweights": ["0.5", "1"],
        "loratencweights": ["0.25"],
        "initimagecreativity": 0.6,
        "refinermodel": "other",
    }
    text = json.dumps({"sui_image_params": settings, "sui_extra_data": {"date": "2026-01-01"}})
    found = read_parameters([MetadataText(source, "parameters" if source == "png" else "UserComment", text)])
    assert found.parameters == GenerationParameters(
        generator="SwarmUI",
        prompt="a fox",
        negative_prompt="",
        model="Flux/base",
        vae="ae",
        loras=(Lora("fur", 0.5, 0.25), Lora("tail", 1.0, 1.0)),
        sampler="euler",
        scheduler="simple",
        steps=20,
        cfg_scale=1.0,
        guidance=3.5,
        seed=2**53 + 1,
        denoise=0.6,
    )


EASY_DIFFUSION = {
    "prompt": "a fox",
    "negative_prompt": "fog",
    "seed": 3,
    "use_stable_diffusion_model": "C:\\models\\stable-diffusion\\base.ckpt",
    "use_vae_model": "kl-f8",
    "sampler_name": "euler_a",
    "width": 512,
    "height": 512,
    "num_inference_steps": 25,
    "guidance_scale": 7.5,
    "prompt_strength": 0.8,
    "use_lora_model": ["fur", "tail"],
    "lora_alpha": [0.5, 1],
    "tiling": None,
}
EASY_DIFFUSION_TEXT = """Prompt: a fox
Negative Prompt: fog
Seed: 3
Stable Diffusion model: C:\\models\\stable-diffusion\\base.ckpt
VAE model: kl-f8
Sampler: euler_a
Width: 512
Height: 512
Steps: 25
Guidance Scale: 7.5
Prompt Strength: 0.8
LoRA model: fur, tail
LoRA Strength: 0.5, 1
Seamless Tiling: None
"""


@pytest.mark.parametrize(
    "texts",
    [
        [MetadataText("png", name, str(value)) for name, value in EASY_DIFFUSION.items()],
        [MetadataText("exif", "UserComment", json.dumps(EASY_DIFFUSION))],
        [MetadataText("sidecar", ".json", json.dumps({"numOutputsTotal": 1, "reqBody": EASY_DIFFUSION}))],
        [MetadataText("sidecar", ".txt", EASY_DIFFUSION_TEXT)],
    ],
    ids=["png", "exif", "task", "txt"],
)
def test_easy_diffusion_is_read_wherever_it_writes(texts: list[MetadataText]) -> None:
    assert read_parameters(texts).parameters == GenerationParameters(
        generator="Easy Diffusion",
        prompt="a fox",
        negative_prompt="fog",
        model="base.ckpt",
        vae="kl-f8",
        loras=(Lora("fur", 0.5), Lora("tail", 1.0)),
        sampler="euler_a",
        steps=25,
        cfg_scale=7.5,
        seed=3,
        denoise=0.8,
    )


def test_a_prompt_of_easy_diffusion_may_have_many_lines() -> None:
    text = EASY_DIFFUSION_TEXT.replace("a fox", "a fox\nby a lake")
    assert read_parameters([MetadataText("sidecar", ".txt", text)]).parameters.prompt == "a fox\nby a lake"


DRAW_THINGS = {
    "c": "a fox",
    "uc": "fog",
    "steps": 20,
    "sampler": "DPM++ 2M Karras",
    "scale": 7.5,
    "seed": 4294967295,
    "size": "512x512",
    "model": "base_f16.ckpt",
    "strength": 1,
    "lora": [{"model": "fur_lora_f16.ckpt", "weight": 0.6}],
}


@pytest.mark.parametrize("source", ["png", "exif", "sidecar"])
def test_draw_things_is_read(source: str) -> None:
    text = MetadataText(source, "Comment" if source == "png" else "UserComment", json.dumps(DRAW_THINGS))
    assert read_parameters([text]).parameters == GenerationParameters(
        generator="Draw Things",
        prompt="a fox",
        negative_prompt="fog",
        model="base_f16.ckpt",
        loras=(Lora("fur_lora_f16.ckpt", 0.6),),
        sampler="DPM++ 2M Karras",
        steps=20,
        cfg_scale=7.5,
        seed=4294967295,
        denoise=1.0,
    )


def test_midjourneys_flags_give_the_negative_prompt_the_seed_and_the_version() -> None:
    text = "a fox, --no fog, rain --seed 12 —niji 6 Job ID: b3ce08bd-5016-4c49-bbb5-de6857321513"
    found = read(Description=text).parameters
    assert (found.prompt, found.negative_prompt, found.seed, found.model) == ("a fox,", "fog, rain", 12, "niji 6")


CIVITAI = {
    "prompt": "a fox",
    "negativePrompt": "fog",
    "cfgScale": 7,
    "steps": 25,
    "sampler": "DPM++ 2M Karras",
    "seed": 3,
    "Model": "base",
    "resources": [{"name": "base", "type": "model"}, {"name": "fur", "type": "lora", "weight": 0.5}],
}


@pytest.mark.parametrize("value", [CIVITAI, {"id": 1, "url": "https://…", "meta": CIVITAI}])
def test_civitais_json_beside_a_picture_is_read(value: Any) -> None:
    found = read_parameters([MetadataText("sidecar", ".json", json.dumps(value))]).parameters
    assert (found.generator, found.prompt, found.negative_prompt, found.seed) == ("Civitai", "a fox", "fog", 3)
    assert (found.model, found.loras, found.cfg_scale) == ("base", (Lora("fur", 0.5),), 7.0)


def test_civitais_graph_that_says_no_prompt_has_it_in_its_extra_metadata() -> None:
    graph = {"1": {"class_type": "Unseen", "inputs": {}}, "extra": {}, "extraMetadata": json.dumps(CIVITAI)}
    reading = read_parameters([MetadataText("exif", "UserComment", json.dumps(graph))])
    assert (reading.parameters.prompt, reading.parameters.steps) == ("a fox", 25)


def test_tensor_arts_generation_data_is_read() -> None:
    data = {
        "prompt": "a fox",
        "negativePrompt": "fog",
        "seed": "3",
        "steps": 25,
        "cfgScale": 7,
        "samplerName": "Euler a",
        "baseModel": {"label": "Base", "modelFileName": "base"},
        "models": [{"type": "LORA", "label": "Fur", "modelFileName": "fur", "weight": 0.5}],
    }
    found = read(generation_data=json.dumps(data) + "\0").parameters
    assert (found.generator, found.prompt, found.model, found.seed) == ("Tensor.Art", "a fox", "base", 3)
    assert (found.sampler, found.loras) == ("Euler a", (Lora("fur", 0.5),))


def test_a_json_that_holds_graph_and_workflow_is_taken_apart(graph: Any) -> None:
    text = json.dumps({"prompt": json.dumps(graph.nodes), "workflow": {"nodes": [], "links": []}})
    reading = read_parameters([MetadataText("exif", "UserComment", text)])
    assert (reading.parameters.prompt, reading.found_by) == ("a red fox", "ComfyUI graph in EXIF 'UserComment'")


@pytest.mark.parametrize("keyword", ["Comment", "Description", "parameters2", "generation"])
def test_a_known_form_under_any_keyword_is_read(keyword: str) -> None:
    text = "a fox\nSteps: 20, Sampler: Euler, CFG scale: 5, Seed: 3, Size: 8x8"
    assert read(**{keyword: text}).parameters.prompt == "a fox"


@pytest.mark.parametrize(
    "texts",
    [
        {"Comment": "Created with GIMP", "Software": "GIMP 2.10"},
        {"Software": "Adobe ImageReady", "Description": "A fox. Seed: 3"},
        {"Title": "prompt: a fox", "Author": "Steps: 20"},
        {"Comment": '{"software": "scanner", "prompt": "insert page", "steps": 2}'},
        {"prompt": "a fox", "steps": "20", "seed": "3"},
        {"Comment": '{"Description": "a fox", "Software": "Photoshop"}'},
    ],
)
def test_texts_of_other_programs_are_left_alone(texts: dict[str, str]) -> None:
    assert read(**texts) == MetadataReading(GenerationParameters())


def test_invokeais_metadata_without_a_prompt_leaves_it_to_the_graph() -> None:
    nodes = {"meta": {"type": "core_metadata", "positive_prompt": "a fox"}}
    found = read(invokeai_metadata={"app_version": "6.0"}, invokeai_graph={"nodes": nodes, "edges": []})
    assert found.parameters.prompt == "a fox"
    assert found.found_by == "InvokeAI's metadata in PNG text 'invokeai_graph'"
