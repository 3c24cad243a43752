from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from toolkit_core.encoders.clip import IMAGE_MEAN, IMAGE_STD, ClipTextEncoder, ClipVisionEncoder
from toolkit_core.encoders.clip_tokens import first_chunks
from toolkit_core.errors import EncoderError

MinCosine = Callable[[np.ndarray, np.ndarray], float]
Save = Callable[..., Path]


def _padded(texts: tuple[str, ...], padding: int) -> torch.Tensor:
    return torch.tensor([chunk + [padding] * (77 - len(chunk)) for chunk in first_chunks(texts)])


def _pixels(pictures: np.ndarray) -> torch.Tensor:
    pixels = torch.from_numpy(pictures).float() / 255
    return ((pixels - torch.tensor(IMAGE_MEAN)) / torch.tensor(IMAGE_STD)).movedim(-1, 1)


def _clip_l_reference(model: Any, texts: tuple[str, ...]) -> np.ndarray:
    with torch.inference_mode():
        return model.text_model(input_ids=_padded(texts, 49407)).pooler_output.numpy()


def _clip_g_reference(model: Any, texts: tuple[str, ...]) -> np.ndarray:
    with torch.inference_mode():
        return model(input_ids=_padded(texts, 0)).text_embeds.numpy()


def _without_projection(name: str) -> str | None:
    return None if name == "text_projection.weight" else name


@pytest.mark.parametrize(
    "rename",
    [
        lambda name: name,
        _without_projection,
        lambda name: f"text_encoders.clip_l.transformer.{name}",
        lambda name: f"conditioner.embedders.0.transformer.{name}",
        lambda name: name.removeprefix("text_model."),
    ],
    ids=["whole", "without projection", "in an SD3 file", "in an SDXL file", "as transformers 5 nests it"],
)
def test_clip_l_is_the_unprojected_pooled_state(
    rename: Callable[[str], str | None],
    clip_l_model: Any,
    save_weights: Save,
    texts: tuple[str, ...],
    min_cosine: MinCosine,
    tmp_path: Path,
) -> None:
    file = save_weights(tmp_path / "l.safetensors", clip_l_model.state_dict(), rename)
    vectors = ClipTextEncoder("clip_l", file, "cpu").encode(texts)
    assert min_cosine(vectors, _clip_l_reference(clip_l_model, texts)) > 0.99999


def test_clip_g_is_the_projected_pooled_state(
    clip_g_model: Any, save_weights: Save, texts: tuple[str, ...], min_cosine: MinCosine, tmp_path: Path
) -> None:
    file = save_weights(
        tmp_path / "g.safetensors", clip_g_model.state_dict(), lambda name: f"clip_g.transformer.{name}"
    )
    vectors = ClipTextEncoder("clip_g", file, "cpu").encode(texts)
    assert min_cosine(vectors, _clip_g_reference(clip_g_model, texts)) > 0.99999


@pytest.mark.parametrize("prefix", ["", "conditioner.embedders.1.model."])
def test_clip_g_from_open_clip_names(
    prefix: str,
    open_clip_model: Callable[..., Any],
    save_weights: Save,
    texts: tuple[str, ...],
    min_cosine: MinCosine,
    tmp_path: Path,
) -> None:
    model = open_clip_model(1280, 256)
    file = save_weights(tmp_path / "g.safetensors", model.state_dict(), lambda name: prefix + name)
    with torch.inference_mode():
        wanted = model.encode_text(_padded(texts, 0)).numpy()
    assert min_cosine(ClipTextEncoder("clip_g", file, "cpu").encode(texts), wanted) > 0.99999


def test_clip_l_from_open_clip_names(
    open_clip_model: Callable[..., Any],
    save_weights: Save,
    texts: tuple[str, ...],
    min_cosine: MinCosine,
    tmp_path: Path,
) -> None:
    model = open_clip_model(768, 768, quick_gelu=True)
    file = save_weights(tmp_path / "l.safetensors", model.state_dict())
    with torch.inference_mode():
        # With the identity as its projection, open_clip's own vector is the unprojected one.
        model.text_projection.copy_(torch.eye(768))
        wanted = model.encode_text(_padded(texts, 0)).numpy()
    assert min_cosine(ClipTextEncoder("clip_l", file, "cpu").encode(texts), wanted) > 0.99999


