"""Seeded random weights of the real architectures, small; and the one ComfyUI that may lie near."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from toolkit_core.encoders.tiny import write_tiny_weights

TEXTS = (
    "a photo of a cat",
    "",
    "masterpiece, best quality, (1girl:1.3), ((silver hair)), [simple background], cyberpunk city, neon lights",
    "an extremely long prompt about a lighthouse by the sea, " * 12,
    r"smiling face \(happy\), portrait, 85mm, f/1.8",
    "portrait of zażółć gęślą jaźń 漢字 🦊, ultra-detailed",
)


@pytest.fixture(scope="session")
def texts() -> tuple[str, ...]:
    return TEXTS


@pytest.fixture(scope="session")
def pictures() -> np.ndarray:
    """Six different pictures with structure at several scales, uint8, (6, 224, 224, 3)."""
    rng = np.random.default_rng(5)
    small = rng.integers(0, 256, (6, 14, 14, 3))
    smooth = small.repeat(16, axis=1).repeat(16, axis=2)
    return np.clip(smooth + rng.integers(-30, 30, smooth.shape), 0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def tiny_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    write_tiny_weights(folder)
    return folder


@pytest.fixture(scope="session")
def spread() -> Callable[[torch.nn.Module, int], Any]:
    """Give every weight a seeded value that shows in the output, biases and norm gains too."""

    def spread_weights(model: torch.nn.Module, seed: int) -> Any:
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, tensor in model.named_parameters():
                normal = torch.randn(tensor.shape, generator=generator)
                if tensor.dim() == 1 and name.endswith("weight"):
                    tensor.copy_(1 + 0.2 * normal)
                elif tensor.dim() == 1:
                    tensor.copy_(0.1 * normal)
                elif "embedding" in name and tensor.dim() == 2:
                    tensor.copy_(0.3 * normal)
                elif tensor.dim() >= 2:
                    tensor.copy_(1.3 * tensor[0].numel() ** -0.5 * normal)
        return model.eval()

    return spread_weights


@pytest.fixture(scope="session")
def clip_text_model(spread: Callable[[torch.nn.Module, int], Any]) -> Callable[..., Any]:
    """transformers' text model with a projection: width, projection and activation as asked, three layers."""
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    def make(width: int, projection: int, activation: str, seed: int = 3) -> Any:
        config = CLIPTextConfig(
            hidden_size=width,
            intermediate_size=2 * width,
            num_hidden_layers=3,
            num_attention_heads=width // 64,
            projection_dim=projection,
            hidden_act=activation,
            bos_token_id=49406,
            eos_token_id=49407,
        )
        return spread(CLIPTextModelWithProjection(config), seed)

    return make


@pytest.fixture(scope="session")
def clip_l_model(clip_text_model: Callable[..., Any]) -> Any:
    return clip_text_model(768, 768, "quick_gelu")


@pytest.fixture(scope="session")
def clip_g_model(clip_text_model: Callable[..., Any]) -> Any:
    return clip_text_model(256, 1280, "gelu")


@pytest.fixture(scope="session")
def clip_h_model(spread: Callable[[torch.nn.Module, int], Any]) -> Any:
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    config = CLIPVisionConfig(
        hidden_size=160,
        intermediate_size=320,
        num_hidden_layers=3,
        num_attention_heads=2,
        projection_dim=1024,
        patch_size=14,
        hidden_act="gelu",
    )
    return spread(CLIPVisionModelWithProjection(config), 4)


@pytest.fixture(scope="session")
def open_clip_model(spread: Callable[[torch.nn.Module, int], Any]) -> Callable[..., Any]:
    """open_clip's own model: output width, text width and activation as asked, ViT-H's vision tower, three layers."""
    import open_clip.model

    def make(embed: int, width: int, quick_gelu: bool = False) -> Any:
        model = open_clip.model.CLIP(
            embed_dim=embed,
            vision_cfg=open_clip.model.CLIPVisionCfg(layers=3, width=160, head_width=80, patch_size=14, image_size=224),
            text_cfg=open_clip.model.CLIPTextCfg(width=width, heads=width // 64, layers=3),
            quick_gelu=quick_gelu,
        )
        return spread(model, 6)

    return make


@pytest.fixture(scope="session")
def save_weights() -> Callable[..., Path]:
    """Write a state dict as safetensors, each key through `rename` (None leaves it out)."""
    from safetensors.torch import save_file

    def save(
        file: Path,
        tensors: dict[str, torch.Tensor],
        rename: Callable[[str], str | None] = lambda name: name,
        dtype: torch.dtype = torch.float32,
    ) -> Path:
        renamed = {new: tensor.to(dtype).contiguous() for name, tensor in tensors.items() if (new := rename(name))}
        save_file(renamed, file)
        return file

    return save


@pytest.fixture(scope="session")
def min_cosine() -> Callable[[np.ndarray, np.ndarray], float]:
    """The lowest cosine similarity of two arrays' rows; vectors are raw, so the norms must agree to a thousandth."""

    def lowest(a: np.ndarray, b: np.ndarray) -> float:
        assert a.shape == b.shape
        assert a.dtype == np.float32
        norms = np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1)
        np.testing.assert_allclose(norms[0], norms[1], rtol=1e-3)
        return float(((a * b).sum(axis=1) / (norms[0] * norms[1])).min())

    return lowest


def _comfyui() -> Path | None:
    here = Path(__file__).resolve()
    named = os.environ.get("COMFYUI_PATH")
    places = [Path(named)] if named else []
    places += [*here.parents, *(parent / "ComfyUI" for parent in here.parents), Path.home() / "ComfyUI"]
    return next((place for place in places if (place / "comfy" / "sd1_clip.py").is_file()), None)


@pytest.fixture(scope="session")
def ask_comfyui(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, dict[str, Any]], dict[str, np.ndarray]]:
    """Run one question of comfyui_reference.py in a process of its own; the arrays that it answers."""
    comfyui = _comfyui()
    if comfyui is None:
        pytest.skip("no ComfyUI found: set COMFYUI_PATH to compare with its own tokens and vectors")

    def ask(question: str, given: dict[str, Any]) -> dict[str, np.ndarray]:
        folder = tmp_path_factory.mktemp("comfyui")
        (folder / "given.json").write_text(json.dumps(given))
        script = Path(__file__).with_name("comfyui_reference.py")
        ran = subprocess.run(
            [sys.executable, str(script), question, str(folder / "given.json"), str(folder / "answer.npz")],
            cwd=comfyui,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(comfyui), os.environ.get("PYTHONPATH", "")])},
            capture_output=True,
            text=True,
            timeout=240,
        )
        assert ran.returncode == 0, ran.stderr[-4000:]
        with np.load(folder / "answer.npz") as answer:
            return dict(answer)

    return ask
