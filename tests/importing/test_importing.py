"""Bringing a library along: files are indexed, what was said of them is added, and a second run brings the rest."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from toolkit_core.errors import DatabaseError, ImportSourceError, SettingsError
from toolkit_core.importing import importer
from toolkit_core.library import Library
from toolkit_core.records import ImportReport, Progress, UnfoundFolder

from .databases import FIRST, Fork

MakePicture = Callable[..., Path]
MakeToolkit = Callable[..., Any]


def bring(library: Library, database: object, **options: Any) -> ImportReport:
    return library.import_toolkit(str(database), **{"embed": False, **options})


def said_of(library: Library) -> dict[str, tuple[bool, int | None, tuple[str, ...]]]:
    """Favourite, rating and tags by file name."""
    images = map(library.image, library.find(""))
    return {Path(image.path).name: (image.favorite, image.rating, image.tags) for image in images}


def test_files_are_indexed_and_what_was_said_of_them_is_added(
    library: Library, make_toolkit: MakeToolkit, make_picture: MakePicture
) -> None:
    toolkit = make_toolkit()
    toolkit.add(make_picture("a.png", "a red fox"), ("fox",), ("Best of",), Favorite=1, Rating=10, NSFW=1)
    toolkit.add(make_picture("b.png", "a badger"), ForDeletion=1, Rating=1, Prompt="of another file")
    toolkit.add(make_picture("c.png"))
    before = toolkit.path.read_bytes()
    report = library.import_toolkit(toolkit.path)
    assert (report.source, report.images, report.found) == (str(toolkit.path), 3, 3)
    assert (report.curated, report.favorites, report.rated, report.tagged) == (2, 1, 2, 2)
    assert (report.indexing.new, report.unfound, report.unsupported) == (3, (), {})
    assert said_of(library) == {
        "a.png": (True, 10, ("album: Best of", "fox", "nsfw")),
        "b.png": (False, 1, ("for deletion",)),
        "c.png": (False, None, ()),
    }
    assert [library.image(id).parameters.prompt for id in library.find('tag:"for deletion"')] == ["a badger"]
    assert set(library.status().pending.values()) == {0}
    assert toolkit.path.read_bytes() == before


def test_second_run_changes_nothing(library: Library, make_toolkit: MakeToolkit, make_picture: MakePicture) -> None:
    toolkit = make_toolkit()
    for n in range(3):
        toolkit.add(make_picture(f"{n}.png", "a fox"), ("fox",), Favorite=1, Rating=n + 1)
    bring(library, toolkit.path)
    revision, said = library.revision(), said_of(library)
    again = bring(library, toolkit.path)
    assert (again.found, again.curated, again.favorites, again.rated, again.tagged) == (3, 0, 0, 0, 0)
    assert (again.indexing.new, again.indexing.unchanged) == (0, 3)
    assert library.revision() == revision
    assert said_of(library) == said


def test_image_that_was_renamed_to_a_file_of_a_later_page_keeps_what_is_said_of_it(
    library: Library, make_toolkit: MakeToolkit, make_picture: MakePicture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its old name is another picture's by now, of which their database speaks, too."""
    monkeypatch.setattr(importer, "IMAGES_A_PAGE", 1)
    old = make_picture("a.png")
    library.index([old], embed=False)
    library.curate(library.find(""), rating=9)
    old.rename(old.with_name("b.png"))
    toolkit = make_toolkit()
    toolkit.add(make_picture("a.png"), ("of the new one",))
    toolkit.add(old.with_name("b.png"), ("of the old one",))
    report = bring(library, toolkit.path)
    assert (report.indexing.moved, report.indexing.new, report.tagged) == (1, 1, 2)
    assert said_of(library) == {"a.png": (False, None, ("of the new one",)), "b.png": (False, 9, ("of the old one",))}


def test_what_was_said_here_stays(library: Library, make_toolkit: MakeToolkit, make_picture: MakePicture) -> None:
    toolkit = make_toolkit()
    toolkit.add(make_picture("a.png"), ("theirs", "both"), Favorite=0, Rating=3)
    toolkit.add(make_picture("b.png"), ("both",), Favorite=1, Rating=4)
    library.index([make_picture("c.png").parent])
    ids = {Path(library.image(id).path).name: id for id in library.find("")}
    library.curate([ids["a.png"]], favorite=True, rating=0, add_tags=["ours", "both"])
    library.curate([ids["b.png"]], favorite=True, add_tags=["both"])
    library.curate([ids["c.png"]], rating=9)
    report = bring(library, toolkit.path)
    assert said_of(library) == {
        "a.png": (True, 0, ("both", "ours", "theirs")),
        "b.png": (True, 4, ("both",)),
        "c.png": (False, 9, ()),
    }
    assert (report.curated, report.favorites, report.rated, report.tagged) == (2, 0, 1, 1)