def test_clip_h_from_transformers_names(
    clip_h_model: Any, save_weights: Save, pictures: np.ndarray, min_cosine: MinCosine, tmp_path: Path
) -> None:
    file = save_weights(tmp_path / "h.safetensors", clip_h_model.state_dict())
    with torch.inference_mode():
        wanted = clip_h_model(pixel_values=_pixels(pictures)).image_embeds.numpy()
    assert min_cosine(ClipVisionEncoder(file, "cpu").encode(pictures), wanted) > 0.99999


def test_clip_h_from_open_clip_names(
    open_clip_model: Callable[..., Any], save_weights: Save, pictures: np.ndarray, min_cosine: MinCosine, tmp_path: Path
) -> None:
    model = open_clip_model(1024, 64)
    file = save_weights(tmp_path / "open_clip_model.safetensors", model.state_dict())
    with torch.inference_mode():
        wanted = model.encode_image(_pixels(pictures)).numpy()
    assert min_cosine(ClipVisionEncoder(file, "cpu").encode(pictures), wanted) > 0.99999


def test_batch_size_and_order_do_not_change_a_text_vector(
    tiny_weights: Path, texts: tuple[str, ...], min_cosine: MinCosine
) -> None:
    for space in ("clip_l", "clip_g"):
        encoder = ClipTextEncoder(space, tiny_weights / f"{space}.safetensors", "cpu")
        together = encoder.encode(texts * 20)
        alone = np.concatenate([encoder.encode([text]) for text in texts])
        assert min_cosine(together, np.tile(alone, (20, 1))) > 0.999999
        assert min_cosine(encoder.encode(texts[::-1]), alone[::-1]) > 0.999999


def test_batch_size_does_not_change_a_picture_vector(
    tiny_weights: Path, pictures: np.ndarray, min_cosine: MinCosine
) -> None:
    encoder = ClipVisionEncoder(tiny_weights / "clip_h.safetensors", "cpu")
    alone = np.concatenate([encoder.encode(picture[None]) for picture in pictures])
    assert min_cosine(encoder.encode(pictures), alone) > 0.999999


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float8_e4m3fn], ids=str)
def test_stored_dtype_is_cast_to_the_compute_dtype(
    dtype: torch.dtype, clip_g_model: Any, save_weights: Save, texts: tuple[str, ...], tmp_path: Path
) -> None:
    file = save_weights(tmp_path / "g.safetensors", clip_g_model.state_dict(), dtype=dtype)
    encoder = ClipTextEncoder("clip_g", file, "cpu", "float32")
    vectors, wanted = encoder.encode(texts), _clip_g_reference(clip_g_model, texts)
    cosines = (vectors * wanted).sum(1) / (np.linalg.norm(vectors, axis=1) * np.linalg.norm(wanted, axis=1))
    assert encoder.device == "cpu float32"
    assert cosines.min() > 0.97


def test_dtype_is_settable(tiny_weights: Path, texts: tuple[str, ...]) -> None:
    encoder = ClipTextEncoder("clip_g", tiny_weights / "clip_g.safetensors", "cpu", "bfloat16")
    assert encoder.device == "not loaded"
    assert encoder.encode(texts).dtype == np.float32
    assert encoder.device == "cpu bfloat16"


def test_no_texts_and_no_pictures_give_no_rows(tiny_weights: Path) -> None:
    assert ClipTextEncoder("clip_l", tiny_weights / "clip_l.safetensors", "cpu").encode([]).shape == (0, 768)
    none = np.empty((0, 224, 224, 3), np.uint8)
    assert ClipVisionEncoder(tiny_weights / "clip_h.safetensors", "cpu").encode(none).shape == (0, 1024)


def test_an_unloaded_encoder_loads_again(tiny_weights: Path, texts: tuple[str, ...]) -> None:
    encoder = ClipTextEncoder("clip_g", tiny_weights / "clip_g.safetensors", "cpu")
    before = encoder.encode(texts)
    encoder.unload()
    assert not encoder.loaded
    assert encoder.device == "not loaded"
    np.testing.assert_array_equal(encoder.encode(texts), before)


