from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from toolkit_core.encoders.clip import ClipTextEncoder, ClipVisionEncoder
from toolkit_core.encoders.identity import compare_probes, probe_images
from toolkit_core.encoders.weights import find_weights, make_encoder

CLIP_SPACES = ["clip_l", "clip_g", "clip_h"]


def _encoder(space: str, file: Path, dtype: str = "float32") -> ClipTextEncoder | ClipVisionEncoder:
    return ClipVisionEncoder(file, "cpu", dtype) if space == "clip_h" else ClipTextEncoder(space, file, "cpu", dtype)


def _changed(file: Path, to: Path, change: Callable[[torch.Tensor], torch.Tensor]) -> Path:
    save_file({name: change(tensor) for name, tensor in load_file(file).items()}, to)
    return to


def test_the_probe_pictures_never_change() -> None:
    """Stored probes were made of these very pixels."""
    pictures = probe_images()
    assert (pictures.shape, pictures.dtype) == ((3, 224, 224, 3), np.uint8)
    assert (
        hashlib.sha256(pictures.tobytes()).hexdigest()
        == "9d8f4ca2e4f755ac928b2655702de2f0fc41e52b211c7a4ccbfd4d5c9b762e49"
    )


@pytest.mark.parametrize("space", ["bge", *CLIP_SPACES])
def test_an_encoder_agrees_with_itself(space: str, tiny_weights: Path) -> None:
    location = find_weights([tiny_weights])[space]
    agreement = compare_probes(make_encoder(location, "cpu").probe(), make_encoder(location, "cpu").probe())
    assert agreement.same
    assert agreement.cosine > 0.999999


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("space", CLIP_SPACES)
def test_another_dtype_is_the_same_encoder(space: str, dtype: str, tiny_weights: Path) -> None:
    file = tiny_weights / f"{space}.safetensors"
    assert compare_probes(_encoder(space, file).probe(), _encoder(space, file, dtype).probe()).same


@pytest.mark.parametrize("space", CLIP_SPACES)
def test_a_bfloat16_file_is_the_same_encoder(space: str, tiny_weights: Path, tmp_path: Path) -> None:
    file = tiny_weights / f"{space}.safetensors"
    copy = _changed(file, tmp_path / "copy.safetensors", lambda tensor: tensor.bfloat16())
    assert compare_probes(_encoder(space, file).probe(), _encoder(space, copy).probe()).same


@pytest.mark.parametrize("space", CLIP_SPACES)
def test_slightly_changed_weights_are_another_encoder(space: str, tiny_weights: Path, tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(1)

    def tuned(tensor: torch.Tensor) -> torch.Tensor:
        noise = torch.randn(tensor.shape, generator=generator)
        return tensor + (0.02 * tensor.float().norm() / noise.norm() * noise).to(tensor.dtype)

    file = tiny_weights / f"{space}.safetensors"
    other = _changed(file, tmp_path / "tuned.safetensors", tuned)
    assert not compare_probes(_encoder(space, file).probe(), _encoder(space, other).probe()).same


def test_vectors_of_another_length_are_another_encoder() -> None:
    probe = np.random.default_rng(1).normal(size=(4, 16)).astype(np.float32)
    agreement = compare_probes(probe, probe * 1.1)
    assert agreement.cosine == pytest.approx(1)
    assert agreement.norm_ratio == pytest.approx(1.1)
    assert not agreement.same


@pytest.mark.parametrize(
    "fresh",
    [np.ones((3, 16)), np.ones((4, 8)), np.zeros((4, 16)), np.full((4, 16), np.nan)],
    ids=["rows", "width", "zeros", "nan"],
)
def test_unusable_probes_never_agree(fresh: np.ndarray) -> None:
    assert not compare_probes(np.ones((4, 16), np.float32), fresh.astype(np.float32)).same
