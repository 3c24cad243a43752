"""A picture is known by its content: whatever becomes of names, what is said of it stays with it, and with it alone."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from toolkit_core.database import images
from toolkit_core.indexing.catch_up import catch_up
from toolkit_core.library import Library
from toolkit_core.records import IndexReport, Progress, Pruned

from .watched import following, until

MakePicture = Callable[..., Path]
# Of 32 files each: a few batches, so that the old content of one turns up in another.
SOME, MANY = 4, 80


class Album:
    """The pictures of a folder, each with a tag and a vector of its own, and what has to become of them."""

    def __init__(self, library: Library, make_picture: MakePicture, folder: Path, count: int) -> None:
        self.library = library
        self.folder = folder
        self._make = make_picture
        self._seeds = iter(range(10**6))
        self.known: dict[bytes, int] = {}
        self.new(*(self.name(n) for n in range(count)))
        library.index([folder], embed=False)
        for path, (id, _) in self.rows().items():
            library.curate([id], rating=7, add_tags=[f"picture {id}"])
            self.known[path.read_bytes()] = id

    def name(self, n: int) -> str:
        return f"ComfyUI_{n:05}_.png"

    def path(self, n: int) -> Path:
        return self.folder / self.name(n)

    def new(self, *names: str) -> None:
        for name in names:
            seed = next(self._seeds)
            self._make(name, f"a fox {seed}", seed=seed)

    def index(self, **options: Any) -> IndexReport:
        return self.library.index([self.folder], embed=False, **options)

    def rows(self, *, missing: bool = False) -> dict[Path, tuple[int, list[str]]]:
        with self.library.database.transaction() as connection:
            rows = connection.execute(
                "SELECT path, id, tags FROM image_file WHERE (missing_since IS NOT NULL) = %s", [missing]
            ).fetchall()
        return {Path(path): (id, tags) for path, id, tags in rows}

    def is_right(self) -> bool:
        """Whether each file is the image that it was, with its tag, and no other file has one."""
        files = {path: path.read_bytes() for path in self.folder.rglob("*.png")}
        rows = self.rows()
        known = {path: self.known[data] for path, data in files.items() if data in self.known}
        right = {path: (id, [f"picture {id}"]) for path, id in known.items()}
        return (
            rows.keys() == files.keys()
            and right == {path: rows[path] for path in right}
            and all(not tags for path, (_, tags) in rows.items() if path not in right)
        )

    def missing(self) -> set[int]:
        return {image.id for image in self.library.missing()}

    def wrong(self) -> str:
        return "\n".join(f"{path.name} {row}" for path, row in sorted(self.rows().items()))


MakeAlbum = Callable[[int], Album]


@pytest.fixture
def album(library: Library, make_picture: MakePicture, pictures: Path) -> MakeAlbum:
    """Makes some pictures, which are indexed and tagged."""
    return lambda count: Album(library, make_picture, pictures, count)


@pytest.mark.parametrize("count", [SOME, MANY])
@pytest.mark.parametrize("to", ["best", "Best"])  # before and behind the others' names
def test_pictures_that_moved_are_not_those_that_have_their_names_now(album: MakeAlbum, count: int, to: str) -> None:
    """ComfyUI's counter starts again when its folder was emptied."""
    kept = album(count)
    (kept.folder / to).mkdir()
    for n in range(count):
        kept.path(n).rename(kept.folder / to / kept.name(n))
    kept.new(*(kept.name(n) for n in range(count)))
    report = kept.index()
    assert kept.is_right(), kept.wrong()
    assert (report.moved, report.new, report.changed, report.missing) == (count, count, 0, 0)
    assert kept.index().unchanged == 2 * count


def test_pictures_that_moved_where_only_some_names_are_used_again(album: MakeAlbum) -> None:
    kept = album(MANY)
    (kept.folder / "best").mkdir()
    for n in range(MANY):
        kept.path(n).rename(kept.folder / "best" / kept.name(n))
    kept.new(*(kept.name(n) for n in range(0, MANY, 3)))
    assert kept.index().moved == MANY
    assert kept.is_right(), kept.wrong()


@pytest.mark.parametrize("count", [SOME, MANY])
@pytest.mark.parametrize("by", [-1, 1])
def test_pictures_that_are_all_renamed_by_one_keep_what_is_said_of_them(album: MakeAlbum, count: int, by: int) -> None:
    kept = album(count)
    if by < 0:
        kept.path(0).unlink()
    for n in range(1, count) if by < 0 else reversed(range(count)):
        kept.path(n).rename(kept.path(n + by))
    report = kept.index()
    assert kept.is_right(), kept.wrong()
    assert (report.moved, report.missing) == ((count - 1, 1) if by < 0 else (count, 0))


