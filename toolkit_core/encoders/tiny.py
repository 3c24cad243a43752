"""Small, seeded, untrained weights of the real architectures and output widths.

For trying the program and for tests. They know no meaning: equal and nearly equal inputs get like vectors, no more.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import EncoderError
from .tiny_bge import write_tiny_bge

if TYPE_CHECKING:
    import torch

SEED = 20240229

_LAYERS = 2
_TEXT_POSITIONS = 77
_VOCABULARY = 49408


def write_tiny_weights(folder: Path) -> list[Path]:
    """Write `bge/`, clip_l.safetensors, clip_g.safetensors and clip_h.safetensors into `folder`.

    Returns BGE's folder and the three files, as `find_weights([folder])` finds them; the same weights at every call.
    Raises EncoderError when `onnx` or `onnxscript` is missing, when the exported graph does not equal torch, or when
    the folder can't be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    towers = {
        "clip_l": _text_tower(width=768, intermediate=256, projection=None),
        "clip_g": _text_tower(width=128, intermediate=256, projection=1280),
        "clip_h": {
            **_vision_tower(width=160, intermediate=320, projection=1024),
            **_text_tower(width=64, intermediate=128, projection=1024),
        },
    }
    files = [folder / f"{name}.safetensors" for name in towers]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file, tensors in zip(files, towers.values(), strict=True):
            save_file({name: tensor.half() for name, tensor in tensors.items()}, file)
        write_tiny_bge(folder / "bge", SEED)
    except (OSError, SafetensorError) as error:
        raise EncoderError(f"Tiny weights could not be written to {folder}: {error}") from error
    return [folder / "bge", *files]


def _text_tower(width: int, intermediate: int, projection: int | None) -> dict[str, torch.Tensor]:
    import torch

    generator = torch.Generator().manual_seed(SEED)
    tensors = {
        "text_model.embeddings.token_embedding.weight": _normal(generator, 1.0, _VOCABULARY, width),
        "text_model.embeddings.position_embedding.weight": _normal(generator, 0.3, _TEXT_POSITIONS, width),
        **_layers("text_model.encoder.", width, intermediate, generator),
        **_norm("text_model.final_layer_norm", width),
    }
    if projection is not None:
        tensors["text_projection.weight"] = _normal(generator, width**-0.5, projection, width)
    return tensors


def _vision_tower(width: int, intermediate: int, projection: int) -> dict[str, torch.Tensor]:
    import torch

    generator = torch.Generator().manual_seed(SEED)
    return {
        "vision_model.embeddings.class_embedding": _normal(generator, 0.1, width),
        "vision_model.embeddings.patch_embedding.weight": _normal(generator, 588**-0.5, width, 3, 14, 14),
        "vision_model.embeddings.position_embedding.weight": _normal(generator, 0.3, 257, width),
        **_norm("vision_model.pre_layrnorm", width),
        **_layers("vision_model.encoder.", width, intermediate, generator),
        **_norm("vision_model.post_layernorm", width),
        "visual_projection.weight": _normal(generator, width**-0.5, projection, width),
    }


def _layers(prefix: str, width: int, intermediate: int, generator: torch.Generator) -> dict[str, torch.Tensor]:
    """Attention outweighs the residual stream, so that the one pooled token tells its neighbours apart."""
    import torch

    tensors: dict[str, torch.Tensor] = {}
    for layer in range(_LAYERS):
        at = f"{prefix}layers.{layer}."
        for part, gain in (("q_proj", 1.5), ("k_proj", 1.5), ("v_proj", 2.0), ("out_proj", 3.0)):
            tensors[f"{at}self_attn.{part}.weight"] = _normal(generator, gain * width**-0.5, width, width)
            tensors[f"{at}self_attn.{part}.bias"] = torch.zeros(width)
        tensors[f"{at}mlp.fc1.weight"] = _normal(generator, width**-0.5, intermediate, width)
        tensors[f"{at}mlp.fc1.bias"] = torch.zeros(intermediate)
        tensors[f"{at}mlp.fc2.weight"] = _normal(generator, intermediate**-0.5, width, intermediate)
        tensors[f"{at}mlp.fc2.bias"] = torch.zeros(width)
        tensors |= _norm(f"{at}layer_norm1", width) | _norm(f"{at}layer_norm2", width)
    return tensors


def _norm(name: str, width: int) -> dict[str, torch.Tensor]:
    import torch

    return {f"{name}.weight": torch.ones(width), f"{name}.bias": torch.zeros(width)}


def _normal(generator: torch.Generator, std: float, *shape: int) -> torch.Tensor:
    import torch

    return torch.randn(*shape, generator=generator) * std
