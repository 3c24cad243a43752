"""Reading the fork's PostgreSQL database, and only reading it."""

from __future__ import annotations

import pytest

from toolkit_core.errors import ImportSourceError
from toolkit_core.importing.image import ImportedImage
from toolkit_core.importing.postgresql import PostgreSQLSource
from toolkit_core.importing.source import BEFORE_ALL_IDS, opened_source
from toolkit_core.library import Library

from .databases import FORK, Fork


def images_in(fork: Fork, schema: str | None = None, confidence: float | None = None) -> list[ImportedImage]:
    with opened_source(fork.url, schema, confidence) as source:
        images = source.page(BEFORE_ALL_IDS, 100).images
        assert source.count() == len(images)
        return list(images)


def test_everything_that_a_person_said_is_read(fork: Fork) -> None:
    first = fork.add("D:\\a.png", favorite=True, rating=10, nsfw=True, for_deletion=True)
    fork.tag(first, "fox")
    fork.put(first, "Best of")
    fork.put(first, "all")
    second = fork.add("D:\\b.png", custom_tags="old,ones ", rating=0)
    fork.put(second, "all")
    one, two = images_in(fork)
    assert one.addition().tags == ("album: Best of", "album: all", "for deletion", "fox", "nsfw")
    assert (one.path, one.favorite, one.rating) == ("D:\\a.png", True, 10)
    assert (two.favorite, two.rating, two.addition().tags) == (False, None, ("album: all", "old", "ones"))


def test_pages_are_of_the_asked_size_and_end(fork: Fork) -> None:
    ids = [fork.add(f"D:\\{n}.png") for n in range(5)]
    with opened_source(fork.url) as source:
        pages = [source.page(BEFORE_ALL_IDS, 3)]
        while pages[-1].images:
            pages.append(source.page(pages[-1].images[-1].id, 3))
    assert [[image.id for image in page.images] for page in pages] == [ids[:3], ids[3:], []]


def test_tags_of_taggers_are_left_out_and_counted_unless_they_are_asked_for(fork: Fork) -> None:
    id = fork.add("D:\\a.png")
    fork.tag(id, "fox", "manual")
    fork.tag(id, "scraped", "danbooru_scrape", 0.1)
    fork.tag(id, "sure", "joytag", 0.9)
    fork.tag(id, "unsure", "joytag+wdv3large", 0.3)
    for confidence, tags, left_out in (
        (None, ("fox", "scraped"), 2),
        (0.5, ("fox", "scraped", "sure"), 1),
        (0.0, ("fox", "scraped", "sure", "unsure"), 0),
    ):
        with opened_source(fork.url, tagger_confidence=confidence) as source:
            page = source.page(BEFORE_ALL_IDS, 10)
            assert page.images[0].addition().tags == tags
            assert page.left_out == left_out


def test_tables_and_columns_that_are_not_there_are_not_needed(server_database: Fork) -> None:
    server_database.run("CREATE TABLE image (id int PRIMARY KEY, path text, favorite boolean)")
    server_database.run("CREATE TABLE image_tags (image_id int, tag text)")
    server_database.run("INSERT INTO image VALUES (1, 'D:\\a.png', true), (2, 'D:\\b.png', NULL)")
    assert images_in(server_database) == [ImportedImage(1, "D:\\a.png", True), ImportedImage(2, "D:\\b.png")]


def test_one_of_several_schemas_is_to_be_named(fork: Fork) -> None:
    fork.add("D:\\public.png")
    fork.run('CREATE SCHEMA "Anna"')
    fork.run(FORK, "Anna")
    fork.add("D:\\anna.png", "Anna")
    with pytest.raises(ImportSourceError, match=r"several schemas with images: Anna, public\. Say which .*--schema"):
        images_in(fork)
    with pytest.raises(ImportSourceError, match="no images in a schema 'anna', but in Anna, public"):
        images_in(fork, "anna")
    assert [image.path for image in images_in(fork, "Anna")] == ["D:\\anna.png"]
    assert [image.path for image in images_in(fork, "public")] == ["D:\\public.png"]


def test_database_without_its_tables_is_refused(server_database: Fork, library: Library) -> None:
    with pytest.raises(ImportSourceError, match="no schema in it that may be read has a table image with the columns"):
        images_in(server_database)
    # One of our own libraries has a view of that name.
    with (
        Library.open(library.settings.home, database_url=server_database.url, library="ours"),
        pytest.raises(ImportSourceError, match="is no database of DiffusionToolkit"),
    ):
        images_in(server_database)


def test_nothing_can_be_written(fork: Fork) -> None:
    with (
        pytest.raises(ImportSourceError, match="cannot execute DELETE in a read-only transaction"),
        PostgreSQLSource(fork.url)._connection() as connection,
    ):
        connection.execute("DELETE FROM image")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://anna:sec%ret@127.0.0.1:1/x", "The database URL cannot be read"),
        ("postgresql://anna:secret@127.0.0.1:port/x", "PostgreSQL database x on 127.0.0.1 cannot be read"),
        ("postgresql://anna:secret@127.0.0.1:1/x", "PostgreSQL database x on 127.0.0.1 cannot be read.*server runs"),
        ("Host=localhost;Port=5436;Database=x;Password=secret", "postgresql://USER:PASSWORD@HOST:PORT/DATABASE"),
    ],
)
def test_server_that_cannot_be_reached_is_named_without_the_password(url: str, said: str) -> None:
    with pytest.raises(ImportSourceError, match=f"(?s){said}") as raised, opened_source(url):
        pass
    assert "secret" not in str(raised.value)
    assert "sec%ret" not in str(raised.value)
