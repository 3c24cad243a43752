"""Folders that change while they are walked, that are huge, or full of files that are all the same; odd file times."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import threading
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from toolkit_core.database import Connection, moved
from toolkit_core.indexing import continued, steps
from toolkit_core.indexing.compare import compared
from toolkit_core.library import Library

from .survival import rows

MakePicture = Callable[..., Path]

# More of them by the environment: 100,000 files that change take some minutes, and so do a million that are walked.
CHANGING = int(os.environ.get("DIFFUSION_TOOLKIT_CHANGING", "3000"))
ENTRIES = int(os.environ.get("DIFFUSION_TOOLKIT_ENTRIES", "20000"))
IDENTICAL = int(os.environ.get("DIFFUSION_TOOLKIT_IDENTICAL", "600"))


def tiny_png(color: int) -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (1, 1), color).save(data, "PNG")
    return data.getvalue()


def on_disk(folder: Path) -> dict[str, bytes]:
    """What a library should have of a folder: the hash of each file by its path."""
    return {str(path): hashlib.sha256(path.read_bytes()).digest() for path in folder.rglob("*.png")}


def in_library(library: Library) -> dict[str, bytes]:
    return dict(rows(library, "SELECT path, content_hash FROM image_file WHERE missing_since IS NULL"))


def test_folder_that_changes_while_it_is_walked_is_equal_after_a_quiet_run(library: Library, pictures: Path) -> None:
    """Files and folders are made, replaced, renamed and deleted for as long as the first runs take."""
    folders = [pictures / f"{n:02}" for n in range(20)]
    for n in range(CHANGING):
        path = folders[n % len(folders)] / f"{n:06}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(tiny_png(n))
    untouched = sorted(folders[0].iterdir())
    library.index([folders[0]], embed=False)
    before = dict(rows(library, "SELECT path, id FROM image_file"))
    over = threading.Event()
    changes = 0

    def change() -> None:
        nonlocal changes
        random = np.random.default_rng(3)
        while not over.is_set():
            changes += 1
            folder = folders[random.integers(1, len(folders))]
            files = sorted(folder.iterdir())
            match int(random.integers(0, 40)):
                case 0:
                    away = folder.with_name(f"renamed {changes}")
                    folder.rename(away)
                    folders[folders.index(folder)] = away
                case n if n < 14:
                    (folder / f"new {changes}.png").write_bytes(tiny_png(CHANGING + changes))
                case n if n < 20 and files:
                    files[random.integers(len(files))].write_bytes(tiny_png(CHANGING + changes))
                case n if n < 32 and files:
                    target = folders[random.integers(1, len(folders))]
                    files[random.integers(len(files))].rename(target / f"moved {changes}.png")
                case _ if files:
                    files[random.integers(len(files))].unlink()

    thread = threading.Thread(target=change)
    thread.start()
    try:
        for _ in range(2):
            library.index([pictures], embed=False)
    finally:
        over.set()
        thread.join()
    assert changes > 100
    library.index([pictures], embed=False)
    assert in_library(library) == on_disk(pictures)
    assert {str(path): before[str(path)] for path in untouched} == {
        path: id for path, id in rows(library, "SELECT path, id FROM image_file") if path in before
    }
    again = library.index([pictures], embed=False)
    assert (again.new, again.changed, again.moved, again.failed) == (0, 0, 0, ())


def test_huge_folder_takes_little_memory_an_entry(library: Library, pictures: Path) -> None:
    """Names that are no pictures take none; those that are, what it takes to put them in order and to queue them."""

    def peak(walk: Callable[[], Any]) -> int:
        tracemalloc.start()
        try:
            walk()
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    def walk() -> int:
        return sum(1 for _ in compared(library.database, [str(pictures)]))

    pictures.mkdir()
    peak(walk)
    small = peak(walk)
    for n in range(ENTRIES):
        (pictures / f"{n:08} of no interest.log").touch()
    assert peak(walk) < small + 2 * ENTRIES
    for n in range(ENTRIES):
        (pictures / f"{n:08}.png").touch()
    assert walk() == ENTRIES
    assert peak(walk) < small + 400 * ENTRIES


def test_files_that_are_all_the_same_are_matched_a_few_at_a_time(
    library: Library, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    most = 0

    def counted(lookup: Callable[..., dict[bytes, list[Any]]]) -> Callable[..., dict[bytes, list[Any]]]:
        def counting(*arguments: Any) -> dict[bytes, list[Any]]:
            nonlocal most
            found = lookup(*arguments)
            most = max(most, *(len(files) for files in found.values()), 0)
            return found

        return counting

    monkeypatch.setattr(moved, "missing_with_content", counted(moved.missing_with_content))
    monkeypatch.setattr(moved, "others_with_content", counted(moved.others_with_content))
    (pictures / "a").mkdir(parents=True)
    for n in range(IDENTICAL):
        (pictures / "a" / f"{n:06}.png").write_bytes(tiny_png(0))
    assert library.index([pictures], embed=False).new == IDENTICAL
    ids = {Path(path).name: id for id, path in rows(library, "SELECT id, path FROM image_file")}
    assert 0 < most <= continued.OTHERS_LOOKED_AT
    (pictures / "a").rename(pictures / "b")
    report = library.index([pictures], embed=False)
    assert (report.moved, report.new, report.missing) == (IDENTICAL, 0, 0)
    assert most <= continued.OTHERS_LOOKED_AT
    assert {Path(path).name: id for id, path in rows(library, "SELECT id, path FROM image_file")} == ids


def test_moved_files_are_looked_for_once_each(
    library: Library, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of them are all the same, and somebody's transaction still sees where they were."""
    read = 0

    def entries(connection: Connection) -> int:
        indexes = "SELECT sum(pg_stat_get_xact_tuples_returned(indexrelid)) FROM pg_index WHERE indrelid = %s::regclass"
        row = connection.execute(indexes, ["image_file"]).fetchone()
        assert row is not None
        return row[0]

    def counting(connection: Connection, *arguments: Any) -> Any:
        nonlocal read
        before = entries(connection)
        found = lookup(connection, *arguments)
        read += entries(connection) - before
        return found

    lookup = moved.missing_with_content
    for name in ("same", "different"):
        (pictures / name).mkdir(parents=True)
        for n in range(IDENTICAL):
            (pictures / name / f"{n:06}.png").write_bytes(tiny_png(n + 1 if name == "different" else 0))
    library.index([pictures], embed=False)
    with library.database.autocommit() as connection:
        connection.execute("ANALYZE image_file")
    monkeypatch.setattr(moved, "missing_with_content", counting)
    pictures.rename(pictures.with_name("moved"))
    with library.database.transaction() as seeing:
        seeing.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        seeing.execute("SELECT count(*) FROM image_file")
        report = library.index([pictures.parent], embed=False)
    assert (report.moved, report.new, report.missing) == (2 * IDENTICAL, 0, 0)
    assert read < 3 * report.moved


