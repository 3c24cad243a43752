"""A search page by page: nothing comes twice, nothing is left out, whatever ties and whatever arrives meanwhile."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from toolkit_core.database import Database, images, vectors
from toolkit_core.database.segments import seal
from toolkit_core.errors import SearchError
from toolkit_core.library import Library
from toolkit_core.records import SearchHit
from toolkit_core.search import pages
from toolkit_core.spaces import SPACES

from .vectors import Filled, fill, image_row

ROWS = 1500
Vectors = dict[str, NDArray[np.float32]]


class Copies:
    """A library in which every seventh image has the same picture, and a prompt that means the same."""

    def __init__(self, filled: Filled, library: Library) -> None:
        self.library = library
        self.ids = filled.ids[::7].tolist()
        self.vectors: Vectors = {name: filled.vectors[name][0] for name in ("clip_h", "bge")}
        self._filled = filled

    def write(self) -> None:
        # Not in the order of their ids, which is the one that a scan would give them by chance.
        random = np.random.default_rng(1)
        with self._filled.database.transaction() as connection:
            prompts = connection.execute(
                "SELECT DISTINCT prompt_id FROM image_file WHERE id = ANY(%s)", [self.ids]
            ).fetchall()
            for space, owners in (("clip_h", self.ids), ("bge", [id for (id,) in prompts])):
                vectors.remove(connection, SPACES[space], owners)
                shuffled = random.permutation(owners).tolist()
                same = np.repeat(self.vectors[space][np.newaxis], len(owners), axis=0)
                vectors.write(connection, SPACES[space], shuffled, same)


@pytest.fixture(scope="module", params=["scanned", "indexed", "paired"])
def copies(home: Path, request: pytest.FixtureRequest) -> Iterator[Copies]:
    name = f"copies_{request.param}"
    database = Database.embedded(home, name)
    with Library.open(home, library=name, weights=["/nowhere"]) as library:
        made = Copies(fill(database, ROWS, images_a_prompt=1), library)
        made.write()
        if request.param != "scanned":
            seal(database, rows_worth_an_index=500, pair_index=request.param == "paired")
        yield made
    database.close()


def paged(library: Library, top_k: int, most: int, **query: Any) -> list[SearchHit]:
    """The first `most` images, or all where there are fewer, in pages of `top_k`."""
    found: list[SearchHit] = []
    page = None
    while len(found) < most:
        results = library.search(**query, top_k=top_k, page=page)
        found += results
        page = results.next_page
        if page is None:
            break
    return found[:most]


@pytest.mark.parametrize("weights", [{"clip_h": 1.0}, {"bge": 1.0}, {"bge": 0.5, "clip_h": 0.5}], ids=str)
@pytest.mark.parametrize(("filter", "share"), [("", 1), ("steps:<20", 2), ("seed:<700", 2)])
@pytest.mark.parametrize("top_k", [3, 20, 90])
def test_copies_of_one_picture_come_once_each_in_the_order_of_their_ids(
    copies: Copies, weights: dict[str, float], filter: str, share: int, top_k: int
) -> None:
    query = {name: copies.vectors[name] for name in weights}
    everything = copies.library.find(filter) if filter else copies.ids
    wanted = sorted(set(copies.ids) & set(everything))
    assert len(wanted) > len(copies.ids) // (2 * share)
    found = paged(copies.library, top_k, len(wanted), vectors=query, weights=weights, filter=filter)
    assert [hit.id for hit in found] == wanted


def test_all_that_match_are_there_in_the_end(copies: Copies) -> None:
    query = {"clip_h": copies.vectors["clip_h"] + copies.vectors["clip_h"].std() * np.float32(0.1)}
    for filter in ("seed:<90", "steps:<20"):
        wanted = copies.library.find(filter)
        found = [hit.id for hit in paged(copies.library, 20, ROWS, vectors=query, filter=filter)]
        assert len(found) == len(set(found))
        assert set(found) == set(wanted)


def test_image_that_is_gone_among_the_nearest_does_not_make_the_search_look_at_all(copies: Copies) -> None:
    """It took a look at every vector, where the index named an image that is missing."""
    library = copies.library
    query = {"clip_h": copies.vectors["clip_h"] * np.float32(-1)}
    before = library.search(vectors=query, top_k=20)
    with library.database.transaction() as connection:
        gone = [hit.id for hit in before[:3]]
        connection.execute("UPDATE image_file SET missing_since = now() WHERE id = ANY(%s)", [gone])
    try:
        after = library.search(vectors=query, top_k=20)
        assert after.certainty == before.certainty
        assert [hit.id for hit in after[:17]] == [hit.id for hit in before[3:]]
    finally:
        with library.database.transaction() as connection:
            connection.execute("UPDATE image_file SET missing_since = NULL WHERE id = ANY(%s)", [gone])


def test_pages_stay_as_they_are_while_images_are_added(database: Database, home: Path, schema: str) -> None:
    filled = fill(database, 200)
    query = {"clip_h": filled.vectors["clip_h"][50]}
    with Library.open(home, library=schema, weights=["/nowhere"]) as library:
        before = [hit.id for hit in library.search(vectors=query, top_k=60)]
        first = library.search(vectors=query, top_k=20)
        with database.transaction() as connection:
            for number in range(1000, 1040):
                [id] = images.write(connection, [image_row(number, None)])
                vectors.write(connection, SPACES["clip_h"], [id], query["clip_h"][np.newaxis])
        second = library.search(vectors=query, top_k=20, page=first.next_page)
        third = library.search(vectors=query, top_k=20, page=second.next_page)
        assert [hit.id for hit in (*first, *second, *third)] == before


def test_page_that_ended_the_search_goes_on_with_what_comes_behind_it_later(
    database: Database, home: Path, schema: str
) -> None:
    """Not with what it gave already, although images that are more alike have come, too."""
    filled = fill(database, 30)
    query = {"clip_h": filled.vectors["clip_h"][5]}
    with Library.open(home, library=schema, weights=["/nowhere"]) as library:
        first = library.search(vectors=query, top_k=20)
        last = library.search(vectors=query, top_k=20, page=first.next_page)
        assert (len(last), last.next_page, last.passed) == (10, None, 20)
        with database.transaction() as connection:
            made = [images.write(connection, [image_row(number, None)])[0] for number in range(1000, 1020)]
            likeness = np.where(np.arange(20)[:, np.newaxis] % 2, query["clip_h"], -query["clip_h"])
            vectors.write(connection, SPACES["clip_h"], made, likeness)
        later = library.search(vectors=query, top_k=20, page=last.end)
        assert ([hit.id for hit in later], later.passed) == (made[::2], 30)
        nothing = library.search(vectors=query, top_k=20, page=later.end)
        assert (nothing, nothing.passed, nothing.end) == ([], 40, later.end)


@pytest.mark.parametrize(
    "query", [{"image_id": 5}, {"image_id": 5, "weights": {"bge": 0.5, "clip_h": -0.5}}, {}], ids=str
)
def test_page_by_its_number_is_the_one_that_is_reached_from_page_to_page(
    database: Database, home: Path, schema: str, query: dict[str, Any]
) -> None:
    fill(database, 100)
    with Library.open(home, library=schema, weights=["/nowhere"]) as library:
        search = partial(library.search, **query, filter="seed:<65", top_k=20)
        page: str | int | None = None
        for number in (1, 2, 3, 4):
            reached, counted = search(page=page), search(page=number)
            assert [hit.id for hit in counted] == [hit.id for hit in reached]
            assert counted.passed == reached.passed == 20 * (number - 1)
            assert counted.next_page == reached.next_page
            page = reached.next_page
        assert (len(counted), page) == (5, None)
        behind = search(page=9)
        assert (behind, behind.passed, behind.next_page) == ([], 65, None)


def test_page_is_counted_as_far_as_a_search_reaches(
    database: Database, home: Path, schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(database, 60)
    monkeypatch.setattr(pages, "MOST_RESULTS", 50)
    with Library.open(home, library=schema, weights=["/nowhere"]) as library:
        assert len(library.search(image_id=1, top_k=10, page=5)) == 10
        with pytest.raises(SearchError, match="Page 6 of 10 images each ends behind image 50"):
            library.search(image_id=1, top_k=10, page=6)
        last = library.search(filter="seed:<49", image_id=1, top_k=20, page=3)
        assert (len(last), last.passed) == (9, 40)
        assert library.search(filter="seed:<49", image_id=1, top_k=10, page=6).passed == 49


def test_filter_alone_lists_images_page_by_page(database: Database, home: Path, schema: str) -> None:
    fill(database, 55)
    with Library.open(home, library=schema, weights=["/nowhere"]) as library:
        rated = [hit.id for hit in library.search(filter="steps:..9", top_k=55)][::3]
        library.curate(rated, rating=8)
        for sort in ("date", "rating"):
            found, page = [], None
            while True:
                results = library.search(filter="-seed:3", sort=sort, top_k=10, page=page)
                found += results
                page = results.next_page
                if page is None:
                    break
            assert len({hit.id for hit in found}) == len(found) == 54
            dates = [hit.modified_at for hit in found if sort == "date" or hit.rating is None]
            assert dates == sorted(dates, key=lambda date: date.timestamp() if date else 0, reverse=True)
        assert {hit.id for hit in found[: len(rated)]} == set(rated)


def test_page_of_another_search_is_refused(copies: Copies) -> None:
    first = copies.library.search(image_id=copies.ids[0], top_k=5)
    for other in ({"image_id": copies.ids[0] + 1}, {"image_id": copies.ids[0], "filter": "steps:<20"}):
        with pytest.raises(SearchError, match="another search"):
            copies.library.search(**other, top_k=5, page=first.next_page)
    assert len(copies.library.search(image_id=copies.ids[0], top_k=9, page=first.next_page)) == 9


@pytest.mark.parametrize("value", ["[1,2]", "[1,Infinity,0,null,null,0]", f"[1,1,{'9' * 400},null,null,0]", "[" * 5000])
def test_what_is_no_page_is_refused(copies: Copies, value: str) -> None:
    page = base64.urlsafe_b64encode(value.encode()).decode()
    with pytest.raises(SearchError, match="next_page"):
        copies.library.search(image_id=copies.ids[0], page=page)
