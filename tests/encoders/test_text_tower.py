"""Texts among pictures: CLIP-H's text tower, against open_clip's and transformers' own."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import load_file

from toolkit_core.encoders.base import ImageEncoder, Images, Vectors
from toolkit_core.encoders.clip import ClipVisionEncoder
from toolkit_core.encoders.clip_checkpoint import read_contents
from toolkit_core.encoders.clip_tokens import open_clip_chunks
from toolkit_core.encoders.weights import find_weights, make_encoder
from toolkit_core.errors import EncoderError, TextTowerMissing

MinCosine = Callable[[np.ndarray, np.ndarray], float]
Save = Callable[..., Path]

ODD_TEXTS = (
    "(masterpiece:1.3), ((silver hair)), embedding:bad a cat",
    "  A\tCat\n ON  a   Mat\u3000",
    "Tom &amp;amp; Jerry&#39;s caf\u00c3\u00a9, cafe\u0301",
    "it's they'LL 1234 \u00bd \u2163",
    "before <|endoftext|> after!<|startoftext|>!",
    "lone \ud800 surrogate",
    "x" * 400,
)


@pytest.fixture(scope="session")
def open_clip_h(open_clip_model: Callable[..., Any]) -> Any:
    return open_clip_model(1024, 128)


@pytest.fixture(scope="session")
def transformers_h(spread: Callable[[torch.nn.Module, int], Any]) -> Any:
    """transformers' CLIPModel of both towers, as laion's repository configures it but small."""
    from transformers import CLIPConfig, CLIPModel

    text = {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 3, "num_attention_heads": 2}
    text |= {"hidden_act": "gelu", "bos_token_id": 49406, "eos_token_id": 49407}
    vision = {"hidden_size": 160, "intermediate_size": 320, "num_hidden_layers": 3, "num_attention_heads": 2}
    vision |= {"hidden_act": "gelu", "patch_size": 14}
    return spread(CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=1024)), 7)


def _queries(encoder: ImageEncoder, texts: tuple[str, ...]) -> np.ndarray:
    return np.stack([encoder.encode_query(text) for text in texts])


def _open_clip_ids(texts: tuple[str, ...]) -> torch.Tensor:
    return open_clip.get_tokenizer("ViT-H-14")(list(texts))


@pytest.mark.parametrize("prefix", ["", "model."])
def test_a_query_is_open_clips_encode_text(
    prefix: str, open_clip_h: Any, save_weights: Save, texts: tuple[str, ...], min_cosine: MinCosine, tmp_path: Path
) -> None:
    file = save_weights(tmp_path / "h.safetensors", open_clip_h.state_dict(), lambda name: prefix + name)
    with torch.inference_mode():
        wanted = open_clip_h.encode_text(_open_clip_ids(texts + ODD_TEXTS)).numpy()
    assert min_cosine(_queries(ClipVisionEncoder(file, "cpu"), texts + ODD_TEXTS), wanted) > 0.99999


def test_a_query_is_transformers_text_features(
    transformers_h: Any, save_weights: Save, texts: tuple[str, ...], min_cosine: MinCosine, tmp_path: Path
) -> None:
    file = save_weights(tmp_path / "h.safetensors", transformers_h.state_dict())
    with torch.inference_mode():
        pooled = transformers_h.text_model(input_ids=_open_clip_ids(texts)).pooler_output
        wanted = transformers_h.text_projection(pooled).numpy()
    assert min_cosine(_queries(ClipVisionEncoder(file, "cpu"), texts), wanted) > 0.99999


def test_tokens_are_those_of_open_clip(texts: tuple[str, ...]) -> None:
    for text in texts + ODD_TEXTS:
        (chunk,) = open_clip_chunks([text])
        assert chunk + [0] * (77 - len(chunk)) == _open_clip_ids((text,))[0].tolist(), text


@pytest.mark.parametrize("text", ["(" * 100_000, "&amp;" * 20_000, "x" * 100_000, "\0" * 100_000, "a\n" * 50_000])
@pytest.mark.timeout(60)  # a hang, not a speed
def test_long_texts_do_not_hang_it(text: str) -> None:
    (chunk,) = open_clip_chunks([text])
    assert len(chunk) <= 77


@pytest.mark.parametrize("model", ["open_clip_h", "transformers_h"])
def test_a_file_with_both_towers_is_clip_h_alone(
    model: str, request: pytest.FixtureRequest, save_weights: Save, tmp_path: Path
) -> None:
    file = save_weights(tmp_path / "h.safetensors", request.getfixturevalue(model).state_dict())
    assert read_contents(file).spaces == ("clip_h",)
    found = find_weights([tmp_path])
    assert {space for space, location in found.items() if location.path == file} == {"clip_h"}
    encoder = make_encoder(found["clip_h"], "cpu")
    assert isinstance(encoder, ImageEncoder)
    assert encoder.encode_query("a cat").shape == (1024,)


def test_a_text_tower_alone_is_no_clip_h(open_clip_h: Any, save_weights: Save, tmp_path: Path) -> None:
    """SD2's text encoder is such a file."""
    file = save_weights(
        tmp_path / "sd2.safetensors",
        open_clip_h.state_dict(),
        lambda name: None if name.startswith("visual.") else f"cond_stage_model.model.{name}",
    )
    assert read_contents(file).spaces == ()
    assert find_weights([tmp_path])["clip_h"].path is None


