"""CLIP-L, CLIP-G and CLIP ViT-H by transformers, from single safetensors files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from ..errors import EncoderError
from ..spaces import DTYPES
from .base import Encoder, ImageEncoder, Images, TextEncoder, Vectors
from .clip_checkpoint import Tower, read_tower
from .clip_tokens import END_TOKEN, first_chunks, open_clip_chunks
from .upload import Upload, copy_stream

if TYPE_CHECKING:
    import torch

IMAGE_MEAN = (0.48145466, 0.4578275, 0.40821073)
IMAGE_STD = (0.26862954, 0.26130258, 0.27577711)
IMAGE_SIZE = 224

# What a batch counts for at first, and what it may become.
_TOKENS_A_BATCH = {"cpu": (512, 2048), "cuda": (4096, 16384)}
_IMAGES_A_BATCH = {"cpu": (4, 16), "cuda": (32, 128)}
_VISION_HEAD_WIDTH = 80
_TEXT_HEAD_WIDTH = 64


class _ClipTower(Encoder):
    """What the text and the vision encoder share: one tower of one file, on one device."""

    _tower: ClassVar[Literal["text", "vision"]]
    _a_batch: ClassVar[dict[str, tuple[int, int]]]

    def __init__(self, space: str, path: Path, device: str | None = None, dtype: str | None = None) -> None:
        """`device` is torch's ("cuda:0", "cpu", "mps"), by default the GPU that torch sees, else the CPU.

        `dtype` is "float32", "float16" or "bfloat16"; by default float16 on CUDA and float32 elsewhere.
        """
        super().__init__(space, path.stem)
        self.path = path
        self._wanted_device = device
        self._wanted_dtype = dtype
        self._model: Any = None
        self._torch_device: torch.device | None = None

    @property
    def device(self) -> str:
        if self._torch_device is None:
            return "not loaded"
        return f"{self._torch_device} {str(self._model.dtype).removeprefix('torch.')}"

    def _load(self) -> None:
        import torch

        device, dtype = _device_and_dtype(self._wanted_device, self._wanted_dtype)
        tower, tensors = read_tower(self.path, self.space, self._tower, dtype)
        try:
            with torch.device("meta"):
                model = _build_model(tower, self.space)
            _assign(model, tensors, self.path)
            self._model = model.to(device=device).eval().requires_grad_(False)
        except torch.OutOfMemoryError as error:
            raise EncoderError(f"{self.path} does not fit on {device}; set this encoder's device to cpu.") from error
        # A bare "cuda" becomes the device that the weights really lie on.
        self._torch_device = next(self._model.parameters()).device

    def _unload(self) -> None:
        self._model = None
        self._free_memory()
        self._torch_device = None

    def _batch_sizes(self) -> tuple[int, int]:
        assert self._torch_device is not None
        return self._a_batch.get(self._torch_device.type, self._a_batch["cpu"])

    def _free_memory(self) -> None:
        import torch

        if self._torch_device is not None and self._torch_device.type == "cuda":
            torch.cuda.empty_cache()


class ClipTextEncoder(_ClipTower, TextEncoder):
    """CLIP-L: the pooled end-token state after the final layer norm, unprojected, raw: `CLIPTextModel.pooler_output`.

    CLIP-G: the same state projected, raw: SDXL's `pooled_output`, `CLIPTextModelWithProjection.text_embeds`.
    CLIP-H: projected too, into the space of its pictures, raw: open_clip's `encode_text`. Its texts are searches, no
    prompts, so they are read as open_clip reads them: parentheses are no weights.
    """

    _tower = "text"
    _a_batch = _TOKENS_A_BATCH

    def encode(self, texts: Sequence[str]) -> Vectors:
        with self._lock:
            self.load()
            read = open_clip_chunks if self.space == "clip_h" else first_chunks
            chunks = [_until_end(chunk) for chunk in read(texts)]
            vectors = self._in_batches(
                [len(chunk) for chunk in chunks], lambda rows: self._forward([chunks[row] for row in rows])
            )
        return self._checked(vectors, len(texts))

    def _forward(self, chunks: list[list[int]]) -> Vectors:
        import torch

        # Attention is causal, so what stands after a row's end token can't reach its vector: pad to the longest only.
        longest = max(map(len, chunks))
        padded = torch.tensor([chunk + [END_TOKEN] * (longest - len(chunk)) for chunk in chunks])
        with torch.inference_mode():
            output = self._model(input_ids=padded.to(self._torch_device))
        pooled = output.pooler_output if self.space == "clip_l" else output.text_embeds
        return pooled.float().cpu().numpy()


class ClipVisionEncoder(_ClipTower, ImageEncoder):
    """CLIP ViT-H/14: the projected `image_embeds`, raw. Normalises pixels as ComfyUI's `clip_preprocess` does."""

    _tower = "vision"
    _a_batch = _IMAGES_A_BATCH

    def __init__(self, path: Path, device: str | None = None, dtype: str | None = None) -> None:
        super().__init__("clip_h", path, device, dtype)
        # Loaded by the first text: it is 350 million parameters, and most runs embed pictures only.
        self._text_tower = ClipTextEncoder("clip_h", path, device, dtype)
        self._copy_stream: torch.cuda.Stream | None = None

    def encode(self, images: Images) -> Vectors:
        if images.dtype != np.uint8 or images.shape[1:] != (IMAGE_SIZE, IMAGE_SIZE, 3):
            raise EncoderError(
                f"{self.space} takes uint8 pictures of shape (n, {IMAGE_SIZE}, {IMAGE_SIZE}, 3), "
                f"not {images.dtype} {images.shape}."
            )
        with self._lock:
            self.load()
            assert self._torch_device is not None
            upload = Upload(images, self._torch_device, self._copy_stream)
            vectors = self._in_batches([1] * len(images), lambda rows: self._forward(upload, rows[0], rows[-1] + 1))
        return self._checked(vectors, len(images))

    def encode_query(self, text: str) -> Vectors:
        with self._lock:
            return self._text_tower.encode_query(text)

    def unload(self) -> None:
        with self._lock:
            super().unload()
            self._text_tower.unload()

    def _load(self) -> None:
        super()._load()
        assert self._torch_device is not None
        self._copy_stream = copy_stream(self._torch_device)

    def _unload(self) -> None:
        self._copy_stream = None
        super()._unload()

    def _forward(self, upload: Upload, first: int, end: int) -> Vectors:
        import torch

        device = self._torch_device
        mean, std = torch.tensor(IMAGE_MEAN, device=device), torch.tensor(IMAGE_STD, device=device)
        pixels = upload.arrived(first, end).float() / 255.0
        pixels = ((pixels - mean) / std).movedim(-1, 1).to(self._model.dtype)
        with torch.inference_mode():
            embeds = self._model(pixel_values=pixels).image_embeds.float()
            upload.begin(end, end + end - first)
            return embeds.cpu().numpy()