def test_threads_share_one_load(tiny_weights: Path, texts: tuple[str, ...]) -> None:
    encoder = ClipTextEncoder("clip_g", tiny_weights / "clip_g.safetensors", "cpu")
    results: list[np.ndarray] = []
    threads = [threading.Thread(target=lambda: results.append(encoder.encode(texts))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    assert len(results) == 4
    for result in results[1:]:
        np.testing.assert_allclose(result, results[0], rtol=1e-4, atol=1e-4)


def test_unusable_vectors_name_the_weights(clip_g_model: Any, save_weights: Save, tmp_path: Path) -> None:
    tensors = {name: tensor.clone() for name, tensor in clip_g_model.state_dict().items()}
    tensors["text_projection.weight"][0, 0] = float("nan")
    file = save_weights(tmp_path / "broken_g.safetensors", tensors)
    with pytest.raises(EncoderError, match=r"broken_g.*NaN"):
        ClipTextEncoder("clip_g", file, "cpu").encode(["a cat"])


@pytest.mark.parametrize(("device", "dtype", "message"), [("cpu", "float8", "float8"), ("nonsense", None, "nonsense")])
def test_a_device_or_dtype_that_does_not_exist_is_refused(
    device: str, dtype: str | None, message: str, tiny_weights: Path
) -> None:
    encoder = ClipTextEncoder("clip_g", tiny_weights / "clip_g.safetensors", device, dtype)
    with pytest.raises(EncoderError, match=message):
        encoder.load()


def test_pictures_of_another_shape_are_refused(tiny_weights: Path) -> None:
    encoder = ClipVisionEncoder(tiny_weights / "clip_h.safetensors", "cpu")
    with pytest.raises(EncoderError, match="224"):
        encoder.encode(np.zeros((1, 256, 256, 3), np.uint8))
    with pytest.raises(EncoderError, match="uint8"):
        encoder.encode(np.zeros((1, 224, 224, 3), np.float32))  # pyright: ignore[reportArgumentType]


class _SmallMemory(torch.nn.Module):
    """A model on a device that holds so many rows at once."""

    def __init__(self, model: Any, rows: int) -> None:
        super().__init__()
        self.model = model
        self.rows = rows
        self.asked: list[int] = []

    @property
    def dtype(self) -> torch.dtype:
        return self.model.dtype

    def forward(self, **inputs: torch.Tensor) -> Any:
        [rows] = {len(value) for value in inputs.values()}
        self.asked.append(rows)
        if rows > self.rows:
            raise torch.OutOfMemoryError(f"CUDA out of memory. Tried to hold {rows} rows")
        return self.model(**inputs)


def test_batches_become_smaller_where_memory_runs_out(tiny_weights: Path) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (9, 224, 224, 3), np.uint8)
    encoder = ClipVisionEncoder(tiny_weights / "clip_h.safetensors", "cpu")
    whole = encoder.encode(pictures)
    small = encoder._model = _SmallMemory(encoder._model, 1)
    assert np.allclose(encoder.encode(pictures), whole, atol=1e-5)
    tries = len(small.asked)
    assert np.allclose(encoder.encode(pictures), whole, atol=1e-5)
    assert small.asked[tries:] == [1] * 9, "what did not fit once is not tried again"
    texts = [f"a fox in the snow, number {n}" for n in range(40)]
    clip_l = ClipTextEncoder("clip_l", tiny_weights / "clip_l.safetensors", "cpu")
    vectors = clip_l.encode(texts)
    clip_l._model = _SmallMemory(clip_l._model, 3)
    assert np.allclose(clip_l.encode(texts), vectors, atol=1e-5)


def test_input_that_does_not_fit_alone_is_an_error_that_says_what_to_do(tiny_weights: Path) -> None:
    encoder = ClipVisionEncoder(tiny_weights / "clip_h.safetensors", "cpu")
    encoder.load()
    encoder._model = _SmallMemory(encoder._model, 0)
    with pytest.raises(EncoderError, match=r"too little memory.*set the device"):
        encoder.encode(np.zeros((2, 224, 224, 3), np.uint8))
