from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from toolkit_core.encoders.clip import ClipTextEncoder
from toolkit_core.encoders.clip_checkpoint import read_contents, read_tower
from toolkit_core.errors import EncoderError

Save = Callable[..., Path]


def test_files_are_told_apart_by_content(tiny_weights: Path) -> None:
    for space in ("clip_l", "clip_g", "clip_h"):
        contents = read_contents(tiny_weights / f"{space}.safetensors")
        assert contents.spaces == (space,)
        assert not contents.is_checkpoint


def _sdxl_checkpoint(clip_l: dict[str, torch.Tensor], clip_g: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {
        "model.diffusion_model.input_blocks.0.0.weight": torch.zeros(4, 4),
        "first_stage_model.encoder.conv_in.weight": torch.zeros(4, 4),
        **{f"conditioner.embedders.0.transformer.{name}": tensor for name, tensor in clip_l.items()},
        **{f"conditioner.embedders.1.model.{name}": tensor for name, tensor in clip_g.items()},
    }


def test_a_full_checkpoint_serves_both_text_encoders(
    tiny_weights: Path, save_weights: Save, texts: tuple[str, ...], tmp_path: Path
) -> None:
    tensors = _sdxl_checkpoint(
        load_file(tiny_weights / "clip_l.safetensors"), load_file(tiny_weights / "clip_g.safetensors")
    )
    file = save_weights(tmp_path / "sdxl.safetensors", tensors, dtype=torch.float16)
    contents = read_contents(file)
    assert contents.is_checkpoint
    assert sorted(contents.spaces) == ["clip_g", "clip_l"]
    for space in ("clip_l", "clip_g"):
        from_checkpoint = ClipTextEncoder(space, file, "cpu").encode(texts)
        assert (
            from_checkpoint == ClipTextEncoder(space, tiny_weights / f"{space}.safetensors", "cpu").encode(texts)
        ).all()


def test_a_lora_or_another_model_serves_nothing(tmp_path: Path) -> None:
    file = tmp_path / "lora.safetensors"
    save_file({"lora_te_text_model_encoder_layers_0_mlp_fc1.lora_up.weight": torch.zeros(4, 4)}, file)
    assert read_contents(file).spaces == ()


def _cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1000])


def _garbage(file: Path) -> None:
    file.write_bytes(b"\xff" * 5000)


def _empty(file: Path) -> None:
    file.write_bytes(b"")


@pytest.mark.parametrize("damage", [_cut, _garbage, _empty, Path.unlink], ids=["cut short", "garbage", "empty", "gone"])
def test_an_unreadable_file_is_a_clear_error(damage: Callable[[Path], Any], tiny_weights: Path, tmp_path: Path) -> None:
    file = tmp_path / "clip_g.safetensors"
    file.write_bytes((tiny_weights / "clip_g.safetensors").read_bytes())
    damage(file)
    with pytest.raises(EncoderError, match=r"clip_g\.safetensors.*get it again"):
        ClipTextEncoder("clip_g", file, "cpu").load()


@pytest.mark.parametrize("suffix", ["pt", "bin", "ckpt", "pth"])
def test_pickled_weights_are_never_read(suffix: str, tmp_path: Path) -> None:
    file = tmp_path / f"model.{suffix}"
    torch.save({"text_model.embeddings.token_embedding.weight": torch.zeros(2, 2)}, file)
    with pytest.raises(EncoderError, match="Pickled weights are never read"):
        ClipTextEncoder("clip_l", file, "cpu").load()


def test_weights_of_another_space_are_named(tiny_weights: Path) -> None:
    with pytest.raises(EncoderError, match=r"clip_h\.safetensors can't serve clip_l.*CLIP vision model.*width 768"):
        ClipTextEncoder("clip_l", tiny_weights / "clip_h.safetensors", "cpu").load()


def _changed(tiny_weights: Path, tmp_path: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> Path:
    tensors = load_file(tiny_weights / "clip_g.safetensors")
    change(tensors)
    file = tmp_path / "changed_g.safetensors"
    save_file(tensors, file)
    return file


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("text_model.final_layer_norm.bias"), "lacks 1 tensors.*final_layer_norm.bias"),
        (lambda t: t.update({"text_model.final_layer_norm.bias": torch.zeros(3)}), "final_layer_norm.bias has shape"),
        (lambda t: t.pop("text_projection.weight"), "can't serve clip_g.*no projection"),
        (
            lambda t: t.update({"text_model.embeddings.position_embedding.weight": torch.zeros(248, 128)}),
            "can't serve clip_g.*248 positions",
        ),
        (lambda t: t.update({"text_model.encoder.layers.0.mlp.fc1.scale_weight": torch.ones(1)}), "scaled fp8"),
    ],
    ids=["missing", "misshapen", "no projection", "long clip", "scaled fp8"],
)
def test_damaged_or_unfit_weights_are_refused(
    change: Callable[[dict[str, torch.Tensor]], Any], message: str, tiny_weights: Path, tmp_path: Path
) -> None:
    with pytest.raises(EncoderError, match=message):
        ClipTextEncoder("clip_g", _changed(tiny_weights, tmp_path, change), "cpu").load()


def test_only_floating_point_tensors_are_taken(clip_l_model: Any, save_weights: Save, tmp_path: Path) -> None:
    tensors = {**clip_l_model.state_dict(), "text_model.embeddings.position_ids": torch.arange(77)[None]}
    file = tmp_path / "old_clip_l.safetensors"
    save_file(tensors, file)
    _, read = read_tower(file, "clip_l", "text", torch.float16)
    assert all(tensor.dtype == torch.float16 for tensor in read.values())
