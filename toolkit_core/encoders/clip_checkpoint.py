"""CLIP towers in safetensors files: what a file holds, and one tower of it in transformers' names.

A tower is found by its characteristic key, whatever stands before it (`clip_l.transformer.`,
`conditioner.embedders.1.model.`, …), in transformers' or in open_clip's names. Only safetensors is read, and of it only
the needed tensors; nothing is ever unpickled.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..errors import EncoderError, TextTowerMissing
from ..spaces import SPACES
from .base import BOTH_TOWERS

if TYPE_CHECKING:
    import torch

Shapes = Mapping[str, tuple[int, ...]]

_TEXT_KEY = "embeddings.token_embedding.weight"
_VISION_KEY = "embeddings.patch_embedding.weight"
_OPEN_CLIP_TEXT_KEY = "token_embedding.weight"
_OPEN_CLIP_VISION_KEY = "visual.conv1.weight"
_DIFFUSION_KEYS = ("diffusion_model.", "first_stage_model.")

# open_clip's name of a tensor to transformers'; in_proj_weight, in_proj_bias and proj are handled apart.
_TOP_NAMES = {
    "text": {
        "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
        "positional_embedding": "text_model.embeddings.position_embedding.weight",
        "ln_final.weight": "text_model.final_layer_norm.weight",
        "ln_final.bias": "text_model.final_layer_norm.bias",
        "text_projection.weight": "text_projection.weight",
    },
    "vision": {
        "class_embedding": "vision_model.embeddings.class_embedding",
        "conv1.weight": "vision_model.embeddings.patch_embedding.weight",
        "positional_embedding": "vision_model.embeddings.position_embedding.weight",
        "ln_pre.weight": "vision_model.pre_layrnorm.weight",
        "ln_pre.bias": "vision_model.pre_layrnorm.bias",
        "ln_post.weight": "vision_model.post_layernorm.weight",
        "ln_post.bias": "vision_model.post_layernorm.bias",
    },
}
_BLOCK_NAMES = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
    "attn.out_proj": "self_attn.out_proj",
}
_BLOCK = re.compile(r"transformer\.resblocks\.(\d+)\.(.+)\.(weight|bias)")
_IN_PROJECTION = re.compile(r"transformer\.resblocks\.(\d+)\.attn\.in_proj_(weight|bias)")


@dataclass(frozen=True)
class Tower:
    """One CLIP tower of a file, as its tensors' shapes tell it.

    keys: each tensor of it, in transformers' or open_clip's name (see `style`), to its key in the file.
    projection: the output width of its projection, None where the file has none.
    positions: 77 for a text tower; 1 + patches for a vision tower, whose `patch` is the patch size in pixels.
    space: the space of its vectors, or None. CLIP-H's text tower embeds into the pictures' space.
    """

    of: Literal["text", "vision"]
    style: Literal["transformers", "open_clip"]
    keys: Mapping[str, str]
    width: int
    layers: int
    intermediate: int
    positions: int
    vocabulary: int
    patch: int
    projection: int | None

    @property
    def space(self) -> str | None:
        if self.of == "vision":
            # ViT-H's heads are 80 wide; that also keeps out ViT-g/14, which projects to 1024 as well.
            fits = self.projection == 1024 and self.positions == 257 and self.patch == 14 and self.width % 80 == 0
            return "clip_h" if fits else None
        if self.positions != 77 or self.width % 64:
            return None
        if self.projection == 1280:
            return "clip_g"
        if self.width == 768:
            return "clip_l"
        return "clip_h" if self.projection == 1024 else None

    def __str__(self) -> str:
        size = f"width {self.width}, {self.layers} layers, {self.positions} positions"
        patch = f", patch {self.patch}" if self.of == "vision" else ""
        projection = "no projection" if self.projection is None else f"projection to {self.projection}"
        return f"a CLIP {self.of} model ({size}{patch}, {projection})"


@dataclass(frozen=True)
class FileContents:
    """The CLIP towers of a file, and whether it is a full checkpoint with a diffusion model in it.

    spaces: those that it can serve. A text tower alone, such as SD2's, makes no CLIP-H.
    """

    towers: tuple[Tower, ...]
    is_checkpoint: bool

    @property
    def spaces(self) -> tuple[str, ...]:
        needed = {"text": "text", "vision": "image"}
        return tuple(t.space for t in self.towers if t.space is not None and SPACES[t.space].of == needed[t.of])


def read_contents(file: Path) -> FileContents:
    """Classify a safetensors file by its header alone. Raises EncoderError when it can't be read as one."""
    with _opened(file, "np") as opened:
        shapes = {key: tuple(opened.get_slice(key).get_shape()) for key in opened.keys()}  # noqa: SIM118
    return FileContents(
        towers=tuple(_towers(shapes)),
        is_checkpoint=any(part in key for key in shapes for part in _DIFFUSION_KEYS),
    )


