"""The loader node: conditioning bit for bit, pooled overrides, and what it refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

Indexed = Any
PROMPT = "(a lighthouse:1.3) in a storm, oil painting"
NEGATIVE = "blurry, watermark"


def conditioning_tensors(comfyui: Any, name: str) -> dict[str, torch.Tensor]:
    tensors = comfyui.tensors(name)
    assert set(tensors) == {"value.0.0", "value.0.1.pooled_output"}
    return tensors


@pytest.fixture(scope="module")
def own(indexed: Indexed, make_graph: Any) -> dict[str, dict[str, torch.Tensor]]:
    """What ComfyUI's CLIPTextEncode makes of 1.png's prompts, and the loader with the same CLIP."""
    graph = make_graph()
    graph.observe("own_positive", graph.add("CLIPTextEncode", text=PROMPT, clip=graph.clip)(0))
    graph.observe("own_negative", graph.add("CLIPTextEncode", text=NEGATIVE, clip=graph.clip)(0))
    loaded = graph.add(
        "DiffusionToolkitLoader", image_id=indexed.ids["1.png"], embedding_type="clip_g", clip=graph.clip
    )
    names = ("clip_positive", "clip_negative", "embeds", "negative_embeds", "prompt", "negative", "width", "height")
    for output, name in enumerate(names):
        observe = graph.observe if output < 4 else graph.observe_list
        observe(name, loaded(output))
    indexed.comfyui.done(graph)
    return {
        name: conditioning_tensors(indexed.comfyui, name)
        for name in ("own_positive", "own_negative", "clip_positive", "clip_negative")
    }


@pytest.mark.parametrize("which", ["positive", "negative"])
def test_conditioning_is_bit_for_bit_that_of_clip_text_encode(own: Any, which: str) -> None:
    assert torch.equal(own[f"clip_{which}"]["value.0.0"], own[f"own_{which}"]["value.0.0"])


@pytest.mark.parametrize("which", ["positive", "negative"])
def test_pooled_output_is_the_stored_vector(indexed: Indexed, own: Any, which: str) -> None:
    pooled = own[f"clip_{which}"]["value.0.1.pooled_output"]
    assert pooled.shape == (1, 1280)
    assert torch.equal(pooled, pooled.half().float())  # it was stored in half precision
    assert torch.cosine_similarity(pooled, own[f"own_{which}"]["value.0.1.pooled_output"]).item() >= 0.99999
    if which == "positive":
        stored = indexed.library.embeddings(indexed.ids["1.png"])["clip_g"]
        assert np.array_equal(pooled[0].numpy(), stored)


def test_embeds_prompts_and_size_are_those_of_the_image(indexed: Indexed, own: Any) -> None:
    comfyui, stored = indexed.comfyui, indexed.library.embeddings(indexed.ids["1.png"])["clip_h"]
    assert np.array_equal(comfyui.tensors("embeds")["value"].numpy(), stored[None])
    assert torch.equal(comfyui.tensors("negative_embeds")["value"], torch.zeros(1, 1024))
    assert [comfyui.list(name) for name in ("prompt", "negative")] == [[PROMPT], [NEGATIVE]]
    assert [comfyui.list(name) for name in ("width", "height")] == [[320], [240]]


def test_kept_conditioning_needs_no_clip(indexed: Indexed, own: Any, plain_graph: Any) -> None:
    graph = plain_graph()
    loaded = graph.add("DiffusionToolkitLoader", image_id=indexed.ids["1.png"], embedding_type="image")
    graph.observe("kept_positive", loaded(0))
    graph.observe("kept_negative", loaded(1))
    auto = graph.add("DiffusionToolkitLoader", image_id=indexed.ids["1.png"], embedding_type="auto")
    graph.observe("auto_positive", auto(0))
    indexed.comfyui.done(graph)
    kept = indexed.comfyui.tensors("kept_positive")
    for name, tensor in own["own_positive"].items():
        assert kept[name].dtype == tensor.dtype
        assert torch.equal(kept[name], tensor), name
    for name, tensor in own["own_negative"].items():
        assert torch.equal(indexed.comfyui.tensors("kept_negative")[name], tensor), name
    picture = indexed.library.embeddings(indexed.ids["1.png"])["clip_h"]
    added = kept["value.0.1.unclip_conditioning.0.clip_vision_output.image_embeds"]
    assert np.array_equal(added.numpy(), picture[None])
    assert torch.equal(
        indexed.comfyui.tensors("auto_positive")["value.0.1.pooled_output"],
        own["clip_positive"]["value.0.1.pooled_output"],
    )


def test_long_prompt_keeps_all_of_its_chunks(indexed: Indexed, plain_graph: Any) -> None:
    graph = plain_graph()
    loaded = graph.add("DiffusionToolkitLoader", image_id=indexed.ids["2.png"], embedding_type="auto")
    graph.observe("long", loaded(0))
    indexed.comfyui.done(graph)
    length, width = conditioning_tensors(indexed.comfyui, "long")["value.0.0"].shape[1:]
    assert length > 77
    assert length % 77 == 0
    assert width == 2048


def test_conditioning_input_is_copied(indexed: Indexed, make_graph: Any) -> None:
    # Of an image whose own conditioning can't be made: none.png has no prompt.
    graph = make_graph()
    given = graph.add("CLIPTextEncode", text=PROMPT, clip=graph.clip)(0)
    given = graph.add("ConditioningCombine", conditioning_1=given, conditioning_2=given)(0)
    loaded = graph.add(
        "DiffusionToolkitLoader", image_id=indexed.ids["none.png"], embedding_type="image", conditioning=given
    )
    graph.observe("copied", loaded(0))
    graph.observe("given", given)
    indexed.comfyui.done(graph)
    copied, before = indexed.comfyui.tensors("copied"), indexed.comfyui.tensors("given")
    assert not any("unclip" in name for name in before)
    for name, tensor in before.items():
        assert torch.equal(copied[name], tensor)
    assert sum("unclip" in name for name in copied) == 2


@pytest.mark.parametrize(
    ("image", "embedding_type", "words"),
    [
        (None, "auto", ["The library has no image with id 999999"]),
        ("1.png", "clip_l", ["clip_l is 768 wide", "1280 wide (SDXL)", "clip_g fits"]),
        ("none.png", "auto", ["has no prompt", "Connect a conditioning"]),
    ],
)
def test_what_cannot_be_loaded_is_an_error(
    indexed: Indexed, plain_graph: Any, image: str | None, embedding_type: str, words: list[str]
) -> None:
    graph = plain_graph()
    id = 999999 if image is None else indexed.ids[image]
    graph.observe("never", graph.add("DiffusionToolkitLoader", image_id=id, embedding_type=embedding_type)(0))
    error = indexed.comfyui.run(graph).error
    assert error is not None
    for word in words:
        assert word in error


def test_without_prompt_the_other_outputs_still_work(indexed: Indexed, plain_graph: Any) -> None:
    graph = plain_graph()
    loaded = graph.add("DiffusionToolkitLoader", image_id=indexed.ids["none.png"], embedding_type="auto")
    graph.observe("only_embeds", loaded(2))
    indexed.comfyui.done(graph)
    assert indexed.comfyui.tensors("only_embeds")["value"].shape == (1, 1024)


def test_loaded_conditioning_drives_the_sampler(indexed: Indexed, make_graph: Any) -> None:
    graph = make_graph()
    for name in ("0.png", "1.png"):
        loaded = graph.add("DiffusionToolkitLoader", image_id=indexed.ids[name], embedding_type="auto")
        graph.sample(f"sampled_{name}", graph.model, loaded(0), loaded(1))
    indexed.comfyui.done(graph)
    first, second = (indexed.comfyui.tensors(f"sampled_{name}")["value.samples"] for name in ("0.png", "1.png"))
    assert first.isfinite().all()
    assert not torch.allclose(first, second)
