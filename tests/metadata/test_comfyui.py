"""Graphs as ComfyUI saves them, built in code, read back from a PNG."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from toolkit_core.records import GenerationParameters, Lora

Read = Callable[[Any], GenerationParameters]


def test_all_parameters_of_a_plain_graph_are_read(graph: Any, read_graph: Read) -> None:
    assert read_graph(graph.nodes) == GenerationParameters(
        generator="ComfyUI",
        prompt="a red fox",
        negative_prompt="blurry",
        model="base.safetensors",
        sampler="euler",
        scheduler="normal",
        steps=20,
        cfg_scale=6.5,
        seed=7,
        denoise=1.0,
    )


@pytest.mark.parametrize("seed", [0, 2**53 + 1, 2**64 - 1])
def test_seeds_are_exact(seed: int, graph: Any, read_graph: Read) -> None:
    graph.wire("sampler", seed=seed)
    assert read_graph(graph.nodes).seed == seed


@pytest.mark.parametrize("seed", [-1, 2**64, 10**400, 1.5, True, None, "seven", [1], float("nan")])
def test_what_is_no_seed_is_none(seed: Any, graph: Any, read_graph: Read) -> None:
    graph.wire("sampler", seed=seed)
    found = read_graph(graph.nodes)
    assert found.seed is None
    assert found.prompt == "a red fox"


@pytest.mark.parametrize("class_type", ["ControlNetApplyAdvanced", "NeverSeenApply"])
def test_output_0_of_a_pair_is_positive_and_1_negative(class_type: str, graph: Any, read_graph: Read) -> None:
    graph.add("pair", class_type, positive=["yes", 0], negative=["no", 0], strength=1.0)
    graph.wire("sampler", positive=["pair", 0], negative=["pair", 1])
    assert (read_graph(graph.nodes).prompt, read_graph(graph.nodes).negative_prompt) == ("a red fox", "blurry")
    graph.wire("sampler", positive=["pair", 1], negative=["pair", 0])
    assert (read_graph(graph.nodes).prompt, read_graph(graph.nodes).negative_prompt) == ("blurry", "a red fox")


def custom_sampler(graph: Any, guider: str, **inputs: Any) -> None:
    graph.add("guider", guider, model=["checkpoint", 0], **inputs)
    graph.add("noise", "RandomNoise", noise_seed=2**60 + 1)
    graph.add("select", "KSamplerSelect", sampler_name="res_multistep")
    graph.add("schedule", "BasicScheduler", model=["checkpoint", 0], scheduler="beta", steps=9, denoise=0.8)
    graph.add("split", "SplitSigmas", sigmas=["schedule", 0], step=3)
    graph.add(
        "sampler",
        "SamplerCustomAdvanced",
        noise=["noise", 0],
        guider=["guider", 0],
        sampler=["select", 0],
        sigmas=["split", 1],
        latent_image=["empty", 0],
    )


def test_a_custom_sampler_is_read_through_its_parts(graph: Any, read_graph: Read) -> None:
    custom_sampler(graph, "CFGGuider", positive=["yes", 0], negative=["no", 0], cfg=4)
    found = read_graph(graph.nodes)
    assert (found.prompt, found.negative_prompt, found.cfg_scale) == ("a red fox", "blurry", 4.0)
    assert (found.seed, found.sampler, found.scheduler) == (2**60 + 1, "res_multistep", "beta")
    assert (found.steps, found.denoise, found.model) == (9, 0.8, "base.safetensors")


def test_a_basic_guider_has_no_negative_and_no_cfg(graph: Any, read_graph: Read) -> None:
    graph.add("flux", "FluxGuidance", conditioning=["yes", 0], guidance=3.5)
    custom_sampler(graph, "BasicGuider", conditioning=["flux", 0])
    found = read_graph(graph.nodes)
    assert (found.prompt, found.negative_prompt, found.cfg_scale, found.guidance) == ("a red fox", None, None, 3.5)


def test_the_first_conditioning_of_a_dual_guider_is_the_prompt(graph: Any, read_graph: Read) -> None:
    graph.add("other", "CLIPTextEncode", text="another", clip=["checkpoint", 1])
    inputs = {"cond1": ["yes", 0], "cond2": ["other", 0], "negative": ["no", 0]}
    custom_sampler(graph, "DualCFGGuider", **inputs, cfg_conds=5.0, cfg_cond2_negative=2.0)
    found = read_graph(graph.nodes)
    assert (found.prompt, found.negative_prompt, found.cfg_scale) == ("a red fox", "blurry", 5.0)


def test_a_guider_never_seen_is_read_by_its_socket_names(graph: Any, read_graph: Read) -> None:
    custom_sampler(graph, "NovelGuider", positive=["yes", 0], neg_prompt=["no", 0], cfg=3.0)
    found = read_graph(graph.nodes)
    assert (found.prompt, found.negative_prompt, found.cfg_scale) == ("a red fox", "blurry", 3.0)


def test_a_zeroed_negative_is_none(graph: Any, read_graph: Read) -> None:
    graph.add("zero", "ConditioningZeroOut", conditioning=["yes", 0])
    graph.wire("sampler", negative=["zero", 0])
    assert read_graph(graph.nodes).negative_prompt is None


def test_an_empty_negative_is_an_empty_text(graph: Any, read_graph: Read) -> None:
    graph.wire("no", text="")
    assert read_graph(graph.nodes).negative_prompt == ""


def test_distinct_texts_are_joined_in_order(graph: Any, read_graph: Read) -> None:
    graph.add("second", "CLIPTextEncode", text="in snow", clip=["checkpoint", 1])
    graph.add("area", "ConditioningSetArea", conditioning=["second", 0], width=64, height=64, x=0, y=0, strength=1.0)
    graph.add("both", "ConditioningCombine", conditioning_1=["yes", 0], conditioning_2=["area", 0])
    graph.add("again", "ConditioningConcat", conditioning_to=["both", 0], conditioning_from=["yes", 0])
    graph.wire("sampler", positive=["again", 0])
    assert read_graph(graph.nodes).prompt == "a red fox\nin snow"


def test_texts_of_an_encoder_with_several_are_read_in_order(graph: Any, read_graph: Read) -> None:
    graph.add("yes", "CLIPTextEncodeSDXL", text_l="local", text_g="global", width=1024, clip=["checkpoint", 1])
    assert read_graph(graph.nodes).prompt == "global\nlocal"


def test_an_encoder_never_seen_gives_its_prompt_texts_only(graph: Any, read_graph: Read) -> None:
    graph.add("yes", "NewEncoder", prompt="a red fox", style_preset="anime", clip=["checkpoint", 1], mode="fast")
    assert read_graph(graph.nodes).prompt == "a red fox"


def test_a_loader_never_seen_gives_the_text_of_each_side(graph: Any, read_graph: Read) -> None:
    graph.add("all", "NewLoader", ckpt_name="all.safetensors", positive="sunny", negative="rain", positive_style="none")
    graph.wire("sampler", model=["all", 0], positive=["all", 1], negative=["all", 2])
    found = read_graph(graph.nodes)
    assert (found.prompt, found.negative_prompt, found.model) == ("sunny", "rain", "all.safetensors")


def test_conditioning_nodes_never_seen_pass_texts_on(graph: Any, read_graph: Read) -> None:
    graph.add("tweak", "NewTweak", conditioning=["yes", 0], strength=0.5)
    graph.add("reroute", "Reroute", **{"": ["tweak", 0]})
    graph.wire("sampler", positive=["reroute", 0])
    assert read_graph(graph.nodes).prompt == "a red fox"


def test_widgets_linked_to_other_nodes_are_followed(graph: Any, read_graph: Read) -> None:
    graph.add("head", "PrimitiveString", value="a red")
    graph.add("tail", "NewTextNode", text=" FOX ")
    graph.add("trimmed", "StringTrim", string=["tail", 0], mode="Both")
    graph.add("lower", "CaseConverter", string=["trimmed", 0], mode="lowercase")
    graph.add("joined", "StringConcatenate", string_a=["head", 0], string_b=["lower", 0], delimiter=" ")
    graph.add("replaced", "StringReplace", string=["joined", 0], find="red", replace="blue")
    graph.add("seed", "Seed Generator", seed=99, control_after_generate="randomize")
    graph.add("steps", "PrimitiveInt", value=31)
    graph.wire("yes", text=["replaced", 0])
    graph.wire("sampler", seed=["seed", 0], steps=["steps", 0])
    found = read_graph(graph.nodes)
    assert (found.prompt, found.seed, found.steps) == ("a blue fox", 99, 31)


def test_a_text_that_only_a_run_can_know_is_none(graph: Any, read_graph: Read) -> None:
    graph.add("llm", "TextGenerate", prompt="describe it", clip=["checkpoint", 1])
    graph.add("caption", "NewCaptioner", prompt="describe it", image=["decode", 0])
    graph.wire("yes", text=["llm", 0])
    graph.wire("no", text=["caption", 0])
    found = read_graph(graph.nodes)
    assert (found.prompt, found.negative_prompt) == (None, None)


def test_only_the_chosen_side_of_a_switch_counts(graph: Any, read_graph: Read) -> None:
    graph.add("which", "PrimitiveBoolean", value=True)
    graph.add("switch", "ComfySwitchNode", switch=["which", 0], on_true=["yes", 0], on_false=["no", 0])
    graph.wire("sampler", positive=["switch", 0])
    assert read_graph(graph.nodes).prompt == "a red fox"


def test_a_link_to_a_bypassed_or_muted_node_gives_nothing(graph: Any, read_graph: Read) -> None:
    graph.wire("sampler", negative=["bypassed", 0], model=["muted", 0])
    found = read_graph(graph.nodes)
    assert (found.prompt, found.negative_prompt, found.model) == ("a red fox", None, None)


def test_loras_are_read_in_the_order_of_application(graph: Any, read_graph: Read) -> None:
    graph.add("l1", "LoraLoader", model=["checkpoint", 0], lora_name="one", strength_model=0.5, strength_clip=0.25)
    graph.add("l2", "LoraLoaderModelOnly", model=["l1", 0], lora_name="two", strength_model=1)
    graph.add("off", "LoraLoader", model=["l2", 0], lora_name="off", strength_model=0, strength_clip=0)
    power = {"lora_1": {"on": True, "lora": "three", "strength": 0.7}, "lora_2": {"on": False, "lora": "no"}}
    graph.add("l3", "Power Lora Loader (rgthree)", model=["off", 0], **power)
    graph.add("shift", "ModelSamplingSD3", model=["l3", 0], shift=3.0)
    graph.wire("sampler", model=["shift", 0])
    found = read_graph(graph.nodes)
    assert found.loras == (Lora("one", 0.5, 0.25), Lora("two", 1.0), Lora("three", 0.7))
    assert found.model == "base.safetensors"


def test_loras_of_a_stack_are_read(graph: Any, read_graph: Read) -> None:
    graph.add("stack", "LoRA Stacker", lora_name_1="one", lora_wt_1=0.4, lora_name_2="None", lora_wt_2=1.0)
    graph.add("load", "Apply Stack", model=["checkpoint", 0], lora_stack=["stack", 0])
    graph.wire("sampler", model=["load", 0])
    assert read_graph(graph.nodes).loras == (Lora("one", 0.4),)


def test_the_first_model_of_a_merge_counts(graph: Any, read_graph: Read) -> None:
    graph.add("other", "UNETLoader", unet_name="other.safetensors")
    graph.add("merge", "ModelMergeSimple", ratio=0.5, model1=["checkpoint", 0], model2=["other", 0])
    graph.wire("sampler", model=["merge", 0])
    assert read_graph(graph.nodes).model == "base.safetensors"


def second_pass(graph: Any, **changes: Any) -> None:
    graph.add("late", "CLIPTextEncode", text="sharper", clip=["checkpoint", 1])
    first = graph.nodes["sampler"]["inputs"]
    graph.add("second", "KSampler", **{**first, "latent_image": ["sampler", 0], "positive": ["late", 0], **changes})
    graph.wire("decode", samples=["second", 0])


def test_the_last_pass_counts(graph: Any, read_graph: Read) -> None:
    second_pass(graph, seed=8, denoise=0.4)
    graph.add("early", "VAEDecode", samples=["sampler", 0], vae=["checkpoint", 2])
    graph.add("a_save", "SaveImage", images=["early", 0])
    found = read_graph(dict(sorted(graph.nodes.items())))
    assert (found.prompt, found.seed, found.denoise) == ("sharper", 8, 0.4)


def test_without_texts_in_the_last_pass_those_of_the_chain_are_taken(graph: Any, read_graph: Read) -> None:
    graph.add("zero", "ConditioningZeroOut", conditioning=["yes", 0])
    second_pass(graph, positive=["zero", 0])
    assert read_graph(graph.nodes).prompt == "a red fox"


def test_a_pass_that_adds_no_noise_has_the_seed_of_the_pass_that_did(graph: Any, read_graph: Read) -> None:
    second_pass(graph)
    inputs = graph.nodes["second"]["inputs"]
    graph.add("second", "KSamplerAdvanced", **{**inputs, "add_noise": "disable", "noise_seed": 0})
    del graph.nodes["second"]["inputs"]["seed"]
    assert read_graph(graph.nodes).seed == 7


def test_a_saver_counts_before_a_preview(graph: Any, read_graph: Read) -> None:
    graph.add("other", "KSampler", **{**graph.nodes["sampler"]["inputs"], "seed": 1})
    graph.add("other_decode", "VAEDecode", samples=["other", 0])
    graph.add("preview", "PreviewImage", images=["other_decode", 0])
    assert read_graph({"preview": graph.nodes.pop("preview"), **graph.nodes}).seed == 7


def test_an_upscaler_that_samples_is_a_sampler(graph: Any, read_graph: Read) -> None:
    inputs = {**graph.nodes["sampler"]["inputs"], "image": ["decode", 0], "seed": 12}
    del inputs["latent_image"]
    graph.add("tiles", "UltimateSDUpscale", **inputs)
    graph.wire("save", images=["tiles", 0])
    assert read_graph(graph.nodes).seed == 12


def test_a_graph_without_a_sampler_has_only_its_generator(graph: Any, read_graph: Read) -> None:
    nodes = {"1": {"class_type": "LoadImage", "inputs": {"image": "a.png"}}}
    nodes["2"] = {"class_type": "SaveImage", "inputs": {"images": ["1", 0]}}
    assert read_graph(nodes) == GenerationParameters(generator="ComfyUI")


def test_loops_end(graph: Any, read_graph: Read) -> None:
    graph.add("a", "ConditioningCombine", conditioning_1=["b", 0], conditioning_2=["yes", 0])
    graph.add("b", "ConditioningConcat", conditioning_to=["a", 0], conditioning_from=["a", 0])
    graph.add("t1", "StringConcatenate", string_a=["t2", 0], string_b="x", delimiter="")
    graph.add("t2", "StringConcatenate", string_a=["t1", 0], string_b="y", delimiter="")
    graph.add("m1", "FreeU", model=["m2", 0])
    graph.add("m2", "FreeU", model=["m1", 0])
    graph.wire("no", text=["t1", 0])
    graph.wire("sampler", positive=["b", 0], model=["m1", 0], latent_image=["decode", 0])
    found = read_graph(graph.nodes)
    assert (found.prompt, found.model, found.seed) == ("a red fox", None, 7)


def chain(graph: Any, length: int, start: list[Any], class_type: str, name: str, **inputs: Any) -> list[Any]:
    link = start
    for index in range(length):
        graph.add(f"{class_type} {index}", class_type, **{name: link}, **inputs)
        link = [f"{class_type} {index}", 0]
    return link


@pytest.mark.timeout(60)  # a hang, not a speed: linear work takes a small part of a second
def test_chains_of_5000_nodes_are_read_to_their_end(graph: Any, read_graph: Read) -> None:
    text = {"string_b": "!", "delimiter": ""}
    graph.add("start", "PrimitiveString", value="fox")
    graph.wire("yes", text=chain(graph, 5000, ["start", 0], "StringConcatenate", "string_a", **text))
    positive = chain(graph, 5000, ["yes", 0], "ConditioningSetMask", "conditioning")
    model = chain(graph, 5000, ["checkpoint", 0], "FreeU", "model")
    latent = chain(graph, 5000, ["empty", 0], "LatentFlip", "samples")
    graph.wire("sampler", positive=positive, model=model, latent_image=latent)
    found = read_graph(graph.nodes)
    assert (found.prompt, found.model) == ("fox" + "!" * 5000, "base.safetensors")


@pytest.mark.timeout(60)  # a hang, not a speed: linear work takes a small part of a second
def test_a_pipe_that_5000_nodes_hand_on_is_read_to_its_start(graph: Any, read_graph: Read) -> None:
    parts = {"model": ["checkpoint", 0], "positive": ["yes", 0], "negative": ["no", 0]}
    graph.add("first", "ToBasicPipe", **parts)
    graph.add("out", "FromBasicPipe", basic_pipe=chain(graph, 5000, ["first", 0], "EditBasicPipe", "basic_pipe"))
    graph.wire("sampler", model=["out", 0], positive=["out", 3], negative=["out", 4])
    found = read_graph(graph.nodes)
    assert (found.prompt, found.negative_prompt, found.model) == ("a red fox", "blurry", "base.safetensors")


@pytest.mark.timeout(60)  # a hang, not a speed: following each pipe to its end would take many minutes
def test_pipes_that_branch_again_and_again_end(graph: Any, read_graph: Read) -> None:
    for index in range(3000):
        pipes = {"basic_pipe": [f"p{index + 1}", 0], "other_pipe": [f"p{index * 7 % 3000}", 0]}
        graph.add(f"p{index}", "NewPipe", **pipes, **{f"text {index}": [f"p{index * 13 % 3000}", 1]})
    graph.wire("yes", text=["p0", 1])
    graph.wire("sampler", seed=["p0", 2], model=["p0", 3])
    found = read_graph(graph.nodes)
    assert (found.prompt, found.negative_prompt, found.seed) == (None, "blurry", None)


@pytest.mark.timeout(60)  # a hang, not a speed: linear work takes a small part of a second
def test_thousands_of_passes_and_savers_are_read_to_their_end(graph: Any, read_graph: Read) -> None:
    first = graph.nodes["sampler"]["inputs"]
    graph.add("zero", "ConditioningZeroOut", conditioning=["yes", 0])
    for index in range(2500):
        latent = ["sampler", 0] if index == 0 else [f"pass {index - 1}", 0]
        graph.add(f"pass {index}", "KSampler", **{**first, "positive": ["zero", 0], "latent_image": latent})
        graph.add(f"decode {index}", "VAEDecode", samples=[f"pass {index}", 0])
        graph.add(f"save {index}", "SaveImage", images=[f"decode {index}", 0])
    found = read_graph(graph.nodes)
    assert found.prompt == "a red fox"


def test_texts_that_double_again_and_again_do_not_fill_the_memory(graph: Any, read_graph: Read) -> None:
    graph.add("t0", "PrimitiveString", value="x" * 1000)
    for index in range(64):
        double = [f"t{index}", 0]
        graph.add(f"t{index + 1}", "StringConcatenate", string_a=double, string_b=double, delimiter="")
    graph.wire("yes", text=["t64", 0])
    assert len(read_graph(graph.nodes).prompt or "") <= 2**20


@pytest.mark.parametrize("text", ["fox " * 25_000, "a\0b", "\ud800 lone", "彩虹 🦊", 'quote " \\ \n line'])
def test_every_text_comes_through_as_it_is(text: str, graph: Any, read_graph: Read) -> None:
    graph.wire("yes", text=text)
    assert read_graph(graph.nodes).prompt == text


@pytest.mark.parametrize(
    "broken",
    [None, 1, "text", [], ["checkpoint", "0"], ["checkpoint"], {"class_type": 5}, {"class_type": "X", "inputs": [1]}],
)
def test_a_node_of_any_shape_leaves_the_rest_readable(broken: Any, graph: Any, read_graph: Read) -> None:
    graph.nodes["checkpoint"] = broken
    found = read_graph(graph.nodes)
    assert (found.prompt, found.seed, found.model) == ("a red fox", 7, None)


@pytest.mark.parametrize(
    "link", [["yes", "0"], ["yes", 0, 1], ["yes"], [["yes", 0], 0], ["yes", True], {"node": "yes"}]
)
def test_what_is_no_link_is_not_followed(link: Any, graph: Any, read_graph: Read) -> None:
    graph.wire("sampler", positive=link)
    assert read_graph(graph.nodes).prompt is None