def read_tower(
    file: Path, space: str, of: Literal["text", "vision"], dtype: torch.dtype
) -> tuple[Tower, dict[str, torch.Tensor]]:
    """The text or the vision tower of a file that embeds into `space`, its tensors in transformers' names.

    The names have their `text_model.` or `vision_model.`. Tensors are on the CPU, of `dtype`, whatever they were stored
    in. Raises EncoderError when the file can't be read, holds no such tower, or holds scaled fp8 weights;
    TextTowerMissing when it holds CLIP-H's vision tower only.
    """
    contents = read_contents(file)
    tower = next((tower for tower in contents.towers if (tower.space, tower.of) == (space, of)), None)
    if tower is None and of == "text" and space in contents.spaces:
        raise TextTowerMissing(f"{file} holds the vision tower of CLIP ViT-H/14 only. {BOTH_TOWERS}")
    if tower is None:
        holds = ", ".join(str(tower) for tower in contents.towers) or "no CLIP model"
        raise EncoderError(f"{file} can't serve {space}: it holds {holds}. {_EXPECTED[space]}")
    scaled = [name for name in tower.keys if name.endswith(("scale_weight", "weight_scale", "scaled_fp8"))]
    if scaled:
        raise EncoderError(f"{file} holds scaled fp8 weights ({scaled[0]}); use the fp16 or bf16 file of this model.")
    tensors: dict[str, torch.Tensor] = {}
    with _opened(file, "pt") as opened:
        for name, key in tower.keys.items():
            for new_name, tensor in _in_transformers_names(tower, name, opened.get_tensor(key)):
                if tensor.dtype.is_floating_point:
                    tensors[new_name] = tensor.to(dtype).contiguous()
    return tower, tensors


_EXPECTED = {
    "clip_l": "CLIP-L is a text model of width 768 with 77 positions, such as clip_l.safetensors.",
    "clip_g": "CLIP-G is a text model with 77 positions and a projection to 1280, such as clip_g.safetensors.",
    "clip_h": "CLIP ViT-H/14 is a vision model with 257 positions, patch 14 and a projection to 1024, such as "
    "CLIP-ViT-H-14-laion2B-s32B-b79K.safetensors.",
}


@contextmanager
def _opened(file: Path, framework: str) -> Iterator[Any]:
    from safetensors import SafetensorError, safe_open

    if file.suffix.lower() != ".safetensors":
        raise EncoderError(
            f"{file} is not a .safetensors file. Pickled weights are never read: use the safetensors file."
        )
    try:
        with safe_open(str(file), framework=framework) as opened:
            yield opened
    except (SafetensorError, OSError, ValueError, MemoryError) as error:
        raise EncoderError(
            f"{file} can't be read as safetensors ({error}). It may be cut short or damaged: get it again."
        ) from error


def _towers(shapes: Shapes) -> Iterator[Tower]:
    for key in shapes:
        if key.endswith(_TEXT_KEY):
            before = key[: -len(_TEXT_KEY)]
            outer = before.removesuffix("text_model.")
            names = _renested(shapes, before, "text_model.") | _only(shapes, outer, ("text_projection.weight",))
            yield from _transformers_tower("text", shapes, names)
        elif key.endswith(_VISION_KEY):
            before = key[: -len(_VISION_KEY)]
            outer = before.removesuffix("vision_model.")
            names = _renested(shapes, before, "vision_model.") | _only(shapes, outer, ("visual_projection.weight",))
            yield from _transformers_tower("vision", shapes, names)
        elif key.endswith(_OPEN_CLIP_TEXT_KEY):
            prefix = key[: -len(_OPEN_CLIP_TEXT_KEY)]
            names = _under(shapes, prefix, ("transformer.", "ln_final.")) | _only(
                shapes,
                prefix,
                ("token_embedding.weight", "positional_embedding", "text_projection", "text_projection.weight"),
            )
            yield from _open_clip_tower("text", shapes, names)
        elif key.endswith(_OPEN_CLIP_VISION_KEY):
            prefix = key[: -len("conv1.weight")]
            yield from _open_clip_tower("vision", shapes, _under(shapes, prefix, ("",)))


