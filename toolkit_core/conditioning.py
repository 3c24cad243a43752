"""CONDITIONING and EMBEDS, ComfyUI's tensors, without ComfyUI: their shape, their bytes, and pooled vectors in them.

A conditioning is `[[tensor[B, T, C], {"pooled_output": tensor[B, W], …}], …]`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .encoders.identity import PROBE_TEXTS
from .errors import ConditioningError

if TYPE_CHECKING:
    import torch

Conditioning = list[list[Any]]
Vector = NDArray[np.float32]

EMBEDDING_TYPES = ("auto", "clip_l", "clip_g", "image")
POOLED_WIDTHS: dict[int, tuple[str, ...]] = {768: ("clip_l",), 1280: ("clip_g",), 2048: ("clip_l", "clip_g")}
MODELS = {768: "FLUX.1 and SD1", 1280: "SDXL", 2048: "SD3"}
PROBE_TOKENS = (1, 4, 8, 12)

_STRUCTURE = "conditioning"
_TENSOR = "tensor"


class ConditioningEncoder(Protocol):
    """Makes whole conditionings of texts, as a connected CLIP does.

    name: what a person calls its weights. spaces: those of its pooled vectors, e.g. ("clip_l", "clip_g").
    """

    name: str
    spaces: tuple[str, ...]

    def encode(self, text: str) -> Conditioning: ...

    def probe(self) -> NDArray[np.float32]:
        """See `conditioning_probe`."""
        ...


@dataclass(frozen=True)
class StoredVisionOutput:
    """What unCLIP models read of a CLIP_VISION_OUTPUT: `image_embeds`, float32, shape (1, 1024)."""

    image_embeds: torch.Tensor


def conditioning_probe(encode: Callable[[str], Conditioning]) -> NDArray[np.float32]:
    """An encoder's own mark: four tokens of the first two probe texts, float32, shape (8, C)."""
    rows = []
    for text in PROBE_TEXTS[:2]:
        tokens = encode(text)[0][0][0]
        rows += [tokens[min(at, len(tokens) - 1)].float().cpu().numpy() for at in PROBE_TOKENS]
    return np.stack(rows).astype(np.float32)


def needed_spaces(conditioning: Conditioning, embedding_type: str) -> tuple[str, ...]:
    """The spaces whose stored vectors `with_pooled` will want for this conditioning. Raises ConditioningError."""
    spaces = [space for entry in conditioning for space in _entry_spaces(entry, embedding_type)]
    return tuple(dict.fromkeys(spaces))


def with_pooled(conditioning: Conditioning, embedding_type: str, vectors: Mapping[str, Vector]) -> Conditioning:
    """A copy with the stored vectors, by space, each of shape (width,), as `pooled_output` of every entry.

    Each keeps its batch, dtype and device. Of "auto", an entry whose pooled width belongs to no stored space stays as
    it is. Raises ConditioningError where a width does not fit.
    """
    import torch

    copied = copy(conditioning)
    for entry in copied:
        spaces = _entry_spaces(entry, embedding_type)
        if spaces:
            pooled: torch.Tensor = entry[1]["pooled_output"]
            stored = torch.from_numpy(np.concatenate([vectors[space] for space in spaces]))
            entry[1]["pooled_output"] = stored.to(pooled).expand(pooled.shape).clone()
    return copied


def with_image(conditioning: Conditioning, vector: Vector) -> Conditioning:
    """A copy with a picture's CLIP-H vector, shape (1024,), as one more `unclip_conditioning` of every entry."""
    import torch

    copied = copy(conditioning)
    output = StoredVisionOutput(torch.from_numpy(vector)[None])
    for _, values in copied:
        one = {"clip_vision_output": output, "strength": 1.0, "noise_augmentation": 0.0}
        values["unclip_conditioning"] = [*values.get("unclip_conditioning", ()), one]
    return copied


