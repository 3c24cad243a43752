"""Sidecars: which file belongs to which picture, and that another state of one makes its picture read again."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from toolkit_core.indexing.scan import FoundFile, find_file, scan
from toolkit_core.indexing.sidecars import MAX_SIDECAR_BYTES, FolderSidecars, read_sidecars
from toolkit_core.library import Library
from toolkit_core.records import IndexReport
from toolkit_core.spaces import SPACES

MakePicture = Callable[..., Path]
SETTINGS = "{}\nNegative prompt: blurry\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 5, Size: 8x8, Model: m"


def beside(folder: Path) -> dict[str, list[str]]:
    """The names of the sidecars of each picture in a folder, as a walk finds them and as a look at each one does."""
    walked = {Path(f.path).name: [Path(s.path).name for s in f.sidecars] for f in found(folder)}
    folders: dict[str, FolderSidecars] = {}
    for name, sidecars in walked.items():
        alone = find_file(str(folder / name), folders)
        assert isinstance(alone, FoundFile)
        assert [Path(s.path).name for s in alone.sidecars] == sidecars
    return walked


def found(folder: Path) -> list[FoundFile]:
    return [file for file in scan([str(folder)]) if isinstance(file, FoundFile)]


def test_sidecar_is_named_after_its_picture(tmp_path: Path) -> None:
    for name in ("a.png", "a.txt", "a.json", "b.c.webp", "b.c.png.json", "b.c.webp.TXT", "b.c.swarm.json", "b.txt"):
        (tmp_path / name).write_text("x")
    for name in ("d.png", "d.png.txt", "d.txt", "d.jpg", "e.png", "ee.txt", "notes.txt", "e.md"):
        (tmp_path / name).write_text("x")
    (tmp_path / "e.json").mkdir()
    assert beside(tmp_path) == {
        "a.png": ["a.txt", "a.json"],
        "b.c.webp": ["b.c.webp.TXT", "b.c.swarm.json"],
        "d.png": ["d.png.txt"],
        "d.jpg": ["d.txt"],
        "e.png": [],
    }


def test_large_sidecar_is_left_out(tmp_path: Path) -> None:
    for name, size in (("a.png", 1), ("a.txt", MAX_SIDECAR_BYTES + 1), ("b.png", 1), ("b.txt", MAX_SIDECAR_BYTES)):
        (tmp_path / name).write_bytes(b"x" * size)
    assert beside(tmp_path) == {"a.png": [], "b.png": ["b.txt"]}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
def test_sidecar_is_decoded_as_it_was_written(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "a.png").touch()
    (tmp_path / "a.txt").write_text("füchse", encoding=encoding)
    [file] = found(tmp_path)
    assert read_sidecars(file.sidecars) == {".txt": "füchse"}
    (tmp_path / "a.txt").unlink()
    assert read_sidecars(file.sidecars) == {}


def prompt_of(library: Library, path: Path) -> tuple[str | None, bool]:
    with library.database.transaction() as connection:
        query = "SELECT prompt, favorite FROM image WHERE path = %s"
        [row] = connection.execute(query, [str(path)]).fetchall()
    return row


def counts(report: IndexReport) -> tuple[int, int, int, int]:
    return report.new, report.changed, report.moved, report.unchanged


def test_sidecar_that_comes_changes_moves_and_goes_is_followed(library: Library, make_picture: MakePicture) -> None:
    path = make_picture("a.png")
    folder, sidecar = path.parent, path.with_suffix(".txt")
    assert counts(library.index([folder])) == (1, 0, 0, 0)
    with library.database.transaction() as connection:
        connection.execute("UPDATE image_file SET favorite = true")

    sidecar.write_text(SETTINGS.format("a fox"))
    os.utime(sidecar, (1, 1))  # older than its picture
    report = library.index([folder])
    assert (counts(report), report.embedded["clip_h"]) == ((0, 1, 0, 0), 0)
    assert prompt_of(library, path) == ("a fox", True)
    assert counts(library.index([folder])) == counts(library.index([path])) == (0, 0, 0, 1)

    sidecar.write_text(SETTINGS.format("an owl"))
    assert counts(library.index([folder])) == (0, 1, 0, 0)
    assert prompt_of(library, path) == ("an owl", True)

    os.utime(sidecar, (2, 2))
    library.index([folder])
    assert prompt_of(library, path) == ("an owl", True)

    (folder / "sub").mkdir()
    moved = path.rename(folder / "sub" / "b.png")
    sidecar = sidecar.rename(folder / "sub" / "b.txt")
    assert counts(library.index([folder])) == (0, 0, 1, 0)
    assert prompt_of(library, moved) == ("an owl", True)

    sidecar.unlink()
    assert counts(library.index([folder])) == (0, 1, 0, 0)
    assert prompt_of(library, moved) == (None, True)

    sidecar.write_text(SETTINGS.format("a wren"))
    left = moved.rename(folder / "c.png")
    assert counts(library.index([folder])) == (0, 0, 1, 0)
    assert prompt_of(library, left) == (None, True)
    assert library.status().images == 1
    assert library.status().pending == dict.fromkeys(SPACES, 0)


def test_pictures_own_metadata_goes_before_its_sidecar(library: Library, make_picture: MakePicture) -> None:
    path = make_picture("a.png", "a fox")
    path.with_suffix(".txt").write_text(SETTINGS.format("something else"))
    library.index([path])
    assert prompt_of(library, path)[0] == "a fox"