def _device_and_dtype(device: str | None, dtype: str | None) -> tuple[torch.device, torch.dtype]:
    import torch

    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise EncoderError(
            f"Torch can't use the device {device!r} ({reason}). Leave it unset, or set it to cpu."
        ) from error
    if dtype is None:
        return chosen, torch.float16 if chosen.type == "cuda" else torch.float32
    if dtype not in DTYPES:
        raise EncoderError(f"No dtype {dtype!r} for an encoder: use {', '.join(DTYPES)}.")
    return chosen, getattr(torch, dtype)


def _build_model(tower: Tower, space: str) -> torch.nn.Module:
    """The model of a tower's shapes, without weights. What shapes can't tell is fixed by the space."""
    from transformers import (
        CLIPTextConfig,
        CLIPTextModel,
        CLIPTextModelWithProjection,
        CLIPVisionConfig,
        CLIPVisionModelWithProjection,
    )

    if tower.of == "vision":
        return CLIPVisionModelWithProjection(
            CLIPVisionConfig(
                hidden_size=tower.width,
                intermediate_size=tower.intermediate,
                num_hidden_layers=tower.layers,
                num_attention_heads=tower.width // _VISION_HEAD_WIDTH,
                projection_dim=tower.projection or 0,
                image_size=IMAGE_SIZE,
                patch_size=tower.patch,
                hidden_act="gelu",
                layer_norm_eps=1e-5,
            )
        )
    activation: Literal["quick_gelu", "gelu"] = "quick_gelu" if space == "clip_l" else "gelu"
    config = CLIPTextConfig(
        vocab_size=tower.vocabulary,
        hidden_size=tower.width,
        intermediate_size=tower.intermediate,
        num_hidden_layers=tower.layers,
        num_attention_heads=tower.width // _TEXT_HEAD_WIDTH,
        projection_dim=tower.projection or tower.width,
        max_position_embeddings=tower.positions,
        hidden_act=activation,
        layer_norm_eps=1e-5,
        bos_token_id=49406,
        eos_token_id=END_TOKEN,
        pad_token_id=1,
    )
    return CLIPTextModel(config) if space == "clip_l" else CLIPTextModelWithProjection(config)


def _assign(model: torch.nn.Module, tensors: dict[str, torch.Tensor], path: Path) -> None:
    """Put a file's tensors into a model made on the meta device. Raises EncoderError if any is missing or misshapen."""
    wanted = model.state_dict()
    if "embeddings.token_embedding.weight" in wanted:
        # transformers 5 dropped the `text_model.` level of CLIPTextModel; every file still has it.
        tensors = {name.removeprefix("text_model."): tensor for name, tensor in tensors.items()}
    missing = [name for name in wanted if name not in tensors and not name.endswith("position_ids")]
    if missing:
        raise EncoderError(f"{path} lacks {len(missing)} tensors of its model ({missing[0]}, …): get the file again.")
    for name, tensor in wanted.items():
        if name in tensors and tensors[name].shape != tensor.shape:
            raise EncoderError(
                f"{path}: {name} has shape {tuple(tensors[name].shape)} instead of {tuple(tensor.shape)}; "
                f"the file is damaged or of another model."
            )
    model.load_state_dict({name: tensors[name] for name in wanted if name in tensors}, strict=False, assign=True)
    _restore_position_ids(model)


def _restore_position_ids(model: torch.nn.Module) -> None:
    """The position ids are no weights, and a model made on the meta device has none."""
    import torch

    for module in model.modules():
        positions = getattr(module, "position_ids", None)
        if isinstance(positions, torch.Tensor) and positions.is_meta:
            module.register_buffer("position_ids", torch.arange(positions.shape[-1]).expand((1, -1)), persistent=False)


def _until_end(chunk: list[int]) -> list[int]:
    return chunk[: chunk.index(END_TOKEN) + 1]