def copy(conditioning: Conditioning) -> Conditioning:
    """The same tensors in entries of their own, so that nothing written to a copy reaches the original."""
    return [[entry[0], dict(entry[1])] for entry in conditioning]


def embeds(vectors: Sequence[Vector]) -> tuple[torch.Tensor, torch.Tensor]:
    """CLIP-H vectors as IPAdapter's EMBEDS, float32 of shape (n, 1024), and zeros of that shape as the negative."""
    import torch

    positive = torch.from_numpy(np.stack(vectors))
    return positive, torch.zeros_like(positive)


def to_bytes(conditioning: Conditioning) -> bytes:
    """A conditioning as safetensors, every tensor bit for bit in its own dtype.

    Raises ConditioningError for a value that is neither a tensor nor plain data (hooks, for one).
    """
    from safetensors.torch import save

    tensors: dict[str, torch.Tensor] = {}
    structure = [_plain(value, tensors) for value in conditioning]
    return save(tensors, {_STRUCTURE: json.dumps(structure)})


def from_bytes(data: bytes) -> Conditioning:
    """The conditioning that `to_bytes` was given, on the CPU. Raises ConditioningError for damaged bytes."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        tensors = load(data)
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        structure = json.loads(header["__metadata__"][_STRUCTURE])
    except (SafetensorError, KeyError, ValueError) as error:
        raise ConditioningError(
            f"A kept conditioning is damaged ({error}). Connect a CLIP, or index with reindex and keep_conditioning."
        ) from error
    return [_restored(value, tensors) for value in structure]


def _entry_spaces(entry: list[Any], embedding_type: str) -> tuple[str, ...]:
    """The spaces whose vectors, joined, replace this entry's pooled output."""
    if embedding_type not in EMBEDDING_TYPES:
        raise ConditioningError(f"{embedding_type!r} is no embedding type. There are {', '.join(EMBEDDING_TYPES)}.")
    if embedding_type == "image":
        return ()
    pooled = entry[1].get("pooled_output")
    width = None if pooled is None else pooled.shape[-1]
    if embedding_type == "auto":
        return POOLED_WIDTHS.get(width or 0, ())
    if width is None:
        raise ConditioningError(
            f"This conditioning has no pooled output that {embedding_type} could replace. Choose auto or image."
        )
    needed = next(w for w, spaces in POOLED_WIDTHS.items() if spaces == (embedding_type,))
    if width != needed:
        fitting = " and ".join(POOLED_WIDTHS.get(width, ())) or "no stored vector"
        raise ConditioningError(
            f"{embedding_type} is {needed} wide (for {MODELS[needed]}), but this conditioning's pooled output is "
            f"{width} wide{f' ({MODELS[width]})' if width in MODELS else ''}: {fitting} fits. Choose auto."
        )
    return (embedding_type,)


def _plain(value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    """A value as JSON, its tensors put into `tensors` and named in their place."""
    import torch

    if isinstance(value, torch.Tensor):
        name = str(len(tensors))
        # A clone, because safetensors refuses tensors that share memory.
        tensors[name] = value.detach().cpu().clone(memory_format=torch.contiguous_format)
        return {_TENSOR: name}
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {"dict": {key: _plain(item, tensors) for key, item in value.items()}}
    if isinstance(value, (list, tuple)):
        return [_plain(item, tensors) for item in value]
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    raise ConditioningError(
        f"This CLIP puts a {type(value).__name__} into its conditioning, which cannot be kept. Switch "
        "keep_conditioning off, or connect the CLIP before hooks are set on it."
    )


def _restored(value: Any, tensors: Mapping[str, torch.Tensor]) -> Any:
    if isinstance(value, dict):
        if _TENSOR in value:
            return tensors[value[_TENSOR]]
        return {key: _restored(item, tensors) for key, item in value["dict"].items()}
    if isinstance(value, list):
        return [_restored(item, tensors) for item in value]
    return value
