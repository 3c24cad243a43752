"""Reading DiffusionToolkit's SQLite file, of any version, without a trace."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from toolkit_core.errors import ImportSourceError
from toolkit_core.importing.image import ImportedImage
from toolkit_core.importing.source import BEFORE_ALL_IDS, opened_source

from .databases import FIRST, NEWEST

MakeToolkit = Callable[..., Any]


def images_in(path: Path) -> list[ImportedImage]:
    with opened_source(path) as source:
        assert source.describe() == str(path)
        images = source.page(BEFORE_ALL_IDS, 100).images
        assert source.count() == len(images)
        return list(images)


def test_everything_that_a_person_said_is_read(make_toolkit: MakeToolkit) -> None:
    toolkit = make_toolkit()
    toolkit.add("D:\\a.png", tags=("fox", "snow"), albums=("Best of",), Favorite=1, Rating=10, NSFW=1, ForDeletion=1)
    toolkit.add("D:\\b.png", tags=("fox",), CustomTags="old, ones", Rating=1)
    toolkit.add("D:\\c.png", Favorite=0, NSFW=0, ForDeletion=0)
    first, second, third = images_in(toolkit.path)
    assert first == ImportedImage(1, "D:\\a.png", True, 10, True, True, ("fox", "snow"), ("Best of",))
    assert first.addition().tags == ("album: Best of", "for deletion", "fox", "nsfw", "snow")
    assert (second.favorite, second.rating, second.addition().tags) == (False, 1, ("fox", "old", "ones"))
    assert not third.addition()


def test_database_of_the_first_version_is_read(make_toolkit: MakeToolkit) -> None:
    toolkit = make_toolkit(tables=FIRST)
    toolkit.add("D:\\a.png", Favorite=1, Rating=7, ForDeletion=1)
    assert images_in(toolkit.path) == [ImportedImage(1, "D:\\a.png", True, 7, for_deletion=True)]


def test_values_that_its_program_never_writes_are_left_out(make_toolkit: MakeToolkit) -> None:
    toolkit = make_toolkit()
    for rating in (0, 11, -1, "good", 2.5):
        toolkit.add(f"D:\\{rating}.png", Rating=rating)
    toolkit.add(b"/srv/caf\xe9.png")
    with closing(sqlite3.connect(toolkit.path)) as connection, connection:
        connection.execute('INSERT INTO "Image" ("Favorite") VALUES (1)')
        connection.execute('INSERT INTO "Tag" ("Name") VALUES (NULL)')
        connection.execute('INSERT INTO "ImageTag" VALUES (1, 1), (1, 99), (99, 1)')
    *images, undecodable = images_in(toolkit.path)
    assert [image.addition() for image in images if image.addition()] == []
    assert undecodable.path == os.fsdecode(b"/srv/caf\xe9.png")


@pytest.mark.parametrize(
    ("name", "tag"),
    [
        ("  two\twords\n", "album: two words"),
        (" \n ", None),
        ("x" * 200, "album: " + "x" * 93),
        ("cafe\N{COMBINING ACUTE ACCENT}", "album: café"),
        ("nul\0", "album: nul"),
        ("comma, colon:", "album: comma, colon:"),
    ],
)
def test_album_of_any_name_becomes_a_tag_that_fits(name: str, tag: str | None) -> None:
    said = ImportedImage(1, "a.png", albums=(name,)).addition()
    assert said.tags == ((tag,) if tag else ())


def test_pages_are_of_the_asked_size_and_end(make_toolkit: MakeToolkit) -> None:
    toolkit = make_toolkit()
    ids = [toolkit.add(f"D:\\{n}.png", albums=("all",)) for n in range(5)]
    with closing(sqlite3.connect(toolkit.path)) as connection, connection:
        connection.execute('DELETE FROM "Image" WHERE "Id" = ?', [ids.pop(2)])
    with opened_source(toolkit.path) as source:
        pages = [source.page(BEFORE_ALL_IDS, 3)]
        while pages[-1].images:
            pages.append(source.page(pages[-1].images[-1].id, 3))
    assert [[image.id for image in page.images] for page in pages] == [ids[:3], ids[3:], []]
    assert {image.albums for page in pages for image in page.images} == {("all",)}


@pytest.mark.parametrize("name", ["a b%20#1?mode=rwc&x=y.db", "ünï [x].db"])
@pytest.mark.parametrize("journal", ["delete", "wal"])
def test_nothing_is_left_beside_a_database_of_any_name(make_toolkit: MakeToolkit, name: str, journal: str) -> None:
    toolkit = make_toolkit(f"folder/{name}")
    toolkit.add("D:\\a.png")
    with closing(sqlite3.connect(toolkit.path)) as connection:
        connection.execute(f"PRAGMA journal_mode={journal}")
    before = toolkit.path.read_bytes()
    assert len(images_in(toolkit.path)) == 1
    assert list(toolkit.path.parent.iterdir()) == [toolkit.path]
    assert toolkit.path.read_bytes() == before


@pytest.mark.skipif(os.name == "nt", reason="there, it is the name of a server")
def test_path_with_two_slashes_is_read_as_a_path(make_toolkit: MakeToolkit) -> None:
    toolkit = make_toolkit()
    toolkit.add("D:\\a.png")
    assert len(images_in(Path(f"/{toolkit.path}"))) == 1


def test_what_is_in_the_log_of_an_open_database_is_read_and_its_program_goes_on(make_toolkit: MakeToolkit) -> None:
    toolkit = make_toolkit()
    with closing(sqlite3.connect(toolkit.path, isolation_level=None)) as writer:
        writer.execute("PRAGMA journal_mode=wal")
        writer.execute("""INSERT INTO "Image" ("Path") VALUES ('D:\\1.png')""")
        with opened_source(toolkit.path) as source:
            assert [image.path for image in source.page(BEFORE_ALL_IDS, 10).images] == ["D:\\1.png"]
            writer.execute("""INSERT INTO "Image" ("Path") VALUES ('D:\\2.png')""")
            # Another reader would keep the log from being emptied.
            assert writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone() == (0, 0, 0)
            assert [image.path for image in source.page(1, 10).images] == ["D:\\2.png"]


def test_log_of_a_copied_database_is_read(make_toolkit: MakeToolkit, tmp_path: Path) -> None:
    toolkit = make_toolkit()
    copies = tmp_path / "copies"
    copies.mkdir()
    with closing(sqlite3.connect(toolkit.path, isolation_level=None)) as writer:
        writer.execute("PRAGMA journal_mode=wal")
        writer.execute("""INSERT INTO "Image" ("Path") VALUES ('D:\\1.png')""")
        for suffix in ("", "-wal"):
            shutil.copy(f"{toolkit.path}{suffix}", copies)
    copy = copies / toolkit.path.name
    assert [image.path for image in images_in(copy)] == ["D:\\1.png"]
    assert sorted(path.name for path in copies.iterdir()) == [copy.name, f"{copy.name}-wal"]


def test_what_is_no_database_of_diffusion_toolkit_is_refused_with_what_it_is(
    make_toolkit: MakeToolkit, tmp_path: Path
) -> None:
    other = make_toolkit("other.db", "CREATE TABLE picture (id); CREATE TABLE Image (Id, Name)")
    empty, text = tmp_path / "empty.db", tmp_path / "text.db"
    empty.touch()
    text.write_text("not a database" * 100)
    damaged = make_toolkit("damaged.db")
    for n in range(300):
        damaged.add(f"D:\\{n}" + "x" * 200)
    whole = damaged.path.read_bytes()
    damaged.path.write_bytes(whole[: len(whole) // 2])
    for path, said in {
        tmp_path / "none.db": "is not there. Name DiffusionToolkit's database file, diffusion-toolkit.db",
        tmp_path: "is a folder",
        other.path: "no table Image with the columns Id, Path and Favorite. Its tables: Image, picture",
        empty: "no table Image with the columns Id, Path and Favorite. Its tables: none",
        text: "cannot be read as an SQLite database: file is not a database",
        damaged.path: "cannot be read as an SQLite database: database disk image is malformed",
    }.items():
        with pytest.raises(ImportSourceError, match=said):
            images_in(path)
    assert not (tmp_path / "none.db").exists()


def test_schema_of_a_file_is_refused(make_toolkit: MakeToolkit) -> None:
    with (
        pytest.raises(ImportSourceError, match="is a file, which has no schema 'anna'"),
        opened_source(make_toolkit(tables=NEWEST).path, schema="anna"),
    ):
        pass
