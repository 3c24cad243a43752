"""Favourites, ratings and tags: what can be said, what is refused, and that they outlive every run over the files."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from toolkit_core.database import images
from toolkit_core.database.curation import Added, Addition, add
from toolkit_core.database.images import ImageRow
from toolkit_core.errors import CurationError, ImageNotFound
from toolkit_core.indexing.scan import EPOCH
from toolkit_core.library import Library
from toolkit_core.records import GenerationParameters

MakePicture = Callable[..., Path]


@pytest.fixture
def curated(home: Path, schema: str) -> Iterator[Library]:
    """A library of four images, ids 1 to 4, without weights."""
    with Library.open(home, library=schema, weights=["/nowhere"]) as library:
        with library.database.transaction() as connection:
            rows = [ImageRow(f"/{n}.png", b"%d" % n, 1, EPOCH, 8, 8, GenerationParameters(), None) for n in range(1, 5)]
            assert images.write(connection, rows) == [1, 2, 3, 4]
        yield library


def said_of(library: Library, id: int) -> tuple[bool, int | None, tuple[str, ...]]:
    record = library.image(id)
    return record.favorite, record.rating, record.tags


def test_what_is_said_of_images_is_stored_and_the_rest_stays(curated: Library) -> None:
    assert curated.curate([1, 2], favorite=True, rating=7, add_tags=["fur", "Art"]) == 2
    assert said_of(curated, 1) == said_of(curated, 2) == (True, 7, ("Art", "fur"))
    assert said_of(curated, 3) == (False, None, ())
    assert curated.curate([2], favorite=False) == 1
    assert curated.curate([1], rating=0) == 1
    assert said_of(curated, 1) == (True, 0, ("Art", "fur"))
    assert said_of(curated, 2) == (False, 7, ("Art", "fur"))


def test_rating_is_cleared_and_zero_is_a_rating(curated: Library) -> None:
    curated.curate([1], rating=0)
    assert curated.image(1).rating == 0
    assert curated.curate([1, 2], clear_rating=True) == 1
    assert curated.image(1).rating is None


def test_tags_are_trimmed_sorted_and_kept_once(curated: Library) -> None:
    curated.curate([1], add_tags=["  night ", "fox", "Fox", "fox"])
    assert curated.image(1).tags == ("Fox", "fox", "night")
    curated.curate([1], add_tags=["b", "night", "cafe\N{COMBINING ACUTE ACCENT}"], remove_tags=["fox ", "unknown"])
    assert curated.image(1).tags == ("b", "café", "night")


def test_only_images_that_change_are_counted_and_change_the_revision(curated: Library) -> None:
    revision = curated.revision()
    assert curated.curate([1, 1, 2], add_tags=["b", "a"]) == 2
    assert curated.revision() != revision
    revision = curated.revision()
    assert curated.curate([1, 2], favorite=False, add_tags=["a", "b"], remove_tags=["c"], clear_rating=True) == 0
    assert curated.curate([1, 2]) == 0
    assert curated.curate([], favorite=True) == 0
    assert curated.revision() == revision
    assert curated.curate([1, 2, 3], add_tags=["a"]) == 1


def test_tag_is_removed_in_whatever_case_it_is_written(curated: Library) -> None:
    curated.curate([1], add_tags=["sea", "SEA", "Ölbild", "seal"])
    curated.curate([2], add_tags=["sea"])
    assert curated.curate([1, 2, 3], remove_tags=["Sea", "öLBILD"]) == 2
    assert [curated.image(id).tags for id in (1, 2)] == [("seal",), ()]
    assert curated.curate([1], add_tags=["Seal"], remove_tags=["seal"]) == 1
    assert curated.image(1).tags == ("Seal",)


def test_tags_are_counted_by_how_many_images_have_them(curated: Library) -> None:
    assert curated.tags() == {}
    curated.curate([1, 2, 3], add_tags=["fox"])
    curated.curate([2, 3, 4], add_tags=["zebra"])
    curated.curate([4], add_tags=["badger", "Fox"])
    assert list(curated.tags().items()) == [("fox", 3), ("zebra", 3), ("Fox", 1), ("badger", 1)]


@pytest.mark.parametrize("unknown", [[99], [0], [-1], [2**63], [10**30], list(range(100, 130))])
def test_unknown_ids_are_named_and_nothing_is_changed(curated: Library, unknown: list[int]) -> None:
    revision = curated.revision()
    with pytest.raises(ImageNotFound, match=rf"no image with id {unknown[0]}\b") as caught:
        curated.curate([1, *unknown, 2], favorite=True)
    assert len(str(caught.value)) < 200
    assert said_of(curated, 1) == (False, None, ())
    assert curated.revision() == revision


@pytest.mark.parametrize("id", [True, 1.0, "1", None])
def test_what_is_no_whole_number_is_no_id(curated: Library, id: Any) -> None:
    for ask in (curated.image, curated.embeddings, lambda id: curated.curate([2, id], favorite=True)):
        with pytest.raises(ImageNotFound, match=f"{id!r} is no image's id"):
            ask(id)
    assert said_of(curated, 2) == (False, None, ())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"rating": 11}, "rating is 11; it is a whole number from 0 to 10"),
        ({"rating": -1}, "rating is -1"),
        ({"rating": 3.5}, r"rating is 3\.5"),
        ({"rating": True}, "rating is True"),
        ({"rating": 3, "clear_rating": True}, "set and cleared at once"),
        ({"add_tags": [""]}, "'' is no tag"),
        ({"add_tags": ["a", " \t "]}, "is no tag"),
        ({"add_tags": ["a\0b"]}, "control character"),
        ({"add_tags": ["a\nb"]}, "control character"),
        ({"add_tags": ["a\ud800"]}, "control character"),
        ({"remove_tags": ["x" * 101]}, "has 101 characters; 100 are the most"),
        ({"add_tags": "fox"}, "not as the one text 'fox'"),
        ({"add_tags": ["a", 5]}, "5 is no tag: tags are texts"),
        ({"remove_tags": [None]}, "None is no tag: tags are texts"),
        ({"add_tags": ["a", "fox"], "remove_tags": [" fox"]}, "'fox' is to be added and removed"),
    ],
)
def test_what_no_image_can_have_is_refused(curated: Library, arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(CurationError, match=said):
        curated.curate([1], **arguments)
    assert said_of(curated, 1) == (False, None, ())


def test_longest_tag_and_any_script_are_stored(curated: Library) -> None:
    tags = ["x" * 100, "日本 🦊", "👩‍👩‍👧", "a, b; 'c' \"d\" {e} \\", "NULL"]
    curated.curate([1], add_tags=tags)
    assert curated.image(1).tags == tuple(sorted(tags))


def test_people_who_tag_at_once_lose_no_tag(curated: Library) -> None:
    with ThreadPoolExecutor(6) as threads:
        changed = list(threads.map(lambda n: curated.curate([4 - n % 4, 1 + n % 4], add_tags=[f"tag {n}"]), range(24)))
    assert changed == [2] * 24
    assert sum(curated.tags().values()) == 48


def test_what_is_said_of_a_file_outlives_every_run_over_it(library: Library, make_picture: MakePicture) -> None:
    path = make_picture("a.png", "a fox", seed=1)
    library.index([path])
    [hit] = library.search(image=path)
    library.curate([hit.id], favorite=True, rating=9, add_tags=["fur", "night"])
    kept = (True, 9, ("fur", "night"))

    moved = path.parent / "moved" / "b.png"
    moved.parent.mkdir()
    path.rename(moved)
    assert library.index([path.parent]).moved == 1
    assert (library.image(hit.id).path, said_of(library, hit.id)) == (str(moved), kept)

    make_picture("moved/b.png", "a badger", seed=2)
    os.utime(moved, (10**9, 10**9))
    assert library.index([path.parent]).changed == 1
    assert (library.image(hit.id).parameters.prompt, said_of(library, hit.id)) == ("a badger", kept)

    assert library.index([path.parent], reindex=True).changed == 1
    assert said_of(library, hit.id) == kept

    assert library.reread(everything=True).from_kept == 1
    assert said_of(library, hit.id) == kept

    moved.write_bytes(b"no picture")
    assert len(library.index([path.parent]).failed) == 1
    assert said_of(library, hit.id) == kept


def test_what_is_added_by_path_takes_nothing_away(curated: Library) -> None:
    curated.curate([1], rating=2, add_tags=["b"])
    undecodable = os.fsdecode(b"/caf\xe9.png")
    with curated.database.transaction() as connection:
        images.write(connection, [ImageRow(undecodable, b"5", 1, EPOCH, 8, 8, GenerationParameters(), None)])
        additions = {
            "/1.png": Addition(True, 9, ("c", "a", "b")),
            "/2.png": Addition(rating=0),
            "/3.png": Addition(),
            "/none.png": Addition(True),
            undecodable: Addition(tags=("x",)),
        }
        assert add(connection, additions) == Added(images=3, favorites=1, rated=1, tagged=2)
        assert add(connection, additions) == add(connection, {}) == Added(0, 0, 0, 0)
    assert [said_of(curated, id) for id in range(1, 6)] == [
        (True, 2, ("a", "b", "c")),
        (False, 0, ()),
        (False, None, ()),
        (False, None, ()),
        (False, None, ("x",)),
    ]


@pytest.mark.parametrize("wrong", [{"rating": 11}, {"rating": 1.5}, {"tags": ["x" * 101]}, {"tags": "fox"}])
def test_addition_that_no_image_can_have_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(CurationError):
        Addition(**wrong)
