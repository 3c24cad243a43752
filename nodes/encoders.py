"""A CLIP or CLIP_VISION input as encoders of toolkit_core: ComfyUI's model, device and memory management."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from comfy import model_management

from ..toolkit_core.conditioning import Conditioning, conditioning_probe
from ..toolkit_core.encoders.base import Encoder, ImageEncoder, Images, TextEncoder, Vectors
from ..toolkit_core.errors import EncoderError, WeightsMissing

if TYPE_CHECKING:
    from ..toolkit_core.space_encoders import EncoderSource

# ComfyUI's names of the two CLIPs: the submodule is the space's name, the tokens have one letter.
TOKENS = {"clip_l": "l", "clip_g": "g"}
# What a batch is at first, and what it may become.
TEXTS_A_BATCH = {"cpu": (8, 32), "gpu": (64, 128)}
IMAGES_A_BATCH = {"cpu": (4, 16), "gpu": (32, 64)}

# Probes by patcher, and in there by what was probed and by the patches (LoRAs) that were on it.
_probes: weakref.WeakKeyDictionary[Any, dict[tuple[str, Any], Vectors]] = weakref.WeakKeyDictionary()


def text_spaces(clip: Any) -> tuple[str, ...]:
    """Those of clip_l and clip_g that a CLIP input has: SDXL and SD3 both, SD1 and FLUX.1 L, the SDXL refiner G."""
    return tuple(space for space in TOKENS if getattr(clip.cond_stage_model, space, None) is not None)


def connected_encoders(clip: Any = None, clip_vision: Any = None) -> dict[str, EncoderSource]:
    """The encoders of what is connected, by space. A space that a connected CLIP lacks is left pending, saying so."""
    sources: dict[str, EncoderSource] = {}
    if clip is not None:
        name = model_name(clip.patcher, "the connected CLIP")
        has = text_spaces(clip)
        for space in TOKENS:
            sources[space] = partial(ClipInput, clip, space) if space in has else _lacking(space, name)
    if clip_vision is not None:
        sources["clip_h"] = partial(ClipVisionInput, clip_vision)
    return sources


def require_text_space(clip: Any) -> None:
    """Raises EncoderError for a CLIP with neither CLIP-L nor CLIP-G."""
    if not text_spaces(clip):
        raise EncoderError(
            f"{model_name(clip.patcher, 'The connected CLIP')} has neither CLIP-L nor CLIP-G. Connect the CLIP of an "
            "SDXL, SD3, SD1 or FLUX.1 model, or none."
        )


def model_name(patcher: Any, otherwise: str) -> str:
    """The names of the files that a core loader made the model of."""
    made_by = getattr(patcher, "cached_patcher_init", None)
    paths = made_by[1][0] if made_by and made_by[1] else ()
    files = [paths] if isinstance(paths, str) else paths
    name = ", ".join(Path(file).stem for file in files if isinstance(file, str)) or otherwise
    return f"{name} with LoRA or other patches" if getattr(patcher, "patches", None) else name


class ClipInput(TextEncoder):
    """CLIP-L or CLIP-G of a CLIP input. L is unprojected; both are raw; clip skip reaches neither."""

    def __init__(self, clip: Any, space: str) -> None:
        super().__init__(space, model_name(clip.patcher, "the connected CLIP"))
        self._clip = clip

    @property
    def device(self) -> str:
        return f"{self._clip.patcher.load_device} (ComfyUI)"

    def encode(self, texts: Sequence[str]) -> Vectors:
        with self._lock, torch.inference_mode():
            self.load()
            vectors = self._in_batches([1] * len(texts), lambda rows: self._forward([texts[row] for row in rows]))
        return self._checked(vectors, len(texts))

    def probe(self) -> Vectors:
        return _cached_probe(self._clip.patcher, self.space, super().probe)

    def _forward(self, texts: Sequence[str]) -> Vectors:
        model_management.throw_exception_if_processing_interrupted()
        tokens = [self._clip.tokenize(text) for text in texts]
        # The pooled vector comes from the first chunk alone, and attention weights do not reach it.
        chunks = [[token for token, *_ in each[TOKENS[self.space]][0]] for each in tokens]
        options = {"projected_pooled": False} if self.space == "clip_l" else {}
        with _options(self._clip, options, tokens[0]) as model:
            pooled = getattr(model, self.space).encode(chunks)[1]
        return pooled.float().cpu().numpy()

    def _batch_sizes(self) -> tuple[int, int]:
        return _on_device(TEXTS_A_BATCH, self._clip.patcher)

    def _free_memory(self) -> None:
        model_management.soft_empty_cache()

    def _load(self) -> None: ...  # ComfyUI loads, when it is used, and unloads.

    def _unload(self) -> None: ...


class ClipVisionInput(ImageEncoder):
    """CLIP ViT-H of a CLIP_VISION input: its `image_embeds`, raw."""

    def __init__(self, clip_vision: Any) -> None:
        super().__init__("clip_h", model_name(clip_vision.patcher, "the connected CLIP Vision"))
        self._clip_vision = clip_vision

    @property
    def device(self) -> str:
        return f"{self._clip_vision.load_device} (ComfyUI)"

    def encode(self, images: Images) -> Vectors:
        with self._lock, torch.inference_mode():
            self.load()
            vectors = self._in_batches([1] * len(images), lambda rows: self._forward(images[rows[0] : rows[-1] + 1]))
        return self._checked(vectors, len(images))

    def _forward(self, images: Images) -> Vectors:
        model_management.throw_exception_if_processing_interrupted()
        pixels = torch.from_numpy(images).float() / 255
        return self._clip_vision.encode_image(pixels).image_embeds.float().cpu().numpy()

    def probe(self) -> Vectors:
        return _cached_probe(self._clip_vision.patcher, self.space, super().probe)

    def _checked(self, vectors: Vectors, rows: int) -> Vectors:
        if vectors.shape[-1] != 1024:
            raise EncoderError(
                f"The connected CLIP Vision gives vectors {vectors.shape[-1]} wide; CLIP ViT-H/14 gives 1024. Load "
                "CLIP-ViT-H-14-laion2B-s32B-b79K (clip_vision_h)."
            )
        return super()._checked(vectors, rows)

    def _batch_sizes(self) -> tuple[int, int]:
        return _on_device(IMAGES_A_BATCH, self._clip_vision.patcher)

    def _free_memory(self) -> None:
        model_management.soft_empty_cache()

    def _load(self) -> None: ...

    def _unload(self) -> None: ...


class ClipConditioning:
    """Whole conditionings of a CLIP input, as CLIPTextEncode makes them."""

    def __init__(self, clip: Any) -> None:
        self.name = model_name(clip.patcher, "the connected CLIP")
        self.spaces = text_spaces(clip)
        self._clip = clip

    def encode(self, text: str) -> Conditioning:
        model_management.throw_exception_if_processing_interrupted()
        with torch.inference_mode():
            try:
                return self._clip.encode_from_tokens_scheduled(self._clip.tokenize(text))
            finally:
                self._clip.cond_stage_model.reset_clip_options()

    def probe(self) -> Vectors:
        what = f"conditioning at layer {self._clip.layer_idx}"
        return _cached_probe(self._clip.patcher, what, lambda: conditioning_probe(self.encode))


@contextmanager
def _options(clip: Any, options: dict[str, Any], tokens: Any) -> Iterator[Any]:
    """The text model, loaded and with these options alone; the CLIP's own defaults come back whatever happens."""
    model = clip.cond_stage_model
    model.reset_clip_options()
    try:
        clip.load_model(tokens)
        device = clip.patcher.load_device
        model.set_clip_options({"execution_device": device, **options})
        with model_management.cuda_device_context(device):
            yield model
    finally:
        model.reset_clip_options()


def _cached_probe(patcher: Any, what: str, probe: Callable[[], Vectors]) -> Vectors:
    known = _probes.setdefault(patcher, {})
    key = (what, patcher.patches_uuid)
    if key not in known:
        known[key] = probe()
    return known[key]


def _on_device(sizes: dict[str, tuple[int, int]], patcher: Any) -> tuple[int, int]:
    return sizes["cpu" if torch.device(patcher.load_device).type == "cpu" else "gpu"]


def _lacking(space: str, name: str) -> EncoderSource:
    def source() -> Encoder:
        raise WeightsMissing(
            f"{name} has no {space.replace('_', '-').upper()}. Connect that of an SDXL or SD3 model: they have both."
        )

    return source