@pytest.mark.parametrize("count", [2, 3, MANY])
def test_pictures_that_change_names_in_a_circle_keep_what_is_said_of_them(album: MakeAlbum, count: int) -> None:
    kept = album(count)
    kept.path(0).rename(kept.folder / "aside")
    for n in range(1, count):
        kept.path(n).rename(kept.path(n - 1))
    (kept.folder / "aside").rename(kept.path(count - 1))
    report = kept.index()
    assert kept.is_right(), kept.wrong()
    assert (report.moved, report.missing) == (count, 0)
    assert kept.index().unchanged == count


def test_picture_that_is_moved_over_another_keeps_what_is_said_of_it(album: MakeAlbum) -> None:
    kept = album(2)
    over = kept.known[kept.path(1).read_bytes()]
    aside = shutil.copy2(kept.path(1), kept.folder.parent / "aside.png")
    kept.path(0).replace(kept.path(1))
    report = kept.index()
    assert kept.is_right(), kept.wrong()
    assert (report.moved, report.missing, kept.missing()) == (1, 1, {over})
    Path(aside).rename(kept.folder / "back.png")
    assert kept.index().moved == 1
    assert kept.is_right(), kept.wrong()
    assert kept.missing() == set()


def test_picture_that_is_moved_over_another_where_a_new_one_has_its_name(album: MakeAlbum) -> None:
    kept = album(MANY)
    kept.path(0).replace(kept.path(MANY - 1))
    kept.new(kept.name(0))
    report = kept.index()
    assert kept.is_right(), kept.wrong()
    assert (report.moved, report.new, report.missing) == (1, 1, 1)


def test_missing_picture_comes_back_beside_the_one_that_has_its_name(album: MakeAlbum) -> None:
    kept = album(1)
    [loved] = kept.known.values()
    away = kept.path(0).rename(kept.folder.parent / "away.png")
    kept.index()
    for _ in range(2):
        kept.new(kept.name(0))
        kept.index()
        assert kept.is_right(), kept.wrong()
        assert kept.missing() == {loved}
    away.rename(kept.folder / "loved.png")
    assert kept.index().moved == 1
    assert kept.is_right(), kept.wrong()


def test_missing_picture_takes_its_name_back_from_another_one(album: MakeAlbum) -> None:
    kept = album(1)
    away = kept.path(0).rename(kept.folder.parent / "away.png")
    kept.index()
    kept.new(kept.name(0))
    kept.index()
    other = kept.rows()[kept.path(0)][0]
    away.replace(kept.path(0))
    kept.index()
    assert kept.is_right(), kept.wrong()
    assert kept.missing() == {other}


def test_edited_picture_keeps_what_is_said_of_it(album: MakeAlbum) -> None:
    kept = album(MANY)
    before = kept.rows()
    # Beside files that are new, moved and touched.
    kept.path(1).rename(kept.folder / "moved.png")
    os.utime(kept.path(2), (10**9, 10**9))
    kept.new("other.png", *(kept.name(n) for n in range(3, MANY)))
    report = kept.index()
    assert (report.changed, report.moved, report.new, report.missing) == (MANY - 3, 1, 1, 0)
    after = kept.rows()
    assert all(after[kept.path(n)] == before[kept.path(n)] for n in range(3, MANY))


def test_edited_copy_of_a_picture_leaves_what_is_said_of_it_with_the_original(album: MakeAlbum) -> None:
    kept = album(2)
    kept.path(0).rename(kept.folder / "original.png")
    kept.new(kept.name(0))
    kept.index()
    assert kept.is_right(), kept.wrong()


def test_moved_pictures_stay_the_same_in_a_run_that_reads_all_again(album: MakeAlbum) -> None:
    kept = album(MANY)
    for n in range(1, MANY):
        kept.path(n).replace(kept.path(n - 1))
    kept.new(kept.name(MANY - 1))
    kept.index(reindex=True)
    assert kept.is_right(), kept.wrong()


def test_touched_originals_are_not_taken_for_moved(album: MakeAlbum) -> None:
    kept = album(SOME)
    for n in range(SOME):
        shutil.copy(kept.path(n), kept.folder / f"copy {n}.png")
        os.utime(kept.path(n), (10**9, 10**9))
    report = kept.index()
    assert (report.new, report.unchanged, report.moved) == (SOME, SOME, 0)
    rows = kept.rows()
    assert all(rows[kept.path(n)][1] for n in range(SOME))


