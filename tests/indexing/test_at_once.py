"""An encoder of pictures is given as many at once as it wants: on a GPU the usual ones would not fill a batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from toolkit_core.encoders.base import Images, Vectors
from toolkit_core.encoders.clip import ClipVisionEncoder
from toolkit_core.indexing.embedder import PICTURES_A_BATCH
from toolkit_core.indexing.reembed import reembed_space
from toolkit_core.library import Library
from toolkit_core.settings import Settings
from toolkit_core.spaces import SPACES

MakePicture = Callable[..., Path]
WANTED, PICTURES = 50, 120


class Wanting(ClipVisionEncoder):
    """Notes how many pictures it is given, from `given` on."""

    def __init__(self, path: Path, given: list[int]) -> None:
        super().__init__(path, "cpu")
        self._given = given

    @property
    def at_once(self) -> int:
        return WANTED

    def encode(self, images: Images) -> Vectors:
        self._given.append(len(images))
        return super().encode(images)


@pytest.fixture
def given() -> list[int]:
    return []


@pytest.fixture
def wanting(home: Path, schema: str, tiny_weights: Path, given: list[int]) -> Iterator[Library]:
    weights = tiny_weights / "clip_h.safetensors"
    settings = Settings(home=home, library=schema, weights_folders=(tiny_weights,))
    with Library(settings, encoders={"clip_h": lambda: Wanting(weights, given)}) as library:
        yield library


def test_pictures_are_handed_over_as_the_encoder_wants_them(
    wanting: Library, given: list[int], make_picture: MakePicture, pictures: Path
) -> None:
    first = make_picture("first.png")
    wanting.index([first])
    for n in range(PICTURES):
        make_picture(f"{n}.png")
    given.clear()
    assert wanting.index([pictures]).embedded["clip_h"] == PICTURES
    assert given == [50, 50, 20]


def test_pending_pictures_are_handed_over_as_the_encoder_wants_them(
    wanting: Library, given: list[int], make_picture: MakePicture, pictures: Path
) -> None:
    for n in range(PICTURES):
        make_picture(f"{n}.png")
    wanting.index([pictures], embed=False)
    assert wanting.index([pictures]).embedded["clip_h"] == PICTURES
    assert given[-3:] == [50, 50, 20]


def test_pictures_are_embedded_anew_as_the_encoder_wants_them(
    wanting: Library, given: list[int], tiny_weights: Path, make_picture: MakePicture, pictures: Path
) -> None:
    for n in range(PICTURES):
        make_picture(f"{n}.png")
    wanting.index([pictures])
    encoder = Wanting(tiny_weights / "clip_h.safetensors", given)
    assert reembed_space(wanting.database, SPACES["clip_h"], encoder, "hnsw", lambda _: None) == PICTURES
    assert given[-3:] == [50, 50, 20]


def test_encoder_that_wants_few_is_given_the_usual_number(
    library: Library, make_picture: MakePicture, pictures: Path
) -> None:
    for n in range(PICTURES_A_BATCH):
        make_picture(f"{n}.png")
    made: list[int] = []
    library.index([pictures], lambda now: made.append(now.done) if now.stage == "read" else None)
    assert made == [PICTURES_A_BATCH]
