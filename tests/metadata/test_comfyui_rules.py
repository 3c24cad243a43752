"""The VAE, and the sentences that say where each value was found."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from toolkit_core.records import GenerationParameters, MetadataReading

Read = Callable[[Any], GenerationParameters]
ReadFile = Callable[..., MetadataReading]


def test_each_value_of_a_plain_graph_says_where_it_is_from(graph: Any, read_file: ReadFile) -> None:
    graph.add("lora", "LoraLoader", model=["checkpoint", 0], lora_name="one", strength_model=0.5, strength_clip=0.5)
    graph.add("vae", "VAELoader", vae_name="fine.vae")
    graph.wire("sampler", model=["lora", 0])
    graph.wire("decode", vae=["vae", 0])
    assert read_file(prompt=graph.nodes).rules == {
        "prompt": "node yes CLIPTextEncode.text, into positive of node sampler KSampler",
        "negative_prompt": "node no CLIPTextEncode.text, into negative of node sampler KSampler",
        "model": "node checkpoint CheckpointLoaderSimple.ckpt_name, into model of node sampler KSampler",
        "loras": "node lora LoraLoader, into model of node sampler KSampler",
        "vae": "node vae VAELoader.vae_name, into vae of node decode VAEDecode",
        "sampler": "node sampler KSampler.sampler_name",
        "scheduler": "node sampler KSampler.scheduler",
        "steps": "node sampler KSampler.steps",
        "cfg_scale": "node sampler KSampler.cfg",
        "seed": "node sampler KSampler.seed",
        "denoise": "node sampler KSampler.denoise",
    }


def test_a_linked_widget_names_the_node_that_it_is_linked_to(graph: Any, read_file: ReadFile) -> None:
    graph.add("seed", "PrimitiveInt", value=5)
    graph.wire("sampler", seed=["seed", 0])
    assert read_file(prompt=graph.nodes).rules["seed"] == "node sampler KSampler.seed from node seed PrimitiveInt"


def test_a_class_that_is_not_known_is_marked(graph: Any, read_file: ReadFile) -> None:
    graph.add("yes", "NewEncoder", prompt="a red fox", clip=["checkpoint", 1])
    rule = read_file(prompt=graph.nodes).rules["prompt"]
    assert rule == "node yes NewEncoder.prompt (inferred from its sockets), into positive of node sampler KSampler"


def test_the_texts_of_an_earlier_pass_say_so(graph: Any, read_file: ReadFile) -> None:
    first = graph.nodes["sampler"]["inputs"]
    graph.add("zero", "ConditioningZeroOut", conditioning=["yes", 0])
    graph.add("second", "KSampler", **{**first, "latent_image": ["sampler", 0], "positive": ["zero", 0]})
    graph.wire("decode", samples=["second", 0])
    assert (
        read_file(prompt=graph.nodes).rules["prompt"] == "node yes CLIPTextEncode.text, into positive of earlier passes"
    )


def test_a_rule_names_a_few_of_many_places(graph: Any, read_file: ReadFile) -> None:
    link = ["yes", 0]
    for number in range(9):
        graph.add(f"t{number}", "CLIPTextEncode", text=f"text {number}", clip=["checkpoint", 1])
        graph.add(f"c{number}", "ConditioningCombine", conditioning_1=link, conditioning_2=[f"t{number}", 0])
        link = [f"c{number}", 0]
    graph.wire("sampler", positive=link)
    rule = read_file(prompt=graph.nodes).rules["prompt"]
    assert rule.endswith("node t2 CLIPTextEncode.text, and 6 more, into positive of node sampler KSampler")


def test_a_value_has_a_rule_and_a_rule_a_value(graph: Any, read_file: ReadFile) -> None:
    graph.wire("sampler", negative=["gone", 0], model=["gone", 0])
    reading = read_file(prompt=graph.nodes)
    fields = set(GenerationParameters.__dataclass_fields__) - {"generator"}
    assert {name for name in fields if getattr(reading.parameters, name) not in (None, ())} == set(reading.rules)


@pytest.mark.parametrize("class_type", ["VAELoader", "VAELoaderKJ", "LoadVAEOfANewPack"])
def test_the_vae_of_the_last_decoder_counts(class_type: str, graph: Any, read_graph: Read) -> None:
    graph.add("first", "VAELoader", vae_name="first.vae")
    graph.add("last", class_type, **({"model_name": "last.vae"} if "KJ" in class_type else {"vae_name": "last.vae"}))
    graph.wire("decode", vae=["first", 0])
    graph.add("encode", "VAEEncode", pixels=["decode", 0], vae=["first", 0])
    graph.add("second", "KSampler", **{**graph.nodes["sampler"]["inputs"], "latent_image": ["encode", 0]})
    graph.add("again", "VAEDecodeTiled", samples=["second", 0], vae=["route", 0], tile_size=512)
    graph.add("route", "Reroute", **{"": ["last", 0]})
    graph.add("bigger", "ImageUpscaleWithModel", upscale_model=["m", 0], image=["again", 0])
    graph.wire("save", images=["bigger", 0])
    assert read_graph(graph.nodes).vae == "last.vae"


def test_the_checkpoints_own_vae_is_none(graph: Any, read_graph: Read) -> None:
    assert read_graph(graph.nodes).vae is None
    graph.wire("decode", vae=["gone", 0])
    assert read_graph(graph.nodes).vae is None


def test_the_vae_of_an_upscaler_that_samples_is_its_own(graph: Any, read_graph: Read) -> None:
    graph.add("vae", "VAELoader", vae_name="tiles.vae")
    inputs = {name: value for name, value in graph.nodes["sampler"]["inputs"].items() if name != "latent_image"}
    graph.add("tiles", "UltimateSDUpscale", **inputs, image=["decode", 0], vae=["vae", 0])
    graph.wire("save", images=["tiles", 0])
    assert read_graph(graph.nodes).vae == "tiles.vae"


def workflow_of(class_type: str, inputs: dict[str, str], outputs: list[str]) -> dict[str, Any]:
    """A workflow chunk that has one node of a class, with the types of its sockets."""
    node = {"id": 1, "type": class_type, "inputs": [{"name": name, "type": kind} for name, kind in inputs.items()]}
    return {"nodes": [{**node, "outputs": [{"name": kind, "type": kind} for kind in outputs]}], "links": []}


def test_the_types_in_the_workflow_of_the_same_file_sharpen_the_walk(graph: Any, read_file: ReadFile) -> None:
    sockets = {"positive_a": "CONDITIONING", "negative_a": "CONDITIONING", "m": "MODEL"}
    graph.add("odd", "OddPair", positive_a=["yes", 0], negative_a=["no", 0], m=["checkpoint", 0])
    graph.wire("sampler", positive=["odd", 2], negative=["odd", 1])
    found = read_file(prompt=graph.nodes).parameters
    assert (found.prompt, found.negative_prompt) == ("a red fox", "blurry")  # as the reader's own sockets say
    workflow = workflow_of("OddPair", sockets, ["MODEL", "CONDITIONING", "CONDITIONING"])
    found = read_file(prompt=graph.nodes, workflow=workflow).parameters
    assert (found.prompt, found.negative_prompt) == ("blurry", "a red fox")


@pytest.mark.parametrize("workflow", ["{", "[]", '{"nodes": 5}', '{"nodes": [5, {"type": "OddPair", "inputs": 5}]}'])
def test_a_broken_workflow_beside_the_graph_does_no_harm(workflow: str, graph: Any, read_file: ReadFile) -> None:
    graph.add("odd", "OddPair", conditioning=["yes", 0])
    graph.wire("sampler", positive=["odd", 0])
    assert read_file(prompt=graph.nodes, workflow=workflow).parameters.prompt == "a red fox"


def test_a_node_that_asks_a_service_for_a_picture_is_read(graph: Any, read_file: ReadFile) -> None:
    inputs = {"prompt": "a hare", "negative_prompt": "ugly", "model": "big-1", "seed": 2**60, "image": ["input", 0]}
    nodes = {"input": {"class_type": "LoadImage", "inputs": {"image": "a.png"}}}
    nodes["api"] = {"class_type": "SomeServicesImage", "inputs": inputs}
    nodes["save"] = {"class_type": "SaveImage", "inputs": {"images": ["api", 0]}}
    reading = read_file(prompt=nodes)
    found = reading.parameters
    assert (found.prompt, found.negative_prompt, found.model, found.seed) == ("a hare", "ugly", "big-1", 2**60)
    assert reading.rules["prompt"] == "node api SomeServicesImage.prompt (inferred from its sockets)"
    del inputs["seed"]
    assert read_file(prompt=nodes).parameters.prompt is None
    nodes["api"]["inputs"] = {"model": "big-1", "model.prompt": "a hare", "model.seed": 5}
    found = read_file(prompt=nodes).parameters
    assert (found.prompt, found.model, found.seed) == ("a hare", "big-1", 5)


@pytest.mark.parametrize(
    ("class_type", "inputs"),
    [
        ("ClaudeNode", {"prompt": "describe", "model": "x", "seed": 1}),
        ("LLMOfANewPack", {"prompt": "describe", "temperature": 0.7, "max_tokens": 99}),
        ("ComfyMathExpression", {"expression": "a + 1", "values.a": 1}),
        ("StringLength", {"string": "a hare"}),
        ("LoadTextOfAPicture", {"text": "a hare", "image": ["decode", 0]}),
    ],
)
def test_what_is_made_of_a_text_is_not_the_text(
    class_type: str, inputs: dict[str, Any], graph: Any, read_graph: Read
) -> None:
    graph.add("made", class_type, **inputs)
    graph.wire("yes", text=["made", 0])
    assert read_graph(graph.nodes).prompt is None


def wrapped(nodes: Any) -> list[Any]:
    history = [7, "an id", nodes, {"extra_pnginfo": {}}, ["save"]]
    return [{"prompt": nodes}, {"output": nodes}, history, {"an id": {"prompt": history, "outputs": {}}}]


@pytest.mark.parametrize("kind", range(4))
def test_a_graph_inside_of_a_wrapper_is_read(kind: int, graph: Any, read_file: ReadFile) -> None:
    assert read_file(prompt=wrapped(graph.nodes)[kind]).parameters.prompt == "a red fox"


def test_links_may_have_numbers_for_ids_and_extras_do_no_harm(graph: Any, read_file: ReadFile) -> None:
    numbers = {name: str(number) for number, name in enumerate(graph.nodes)}
    nodes: dict[str, Any] = {}
    for name, node in graph.nodes.items():
        inputs = {
            key: [int(numbers[value[0]]), float(value[1])] if isinstance(value, list) else value
            for key, value in node["inputs"].items()
        }
        nodes[numbers[name]] = {**node, "inputs": inputs, "is_changed": [[float("nan")]], "_meta": {"title": 5}}
    nodes["99"] = {"class_type": "NoInputs"}
    found = read_file(prompt=nodes).parameters
    assert (found.prompt, found.negative_prompt, found.model) == ("a red fox", "blurry", "base.safetensors")
