"""Bringing a DiffusionToolkit database along."""

from __future__ import annotations

import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]
Ask = Callable[..., Any]
MakePicture = Callable[..., Path]


@pytest.fixture
def toolkit(tmp_path: Path, make_picture: MakePicture) -> Path:
    """A database of its first version, with one file that is there, one elsewhere, one nowhere, and a video."""
    make_picture("renders/b.png")
    rows = [
        (str(make_picture("a.png", "a red fox")), 1, 7),
        ("D:\\renders\\b.png", 0, 3),
        ("E:\\old\\c [1].png", 1, None),
        ("E:\\old\\d.mp4", 0, None),
    ]
    path = tmp_path / "toolkit.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute('CREATE TABLE "Image" ("Id" integer primary key, "Path", "Favorite", "Rating")')
        connection.executemany('INSERT INTO "Image" ("Path", "Favorite", "Rating") VALUES (?, ?, ?)', rows)
    return path


def test_report_says_what_came_along_and_what_to_map(run: Run, toolkit: Path, pictures: Path) -> None:
    said = run("import", toolkit, "--no-embed").stdout
    assert f"4 images in {toolkit}: 1 found here, 2 not found, 1 no pictures, in" in said
    assert "Indexed: 1 new, 0 changed, 0 moved, 0 unchanged, 0 failed in" in said
    assert "1 images changed by what is said of them there: 1 new favourites, 1 rated, 0 tagged" in said
    assert "No pictures: 1 .mp4" in said
    assert "D:\\renders" in said
    assert "nowhere: no such path on this machine" in said
    assert '--map "D:\\renders=FOLDER HERE"' in said
    said = run(
        "import", toolkit, "--no-embed", "--map", f"d:/Renders={pictures / 'renders'}", "--map", "E:=/gone"
    ).stdout
    assert "2 found here, 1 not found" in said
    assert "Indexed: 1 new, 0 changed, 0 moved, 1 unchanged" in said
    assert "/gone/old/c [1].png" in said


def test_report_in_json(ask: Ask, toolkit: Path, pictures: Path) -> None:
    report = ask("import", toolkit, "--no-embed", "--map", f"D:\\={pictures}")
    assert (report["images"], report["found"], report["unsupported"]) == (4, 2, {".mp4": 1})
    assert report["unfound"] == [{"folder": "E:\\old", "unfound": 1, "images": 1, "looked_for": None}]
    assert (report["curated"], report["favorites"], report["rated"], report["tagged"]) == (2, 1, 2, 0)
    assert report["indexing"]["new"] == 2
    assert ask("search", "--filter", "rating:3")["hits"][0]["path"] == str(pictures / "renders" / "b.png")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("none.db",), "'none.db' is not there. Name DiffusionToolkit's database file"),
        (("postgresql://anna:secret@127.0.0.1:1/x",), "PostgreSQL database x on 127.0.0.1 cannot be read"),
        (("none.db", "--map", "D:\\renders"), "--map 'D:\\\\renders' is not FROM=TO"),
        (("none.db", "--map", "=/mnt"), "--map '=/mnt' is not FROM=TO"),
        (("none.db", "--map", "renders=/mnt"), "'renders' is not the whole path of a folder"),
    ],
)
def test_what_cannot_be_imported_is_said_in_one_sentence(run: Run, arguments: tuple[str, ...], said: str) -> None:
    done = run("import", *arguments, check=False)
    assert done.returncode == 1
    assert said in " ".join(done.stderr.split())
    assert "secret" not in done.stderr
