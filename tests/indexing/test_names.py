"""Names that are no picture's any more, or never were: what only a name is left of, other files, and no name at all."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from toolkit_core.database import images
from toolkit_core.errors import ImageError, PathNotFound
from toolkit_core.library import Library
from toolkit_core.records import IndexReport

from .presence import found, missing

MakePicture = Callable[..., Path]

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="Windows makes links for administrators alone")


def broken_link(path: Path) -> None:
    target = path.parent.parent / "target.png"
    path.rename(target)
    path.symlink_to(target)
    target.unlink()


def folder_of_its_name(path: Path) -> None:
    path.unlink()
    path.mkdir()


by_what_is_left = pytest.mark.parametrize("leave", [pytest.param(broken_link, marks=posix_only), folder_of_its_name])


@by_what_is_left
@pytest.mark.parametrize("failed", [False, True])
def test_picture_that_only_a_name_is_left_of_is_missing(
    library: Library, two: Path, make_picture: MakePicture, leave: Callable[[Path], None], failed: bool
) -> None:
    path = two / "b.png"
    if failed:
        path.write_bytes(b"no picture")
        library.index([two])
    leave(path)
    if failed:
        assert library.retry().failed == (), "it is not read again in vain, and the others would be"
    else:
        assert library.index([two]).missing == 1
    assert (missing(library), found(library)) == (["b.png"], {"a.png"})
    assert library.index([two]).missing == 1, "it stays so"
    assert library.prune([image.id for image in library.missing()]).images == 1


@by_what_is_left
def test_picture_that_only_a_name_is_left_of_is_missing_for_those_who_follow(
    library: Library, two: Path, leave: Callable[[Path], None]
) -> None:
    walked, stop = threading.Event(), threading.Event()

    def told(report: IndexReport) -> None:
        if report.missing:
            stop.set()
        walked.set()

    following = threading.Thread(target=library.watch, args=[[two], told], kwargs={"embed": False, "stop": stop})
    following.start()
    try:
        assert walked.wait(30)
        leave(two / "b.png")
        assert stop.wait(30)
    finally:
        stop.set()
        following.join()
    assert (missing(library), found(library)) == (["b.png"], {"a.png"})


@posix_only
def test_link_to_a_picture_is_found_while_that_is_there(library: Library, two: Path) -> None:
    target = two.parent / "target.png"
    (two / "b.png").rename(target)
    (two / "b.png").symlink_to(target)
    assert library.index([two]).missing == 0
    target.rename(two.parent / "elsewhere.png")
    assert library.index([two]).missing == 1
    (two.parent / "elsewhere.png").rename(target)
    assert library.index([two]).missing == 0
    assert found(library) == {"a.png", "b.png"}


def test_file_that_is_no_picture_by_its_name_is_refused_before_anything_is_indexed(
    library: Library, make_picture: MakePicture
) -> None:
    picture = make_picture("a.png")
    (picture.parent / "notes.txt").write_text("no picture")
    with pytest.raises(ImageError, match=r"notes\.txt' is no picture by its name"):
        library.index([picture, picture.parent / "notes.txt"])
    assert library.status().images == 0


def test_rows_of_files_that_are_no_pictures_by_their_names_are_missing_and_pruned(library: Library, two: Path) -> None:
    """As they came about while any file could be named."""
    for name in ("notes.txt", "readme"):
        (two / name).write_text("no picture")
        with library.database.transaction() as connection:
            images.mark_unopened(connection, str(two / name), "It is no picture in a format that can be read.")
    assert library.retry([two / "notes.txt"]).failed == ()
    assert missing(library) == ["notes.txt"]
    assert library.index([two]).missing == 2
    assert (missing(library), library.failures()) == (["notes.txt", "readme"], [])
    assert library.prune([image.id for image in library.missing()]).images == 2
    assert found(library) == {"a.png", "b.png"}


def test_empty_path_is_not_the_current_folder(library: Library) -> None:
    for call in (library.watch, library.index, library.failures, library.missing):
        with pytest.raises(PathNotFound, match='"" is no folder'):
            call([""])
