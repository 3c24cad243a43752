"""The example workflows run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "example_workflows"
NAMES = ("Index the output folder", "Search to IPAdapter", "Loader to KSampler")


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", NAMES)
def test_example_runs(name: str, indexed: Any, make_graph: Any) -> None:
    """With the models that are here: of the checkpoint loader's outputs each comes from a loader of its own."""
    comfyui, graph = indexed.comfyui, make_graph()
    example = read(EXAMPLES / "api" / f"{name}.json")
    if name == "Search to IPAdapter":
        if "IPAdapterEmbeds" not in comfyui.get("/object_info"):
            pytest.skip("there is no IPAdapter_plus beside ComfyUI nor among its custom nodes")
        shutil.copy(indexed.folder / "0.png", comfyui.base / "input" / "example.png")
    pixels = graph.add("VAELoader", vae_name="pixel_space")(0)
    files = {"CLIPVisionLoader": "clip_vision_h.safetensors", "IPAdapterModelLoader": "base_vit-h.safetensors"}
    checkpoint: list[str] = []
    for id, node in example.items():
        inputs = node["inputs"]
        if node["class_type"] == "CheckpointLoaderSimple":
            checkpoint.append(id)
            continue
        for input_name, value in inputs.items():
            if isinstance(value, list):
                stand_in = value[0] in checkpoint
                inputs[input_name] = (
                    (graph.model, graph.clip, pixels)[value[1]] if stand_in else [f"e{value[0]}", value[1]]
                )
        if node["class_type"] in files:
            inputs.update(dict.fromkeys(inputs, files[node["class_type"]]))
        if node["class_type"] == "KSampler":
            inputs["steps"] = 1
        if node["class_type"] == "EmptyLatentImage":
            inputs.update(width=64, height=64)
        if node["class_type"] in ("VAEDecode", "SaveImage"):
            # The tiny model's latents have four channels, which no decoder here takes.
            continue
        if node["class_type"] == "DiffusionToolkitIndexer":
            inputs["folder"] = "output/pictures"
        if node["class_type"] == "DiffusionToolkitLoader":
            inputs["image_id"] = indexed.ids["0.png"]
        graph.nodes[f"e{id}"] = {"class_type": node["class_type"], "inputs": inputs}
    sampler = next((id for id, node in graph.nodes.items() if node["class_type"] == "KSampler"), None)
    if sampler is not None:
        graph.observe("example", [sampler, 0])
    comfyui.done(graph)
    if sampler is not None:
        assert comfyui.tensors("example")["value.samples"].isfinite().all()