def test_of_several_that_are_missing_the_last_one_comes_back_under_another_name(album: MakeAlbum) -> None:
    kept = album(1)
    [loved] = kept.known.values()
    copy = Path(shutil.copy(kept.path(0), kept.folder / "a copy.png"))
    kept.index()
    copy.unlink()
    kept.index()
    kept.path(0).rename(kept.folder / "renamed.png")
    kept.index()
    assert kept.rows() == {kept.folder / "renamed.png": (loved, [f"picture {loved}"])}


def test_picture_that_is_seen_while_it_is_written_anew_leaves_what_is_said_of_it_to_no_other_empty_file(
    album: MakeAlbum,
) -> None:
    kept = album(1)
    data = kept.path(0).read_bytes()
    kept.path(0).write_bytes(b"")
    kept.index()
    kept.path(0).write_bytes(data)
    (kept.folder / "other.png").write_bytes(b"")
    kept.index()
    assert kept.is_right(), kept.wrong()


def test_of_copies_the_one_whose_name_was_used_again_is_taken_before_one_that_went_long_ago(album: MakeAlbum) -> None:
    kept = album(1)
    [loved] = kept.known.values()
    copy = Path(shutil.copy(kept.path(0), kept.folder / "a copy.png"))
    kept.index()
    copy.unlink()
    kept.index()
    kept.path(0).rename(kept.folder / "renamed.png")
    kept.new(kept.name(0))
    kept.index()
    assert kept.rows()[kept.folder / "renamed.png"] == (loved, [f"picture {loved}"])
    assert kept.is_right(), kept.wrong()


def test_what_is_said_of_a_picture_goes_on_with_the_copy_that_is_left_of_it(album: MakeAlbum) -> None:
    """As where a folder is copied to another drive and then deleted; a rename or an edit leaves copies as they are."""
    kept = album(3)
    copies = [Path(shutil.copy(kept.path(n), kept.folder / f"copy {n}.png")) for n in range(3)]
    kept.index()
    ids = [kept.rows()[copy][0] for copy in copies]
    kept.path(0).unlink()
    kept.path(1).rename(kept.folder / "renamed.png")
    kept.new(kept.name(2))
    kept.index()
    [loved, *_] = (kept.known[copy.read_bytes()] for copy in copies)
    assert [kept.rows()[copy] for copy in copies] == [(ids[0], [f"picture {loved}"]), (ids[1], []), (ids[2], [])]
    kept.library.curate([ids[0]], remove_tags=[f"picture {loved}"])
    kept.index()
    assert kept.rows()[copies[0]] == (ids[0], []), "once, and not again"


def test_watch_follows_a_folder_that_is_copied_elsewhere_and_then_deleted(album: MakeAlbum, tmp_path: Path) -> None:
    kept = album(SOME)
    there = tmp_path / "another drive"
    tags = {there / path.name: said for path, (_, said) in kept.rows().items()}
    there.mkdir()
    with watched(kept, kept.folder, there):
        for n in range(SOME):
            shutil.copy2(kept.path(n), there)
        until(lambda: len(kept.rows()) == 2 * SOME)
        for n in range(SOME):
            kept.path(n).unlink()
        until(lambda: {path: said for path, (_, said) in kept.rows().items()} == tags, kept.wrong)