def test_windows_paths_are_found_by_a_map(
    library: Library, make_toolkit: MakeToolkit, make_picture: MakePicture, pictures: Path
) -> None:
    toolkit = make_toolkit(tables=FIRST)
    toolkit.add("D:\\Renders\\2026\\a.png", Favorite=1)
    toolkit.add("d:\\renders\\best\\b.png", Rating=5)
    toolkit.add("E:\\c.png", Favorite=1)
    make_picture("all/2026/a.png")
    make_picture("elsewhere/b.png")
    folders = {"D:\\renders": pictures / "all", "D:/RENDERS/best": pictures / "elsewhere"}
    report = bring(library, toolkit.path, folders=folders)
    assert report.unfound == (UnfoundFolder("E:\\", 1, 1, None),)
    assert said_of(library) == {"a.png": (True, None, ()), "b.png": (False, 5, ())}


def test_files_that_are_not_there_are_counted_and_come_with_a_later_run(
    library: Library, make_toolkit: MakeToolkit, make_picture: MakePicture, pictures: Path
) -> None:
    toolkit = make_toolkit()
    for name in ("here/a.png", "drive/b.png", "drive/new/c.png"):
        toolkit.add(make_picture(name), Favorite=1)
    toolkit.add(pictures / "drive")
    drive = pictures / "drive"
    drive.rename(pictures / "unplugged")
    folders = {"/there": pictures}
    for path in ("/there/drive/b.png", "/there/here/a.png"):
        toolkit.add(path, ("fox",))
    report = bring(library, toolkit.path, folders=folders)
    assert (report.images, report.found, list(said_of(library))) == (6, 2, ["a.png"])
    assert sum(folder.unfound for folder in report.unfound) == 3
    assert UnfoundFolder("/there/drive", 1, 1, str(drive / "b.png")) in report.unfound
    assert report.unsupported == {"": 1}
    (pictures / "unplugged").rename(drive)
    report = bring(library, toolkit.path, folders=folders)
    assert (report.indexing.new, report.indexing.unchanged, report.unfound) == (2, 1, ())
    assert said_of(library)["b.png"] == (True, None, ("fox",))


def test_two_paths_of_one_file_are_one_image(
    library: Library, make_toolkit: MakeToolkit, make_picture: MakePicture, pictures: Path
) -> None:
    picture = make_picture("real/a.png")
    (pictures / "link").symlink_to(pictures / "real", target_is_directory=True)
    toolkit = make_toolkit()
    toolkit.add(picture, ("one",), Rating=3)
    toolkit.add(pictures / "link" / "a.png", ("two",), Favorite=1, Rating=8)
    assert bring(library, toolkit.path).found == 2
    assert said_of(library) == {"a.png": (True, 3, ("one", "two"))}


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere, names are Unicode")
def test_file_whose_name_is_no_unicode_is_found(
    library: Library, make_toolkit: MakeToolkit, make_picture: MakePicture
) -> None:
    picture = make_picture(os.fsdecode(b"caf\xe9.png"))
    toolkit = make_toolkit()
    toolkit.add(os.fsencode(picture), Favorite=1)
    assert bring(library, toolkit.path).favorites == 1
    assert said_of(library) == {picture.name: (True, None, ())}


def test_damaged_pictures_and_videos_stop_nothing(
    library: Library, make_toolkit: MakeToolkit, make_picture: MakePicture, pictures: Path
) -> None:
    toolkit = make_toolkit()
    toolkit.add(make_picture("a.png"), Favorite=1)
    damaged, video = pictures / "damaged.png", pictures / "clip.MP4"
    for path in (damaged, video):
        path.write_bytes(b"no picture")
        toolkit.add(path, Favorite=1, Rating=2)
    report = library.import_toolkit(toolkit.path)
    assert [failed.path for failed in report.indexing.failed] == [str(damaged)]
    assert (report.unsupported, report.favorites) == ({".mp4": 1}, 2)
    assert said_of(library) == {"a.png": (True, None, ()), "damaged.png": (True, 2, ())}


