"""What no vector can be made of is named and left out, and the rest is embedded; weights that are no good are refused.

All by real models: weights of which a few were changed, so that one text, one picture, or all of them give no vector.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from toolkit_core.encoders.clip import ClipVisionEncoder
from toolkit_core.encoders.clip_tokens import first_chunks
from toolkit_core.encoders.pixels import decode
from toolkit_core.indexing import embedder
from toolkit_core.library import Library

MakePicture = Callable[..., Path]
Change = Callable[[NDArray[np.float32]], NDArray[np.float32]]
OpenWith = Callable[[str, str, Change], AbstractContextManager[Library]]
PICTURES = 7
LARGEST_HALF = 65504


@pytest.fixture
def open_with(home: Path, schema: str, tiny_weights: Path, tmp_path: Path) -> OpenWith:
    """Opens the library with one tensor of one file of its weights changed."""

    @contextmanager
    def opened(space: str, tensor: str, change: Change) -> Iterator[Library]:
        folder = tmp_path / f"other {space}"
        shutil.copytree(tiny_weights, folder)
        tensors = {name: value.astype(np.float32) for name, value in load_file(folder / f"{space}.safetensors").items()}
        tensors[tensor] = change(tensors[tensor])
        save_file(tensors, folder / f"{space}.safetensors")
        with Library.open(home, library=schema, weights=[folder]) as library:
            yield library

    return opened


@pytest.fixture
def some(make_picture: MakePicture, pictures: Path) -> Path:
    """A folder of pictures, of whose prompts one has a zebra."""
    for n in range(PICTURES):
        make_picture(f"{n}.png", "a zebra in the snow" if n == 3 else f"prompt {n}", seed=n)
    return pictures


def no_zebra(embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
    """Token embeddings in which one word has none."""
    [chunk] = first_chunks(["zebra"])
    embeddings[chunk[1]] = np.nan
    return embeddings


def too_large_for_one(weights: Path, folder: Path) -> tuple[Path, Change]:
    """The file of the picture that has the largest number in its vector, and what makes that one alone too large."""
    paths = sorted(folder.iterdir())
    encoder = ClipVisionEncoder(weights / "clip_h.safetensors", "cpu")
    made = encoder.encode(np.stack([decode(path.read_bytes()).pixels for path in paths]))
    largest = np.abs(made).max(axis=1)
    *_, second, first = np.sort(largest)
    return paths[int(largest.argmax())], lambda projection: projection * (2 * LARGEST_HALF / (first + second))


def test_text_that_gives_nan_is_named_and_the_others_are_embedded(open_with: OpenWith, some: Path) -> None:
    with open_with("clip_l", "text_model.embeddings.token_embedding.weight", no_zebra) as library:
        for new in (PICTURES, 0):
            report = library.index([some])
            assert (report.new, report.refused) == (new, {})
            assert report.pending == {"bge": 0, "clip_h": 0, "clip_l": 1, "clip_g": 0}
            [failed] = report.failed
            assert failed.path == str(some / "3.png")
            assert "No clip_l vector can be made of its text 'a zebra in the snow'" in failed.error
            assert "NaN" in failed.error
        assert library.failures() == [], "the image can be read"
        assert len(library.search("a zebra in the snow", weights={"bge": 1}, top_k=100)) == PICTURES


@pytest.mark.parametrize("embedded_later", [False, True])
def test_picture_that_gives_no_vector_is_recorded_and_the_others_are_embedded(
    open_with: OpenWith, some: Path, tiny_weights: Path, embedded_later: bool
) -> None:
    path, change = too_large_for_one(tiny_weights, some)
    with open_with("clip_h", "visual_projection.weight", change) as library:
        if embedded_later:
            library.index([some], embed=False)
        report = library.index([some])
        assert (report.refused, report.embedded["clip_h"], report.pending["clip_h"]) == ({}, PICTURES - 1, 0)
        assert [failed.path for failed in report.failed] == [str(path)]
        assert "No clip_h vector can be made of it" in report.failed[0].error
        again = library.index([some])
        assert (again.unchanged, again.failed, again.pending["clip_h"]) == (PICTURES, (), 0)
        [failure] = library.failures()
        assert (failure.path, failure.error) == (str(path), report.failed[0].error)
        assert library.image(failure.id).width == 320
        assert [failed.path for failed in library.retry().failed] == [str(path)]
        shutil.copyfile(next(other for other in some.iterdir() if other != path), path)
        report = library.index([some])
        assert (report.changed, report.failed, library.failures()) == (1, (), [])


def test_space_is_made_again_without_the_picture_that_gives_no_vector(
    library: Library, open_with: OpenWith, some: Path, tiny_weights: Path
) -> None:
    library.index([some])
    path, change = too_large_for_one(tiny_weights, some)
    with open_with("clip_h", "visual_projection.weight", change) as other:
        report = other.reindex("clip_h")
        assert (report.embedded["clip_h"], report.pending["clip_h"]) == (PICTURES - 1, 0)
        assert [failed.path for failed in report.failed] == [str(path)]
        assert [image.path for image in other.failures()] == [str(path)]


@pytest.mark.parametrize(
    ("space", "tensor", "by"),
    [
        ("clip_h", "visual_projection.weight", 1e6),
        ("clip_h", "visual_projection.weight", np.nan),
        ("clip_g", "text_projection.weight", 1e-12),
    ],
)
def test_weights_that_give_no_vectors_are_refused_and_no_image_fails(
    open_with: OpenWith, some: Path, space: str, tensor: str, by: float
) -> None:
    with open_with(space, tensor, lambda weights: (weights * by).astype(np.float32)) as library:
        report = library.index([some])
        assert (list(report.refused), report.failed, report.new) == ([space], (), PICTURES)
        assert report.embedded[space] == 0
        assert report.pending[space] >= PICTURES
        assert library.failures() == []


def test_few_that_give_no_vector_do_not_stop_their_space(
    open_with: OpenWith, make_picture: MakePicture, pictures: Path
) -> None:
    """What is pending of earlier runs are such texts alone."""
    for n in range(embedder.FEW_INPUTS):
        make_picture(f"{n}.png", f"zebra {n}", "zebra")
    with open_with("clip_l", "text_model.embeddings.token_embedding.weight", no_zebra) as library:
        report = library.index([pictures / "0.png"])
        assert (report.refused, report.pending["clip_l"], len(report.failed)) == ({}, 2, 2)
        make_picture("fox.png", "a fox", "zebra")
        report = library.index([pictures])
        assert (report.refused, report.embedded["clip_l"]) == ({}, 1)