def test_moved_files_are_not_missing_and_those_beside_them_are(library: Library, make_picture: MakePicture) -> None:
    folder = make_picture("a/0.png", "a fox", seed=1).parent
    for n in range(1, 60):
        shutil.copy(folder / "0.png", folder / f"{n}.png")
    library.index([folder.parent], embed=False)
    for path in sorted(folder.iterdir())[:20]:
        path.unlink()
    folder.rename(folder.with_name("b"))
    report = library.index([folder.parent], embed=False)
    assert (report.moved, report.new, report.missing) == (40, 0, 20)
    assert library.status().missing == 20


def test_file_whose_row_another_process_took_meanwhile_gets_one_of_its_own(
    library: Library, make_picture: MakePicture, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_picture("a.png", "a fox")
    library.index([pictures], embed=False)
    moved = path.rename(pictures / "b.png")
    found_first = shutil.copy(moved, pictures.parent / "elsewhere.png")
    match = steps.continued_rows

    def matched_too_late(*arguments: Any) -> Any:
        continued = match(*arguments)
        rows(library, "UPDATE image_file SET path = %s WHERE path = %s RETURNING id", str(found_first), str(path))
        return continued

    monkeypatch.setattr(steps, "continued_rows", matched_too_late)
    report = library.index([pictures], embed=False)
    assert (report.moved, report.new) == (0, 1)
    assert {path for (path,) in rows(library, "SELECT path FROM image_file")} == {str(moved), str(found_first)}


def test_files_moved_out_of_a_folder_that_is_not_walked_keep_their_rows(
    library: Library, make_picture: MakePicture
) -> None:
    folder = make_picture("a/0.png", "a fox", seed=1).parent
    for n in range(1, 40):
        shutil.copy(folder / "0.png", folder / f"{n}.png")
    library.index([folder], embed=False)
    elsewhere = folder.with_name("b")
    folder.rename(elsewhere)
    report = library.index([elsewhere], embed=False)
    assert (report.moved, report.new, report.missing) == (40, 0, 0)


@pytest.mark.parametrize("seconds", [-(2**33), -1.5, 0, 2**31, 4_102_444_800, 2**34 - 1])
def test_file_of_any_time_is_read_once_and_again_when_it_changes(
    library: Library, make_picture: MakePicture, seconds: float
) -> None:
    path = make_picture("a.png", "a fox")
    os.utime(path, (seconds, seconds))
    assert library.index([path.parent]).new == 1
    assert library.index([path.parent]).unchanged == 1
    make_picture("a.png", "an owl")
    os.utime(path, (seconds - 3600, seconds - 3600))
    report = library.index([path.parent])
    assert (report.changed, sum(report.pending.values())) == (1, 0)
    assert library.index([path.parent]).unchanged == 1
    assert rows(library, "SELECT prompt FROM image") == [("an owl",)]
