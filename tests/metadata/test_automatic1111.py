"""The text of AUTOMATIC1111's web UI, and of those that write the same."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from toolkit_core.metadata import read_generation_parameters, read_parameters
from toolkit_core.metadata.infotext import parse_infotext
from toolkit_core.records import GenerationParameters, Lora, MetadataText

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


SETTINGS = "Steps: 20, Sampler: Euler, CFG scale: 5, Seed: 3, Size: 8x8"


def read(text: str) -> GenerationParameters:
    return read_parameters([MetadataText("png", "parameters", text)]).parameters


@pytest.mark.parametrize(
    "text",
    [
        f"a fox\nNegative prompt: fog\n{SETTINGS}",
        f"a fox\r\nNegative prompt: fog\r\n{SETTINGS}\r\n",
        "a fox\nNegative prompt: fog\nSampler: Euler, Seed: 3, CFG scale: 5, Size: 8x8, Steps: 20",
        f"a fox\nNegative prompt: fog\n{SETTINGS}\nTemplate: a {{fox|duck}}\nNegative Template: fog",
        f"a fox\nNegative prompt: fog\nTemplate: a {{fox|duck}}\nNegative template: haze\n{SETTINGS}",
        f"a fox. Negative prompt: fog. {SETTINGS}",
        f"\ufeffa fox\nNegative prompt: fog\n{SETTINGS}\0",
    ],
    ids=["plain", "windows lines", "any order", "templates behind", "templates before", "one line", "padding"],
)
def test_every_layout_gives_the_same(text: str) -> None:
    found = read(text)
    assert (found.prompt, found.negative_prompt, found.steps, found.sampler) == ("a fox", "fog", 20, "Euler")
    assert (found.cfg_scale, found.seed) == (5.0, 3)


def test_a_quoted_value_keeps_its_commas_quotes_and_newlines() -> None:
    infotext = parse_infotext("a\n" + SETTINGS + ', Model: "x, \\"y\\"\\n彩虹: z", Version: v1')
    assert infotext and infotext.settings["Model"] == 'x, "y"\n彩虹: z'


@pytest.mark.parametrize(
    ("more", "generator"),
    [
        ("Version: v1.10.1", "AUTOMATIC1111"),
        ("Version: f2.0.1v1.10.1-previous-1", "Forge"),
        ("App: SD.Next, Version: 1a2b3c", "SD.Next"),
        ("Version: Fooocus v2.5.5", "Fooocus"),
        ("Version: ComfyUI", "ComfyUI"),
        ('Civitai metadata: {"a": {"b": 1}}', "Civitai"),
    ],
)
def test_a_fork_is_known_by_what_it_says_of_itself(more: str, generator: str) -> None:
    assert read(f"a fox\n{SETTINGS}, {more}").generator == generator


def test_sdnext_names_a_vae_and_a_class_that_is_no_scheduler() -> None:
    found = read(f"a fox\n{SETTINGS}, Scheduler: EulerDiscreteScheduler, App: SD.Next, VAE: kl-f8")
    assert (found.vae, found.scheduler) == ("kl-f8", None)


@pytest.mark.parametrize("name", ["None", "Automatic", "Default (model)"])
def test_the_checkpoints_own_vae_is_no_vae(name: str) -> None:
    assert read(f"a fox\n{SETTINGS}, VAE: {name}").vae is None


def test_forges_distilled_guidance_is_beside_its_cfg_scale() -> None:
    found = read(f"a fox\n{SETTINGS}, Distilled CFG Scale: 3.5, Schedule type: Simple, Module 1: ae")
    assert (found.cfg_scale, found.guidance, found.scheduler, found.vae) == (5.0, 3.5, "Simple", None)


def test_civitais_resources_name_the_model_and_the_loras() -> None:
    resources = (
        '[{"type":"checkpoint","modelVersionId":1,"modelName":"Base, the model"},'
        '{"type":"lora","weight":0.8,"modelName":"Fur: red"},'
        '{"air":"urn:air:sdxl:lora:civitai:1@2","weight":0.5,"modelName":"Tail"}]'
    )
    found = read(f"a fox\n{SETTINGS}, Civitai resources: {resources}, Civitai metadata: {{}}")
    assert found.model == "Base, the model"
    assert found.loras == (Lora("Fur: red", 0.8), Lora("Tail", 0.5))


def test_an_undefined_sampler_is_unknown() -> None:
    assert read("a fox\nSteps: 20, Sampler: Undefined, CFG scale: 5, Seed: 3, Size: 8x8").sampler is None


@pytest.mark.parametrize(
    ("more", "loras"),
    [
        ('Lora hashes: "fur: 12ab, tail: 34cd"', (Lora("fur"), Lora("tail"))),
        ('Lora hashes: "fur: 12ab", Lora weights: "fur: 0.5"', (Lora("fur", 0.5),)),
        (
            "AddNet Enabled: True, AddNet Module 1: LoRA, AddNet Model 1: fur(12ab34cd56ef), AddNet Weight A 1: 0.5, "
            "AddNet Weight B 1: 0.25",
            (Lora("fur", 0.5, 0.25),),
        ),
    ],
    ids=["hashes", "Fooocus's weights", "Additional Networks"],
)
def test_loras_that_the_prompt_does_not_name_are_read_from_the_settings(more: str, loras: tuple[Lora, ...]) -> None:
    assert read(f"a fox\n{SETTINGS}, {more}").loras == loras
    assert read(f"a fox <lora:own:1>\n{SETTINGS}, {more}").loras == (Lora("own", 1.0, 1.0),)


def test_fooocus_says_what_was_typed_beside_what_its_styles_made_of_it() -> None:
    found = read(
        f'cinematic still a fox\n{SETTINGS}, Raw prompt: "a fox, red", Raw negative prompt: , Version: Fooocus v2'
    )
    assert (found.prompt, found.negative_prompt) == ("a fox, red", "")


def test_settings_that_hold_broken_json_leave_the_rest_readable() -> None:
    found = read(f"a fox\n{SETTINGS}, Hashes: {{broken, Civitai resources: [{{")
    assert (found.prompt, found.seed) == ("a fox", 3)
