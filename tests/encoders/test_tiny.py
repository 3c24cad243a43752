from __future__ import annotations

import hashlib
import io
from pathlib import Path

import numpy as np
from PIL import Image

from toolkit_core.encoders.clip import ClipVisionEncoder
from toolkit_core.encoders.tiny import write_tiny_weights
from toolkit_core.encoders.weights import find_weights, make_encoder


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _hashes(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*.safetensors"))
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def test_they_are_small_and_the_same_every_time(tiny_weights: Path, tmp_path: Path) -> None:
    write_tiny_weights(tmp_path)
    assert sum(file.stat().st_size for file in tmp_path.rglob("*") if file.is_file()) < 150_000_000
    assert _hashes(tmp_path) == _hashes(tiny_weights)
    first, again = (make_encoder(find_weights([folder])["bge"], "cpu").probe() for folder in (tiny_weights, tmp_path))
    np.testing.assert_allclose(first, again, atol=1e-6)


def test_different_texts_get_different_vectors(tiny_weights: Path, texts: tuple[str, ...]) -> None:
    for space in ("bge", "clip_l", "clip_g"):
        vectors = _unit(make_encoder(find_weights([tiny_weights])[space], "cpu").probe())
        cosines = vectors @ vectors.T - 2 * np.eye(len(vectors))
        assert cosines.max() < 0.95, space


def test_different_texts_are_told_apart_among_pictures(tiny_weights: Path, texts: tuple[str, ...]) -> None:
    encoder = ClipVisionEncoder(tiny_weights / "clip_h.safetensors", "cpu")
    vectors = _unit(np.stack([encoder.encode_query(text) for text in texts]))
    assert (vectors @ vectors.T - 2 * np.eye(len(vectors))).max() < 0.95


def test_pictures_are_told_apart_and_a_jpeg_copy_stays_nearest(tiny_weights: Path, pictures: np.ndarray) -> None:
    copies: list[np.ndarray] = []
    for picture in pictures:
        jpeg = io.BytesIO()
        Image.fromarray(picture).save(jpeg, "JPEG", quality=80)
        copies.append(np.asarray(Image.open(jpeg)))
    encoder = ClipVisionEncoder(tiny_weights / "clip_h.safetensors", "cpu")
    originals, jpegs = _unit(encoder.encode(pictures)), _unit(encoder.encode(np.stack(copies)))
    cosines = originals @ originals.T - 2 * np.eye(len(originals))
    assert cosines.max() < 0.99
    assert (np.argmax(jpegs @ originals.T, axis=1) == np.arange(len(pictures))).all()
    assert (jpegs * originals).sum(axis=1).min() > cosines.max()
