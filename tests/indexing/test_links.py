"""Links to folders: what lies behind them is in the library as all else is, and gone when it is gone."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from toolkit_core.indexing.catch_up import catch_up
from toolkit_core.indexing.compare import compared
from toolkit_core.indexing.scan import Walk
from toolkit_core.library import Library

MakePicture = Callable[..., Path]

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="links to folders take a right in Windows")


@pytest.fixture
def linked(make_picture: MakePicture, pictures: Path) -> Path:
    """A folder with a picture, and with a link to another one, that has pictures and a link to a third one."""
    for name in ("outputs/a.png", "far/b.png", "far/deep/c.png", "third/d.png"):
        make_picture(name, name)
    (pictures / "outputs" / "link").symlink_to(pictures / "far")
    (pictures / "far" / "link").symlink_to(pictures / "third")
    return pictures / "outputs"


def missing(library: Library) -> list[str]:
    return [Path(image.path).name for image in library.missing()]


def test_file_behind_a_link_is_marked_when_it_is_gone_and_unmarked_when_it_is_back(
    library: Library, linked: Path, pictures: Path
) -> None:
    assert library.index([linked]).new == 4
    aside = pictures / "aside.png"
    for name in ("far/b.png", "far/deep/c.png", "third/d.png"):
        (pictures / name).rename(aside)
        report = library.index([linked])
        assert (report.missing, report.unchanged, missing(library)) == (1, 3, [Path(name).name])
        aside.rename(pictures / name)
        report = library.index([linked])
        assert (report.missing, report.unchanged, missing(library)) == (0, 4, [])


def test_what_a_link_led_to_is_marked_when_the_folder_is_gone(library: Library, linked: Path, pictures: Path) -> None:
    library.index([linked])
    (pictures / "far").rename(pictures / "away")
    report = library.index([linked])
    # The third folder is there, and nothing leads to it by now.
    assert (report.missing, report.failed, missing(library)) == (2, (), ["b.png", "c.png"])
    (pictures / "away").rename(pictures / "far")
    assert library.index([linked]).missing == 0
    assert missing(library) == []


def test_only_what_lies_directly_in_a_folder_is_looked_at_where_that_is_wanted(
    library: Library, linked: Path, pictures: Path
) -> None:
    library.index([linked])
    (pictures / "far" / "b.png").unlink()
    assert library.index([linked], recursive=False).missing == 0


def test_catching_up_knows_of_links(library: Library, linked: Path, pictures: Path) -> None:
    library.index([linked])
    (pictures / "third" / "d.png").unlink()
    reports = list(catch_up(library.database, str(linked), lambda _: None, lambda paths: library.index(paths)))
    assert sum(report.missing for report in reports) == 1
    assert missing(library) == ["d.png"]


def test_files_behind_links_meet_their_rows_once_wherever_the_links_lead(
    library: Library, linked: Path, pictures: Path
) -> None:
    (pictures / "third" / "back").symlink_to(linked)
    (pictures / "third" / "down").symlink_to(pictures / "far" / "deep")
    (pictures / "third" / "nowhere").symlink_to(pictures / "nothing")
    library.index([linked])
    walk = Walk()
    pairs = list(compared(library.database, [str(linked)], walk))
    assert sorted(Path(row.path).name for found, row in pairs if found and row) == ["a.png", "b.png", "c.png", "d.png"]
    assert len(pairs) == 4
    assert walk.broken_links == [str(pictures / "nothing")]
    (pictures / "third" / "up").symlink_to(pictures)
    pairs = list(compared(library.database, [str(linked)]))
    assert sorted(Path(found.path).name for found, _ in pairs if found) == ["a.png", "b.png", "c.png", "d.png"]


def test_file_that_is_named_beside_the_folder_with_a_link_to_it_is_read_once(
    library: Library, linked: Path, pictures: Path
) -> None:
    report = library.index([linked, pictures / "far" / "b.png"])
    assert (report.new, report.missing, report.failed) == (4, 0, ())
