"""Names in another case: on most disks of Windows and macOS they lead to the same file."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from toolkit_core.indexing.scan import presence, real_path
from toolkit_core.indexing.spelling import spelled
from toolkit_core.library import Library

from .presence import missing

MakePicture = Callable[..., Path]


@pytest.fixture
def is_case_blind(tmp_path: Path) -> bool:
    (tmp_path / "case").touch()
    return (tmp_path / "CASE").exists()


def test_names_that_differ_in_case_alone_are_two_where_the_disk_tells_them_apart(
    tmp_path: Path, is_case_blind: bool
) -> None:
    if is_case_blind:
        pytest.skip("this disk takes them for one")
    for name in ("sub/Fox.png", "Sub/fox.png"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
        assert real_path(tmp_path / name) == tmp_path / name
        assert presence(tmp_path / name) == "there"
    assert presence(tmp_path / "sub" / "fox.png") == "gone"


def test_two_links_to_one_file_are_two_names(tmp_path: Path, is_case_blind: bool) -> None:
    """Also where nothing but their case tells them apart, which looks like a disk that does not."""
    names = ("Fox.png", "other.png" if is_case_blind else "fOX.PNG")
    (tmp_path / names[0]).touch()
    os.link(tmp_path / names[0], tmp_path / names[1])
    for name in names:
        assert spelled(str(tmp_path / name)) == str(tmp_path / name)


@pytest.mark.parametrize(("old", "new"), [("Fox.png", "fox.png"), ("Sub", "sub")])
def test_what_is_renamed_in_case_alone_is_the_same_image(
    library: Library, pictures: Path, make_picture: MakePicture, is_case_blind: bool, old: str, new: str
) -> None:
    if not is_case_blind:
        pytest.skip("this disk tells cases apart; those of Windows and macOS do not")
    make_picture("Fox.png")
    make_picture("Sub/owl.png")
    library.index([pictures], embed=False)
    before = {library.image(id).path: id for id in library.find("")}
    (pictures / old).rename(pictures / new)
    for _ in range(2):
        library.index([pictures], embed=False)
        after = {library.image(id).path: id for id in library.find("")}
        assert after == {path.replace(str(pictures / old), str(pictures / new)): id for path, id in before.items()}
        assert missing(library) == []
