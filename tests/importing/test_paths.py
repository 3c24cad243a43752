"""Where another machine's paths lie on this one, and which folders were not found."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from toolkit_core.errors import SettingsError
from toolkit_core.importing.paths import PathMap, Unfound
from toolkit_core.records import UnfoundFolder

FOLDERS = {
    "D:\\renders": "/mnt/renders",
    "D:\\renders\\best of": "/mnt/best",
    "E:": "/mnt/e",
    "\\\\server\\share\\art": "/mnt/art",
    "//nas/photos": "/mnt/photos",
    "/home/anna/Pictures": "/data/pictures",
}


@pytest.mark.parametrize(
    ("there", "here"),
    [
        ("D:\\renders\\a.png", "/mnt/renders/a.png"),
        ("d:\\RENDERS\\New\\A b.PNG", "/mnt/renders/New/A b.PNG"),
        ("D:/renders/new/a.png", "/mnt/renders/new/a.png"),
        ("\\\\?\\D:\\renders\\a.png", "/mnt/renders/a.png"),
        ("D:\\renders\\Best Of\\a.png", "/mnt/best/a.png"),
        ("D:\\renders\\best of it\\a.png", "/mnt/renders/best of it/a.png"),
        ("E:\\a.png", "/mnt/e/a.png"),
        ("\\\\SERVER\\Share\\art\\a.png", "/mnt/art/a.png"),
        ("\\\\?\\UNC\\server\\share\\art\\x\\a.png", "/mnt/art/x/a.png"),
        ("//server/share/art/a.png", "/mnt/art/a.png"),
        ("//server\\share/art\\a.png", "/mnt/art/a.png"),
        ("//nas/photos/x/a.png", "/mnt/photos/x/a.png"),
        ("\\\\NAS\\photos\\x\\a.png", "/mnt/photos/x/a.png"),
        ("//?/D:/renders/a.png", "/mnt/renders/a.png"),
        ("/home/anna/Pictures/x=y/a.png", "/data/pictures/x=y/a.png"),
    ],
)
def test_longest_folder_that_a_path_begins_with_says_where_it_is(there: str, here: str) -> None:
    assert PathMap(FOLDERS).local(there) == str(Path(here))


@pytest.mark.skipif(os.name == "nt", reason="there, a drive's path is a path")
@pytest.mark.parametrize(
    "there", ["D:\\renders2\\a.png", "F:\\a.png", "\\\\server\\share2\\a.png", "a.png", "x/a.png", ""]
)
def test_path_that_is_none_here_is_not_looked_for(there: str) -> None:
    assert PathMap(FOLDERS).local(there) is None


@pytest.mark.skipif(os.name == "nt", reason="its own paths")
@pytest.mark.parametrize("there", ["/home/anna/pictures/a.png", "/srv/back\\slash.png"])
def test_path_without_a_folder_for_it_stays(there: str) -> None:
    assert PathMap(FOLDERS).local(there) == there


def test_folder_for_a_drive_is_the_same_with_and_without_its_backslash() -> None:
    assert PathMap({"D:\\": "/mnt/d"}).local("d:\\x\\a.png") == str(Path("/mnt/d/x/a.png"))


@pytest.mark.parametrize("there", ["renders", "D", "", ".\\renders"])
def test_folder_that_is_no_whole_path_is_refused(there: str) -> None:
    with pytest.raises(SettingsError, match="is not the whole path of a folder"):
        PathMap({there: "/mnt"})


def counted(*files: tuple[str, bool]) -> tuple[UnfoundFolder, ...]:
    unfound = Unfound()
    for path, found in files:
        unfound.note(path, None if found else f"/looked/{path[-5:]}", found=found)
    return unfound.folders()


def test_folder_of_which_nothing_is_found_is_one() -> None:
    files = [(f"D:\\renders\\{day}\\{n}.png", False) for day in ("may", "june") for n in range(3)]
    assert counted(*files, ("D:\\Renders\\a.png", False)) == (UnfoundFolder("D:\\renders", 7, 7, "/looked/0.png"),)


def test_folders_are_told_apart_where_some_files_are_found() -> None:
    assert counted(
        ("/mnt/a/1.png", True),
        ("/mnt/a/2.png", True),
        ("/mnt/a/3.png", False),
        ("/mnt/b/x/1.png", False),
        ("/mnt/b/y/2.png", False),
        ("/mnt/4.png", False),
        ("C:\\1.png", False),
        ("C:\\x\\2.png", True),
        ("5.png", False),
    ) == (
        UnfoundFolder("/mnt/b", 2, 2, "/looked/1.png"),
        UnfoundFolder(".", 1, 1, "/looked/5.png"),
        UnfoundFolder("/mnt", 1, 1, "/looked/4.png"),
        UnfoundFolder("/mnt/a", 1, 3, "/looked/3.png"),
        UnfoundFolder("C:\\", 1, 1, "/looked/1.png"),
    )


def test_nothing_is_said_of_folders_whose_files_are_all_found() -> None:
    assert counted(("/mnt/a/1.png", True), ("C:\\x.png", True)) == ()
