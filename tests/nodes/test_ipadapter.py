"""What the search gives drives a real IPAdapter_plus with a base ViT-H model."""

from __future__ import annotations

from typing import Any

import pytest
import torch

Indexed = Any


@pytest.fixture(scope="module")
def latents(indexed: Indexed, make_graph: Any) -> dict[str, torch.Tensor]:
    comfyui = indexed.comfyui
    if not any(pack.name == "ComfyUI_IPAdapter_plus" for pack in (comfyui.base / "custom_nodes").iterdir()):
        pytest.skip("there is no IPAdapter_plus beside ComfyUI nor among its custom nodes")
    graph = make_graph()
    found = graph.add("DiffusionToolkitSearch", image_id=indexed.ids["0.png"], top_k=3)
    loaded = graph.add("DiffusionToolkitLoader", image_id=indexed.ids["0.png"], embedding_type="auto")
    adapter = graph.add("IPAdapterModelLoader", ipadapter_file="base_vit-h.safetensors")(0)
    common = {"model": graph.model, "ipadapter": adapter, "weight": 1.0, "weight_type": "linear"}
    common |= {"start_at": 0.0, "end_at": 1.0, "embeds_scaling": "V only"}
    embeds = graph.add("IPAdapterEmbeds", **common, pos_embed=found(1), neg_embed=found(2))(0)
    images = graph.add(
        "IPAdapterAdvanced", **common, combine_embeds="concat", image=found(0), clip_vision=graph.clip_vision
    )(0)
    for name, model in (("plain", graph.model), ("embeds", embeds), ("images", images)):
        graph.sample(name, model, loaded(0), loaded(1))
    graph.observe("found_embeds", found(1))
    comfyui.done(graph)
    return {name: comfyui.tensors(name)["value.samples"] for name in ("plain", "embeds", "images")}


def test_embeds_drive_ipadapter_without_clip_vision(latents: dict[str, torch.Tensor]) -> None:
    assert latents["embeds"].isfinite().all()
    assert not torch.allclose(latents["embeds"], latents["plain"])


def test_images_drive_ipadapter(latents: dict[str, torch.Tensor]) -> None:
    assert latents["images"].isfinite().all()
    assert not torch.allclose(latents["images"], latents["plain"])