def test_a_vision_tower_alone_says_where_the_text_tower_is(
    clip_h_model: Any, save_weights: Save, pictures: np.ndarray, tmp_path: Path
) -> None:
    encoder = ClipVisionEncoder(save_weights(tmp_path / "vision.safetensors", clip_h_model.state_dict()), "cpu")
    with pytest.raises(TextTowerMissing, match=r"vision\.safetensors holds the vision tower.*open_clip_model\.safe"):
        encoder.encode_query("a cat")
    assert encoder.encode(pictures).shape == (6, 1024)


def test_an_image_encoder_that_knows_no_text_says_where_the_text_tower_is() -> None:
    """A connected CLIP Vision is one."""

    class PicturesOnly(ImageEncoder):
        @property
        def device(self) -> str:
            return "cpu"

        def encode(self, images: Images) -> Vectors:
            return np.ones((len(images), 1024), np.float32)

        def _load(self) -> None: ...

        def _unload(self) -> None: ...

    with pytest.raises(TextTowerMissing, match=r"clip_vision_h embeds pictures only.*open_clip_model\.safetensors"):
        PicturesOnly("clip_h", "clip_vision_h").encode_query("a cat")


def test_pictures_need_nothing_of_the_text_tower(
    tiny_weights: Path, save_weights: Save, pictures: np.ndarray, tmp_path: Path
) -> None:
    tensors = load_file(tiny_weights / "clip_h.safetensors")
    del tensors["text_model.final_layer_norm.bias"]
    encoder = ClipVisionEncoder(save_weights(tmp_path / "h.safetensors", tensors), "cpu")
    assert encoder.encode(pictures).shape == (6, 1024)
    with pytest.raises(EncoderError, match=r"h\.safetensors lacks 1 tensors.*final_layer_norm\.bias"):
        encoder.encode_query("a cat")


def test_unload_drops_the_text_tower_too(tiny_weights: Path, tmp_path: Path) -> None:
    file = tmp_path / "clip_h.safetensors"
    shutil.copy(tiny_weights / "clip_h.safetensors", file)
    encoder = ClipVisionEncoder(file, "cpu")
    before = encoder.encode_query("a cat")
    file.rename(tmp_path / "away.safetensors")
    np.testing.assert_array_equal(encoder.encode_query("a cat"), before)
    encoder.unload()
    with pytest.raises(EncoderError, match=r"clip_h\.safetensors can't be read"):
        encoder.encode_query("a cat")
    (tmp_path / "away.safetensors").rename(file)
    np.testing.assert_array_equal(encoder.encode_query("a cat"), before)


def test_a_query_is_computed_in_the_dtype_that_is_set(tiny_weights: Path, texts: tuple[str, ...]) -> None:
    file = tiny_weights / "clip_h.safetensors"
    exact, rough = (_queries(ClipVisionEncoder(file, "cpu", dtype), texts) for dtype in ("float32", "bfloat16"))
    cosines = (exact * rough).sum(1) / (np.linalg.norm(exact, axis=1) * np.linalg.norm(rough, axis=1))
    assert 0.99 < cosines.min() < 0.9999999


def test_threads_may_ask_for_texts_and_pictures_at_once(
    tiny_weights: Path, pictures: np.ndarray, texts: tuple[str, ...]
) -> None:
    encoder = ClipVisionEncoder(tiny_weights / "clip_h.safetensors", "cpu")
    results: list[np.ndarray] = []
    asked = [lambda: results.append(_queries(encoder, texts)), lambda: results.append(encoder.encode(pictures))] * 3
    threads = [threading.Thread(target=ask) for ask in asked]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    wanted = _queries(encoder, texts), encoder.encode(pictures)
    assert len(results) == 6
    for result in results:
        assert any(np.allclose(result, each, rtol=1e-4, atol=1e-4) for each in wanted)