def test_processes_at_once_leave_each_picture_what_is_said_of_it(
    album: MakeAlbum, home: Path, schema: str, tiny_weights: Path
) -> None:
    kept = album(3 * MANY)
    for n in range(1, 2 * MANY):
        kept.path(n).replace(kept.path(n - 1))
    (kept.folder / "best").mkdir()
    for n in range(2 * MANY, 3 * MANY):
        kept.path(n).rename(kept.folder / "best" / kept.name(n))
        kept.new(kept.name(n))
    kept.new(kept.name(2 * MANY - 1))
    options = ("--home", str(home), "--library", schema, "--weights", str(tiny_weights), "--json")
    command = [sys.executable, "-m", "toolkit_core", "index", str(kept.folder), *options]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]) for _ in range(2)]
    reports = [json.loads(process.communicate(timeout=300)[0]) for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert kept.is_right(), kept.wrong()
    assert [sum(report[what] for report in reports) for what in ("moved", "changed", "new")] == [
        3 * MANY - 1,
        0,
        MANY + 1,
    ]


def test_file_in_the_place_of_another_is_left_for_later_when_told(album: MakeAlbum) -> None:
    kept = album(2)
    elsewhere = kept.folder.parent / "elsewhere"
    elsewhere.mkdir()
    kept.path(0).rename(elsewhere / "loved.png")
    kept.new(kept.name(0))
    report = kept.index(overwrite=False)
    assert (report.put_off, report.changed) == ((str(kept.path(0)),), 0)
    assert kept.library.index([elsewhere], embed=False).moved == 1
    assert kept.index().new == 1
    (elsewhere / "loved.png").rename(kept.folder / "loved.png")
    kept.index()
    assert kept.is_right(), kept.wrong()


def test_prune_removes_what_is_missing_from_under_another_ones_name(album: MakeAlbum) -> None:
    kept = album(2)
    loved = kept.known[kept.path(0).read_bytes()]
    kept.path(0).unlink()
    kept.index()
    kept.new(kept.name(0))
    kept.index()
    assert kept.library.prune([loved]) == Pruned(images=1, texts=1)
    assert kept.rows().keys() == {kept.path(0), kept.path(1)}
    assert kept.is_right(), kept.wrong()


def test_prune_leaves_a_picture_that_is_back_in_the_place_of_another_one(album: MakeAlbum) -> None:
    kept = album(1)
    [loved] = kept.known.values()
    away = kept.path(0).rename(kept.folder.parent / "away.png")
    kept.index()
    kept.new(kept.name(0))
    kept.index()
    away.replace(kept.path(0))
    assert kept.library.prune([loved]) == Pruned()
    kept.index()
    assert kept.is_right(), kept.wrong()


def test_file_that_cannot_be_opened_takes_nothing_from_the_missing_one_at_its_path(album: MakeAlbum) -> None:
    kept = album(1)
    [loved] = kept.known.values()
    away = kept.path(0).rename(kept.folder.parent / "away.png")
    kept.index()
    with kept.library.database.transaction() as connection:
        assert not images.mark_unopened(connection, str(kept.path(0)), "It cannot be opened: Permission denied")
    assert (kept.missing(), kept.rows()) == ({loved}, {})
    away.rename(kept.path(0))
    kept.index()
    assert kept.is_right(), kept.wrong()


def test_moved_file_that_could_not_be_opened_at_first_leaves_nothing_behind(album: MakeAlbum) -> None:
    kept = album(1)
    kept.path(0).rename(kept.folder / "moved.png")
    with kept.library.database.transaction() as connection:
        assert images.mark_unopened(
            connection, str(kept.folder / "moved.png"), "It cannot be opened: Permission denied"
        )
    assert kept.index().moved == 1
    assert kept.is_right(), kept.wrong()
    assert kept.missing() == set()


@contextmanager
def watched(album: Album, *folders: Path) -> Iterator[None]:
    stop = threading.Event()
    errors: list[BaseException] = []

    def follow() -> None:
        try:
            album.library.watch([*folders] or [album.folder], embed=False, stop=stop)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=follow)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(60)
    assert not errors


def until_right(album: Album) -> None:
    deadline = time.monotonic() + 60
    while not album.is_right():
        assert time.monotonic() < deadline, album.wrong()
        time.sleep(0.1)
    time.sleep(1.0)
    assert album.is_right(), album.wrong()


@pytest.mark.parametrize("count", [SOME, MANY])
def test_watch_follows_pictures_that_moved_while_others_take_their_names(album: MakeAlbum, count: int) -> None:
    kept = album(count)
    with watched(kept):
        time.sleep(2.0)
        (kept.folder / "best").mkdir()
        for n in range(count):
            kept.path(n).rename(kept.folder / "best" / kept.name(n))
            kept.new(kept.name(n))
        until_right(kept)


def test_watch_follows_pictures_that_are_renamed_one_over_the_other(album: MakeAlbum) -> None:
    kept = album(SOME)
    with watched(kept):
        time.sleep(2.0)
        kept.path(0).unlink()
        for n in range(1, SOME):
            kept.path(n).rename(kept.path(n - 1))
        until_right(kept)
        kept.path(0).rename(kept.folder / "aside")
        kept.path(1).rename(kept.path(0))
        (kept.folder / "aside").rename(kept.path(1))
        until_right(kept)


