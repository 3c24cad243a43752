"""Graphs with the nodes of the large packs, as their own definitions name the sockets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from toolkit_core.records import GenerationParameters, Lora

Read = Callable[[Any], GenerationParameters]

SETTINGS = {"seed": 11, "steps": 12, "cfg": 3.5, "sampler_name": "dpmpp_2m", "scheduler": "karras", "denoise": 0.5}


def settings_of(found: GenerationParameters) -> tuple[Any, ...]:
    return found.seed, found.steps, found.cfg_scale, found.sampler, found.scheduler, found.denoise


EXPECTED_SETTINGS = tuple(SETTINGS.values())


def sides(found: GenerationParameters) -> tuple[str | None, str | None]:
    return found.prompt, found.negative_prompt


def basic_pipe(graph: Any, node_id: str = "pipe") -> list[Any]:
    inputs = {"model": ["checkpoint", 0], "clip": ["checkpoint", 1], "vae": ["vae", 0]}
    graph.add("vae", "VAELoader", vae_name="fine.vae")
    graph.add(node_id, "ToBasicPipe", **inputs, positive=["yes", 0], negative=["no", 0])
    return [node_id, 0]


def decoded_by(graph: Any, sampler: str, slot: int = 0, **vae: Any) -> None:
    graph.wire("decode", samples=[sampler, slot], **vae)


@pytest.mark.parametrize("class_type", ["ImpactKSamplerBasicPipe", "KSamplerPipe //Inspire"])
def test_a_sampler_with_a_basic_pipe(class_type: str, graph: Any, read_graph: Read) -> None:
    graph.add("sampler", class_type, basic_pipe=basic_pipe(graph), latent_image=["empty", 0], **SETTINGS)
    graph.add("edit", "EditBasicPipe", basic_pipe=["pipe", 0], negative=["yes", 0])
    found = read_graph(graph.nodes)
    assert (sides(found), settings_of(found)) == (("a red fox", "blurry"), EXPECTED_SETTINGS)
    assert found.model == "base.safetensors"
    graph.wire("sampler", basic_pipe=["edit", 0])
    assert sides(read_graph(graph.nodes)) == ("a red fox", "a red fox")


def test_the_outputs_of_a_pipe_are_taken_by_slot(graph: Any, read_graph: Read) -> None:
    graph.add("out", "FromBasicPipe_v2", basic_pipe=basic_pipe(graph))
    graph.wire("sampler", model=["out", 1], positive=["out", 5], negative=["out", 4])
    decoded_by(graph, "sampler", vae=["out", 3])
    found = read_graph(graph.nodes)
    assert (sides(found), found.model, found.vae) == (("blurry", "a red fox"), "base.safetensors", "fine.vae")


def test_a_detailer_after_the_sampler_is_the_last_sampler(graph: Any, read_graph: Read) -> None:
    inputs = {"image": ["decode", 0], "model": ["checkpoint", 0], "clip": ["checkpoint", 1], "vae": ["checkpoint", 2]}
    graph.add("face", "CLIPTextEncode", text="a face", clip=["checkpoint", 1])
    graph.add("detail", "FaceDetailer", **inputs, positive=["face", 0], negative=["no", 0], wildcard="", **SETTINGS)
    graph.wire("save", images=["detail", 0])
    found = read_graph(graph.nodes)
    assert (sides(found), settings_of(found)) == (("a face", "blurry"), EXPECTED_SETTINGS)
    detailer = {"detailer_pipe": ["to", 0], "image": ["decode", 0], **SETTINGS, "seed": 99}
    graph.add("to", "BasicPipeToDetailerPipe", basic_pipe=basic_pipe(graph), wildcard="")
    graph.add("detail", "FaceDetailerPipe", **detailer)
    found = read_graph(graph.nodes)
    assert (sides(found), found.seed, found.vae) == (("a red fox", "blurry"), 99, "fine.vae")


def test_an_upscaler_has_its_settings_in_a_provider(graph: Any, read_graph: Read) -> None:
    provider = {"scale_method": "lanczos", "model": ["checkpoint", 0], "vae": ["checkpoint", 2], **SETTINGS}
    graph.add("how", "PixelKSampleUpscalerProvider", **provider, positive=["yes", 0], negative=["no", 0])
    graph.add("up", "IterativeLatentUpscale", samples=["sampler", 0], upscale_factor=2.0, steps=3, upscaler=["how", 0])
    decoded_by(graph, "up")
    found = read_graph(graph.nodes)
    assert (sides(found), found.seed, found.sampler) == (("a red fox", "blurry"), 11, "dpmpp_2m")
    assert found.model == "base.safetensors"


def test_a_regional_sampler_has_its_base(graph: Any, read_graph: Read) -> None:
    base = {"cfg": 3.5, "sampler_name": "dpmpp_2m", "scheduler": "karras", "sigma_factor": 1.0}
    graph.add("base", "KSamplerAdvancedProvider", basic_pipe=basic_pipe(graph), **base)
    regional = {"seed": 11, "steps": 12, "base_only_steps": 2, "denoise": 0.5, "samples": ["empty", 0]}
    graph.add("sampler", "RegionalSampler", **regional, base_sampler=["base", 0])
    found = read_graph(graph.nodes)
    assert (sides(found), settings_of(found)) == (("a red fox", "blurry"), EXPECTED_SETTINGS)


@pytest.mark.parametrize("class_type", ["ImpactWildcardEncode", "WildcardEncode //Inspire"])
def test_resolved_wildcards_are_the_prompt_and_their_tags_loras(class_type: str, graph: Any, read_graph: Read) -> None:
    texts = {"wildcard_text": "__animal__", "populated_text": "a hare <lora:run:0.5:0.25>", "mode": "populate"}
    graph.add("wild", class_type, model=["checkpoint", 0], clip=["checkpoint", 1], seed=3, **texts)
    graph.wire("sampler", model=["wild", 0], positive=["wild", 2])
    found = read_graph(graph.nodes)
    assert found.prompt == "a hare <lora:run:0.5:0.25>"
    assert (found.loras, found.model) == ((Lora("run", 0.5, 0.25),), "base.safetensors")


def test_inspires_pipe_of_wildcards(graph: Any, read_graph: Read) -> None:
    texts = {"positive_populated_text": "a hare", "negative_populated_text": "ugly"}
    templates = {"positive_wildcard_text": "__animal__", "negative_wildcard_text": "__bad__"}
    graph.add("pipe", "MakeBasicPipe //Inspire", ckpt_name="wild.safetensors", **templates, **texts, seed=3)
    graph.add("sampler", "KSamplerPipe //Inspire", basic_pipe=["pipe", 0], latent_image=["empty", 0], **SETTINGS)
    found = read_graph(graph.nodes)
    assert (sides(found), found.model) == (("a hare", "ugly"), "wild.safetensors")


def efficient_loader(graph: Any, **inputs: Any) -> None:
    loader = {"ckpt_name": "eff.safetensors", "vae_name": "Baked VAE", "lora_name": "one", "lora_model_strength": 0.5}
    texts = {"lora_clip_strength": 0.25, "positive": "a hare", "negative": "ugly", "token_normalization": "none"}
    graph.add("loader", "Efficient Loader", **{**loader, **texts, **inputs})


def test_efficiency_nodes(graph: Any, read_graph: Read) -> None:
    efficient_loader(graph, lora_stack=["stack", 0])
    stack = {"input_mode": "simple", "lora_count": 2}
    for number, name in enumerate(("two", "three", "beyond"), 1):
        stack |= {f"lora_name_{number}": name, f"lora_wt_{number}": number / 10}
        stack |= {f"model_str_{number}": 9.0, f"clip_str_{number}": 9.0}
    graph.add("stack", "LoRA Stacker", **stack)
    parts = {"model": ["loader", 0], "positive": ["loader", 1], "negative": ["loader", 2]}
    rest = {"latent_image": ["loader", 3], "optional_vae": ["loader", 4], "vae_decode": "true", **SETTINGS}
    graph.add("sampler", "KSampler (Efficient)", **parts, **rest)
    graph.wire("save", images=["sampler", 5])
    found = read_graph(graph.nodes)
    assert (sides(found), settings_of(found)) == (("a hare", "ugly"), EXPECTED_SETTINGS)
    assert (found.model, found.vae) == ("eff.safetensors", None)
    assert set(found.loras) == {Lora("one", 0.5, 0.25), Lora("two", 0.1, 0.1), Lora("three", 0.2, 0.2)}
    graph.wire("stack", input_mode="advanced")
    assert Lora("two", 9.0, 9.0) in read_graph(graph.nodes).loras
    efficient_loader(graph, vae_name="other.vae")
    assert read_graph(graph.nodes).vae == "other.vae"


def test_efficiency_nodes_for_sdxl(graph: Any, read_graph: Read) -> None:
    names = {"base_ckpt_name": "xl.safetensors", "refiner_ckpt_name": "refiner.safetensors", "vae_name": "xl.vae"}
    graph.add("loader", "Eff. Loader SDXL", **names, positive="a hare", negative="ugly", positive_ascore=6.0)
    settings = {**SETTINGS, "noise_seed": SETTINGS["seed"]}
    del settings["seed"]
    tuple_and_latent = {"sdxl_tuple": ["loader", 0], "latent_image": ["loader", 1], "optional_vae": ["loader", 2]}
    graph.add("sampler", "KSampler SDXL (Eff.)", **tuple_and_latent, **settings)
    graph.wire("save", images=["sampler", 3])
    found = read_graph(graph.nodes)
    assert (sides(found), found.model, found.vae) == (("a hare", "ugly"), "xl.safetensors", "xl.vae")
    assert found.seed == 11


def easy_loader(graph: Any) -> None:
    names = {"ckpt_name": "easy.safetensors", "config_name": "Default", "vae_name": "easy.vae", "clip_skip": -1}
    lora = {"lora_name": "one", "lora_model_strength": 0.5, "lora_clip_strength": 0.25}
    texts = {"positive": "a hare", "positive_token_normalization": "none", "negative": "ugly"}
    graph.add("loader", "easy fullLoader", **names, **lora, **texts, negative_weight_interpretation="comfy")


def test_easy_use_pipes(graph: Any, read_graph: Read) -> None:
    easy_loader(graph)
    graph.add("before", "easy preSampling", pipe=["loader", 0], **SETTINGS)
    graph.add("sampler", "easy kSampler", pipe=["before", 0], image_output="Save", link_id=0, save_prefix="ComfyUI")
    graph.wire("save", images=["sampler", 1])
    found = read_graph(graph.nodes)
    assert (sides(found), settings_of(found)) == (("a hare", "ugly"), EXPECTED_SETTINGS)
    assert (found.model, found.vae) == ("easy.safetensors", "easy.vae")
    assert found.loras == (Lora("one", 0.5, 0.25),)
    graph.add("again", "easy pipeIn", pipe=["loader", 0], pos=["yes", 0])
    graph.wire("before", pipe=["again", 0])
    assert sides(read_graph(graph.nodes)) == ("a red fox", "ugly")


def test_easy_use_pipe_outputs_and_full_sampler(graph: Any, read_graph: Read) -> None:
    easy_loader(graph)
    graph.add("in", "easy pipeIn", pipe=["loader", 0], model=["checkpoint", 0])
    graph.add("out", "easy pipeOut", pipe=["in", 0])
    graph.wire("sampler", model=["out", 1], positive=["out", 2], negative=["out", 3])
    found = read_graph(graph.nodes)
    assert (sides(found), found.model) == (("a hare", "ugly"), "base.safetensors")
    graph.add("sampler", "easy fullkSampler", pipe=["loader", 0], negative=["no", 0], **SETTINGS)
    graph.wire("save", images=["sampler", 1])
    found = read_graph(graph.nodes)
    assert (sides(found), settings_of(found)) == (("a hare", "blurry"), EXPECTED_SETTINGS)


def test_tinyterra_pipes(graph: Any, read_graph: Read) -> None:
    loras = {"lora1_name": "one", "lora1_model_strength": 0.5, "lora1_clip_strength": 0.25, "lora2_name": "None"}
    texts = {"positive": "a hare", "negative": "ugly", "positive_token_normalization": "none", "seed": 4}
    graph.add("loader", "ttN pipeLoader", ckpt_name="ttn.safetensors", vae_name="Baked VAE", **loras, **texts)
    settings = {"lora_name": "two", "lora_model_strength": 1.0, "lora_clip_strength": 1.0, **SETTINGS}
    graph.add("sampler", "ttN pipeKSampler", pipe=["loader", 0], image_output="Save", **settings)
    graph.wire("save", images=["sampler", 7])
    found = read_graph(graph.nodes)
    assert (sides(found), settings_of(found)) == (("a hare", "ugly"), EXPECTED_SETTINGS)
    assert (found.model, found.vae) == ("ttn.safetensors", None)
    assert Lora("one", 0.5, 0.25) in found.loras
    graph.add("second", "KSampler", **{**SETTINGS, "seed": ["sampler", 8], "latent_image": ["sampler", 4]})
    graph.wire("second", model=["sampler", 1], positive=["sampler", 2], negative=["sampler", 3])
    decoded_by(graph, "second")
    graph.wire("save", images=["decode", 0])
    found = read_graph(graph.nodes)
    assert (sides(found), found.seed, found.model) == (("a hare", "ugly"), 11, "ttn.safetensors")


def test_rgthree_contexts(graph: Any, read_graph: Read) -> None:
    graph.add("seed", "Seed (rgthree)", seed=2**60)
    graph.add("base", "Context (rgthree)", model=["checkpoint", 0], positive=["yes", 0], negative=["no", 0])
    graph.add("context", "Context Big (rgthree)", base_ctx=["base", 0], seed=["seed", 0], steps=["config", 0])
    config = {"steps_total": 33, "refiner_step": 4, "cfg": 2.5, "sampler_name": "lcm", "scheduler": "beta"}
    graph.add("config", "KSampler Config (rgthree)", **config)
    graph.wire("context", cfg=["config", 2], sampler=["config", 3], scheduler=["config", 4])
    graph.wire("sampler", model=["context", 1], positive=["context", 4], negative=["context", 5])
    graph.wire("sampler", seed=["context", 8], steps=["context", 9], cfg=["context", 11])
    graph.wire("sampler", sampler_name=["context", 13], scheduler=["context", 14])
    found = read_graph(graph.nodes)
    assert (sides(found), found.model) == (("a red fox", "blurry"), "base.safetensors")
    assert settings_of(found) == (2**60, 33, 2.5, "lcm", "beta", 1.0)


def test_rgthree_context_switch_takes_the_first_and_merge_the_last(graph: Any, read_graph: Read) -> None:
    graph.add("one", "Context (rgthree)", model=["checkpoint", 0], positive=["yes", 0], negative=["no", 0])
    graph.add("two", "Context (rgthree)", positive=["no", 0])
    graph.add("context", "Context Switch (rgthree)", ctx_01=["one", 0], ctx_02=["two", 0])
    graph.wire("sampler", model=["context", 1], positive=["context", 4], negative=["context", 5])
    assert sides(read_graph(graph.nodes)) == ("a red fox", "blurry")
    graph.nodes["context"]["class_type"] = "Context Merge (rgthree)"
    found = read_graph(graph.nodes)
    assert (sides(found), found.model) == (("blurry", "blurry"), "base.safetensors")


def test_rgthree_power_prompt_and_lora_loaders(graph: Any, read_graph: Read) -> None:
    prompt = {"prompt": "a hare <lora:tag:0.5>", "opt_model": ["stack", 0], "opt_clip": ["checkpoint", 1]}
    graph.add("power", "Power Prompt (rgthree)", **prompt, insert_lora="CHOOSE", insert_embedding="CHOOSE")
    stack = {"lora_01": "one", "strength_01": 0.5, "lora_02": "None", "strength_02": 1.0}
    graph.add("stack", "Lora Loader Stack (rgthree)", model=["checkpoint", 0], clip=["checkpoint", 1], **stack)
    graph.add("simple", "Power Prompt - Simple (rgthree)", prompt="ugly", opt_clip=["checkpoint", 1])
    graph.wire("sampler", positive=["power", 0], negative=["simple", 0], model=["power", 1])
    found = read_graph(graph.nodes)
    assert sides(found) == ("a hare <lora:tag:0.5>", "ugly")
    assert found.loras == (Lora("one", 0.5), Lora("tag", 0.5, 0.5))
    assert found.model == "base.safetensors"


def test_lora_manager(graph: Any, read_graph: Read) -> None:
    entries = [{"name": "one", "strength": 0.5, "active": True, "clipStrength": "0.25"}]
    entries.append({"name": "off", "strength": 1.0, "active": False})
    toggles = [{"text": "sks", "active": True}, {"text": "no", "active": False}, {"text": "fur", "active": True}]
    graph.add("stack", "Lora Stacker (LoraManager)", text="", loras={"__value__": [{**entries[0], "name": "zero"}]})
    loader = {"model": ["checkpoint", 0], "lora_stack": ["stack", 0], "text": "<lora:one:0.5>"}
    graph.add("lora", "Lora Loader (LoraManager)", **loader, loras={"__value__": entries})
    words = {"group_mode": True, "trigger_words": ["lora", 2], "toggle_trigger_words": {"__value__": toggles}}
    graph.add("words", "TriggerWord Toggle (LoraManager)", **words, orinalMessage="sks,, no,, fur")
    graph.add("yes", "Prompt (LoraManager)", text="a hare", clip=["lora", 1], trigger_words1=["words", 0])
    graph.wire("sampler", model=["lora", 0])
    found = read_graph(graph.nodes)
    assert found.prompt == "sks, fur, a hare"
    assert found.loras == (Lora("zero", 0.5, 0.25), Lora("one", 0.5, 0.25))


def test_was_nodes(graph: Any, read_graph: Read) -> None:
    graph.add("seed", "Seed", seed=77)
    graph.add("number", "Number to Int", number=["seed", 1])
    graph.add("a", "Text Multiline", text=" a hare ")
    graph.add("b", "Text String", text="x", text_b="in snow", text_c="", text_d="")
    joined = {"delimiter": ", ", "clean_whitespace": "true", "text_a": ["a", 0], "text_b": ["b", 1]}
    graph.add("both", "Text Concatenate", **joined)
    graph.add("swap", "Text Find and Replace", text=["both", 0], find="hare", replace="fox")
    graph.add("pick", "Text Input Switch", text_a=["swap", 0], text_b=["a", 0], boolean=True)
    graph.add("yes", "Text to Conditioning", text=["pick", 0], clip=["checkpoint", 1])
    graph.add("model", "Model Input Switch", model_a=["nothing", 0], model_b=["checkpoint", 0], boolean=False)
    graph.add("bus", "Bus Node", model=["model", 0], positive=["yes", 0], negative=["no", 0])
    graph.wire("sampler", model=["bus", 1], positive=["bus", 4], negative=["bus", 5], seed=["number", 0])
    found = read_graph(graph.nodes)
    assert (sides(found), found.seed, found.model) == (("a fox, in snow", "blurry"), 77, "base.safetensors")


def test_comfyroll_nodes(graph: Any, read_graph: Read) -> None:
    stack = {"switch_1": "On", "lora_name_1": "one", "model_weight_1": 0.5, "clip_weight_1": 0.25}
    stack |= {"switch_2": "Off", "lora_name_2": "off", "model_weight_2": 1.0, "clip_weight_2": 1.0}
    graph.add("stack", "CR LoRA Stack", **stack)
    graph.add("lora", "CR Apply LoRA Stack", model=["checkpoint", 0], clip=["checkpoint", 1], lora_stack=["stack", 0])
    graph.add("text", "CR Prompt Text", prompt="a hare")
    graph.add("more", "CR Combine Prompt", part1=["text", 0], part2="in snow", part3="", part4="", separator=",")
    graph.wire("yes", text=["more", 0])
    graph.add("pick", "CR Conditioning Input Switch", Input=2, conditioning1=["no", 0], conditioning2=["yes", 0])
    graph.wire("sampler", model=["lora", 0], positive=["pick", 0])
    found = read_graph(graph.nodes)
    assert (found.prompt, found.loras) == ("a hare,in snow,,", (Lora("one", 0.5, 0.25),))


def test_kjnodes_texts_and_conditioning(graph: Any, read_graph: Read) -> None:
    graph.add("a", "StringConstantMultiline", string="a hare", strip_newlines=True)
    graph.add(
        "join", "JoinStringMulti", inputcount=2, string_1=["a", 0], string_2="in snow", string_3="no", delimiter=" "
    )
    graph.add("yes", "CLIPTextEncode", text=["join", 0], clip=["checkpoint", 1])
    multi = {"inputcount": 2, "operation": "combine", "conditioning_1": ["yes", 0], "conditioning_2": ["no", 0]}
    graph.add("multi", "ConditioningMultiCombine", **multi)
    graph.wire("sampler", positive=["multi", 0])
    assert read_graph(graph.nodes).prompt == "a hare in snow\nblurry"


def test_pysssss_texts(graph: Any, read_graph: Read) -> None:
    append = {"action": "append", "tidy_tags": "yes", "text_a": "a hare,", "text_b": "in  snow"}
    graph.add("edit", "StringFunction|pysssss", **append)
    graph.add("show", "ShowText|pysssss", text=["edit", 0], text_0="of an earlier run")
    graph.wire("yes", text=["show", 0])
    assert read_graph(graph.nodes).prompt == "a hare, in snow"
    graph.wire("edit", action="replace", text_a="a hare", text_b="/h(a+)+re/", text_c="fox")
    assert read_graph(graph.nodes).prompt is None


@pytest.mark.parametrize(
    ("class_type", "inputs"),
    [
        ("smZ CLIPTextEncode", {"text": "a hare", "parser": "A1111", "with_SDXL": False, "text_g": "", "text_l": ""}),
        ("BNK_CLIPTextEncodeAdvanced", {"text": "a hare", "token_normalization": "none"}),
        ("PCLazyTextEncode", {"text": "a hare"}),
        ("PCTextEncode", {"text": "a hare"}),
        ("SwarmClipTextEncodeAdvanced", {"steps": 20, "prompt": "a hare", "width": 512, "guidance": -1}),
        ("CLIPTextEncodeSDXL+", {"text": "a hare", "width": 1024, "size_cond_factor": 4}),
        ("CLIPTextEncodeWithWeight //Inspire", {"text": "a hare", "strength": 1.0}),
        ("RegionalConditioningSimple //Inspire", {"prompt": "a hare", "strength": 1.0, "set_cond_area": "default"}),
        ("EncoderOfANewPack", {"what_to_draw": "a hare", "mode_of_it": "fast", "strength": 1.0}),
    ],
)
def test_text_encoders(class_type: str, inputs: dict[str, Any], graph: Any, read_graph: Read) -> None:
    graph.add("yes", class_type, clip=["checkpoint", 1], **inputs)
    found = read_graph(graph.nodes)
    assert (found.prompt, found.guidance) == ("a hare", None)


def test_swarmui(graph: Any, read_graph: Read) -> None:
    graph.add("lora", "SwarmLoraLoader", model=["checkpoint", 0], lora_names="one, two", lora_weights="0.5,0")
    sampler = {**SETTINGS, "noise_seed": 11, "start_at_step": 0, "var_seed": 5, "add_noise": "enable"}
    del sampler["seed"]
    parts = {"positive": ["yes", 0], "negative": ["no", 0], "latent_image": ["empty", 0]}
    graph.add("sampler", "SwarmKSampler", model=["lora", 0], **parts, **sampler)
    graph.nodes["save"]["class_type"] = "SwarmSaveImageWS"
    found = read_graph(graph.nodes)
    assert (sides(found), settings_of(found)) == (("a red fox", "blurry"), EXPECTED_SETTINGS)
    assert found.loras == (Lora("one", 0.5, 0.5),)


def test_krita_regions_leave_the_main_prompt(graph: Any, read_graph: Read) -> None:
    graph.add("region", "CLIPTextEncode", text="a house", clip=["checkpoint", 1])
    graph.add("back", "ETN_BackgroundRegion", conditioning=["yes", 0])
    graph.add("define", "ETN_DefineRegion", mask=["m", 0], conditioning=["region", 0], regions=["back", 0])
    graph.add("attention", "ETN_AttentionMask", model=["checkpoint", 0], regions=["define", 0])
    graph.wire("sampler", model=["attention", 0])
    graph.nodes["save"]["class_type"] = "ETN_SendImageWebSocket"
    found = read_graph(graph.nodes)
    assert (sides(found), found.model) == (("a red fox", "blurry"), "base.safetensors")


@pytest.mark.parametrize(
    ("class_type", "inputs", "name"),
    [
        ("NunchakuFluxDiTLoader", {"model_path": "svdq", "attention": "fp16"}, "svdq"),
        ("NunchakuQwenImageDiTLoader", {"model_name": "svdq", "cpu_offload": "auto"}, "svdq"),
        ("UnetLoaderGGUF", {"unet_name": "q8.gguf"}, "q8.gguf"),
        ("Checkpoint Loader with Name (Image Saver)", {"ckpt_name": "named"}, "named"),
        ("CheckpointLoader|pysssss", {"ckpt_name": "named", "prompt": "[none]"}, "named"),
    ],
)
def test_model_loaders(class_type: str, inputs: dict[str, Any], name: str, graph: Any, read_graph: Read) -> None:
    graph.add("loader", class_type, **inputs)
    graph.add("lora", "NunchakuFluxLoraLoader", model=["loader", 0], lora_name="one", lora_strength=0.5)
    graph.add("patch", "IPAdapterAdvanced", model=["lora", 0], ipadapter=["ip", 0], image=["decode", 0], weight=1.0)
    graph.wire("sampler", model=["patch", 0])
    found = read_graph(graph.nodes)
    assert (found.model, found.loras) == (name, (Lora("one", 0.5),))


def test_wan_video_wrapper(graph: Any, read_graph: Read) -> None:
    graph.add("lora", "WanVideoLoraSelect", lora="wan.lora", strength=0.5, prev_lora=["earlier", 0])
    graph.add("earlier", "WanVideoLoraSelect", lora="first.lora", strength=1.0)
    graph.add("model", "WanVideoModelLoader", model="wan.safetensors", lora=["lora", 0], quantization="disabled")
    graph.add("texts", "WanVideoTextEncode", t5=["t5", 0], positive_prompt="a hare", negative_prompt="ugly")
    graph.add("vae", "WanVideoVAELoader", model_name="wan.vae", precision="bf16")
    parts = {"model": ["model", 0], "text_embeds": ["texts", 0], "image_embeds": ["images", 0]}
    settings = {"steps": 30, "cfg": 6.0, "shift": 5.0, "seed": 9, "scheduler": "unipc", "denoise_strength": 0.75}
    graph.add("sampler", "WanVideoSampler", **parts, **settings)
    graph.add("decode", "WanVideoDecode", vae=["vae", 0], samples=["sampler", 0], enable_vae_tiling=False)
    graph.nodes["save"]["class_type"] = "VHS_VideoCombine"
    found = read_graph(graph.nodes)
    assert (sides(found), found.model, found.vae) == (("a hare", "ugly"), "wan.safetensors", "wan.vae")
    assert (found.seed, found.scheduler, found.denoise, found.cfg_scale) == (9, "unipc", 0.75, 6.0)
    assert found.loras == (Lora("first.lora", 1.0), Lora("wan.lora", 0.5))


def test_xlabs_sampler(graph: Any, read_graph: Read) -> None:
    inputs = {"conditioning": ["yes", 0], "neg_conditioning": ["no", 0], "latent_image": ["empty", 0]}
    settings = {"noise_seed": 9, "steps": 25, "timestep_to_start_cfg": 20, "true_gs": 3.5, "denoise_strength": 1.0}
    graph.add("sampler", "XlabsSampler", model=["checkpoint", 0], **inputs, **settings)
    found = read_graph(graph.nodes)
    assert (sides(found), found.cfg_scale, found.seed) == (("a red fox", "blurry"), 3.5, 9)


def test_flux_sampler_parameters_are_texts(graph: Any, read_graph: Read) -> None:
    settings = {"seed": "12", "sampler": "euler", "scheduler": "simple", "steps": "20", "guidance": "3.5"}
    inputs = {"model": ["checkpoint", 0], "conditioning": ["yes", 0], "latent_image": ["empty", 0]}
    graph.add("sampler", "FluxSamplerParams+", **inputs, **settings, denoise="1.0")
    found = read_graph(graph.nodes)
    assert (found.prompt, found.seed, found.steps, found.guidance) == ("a red fox", 12, 20, 3.5)
    assert (found.sampler, found.scheduler, found.denoise) == ("euler", "simple", 1.0)


def test_searge_nodes(graph: Any, read_graph: Read) -> None:
    graph.add("join", "SeargePromptCombiner", prompt1="a hare", separator=", ", prompt2="in snow")
    texts = {"pos_g": ["join", 0], "pos_l": "", "pos_r": "refined", "neg_g": "ugly", "neg_l": "", "neg_r": ""}
    graph.add("encode", "SeargeSDXLPromptEncoder", base_clip=["checkpoint", 1], refiner_clip=["r", 1], **texts)
    sides_of = {"base_positive": ["encode", 0], "base_negative": ["encode", 1], "refiner_positive": ["encode", 2]}
    models = {"base_model": ["checkpoint", 0], "refiner_model": ["r", 0], "refiner_negative": ["encode", 3]}
    graph.add("r", "CheckpointLoaderSimple", ckpt_name="refiner.safetensors")
    graph.add("names", "SeargeSamplerInputs", sampler_name="dpmpp_2m", scheduler="karras")
    linked = {"sampler_name": ["names", 0], "scheduler": ["names", 1], "noise_seed": 11}
    graph.add("sampler", "SeargeSDXLSampler", **sides_of, **models, **{**SETTINGS, **linked})
    found = read_graph(graph.nodes)
    assert (sides(found), settings_of(found)) == (("a hare, in snow", "ugly"), EXPECTED_SETTINGS)
    assert found.model == "base.safetensors"


def test_prompt_schedules_are_read_as_they_are_written(graph: Any, read_graph: Read) -> None:
    schedule = '"0": "a hare",\n"24": "a fox"'
    settings = {"text": schedule, "max_frames": 48, "pre_text": "film", "app_text": "", "pw_a": 0.0}
    graph.add("schedule", "BatchPromptSchedule", clip=["checkpoint", 1], **settings)
    graph.wire("sampler", positive=["schedule", 0])
    assert schedule in (read_graph(graph.nodes).prompt or "")


def test_styles_are_not_known_but_the_text_is(graph: Any, read_graph: Read) -> None:
    graph.add("style", "SDXLPromptStyler", text_positive="a hare", text_negative="ugly", style="sai-anime")
    graph.wire("yes", text=["style", 0])
    graph.wire("no", text=["style", 1])
    assert sides(read_graph(graph.nodes)) == ("a hare", "ugly")


def test_random_prompts_are_known_only_where_nothing_is_left_to_chance(graph: Any, read_graph: Read) -> None:
    graph.add("random", "DPRandomGenerator", text="a hare", seed=1, autorefresh="No")
    graph.wire("yes", text=["random", 0])
    assert read_graph(graph.nodes).prompt == "a hare"
    graph.wire("random", text="a {hare|fox}")
    assert read_graph(graph.nodes).prompt is None


def test_a_caption_leaves_the_known_part_of_a_prompt(graph: Any, read_graph: Read) -> None:
    graph.add("caption", "Florence2Run", image=["decode", 0], text_input="describe", task="caption")
    graph.add("join", "StringConcatenate", string_a="photo of", string_b=["caption", 2], delimiter=" ")
    graph.wire("yes", text=["join", 0])
    assert read_graph(graph.nodes).prompt == "photo of"


def test_control_nets_regions_and_masks_pass_the_text(graph: Any, read_graph: Read) -> None:
    graph.add("hint", "ControlNetApply", conditioning=["yes", 0], control_net=["cn", 0], image=["decode", 0])
    net = {"positive": ["hint", 0], "negative": ["no", 0], "control_net": ["cn", 0], "image": ["decode", 0]}
    graph.add("advanced", "ACN_AdvancedControlNetApply_v2", **net, strength=1.0)
    graph.add(
        "stack", "Apply ControlNet Stack", positive=["advanced", 0], negative=["advanced", 1], cnet_stack=["s", 0]
    )
    graph.add("mask", "ConditioningSetMask", conditioning=["stack", 0], mask=["m", 0], strength=1.0)
    graph.wire("sampler", positive=["mask", 0], negative=["stack", 1])
    assert sides(read_graph(graph.nodes)) == ("a red fox", "blurry")


def test_base_and_refiner(graph: Any, read_graph: Read) -> None:
    first = {k: v for k, v in graph.nodes["sampler"]["inputs"].items() if k not in ("seed", "denoise")}
    graph.add("sampler", "KSamplerAdvanced", **first, noise_seed=5, add_noise="enable", end_at_step=15)
    graph.add("r", "CheckpointLoaderSimple", ckpt_name="refiner.safetensors")
    refined = {**first, "model": ["r", 0], "latent_image": ["sampler", 0], "noise_seed": 0, "add_noise": "disable"}
    graph.add("refiner", "KSamplerAdvanced", **refined, start_at_step=15)
    decoded_by(graph, "refiner", vae=["r", 2])
    found = read_graph(graph.nodes)
    assert (found.model, found.seed, sides(found)) == ("refiner.safetensors", 5, ("a red fox", "blurry"))


@pytest.mark.parametrize(
    ("class_type", "inputs", "expected"),
    [
        ("StringFormat", {"f_string": "a {a} in {b}", "values.a": "hare", "values.b": 3}, "a hare in 3"),
        ("StringFormat", {"f_string": "{a:>999999999}", "values.a": "hare"}, None),
        ("StringFormat", {"f_string": "{a.__class__}", "values.a": "hare"}, None),
        ("RegexReplace", {"string": "a HARE", "regex_pattern": "hare", "replace": "fox"}, "a fox"),
        ("RegexReplace", {"string": "a" * 99, "regex_pattern": "(a+)+b", "replace": ""}, None),
        ("RegexExtract", {"string": "a hare", "regex_pattern": "a", "mode": "First Match"}, None),
        ("JsonExtractString", {"json_string": '{"p": "a hare"}', "key": "p"}, "a hare"),
        ("JsonExtractString", {"json_string": "[" * 100_000, "key": "p"}, ""),
        ("CaseConverter", {"string": "a hare", "mode": "UPPERCASE"}, "A HARE"),
        ("easy promptConcat", {"prompt1": "a hare", "prompt2": "snow", "separator": ", "}, "a hare, snow"),
        ("easy promptReplace", {"prompt": "a hare", "find1": "hare", "replace1": "fox", "find2": ""}, "a fox"),
        ("ttN concat", {"text1": "a", "text2": "hare", "text3": "", "delimiter": " "}, "a hare "),
        ("ConcatStringSingle", {"string_a": "a ", "string_b": "hare"}, "a hare"),
        ("String Literal (Image Saver)", {"string": "a hare"}, "a hare"),
        ("CText", {"string": "a hare"}, "a hare"),
        ("SwarmInputText", {"title": "t", "value": "a hare", "view_type": "big"}, "a hare"),
        ("easy wildcards", {"text": "a __animal__", "seed": 1}, None),
    ],
)
def test_text_nodes(
    class_type: str, inputs: dict[str, Any], expected: str | None, graph: Any, read_graph: Read
) -> None:
    graph.add("text", class_type, **inputs)
    graph.wire("yes", text=["text", 0])
    assert read_graph(graph.nodes).prompt == expected


@pytest.mark.parametrize(
    ("class_type", "inputs"),
    [
        ("ImpactSwitch", {"select": 2, "input1": ["no", 0], "input2": ["yes", 0]}),
        ("CR Conditioning Input Switch", {"Input": 1, "conditioning1": ["yes", 0], "conditioning2": ["no", 0]}),
        ("Conditioning Input Switch", {"boolean": True, "conditioning_a": ["yes", 0], "conditioning_b": ["no", 0]}),
        ("easy conditioningIndexSwitch", {"index": 1, "cond0": ["no", 0], "cond1": ["yes", 0]}),
        ("easy ifElse", {"boolean": False, "on_true": ["no", 0], "on_false": ["yes", 0]}),
        ("LazySwitchKJ", {"switch": True, "on_true": ["yes", 0], "on_false": ["no", 0]}),
        ("Switch conditioning [Crystools]", {"boolean": True, "on_true": ["yes", 0], "on_false": ["no", 0]}),
        ("SeargeConditioningMuxer2", {"input_selector": 1, "input0": ["no", 0], "input1": ["yes", 0]}),
        ("Any Switch (rgthree)", {"any_01": ["gone", 0], "any_02": ["yes", 0], "any_03": ["no", 0]}),
    ],
)
def test_switches(class_type: str, inputs: dict[str, Any], graph: Any, read_graph: Read) -> None:
    graph.add("switch", class_type, **inputs)
    graph.wire("sampler", positive=["switch", 0])
    assert read_graph(graph.nodes).prompt == "a red fox"


@pytest.mark.parametrize(("chosen", "expected"), [(1, "a hare"), (2, "a fox")])
def test_a_switch_of_texts_that_are_widgets(chosen: int, expected: str, graph: Any, read_graph: Read) -> None:
    graph.add("number", "PrimitiveInt", value=chosen)
    graph.add("switch", "easy textSwitch", input=["number", 0], text1="a hare", text2="a fox")
    graph.wire("yes", text=["switch", 0])
    assert read_graph(graph.nodes).prompt == expected


def test_a_switch_is_told_through_other_nodes(graph: Any, read_graph: Read) -> None:
    graph.add("yes or no", "PrimitiveBoolean", value=False)
    graph.add("inner", "ComfySwitchNode", switch=["yes or no", 0], on_true=True, on_false=False)
    graph.add("switch", "ComfySwitchNode", switch=["inner", 0], on_true=["no", 0], on_false=["yes", 0])
    graph.wire("sampler", positive=["switch", 0])
    assert read_graph(graph.nodes).prompt == "a red fox"
    graph.add("inner", "RegexMatch", string="a", regex_pattern="b")
    graph.add("text", "ComfySwitchNode", switch=["inner", 0], on_true="this", on_false="that")
    graph.wire("yes", text=["text", 0])
    graph.wire("sampler", positive=["yes", 0])
    assert read_graph(graph.nodes).prompt is None
