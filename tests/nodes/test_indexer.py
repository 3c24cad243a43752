"""The indexer node with the models of a real ComfyUI, full size."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch

from toolkit_core.database import vectors
from toolkit_core.encoders.clip import ClipTextEncoder
from toolkit_core.encoders.identity import compare_probes
from toolkit_core.spaces import SPACES

Indexed = Any
PROMPT = "a red fox sleeping in fresh snow"


def cosine(a: Any, b: Any) -> float:
    a, b = np.asarray(a, np.float64).ravel(), np.asarray(b, np.float64).ravel()
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def test_indexer_embeds_with_the_connected_models(indexed: Indexed) -> None:
    assert indexed.job.error is None
    text = indexed.job.texts["DiffusionToolkitIndexer"]
    assert text.startswith("5 new, 0 changed, 0 moved, 0 unchanged, 0 failed"), text
    status = indexed.library.status()
    assert status.pending == {"bge": 5, "clip_h": 0, "clip_l": 0, "clip_g": 0}, text
    assert status.encoders["clip_g"].name == "clip_l, clip_g"
    assert "bge: 0 embedded, 5 pending. No weights for bge" in text
    assert "5 conditionings kept" in text


def test_clip_options_are_left_as_they_were(indexed: Indexed) -> None:
    # Those that ComfyUI's SDXLClipModel is made with.
    assert indexed.comfyui.list("options") == {
        "clip_l": ["hidden", -2, True, "None"],
        "clip_g": ["hidden", -2, True, "None"],
    }


def test_stored_vectors_are_comfyuis_own(
    indexed: Indexed, comfyui_source: Path, weights: Path, make_graph: Any
) -> None:
    comfyui, stored = indexed.comfyui, indexed.library.embeddings(indexed.ids["0.png"])
    shutil.copy(indexed.folder / "0.png", comfyui.base / "input" / "0.png")
    graph = make_graph()
    graph.observe("own_pooled", graph.add("CLIPTextEncode", text=PROMPT, clip=graph.clip)(0))
    picture = graph.add("LoadImage", image="0.png")(0)
    seen = graph.add("CLIPVisionEncode", clip_vision=graph.clip_vision, image=picture, crop="center")(0)
    graph.observe("own_picture", seen)
    comfyui.done(graph)
    assert cosine(stored["clip_g"], comfyui.tensors("own_pooled")["value.0.1.pooled_output"]) >= 0.99999
    assert cosine(stored["clip_h"], comfyui.tensors("own_picture")["value.image_embeds"]) >= 0.9995
    assert cosine(stored["clip_l"], transformers_pooler_output(comfyui_source, weights)) >= 0.99999


def transformers_pooler_output(comfyui_source: Path, weights: Path) -> Any:
    from safetensors.torch import load_file
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    tokenizer = CLIPTokenizer.from_pretrained(comfyui_source / "comfy" / "sd1_tokenizer")
    config = CLIPTextConfig(
        hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12, eos_token_id=49407
    )
    model = CLIPTextModel(config).eval()
    tensors = {name: tensor.float() for name, tensor in load_file(weights / "text_encoders/clip_l.safetensors").items()}
    own = model.state_dict()
    fitting = {name if name in own else name.removeprefix("text_model."): tensor for name, tensor in tensors.items()}
    missing = model.load_state_dict(fitting, strict=False).missing_keys
    assert all(name.endswith("position_ids") for name in missing), missing
    ids = tokenizer([PROMPT], return_tensors="pt")["input_ids"]
    with torch.no_grad():
        return model(input_ids=ids).pooler_output[0].numpy()


def test_command_line_accepts_what_the_nodes_wrote(indexed: Indexed, weights: Path) -> None:
    for space in ("clip_l", "clip_g"):
        encoder = ClipTextEncoder(space, weights / "text_encoders" / f"{space}.safetensors", "cpu")
        with indexed.library.database.transaction() as connection:
            assert vectors.encoder(connection, SPACES[space]) is not None
            written = vectors.probe(connection, SPACES[space])
        assert compare_probes(written, encoder.probe()).same
        stored = indexed.library.embeddings(indexed.ids["1.png"])[space]
        prompt = indexed.library.image(indexed.ids["1.png"]).parameters.prompt
        assert cosine(encoder.encode([prompt])[0], stored) >= 0.9999


def test_queued_again_nothing_is_done(indexed: Indexed, make_graph: Any) -> None:
    graph = make_graph()
    index = {"folder": str(indexed.folder), "recursive": True, "clip": graph.clip, "clip_vision": graph.clip_vision}
    graph.add("DiffusionToolkitIndexer", **index, keep_conditioning=True)
    job = indexed.comfyui.done(graph)
    assert job.texts["DiffusionToolkitIndexer"].startswith("0 new, 0 changed, 0 moved, 5 unchanged, 0 failed")
    assert "kept" not in job.texts["DiffusionToolkitIndexer"]
    for space in ("bge", "clip_h", "clip_l", "clip_g"):
        assert f"{space}: 0 embedded" in job.texts["DiffusionToolkitIndexer"]


def test_patched_clip_is_refused_and_nothing_is_mixed(indexed: Indexed, make_graph: Any, save_png: Any) -> None:
    folder = indexed.comfyui.output / "patched"
    save_png(folder / "new.png", 200, "a prompt that nothing has embedded yet")
    graph = make_graph()
    lora = {"lora_name": "clip_g_lora.safetensors", "strength_model": 0.0, "strength_clip": 1.0}
    patched = graph.add("LoraLoader", model=graph.model, clip=graph.clip, **lora)(1)
    graph.add("DiffusionToolkitIndexer", folder="output/patched", recursive=True, clip=patched)
    observed = graph.add("DiffusionToolkitLoader", image_id=indexed.ids["0.png"], embedding_type="clip_g", clip=patched)
    graph.observe("refused", observed(0))
    job = indexed.comfyui.run(graph)
    assert job.error is not None
    assert "The clip_g vectors of this library were made by 'clip_l, clip_g'" in job.error
    assert "with LoRA or other patches" in job.error
    with indexed.library.database.transaction() as connection:
        row = connection.execute("SELECT count(*), count(clip_g_embedding) FROM image WHERE path LIKE '%new.png'")
        assert row.fetchone() == (1, 0)
    graph = make_graph()
    loaded = graph.add("DiffusionToolkitLoader", image_id=new_id(indexed), embedding_type="auto", clip=graph.clip)
    graph.observe("pending", loaded(0))
    error = indexed.comfyui.run(graph).error
    assert "The clip_g vector of the prompt of image" in error
    assert "is pending. Index its folder with a CLIP connected that has clip_g" in error


def new_id(indexed: Indexed) -> int:
    with indexed.library.database.transaction() as connection:
        row = connection.execute("SELECT id FROM image_file WHERE path LIKE '%new.png'").fetchone()
    assert row is not None
    return row[0]


def test_clip_with_neither_l_nor_g_is_an_error(indexed: Indexed, make_graph: Any) -> None:
    graph = make_graph()
    other = graph.add("ClipWithoutLOrG")(0)
    graph.add("DiffusionToolkitIndexer", folder="output/pictures", recursive=True, clip=other)
    assert "has neither CLIP-L nor CLIP-G. Connect the CLIP of an SDXL" in (indexed.comfyui.run(graph).error or "")


def test_conditioning_of_any_model_family_can_be_kept(indexed: Indexed, make_graph: Any, save_png: Any) -> None:
    save_png(indexed.comfyui.output / "family" / "other.png", 300, "a prompt for another model family", "ugly")
    graph = make_graph()
    other = graph.add("ClipWithoutLOrG")(0)
    index = graph.add("DiffusionToolkitIndexer", folder="output/family", clip=other, keep_conditioning=True)
    graph.observe_list("report", index(0))
    job = indexed.comfyui.done(graph)
    assert "2 conditionings kept" in job.texts["DiffusionToolkitIndexer"]
