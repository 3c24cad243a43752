"""Encoders in place of a library's own: what they cannot do is done by its own, if those are the same weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from toolkit_core.encoders.clip import ClipVisionEncoder
from toolkit_core.errors import EncoderMismatch, TextTowerMissing
from toolkit_core.library import Library

IN_PICTURES: dict[str, Any] = {"text": "a fox in the snow", "weights": {"clip_h_text": 1}}


@pytest.fixture
def tensors(tiny_weights: Path) -> dict[str, torch.Tensor]:
    """Those of the tiny CLIP-H, both towers."""
    return load_file(tiny_weights / "clip_h.safetensors")


@pytest.fixture
def connected(tensors: dict[str, torch.Tensor], tmp_path: Path) -> Any:
    """The tiny CLIP-H without its text tower, in place of a library's own."""
    file = tmp_path / "connected.safetensors"
    save_file({name: tensor for name, tensor in tensors.items() if name.startswith("vis")}, file)
    return {"clip_h": lambda: ClipVisionEncoder(file, "cpu")}


@pytest.fixture
def indexed(library: Library, make_picture: Callable[..., Path], pictures: Path) -> Library:
    for number in range(4):
        make_picture(f"{number}.png", "a fox", seed=number)
    library.index([pictures])
    return library


@pytest.fixture
def reopened(indexed: Library, home: Path, tmp_path: Path) -> Callable[[], Library]:
    """Opens the library again, with the weights in the folder `own`."""
    (tmp_path / "own").mkdir()
    return lambda: Library.open(home, library=indexed.settings.library, weights=[tmp_path / "own"])


def test_text_is_looked_for_in_pictures_by_own_weights_where_the_connected_have_no_text_tower(
    indexed: Library, connected: Any
) -> None:
    hits = indexed.search(**IN_PICTURES, encoders=connected)
    assert len(hits) == 4
    assert hits == indexed.search(**IN_PICTURES)


def test_text_is_looked_for_by_the_connected_weights_where_they_have_a_text_tower(
    indexed: Library, connected: Any, tiny_weights: Path, reopened: Callable[[], Library]
) -> None:
    both = {"clip_h": lambda: ClipVisionEncoder(tiny_weights / "clip_h.safetensors", "cpu")}
    with reopened() as library:
        assert library.search(**IN_PICTURES, encoders=both) == indexed.search(**IN_PICTURES)


def test_without_own_weights_the_connected_ones_say_that_they_have_no_text_tower(
    connected: Any, reopened: Callable[[], Library]
) -> None:
    with reopened() as library, pytest.raises(TextTowerMissing, match=r"connected\.safetensors holds the vision tower"):
        library.search(**IN_PICTURES, encoders=connected)


def test_own_weights_without_a_text_tower_are_named(
    tensors: dict[str, torch.Tensor], connected: Any, reopened: Callable[[], Library], tmp_path: Path
) -> None:
    vision = {name: tensor for name, tensor in tensors.items() if name.startswith("vis")}
    with reopened() as library:
        save_file(vision, tmp_path / "own" / "own.safetensors")
        with pytest.raises(TextTowerMissing, match=r"own\.safetensors holds the vision tower"):
            library.search(**IN_PICTURES, encoders=connected)


def test_own_weights_that_are_others_embed_no_text(
    tensors: dict[str, torch.Tensor], connected: Any, reopened: Callable[[], Library], tmp_path: Path
) -> None:
    others = {**tensors, "visual_projection.weight": tensors["visual_projection.weight"].flip(0).contiguous()}
    with reopened() as library:
        save_file(others, tmp_path / "own" / "tuned.safetensors")
        with pytest.raises(EncoderMismatch, match="were made by 'clip_h'; 'tuned' gives others"):
            library.search(**IN_PICTURES, encoders=connected)