def test_run_that_is_stopped_is_finished_by_the_next(
    library: Library, make_toolkit: MakeToolkit, make_picture: MakePicture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importer, "IMAGES_A_PAGE", 2)
    toolkit = make_toolkit()
    for n in range(5):
        toolkit.add(make_picture(f"{n}.png"), Favorite=1)

    def stop(progress: Progress) -> None:
        if progress.stage == "import":
            steps.append((progress.done, progress.total))
        if progress.done == 2 and progress.stage == "import":
            raise KeyboardInterrupt

    steps: list[tuple[int, int | None]] = []
    with pytest.raises(KeyboardInterrupt):
        bring(library, toolkit.path, progress=stop)
    assert said_of(library) == {f"{n}.png": (True, None, ()) for n in range(2)}
    report = bring(library, toolkit.path, progress=lambda progress: steps.append((progress.done, progress.total)))
    assert (report.indexing.new, report.indexing.unchanged, report.favorites) == (3, 2, 3)
    assert (2, 5) in steps
    assert steps[-1] == (5, 5)
    assert said_of(library) == {f"{n}.png": (True, None, ()) for n in range(5)}


def test_library_that_is_closed_meanwhile_keeps_what_came_along(
    home: Path, schema: str, make_toolkit: MakeToolkit, make_picture: MakePicture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importer, "IMAGES_A_PAGE", 1)
    toolkit = make_toolkit()
    for n in range(3):
        toolkit.add(make_picture(f"{n}.png"), Rating=n + 1)
    closed = Library.open(home, library=schema, weights=["/nowhere"])
    with pytest.raises(DatabaseError):
        bring(closed, toolkit.path, progress=lambda now: closed.close() if now == Progress("import", 1, 3) else None)
    with Library.open(home, library=schema, weights=["/nowhere"]) as library:
        assert said_of(library) == {"0.png": (False, 1, ())}
        assert bring(library, toolkit.path).rated == 2


def test_file_that_goes_while_it_is_imported_is_left_out(
    library: Library, make_toolkit: MakeToolkit, make_picture: MakePicture, monkeypatch: pytest.MonkeyPatch
) -> None:
    toolkit = make_toolkit()
    pictures = [make_picture(f"{n}.png") for n in range(3)]
    for picture in pictures:
        toolkit.add(picture, Favorite=1)
    index = library.index

    def index_later(paths: Any, *arguments: Any, **options: Any) -> Any:
        pictures[1].unlink(missing_ok=True)
        return index(paths, *arguments, **options)

    monkeypatch.setattr(library, "index", index_later)
    assert bring(library, toolkit.path).indexing.new == 2
    assert list(said_of(library)) == ["0.png", "2.png"]


def test_image_that_was_missing_here_is_found_again(
    library: Library, make_toolkit: MakeToolkit, make_picture: MakePicture, pictures: Path
) -> None:
    picture = make_picture("a.png")
    library.index([pictures])
    shutil.move(picture, pictures.parent / "a.png")
    library.index([pictures])
    assert len(library.missing()) == 1
    shutil.move(pictures.parent / "a.png", picture)
    toolkit = make_toolkit()
    toolkit.add(picture, Favorite=1)
    report = bring(library, toolkit.path)
    assert (library.missing(), report.indexing.unchanged, report.favorites) == ([], 1, 1)


def test_fork_is_brought_along(library: Library, fork: Fork, make_picture: MakePicture) -> None:
    id = fork.add(make_picture("a.png"), favorite=True, rating=6)
    fork.add("D:\\renders\\b.png")
    fork.put(id, "Best of")
    fork.tag(id, "fox")
    fork.tag(id, "animal", "joytag", 0.8)
    report = bring(library, fork.url)
    assert (report.found, report.curated, report.tagger_tags) == (1, 1, 1)
    assert said_of(library) == {"a.png": (True, 6, ("album: Best of", "fox"))}
    again = bring(library, fork.url, tagger_confidence=0.5)
    assert (again.tagged, again.tagger_tags) == (1, 0)
    assert said_of(library) == {"a.png": (True, 6, ("album: Best of", "animal", "fox"))}


def test_empty_database_is_imported(library: Library, make_toolkit: MakeToolkit) -> None:
    report = bring(library, make_toolkit().path)
    assert (report.images, report.found, report.indexing.new) == (0, 0, 0)


def test_nothing_is_indexed_where_the_database_or_a_folder_is_wrong(
    library: Library, make_toolkit: MakeToolkit, tmp_path: Path
) -> None:
    with pytest.raises(ImportSourceError, match="is not there"):
        bring(library, tmp_path / "none.db")
    with pytest.raises(SettingsError, match="'renders' is not the whole path of a folder"):
        bring(library, make_toolkit().path, folders={"renders": "/mnt"})
    assert library.status().images == 0