def _renested(shapes: Shapes, before: str, inner: str) -> dict[str, str]:
    names = _under(shapes, before, ("embeddings.", "encoder.", "final_layer_norm.", "pre_layrnorm.", "post_layernorm."))
    return {inner + name: key for name, key in names.items() if not name.endswith("position_ids")}


def _under(shapes: Shapes, prefix: str, starts: tuple[str, ...]) -> dict[str, str]:
    return {
        key[len(prefix) :]: key for key in shapes if key.startswith(prefix) and key[len(prefix) :].startswith(starts)
    }


def _only(shapes: Shapes, prefix: str, names: tuple[str, ...]) -> dict[str, str]:
    return {name: prefix + name for name in names if prefix + name in shapes}


def _transformers_tower(of: Literal["text", "vision"], shapes: Shapes, keys: dict[str, str]) -> Iterator[Tower]:
    shape = {name: shapes[key] for name, key in keys.items()}
    inner = f"{of}_model."
    first_mlp = shape.get(f"{inner}encoder.layers.0.mlp.fc1.weight")
    positions = shape.get(f"{inner}embeddings.position_embedding.weight")
    embedding = shape[inner + (_TEXT_KEY if of == "text" else _VISION_KEY)]
    projection = shape.get("text_projection.weight" if of == "text" else "visual_projection.weight")
    yield from _tower(of, "transformers", keys, first_mlp, positions, embedding, projection and projection[:1])


def _open_clip_tower(of: Literal["text", "vision"], shapes: Shapes, keys: dict[str, str]) -> Iterator[Tower]:
    shape = {name: shapes[key] for name, key in keys.items()}
    projection = shape.get("text_projection" if of == "text" else "proj")
    linear = shape.get("text_projection.weight")
    width_out = linear[:1] if linear else projection and projection[-1:]
    first_mlp = shape.get("transformer.resblocks.0.mlp.c_fc.weight")
    embedding = shape["token_embedding.weight" if of == "text" else "conv1.weight"]
    yield from _tower(of, "open_clip", keys, first_mlp, shape.get("positional_embedding"), embedding, width_out)


def _tower(
    of: Literal["text", "vision"],
    style: Literal["transformers", "open_clip"],
    keys: dict[str, str],
    first_mlp: tuple[int, ...] | None,
    positions: tuple[int, ...] | None,
    embedding: tuple[int, ...],
    projection: tuple[int, ...] | None,
) -> Iterator[Tower]:
    """At most one tower: other models have keys that end like CLIP's, but not these shapes."""
    if first_mlp is None or positions is None or len(first_mlp) != 2 or len(positions) != 2:
        return
    if len(embedding) != (2 if of == "text" else 4):
        return
    layer = re.compile(r"(?:encoder\.layers|transformer\.resblocks)\.(\d+)\.")
    numbers = {int(found[1]) for name in keys if (found := layer.search(name))}
    yield Tower(
        of=of,
        style=style,
        keys=keys,
        width=positions[1],
        layers=max(numbers) + 1,
        intermediate=first_mlp[0],
        positions=positions[0],
        vocabulary=embedding[0] if of == "text" else 0,
        patch=embedding[-1] if of == "vision" else 0,
        projection=projection[0] if projection else None,
    )


def _in_transformers_names(tower: Tower, name: str, tensor: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
    if tower.style == "transformers":
        yield name, tensor
    elif name in _TOP_NAMES[tower.of]:
        yield _TOP_NAMES[tower.of][name], tensor
    elif name == "text_projection":
        yield "text_projection.weight", tensor.transpose(0, 1)
    elif name == "proj":
        yield "visual_projection.weight", tensor.transpose(0, 1)
    elif found := _IN_PROJECTION.fullmatch(name):
        for part, piece in zip(("q_proj", "k_proj", "v_proj"), tensor.chunk(3), strict=True):
            yield f"{tower.of}_model.encoder.layers.{found[1]}.self_attn.{part}.{found[2]}", piece
    elif (found := _BLOCK.fullmatch(name)) and found[2] in _BLOCK_NAMES:
        yield f"{tower.of}_model.encoder.layers.{found[1]}.{_BLOCK_NAMES[found[2]]}.{found[3]}", tensor