def test_watch_reads_few_at_a_time_and_still_follows(album: MakeAlbum, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is heard at once is read in several runs, so the old content of a file turns up in a later one."""
    monkeypatch.setattr("toolkit_core.indexing.watch.FILES_A_RUN", 3)
    kept = album(MANY)
    with watched(kept):
        time.sleep(2.0)
        (kept.folder / "best").mkdir()
        for n in range(MANY):
            kept.path(n).rename(kept.folder / "best" / kept.name(MANY - n))
            kept.new(kept.name(n))
        until_right(kept)


def test_watch_finds_what_moved_from_one_folder_to_another_before_it_began(album: MakeAlbum) -> None:
    kept = album(SOME)
    first, second = kept.folder / "a", kept.folder / "b"
    first.mkdir()
    second.mkdir()
    for n in range(SOME):
        kept.path(n).rename(first / kept.name(n))
    kept.index()
    for n in range(SOME):
        (first / kept.name(n)).rename(second / kept.name(n))
        kept.new(f"a/{kept.name(n)}")
    with watched(kept, first, second):
        until_right(kept)


def test_pictures_that_moved_while_nobody_followed_are_found_among_older_files(album: MakeAlbum) -> None:
    """In ComfyUI, where what lay in the folder before and is not in the library is left alone."""
    kept = album(SOME)
    kept.new("never indexed.png")
    os.utime(kept.folder / "never indexed.png", (10**9, 10**9))
    (kept.folder / "best").mkdir()
    for n in range(SOME):
        kept.path(n).rename(kept.folder / "best" / kept.name(n))
        kept.new(kept.name(n))
    index = partial(kept.library.index, embed=False)
    moved = sum(report.moved for report in catch_up(kept.library.database, str(kept.folder), lambda _: None, index))
    assert moved == SOME
    (kept.folder / "never indexed.png").unlink()
    assert kept.is_right(), kept.wrong()


def test_prune_leaves_what_a_watch_waits_to_read_under_another_name(album: MakeAlbum) -> None:
    kept = album(1)
    [loved] = kept.known.values()
    away = kept.path(0).rename(kept.folder.parent / "away.png")
    kept.index()
    data = away.read_bytes()
    pruned: list[Pruned] = []
    with following(kept.library, kept.folder, embed=None) as follower:
        follower.until(lambda: bool(follower.reports))
        with (kept.folder / "new name.png").open("wb") as file:
            for n in range(20):  # for longer than a file has to be still
                file.write(data[n * len(data) // 20 : (n + 1) * len(data) // 20])
                file.flush()
                time.sleep(0.1)
                if n == 15:
                    pruned.append(kept.library.prune([loved]))
        follower.until(kept.is_right)
    assert pruned == [Pruned(left=1)]


def test_first_picture_with_a_used_name_takes_nothing_while_the_walk_that_finds_the_old_one_waits(
    album: MakeAlbum,
) -> None:
    """In ComfyUI, where pictures were moved while it was closed and it is busy as soon as it is open."""
    kept = album(SOME)
    (kept.folder / "best").mkdir()
    for n in range(SOME):
        kept.path(n).rename(kept.folder / "best" / kept.name(n))
    idle = threading.Event()
    options = {"since": datetime.now(timezone.utc), "is_idle": idle.is_set, "embed": None}
    with following(kept.library, kept.folder, **options) as follower:
        kept.new(kept.name(0))
        follower.until(lambda: any(report.put_off for report in follower.reports))
        time.sleep(1.0)  # twice as long as it waits for other files
        idle.set()
        follower.until(kept.is_right)


def test_edited_picture_is_read_while_others_are_embedded(album: MakeAlbum) -> None:
    kept = album(2)
    begun, is_over = threading.Event(), threading.Event()

    def embed(_: Any, progress: Callable[[Progress], None]) -> IndexReport:
        """Goes on until it is interrupted."""
        begun.set()
        while not is_over.wait(0.05):
            progress(Progress("clip_h", 1, None))
        return IndexReport()

    with following(kept.library, kept.folder, embed=embed) as follower:
        try:
            follower.until(begun.is_set)
            kept.new(kept.name(0))
            follower.until(lambda: any(report.changed for report in follower.reports))
        finally:
            is_over.set()


def test_watch_leaves_what_is_said_of_an_edited_picture(album: MakeAlbum) -> None:
    kept = album(2)
    before = kept.rows()
    size = kept.library.image(before[kept.path(0)][0]).file_size
    with watched(kept):
        time.sleep(2.0)
        kept.new(kept.name(0))
        deadline = time.monotonic() + 60
        while kept.library.image(before[kept.path(0)][0]).file_size == size:
            assert time.monotonic() < deadline
            time.sleep(0.1)
    assert kept.rows() == before
