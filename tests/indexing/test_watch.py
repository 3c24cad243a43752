"""A library that follows folders is equal to them, whatever happens to the files."""

from __future__ import annotations

import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import psutil
import pytest

from toolkit_core.errors import DatabaseError, PathNotFound
from toolkit_core.indexing import Follower, FollowOptions
from toolkit_core.indexing.scan import EPOCH
from toolkit_core.library import Library
from toolkit_core.records import IndexReport
from toolkit_core.spaces import EMBEDDINGS

from .watched import Watched, following, state, watching

MakePicture = Callable[..., Path]

pytestmark = pytest.mark.usefixtures("often_looked_at")
posix_only = pytest.mark.skipif(sys.platform == "win32", reason="Windows does so in another way")


def test_files_are_followed_from_their_coming_to_their_going(
    library: Library, folder: Path, make_picture: MakePicture
) -> None:
    old = make_picture("old.png", "an old fox", "blurry")
    with watching(library, folder) as watched:
        watched.until_equal(old)
        new = make_picture("sub/new.png", "a new fox", "blurry")
        watched.until_equal(old, new)
        id = watched.id(new)
        library.curate([id], rating=7)

        # Renamed into another folder.
        moved = folder / "other" / "moved.png"
        moved.parent.mkdir()
        new.rename(moved)
        watched.until_equal(old, moved)
        assert (watched.id(moved), library.image(id).rating) == (id, 7)

        # Replaced.
        make_picture("other/moved.png", "a badger", "blurry")
        watched.until(lambda: state(library)[str(moved)][1] == "a badger")
        watched.until_equal(old, moved)
        assert (watched.id(moved), library.image(id).rating) == (id, 7)

        # Deleted.
        moved.unlink()
        watched.until_equal(old, missing=1)
        record = library.image(id)
        assert (record.rating, record.embeddings) == (7, tuple(EMBEDDINGS))
        assert [hit.path for hit in library.search("a badger")] == [str(old)]


def test_folder_is_moved_within_and_out_and_back(library: Library, folder: Path, make_picture: MakePicture) -> None:
    one, two = make_picture("a/deep/1.png", "a fox", ""), make_picture("a/2.png", "a crow", "")
    outside = folder.parent / "outside"
    with watching(library, folder) as watched:
        watched.until_equal(one, two)
        ids = {watched.id(one), watched.id(two)}
        (folder / "a").rename(folder / "b")
        inside = [folder / "b" / "deep" / "1.png", folder / "b" / "2.png"]
        watched.until_equal(*inside)
        (folder / "b").rename(outside)
        watched.until_equal(missing=2)
        outside.rename(folder / "c")
        back = [folder / "c" / "deep" / "1.png", folder / "c" / "2.png"]
        watched.until_equal(*back)
        assert {watched.id(path) for path in back} == ids
        assert watched.embedded == sum(watched.reports[1].embedded.values())


def test_file_that_stops_half_written_is_read_again_when_it_is_whole(
    library: Library, folder: Path, make_picture: MakePicture
) -> None:
    whole = make_picture("whole.png", "a fox", "blurry").read_bytes()
    (folder / "whole.png").unlink()
    path = folder / "half.png"
    with watching(library, folder) as watched, path.open("wb") as file:
        file.write(whole[: len(whole) // 2])
        file.flush()
        watched.until(lambda: str(path) in state(library) and state(library)[str(path)][2] is not None)
        file.write(whole[len(whole) // 2 :])
        file.flush()
        watched.until_equal(path)


def test_file_is_not_read_before_it_is_still(library: Library, folder: Path, make_picture: MakePicture) -> None:
    whole = make_picture("whole.png", "a fox", "blurry")
    path = folder / "slow.png"
    with watching(library, folder) as watched:
        watched.until_equal(whole)
        with path.open("wb") as file:
            for byte in whole.read_bytes()[:20]:
                file.write(bytes([byte]))
                file.flush()
                time.sleep(0.1)
            file.write(whole.read_bytes()[20:])
        watched.until_equal(whole, path)
        assert sum(report.new + report.changed for report in watched.reports) == 2


def test_temporary_names_leave_no_rows(library: Library, folder: Path, make_picture: MakePicture) -> None:
    whole = make_picture("whole.png", "a fox", "blurry")
    with watching(library, folder) as watched:
        watched.until_equal(whole)
        for n in range(20):
            temporary = Path(shutil.copy(whole, folder / f"{n}.tmp.png"))
            temporary.replace(folder / "whole.png")
        make_picture("last.png", "a crow", "")
        watched.until_equal(whole, folder / "last.png")


def test_drive_that_vanishes_takes_nothing_with_it(library: Library, folder: Path, make_picture: MakePicture) -> None:
    drive = folder / "drive"
    paths = [make_picture(f"drive/{n}.png", f"prompt {n}", "") for n in range(3)]
    away = folder / "away"
    with watching(library, drive) as watched:
        watched.until_equal(*paths)
        ids = [watched.id(path) for path in paths]
        library.curate(ids, favorite=True)
        embedded = watched.embedded
        drive.rename(away)
        watched.until_equal(missing=3)
        away.rename(drive)
        watched.until_equal(*paths)
        # Not mounted, but its mount point is there.
        drive.rename(away)
        drive.mkdir()
        watched.until_equal(missing=3)
        drive.rmdir()
        away.rename(drive)
        watched.until_equal(*paths)
        assert [watched.id(path) for path in paths] == ids
        assert all(library.image(id).favorite for id in ids)
        new = make_picture("drive/new.png", "a fox", "")
        watched.until_equal(*paths, new)
    assert watched.embedded > embedded
    assert sum(report.new for report in watched.reports) == 4


@pytest.mark.skipif(sys.platform == "win32", reason="Windows closes folders in another way")
def test_folder_that_cannot_be_looked_into_stays_as_it_is(
    library: Library, folder: Path, make_picture: MakePicture, caplog: pytest.LogCaptureFixture
) -> None:
    path = make_picture("closed/a.png", "a fox", "")
    with watching(library, folder / "closed") as watched:
        watched.until_equal(path)
        (folder / "closed").rename(folder / "away")
        (folder / "closed").symlink_to(folder / "closed")  # a link to itself, which stops root, too
        watched.until(lambda: "cannot be looked into" in caplog.text)
        (folder / "closed").unlink()
        (folder / "away").rename(folder / "closed")
        new = make_picture("closed/b.png", "a fox", "")
        watched.until_equal(path, new)
    assert "is kept, and marked" not in caplog.text
    assert all(report.missing == 0 for report in watched.reports)


def test_folder_that_comes_later_is_followed(library: Library, folder: Path, make_picture: MakePicture) -> None:
    with watching(library, folder / "later") as watched:
        path = make_picture("later/a.png", "a fox", "")
        watched.until_equal(path)
        another = make_picture("later/deep/b.png", "a fox", "")
        watched.until_equal(path, another)


def test_polling_sees_the_same(library: Library, folder: Path, make_picture: MakePicture) -> None:
    path = make_picture("a.png", "a fox", "")
    with watching(library, folder, poll=0.2) as watched:
        watched.until_equal(path)
        id = watched.id(path)
        moved = folder / "sub" / "b.png"
        moved.parent.mkdir()
        path.rename(moved)
        watched.until_equal(moved)
        assert watched.id(moved) == id
        shutil.rmtree(moved.parent)
        watched.until_equal(missing=1)


def test_lost_news_are_found_by_the_next_walk(
    library: Library, folder: Path, make_picture: MakePicture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Follower, "_take", lambda *_, **__: None)
    with following(library, folder, walk_every=0.2) as watched:
        path = make_picture("a.png", "a fox", "")
        watched.until_equal(path)
        path.unlink()
        watched.until_equal(missing=1)


def test_many_files_at_once_all_come(library: Library, folder: Path, make_picture: MakePicture) -> None:
    one = make_picture("one.png", "a fox", "")
    with watching(library, folder, embed=False) as watched:
        watched.until(lambda: len(state(library)) == 1)
        for n in range(1200):
            (folder / f"burst {n % 7}").mkdir(exist_ok=True)
            shutil.copy(one, folder / f"burst {n % 7}" / f"{n}.png")
        watched.until(lambda: len(state(library)) == 1201)
        for n in range(0, 1200, 2):
            (folder / f"burst {n % 7}" / f"{n}.png").unlink()
        watched.until(lambda: sum(gone for *_, gone, _ in state(library).values()) == 600)


def test_sidecar_that_changes_is_read(library: Library, folder: Path, make_picture: MakePicture) -> None:
    path = make_picture("a.png")
    lines = "{}\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 7, Size: 320x240, Model: test"
    with watching(library, folder) as watched:
        watched.until(lambda: str(path) in state(library))
        (folder / "a.txt").write_text(lines.format("a fox"))
        watched.until(lambda: state(library)[str(path)][1] == "a fox")
        (folder / "a.txt").write_text(lines.format("a red crow"))
        watched.until(lambda: state(library)[str(path)][1] == "a red crow")
        (folder / "a.txt").unlink()
        watched.until(lambda: state(library)[str(path)][1] is None)


@posix_only
def test_links_have_one_row_each_however_they_are_come_by(
    library: Library, folder: Path, make_picture: MakePicture
) -> None:
    followed, elsewhere = folder / "followed", folder / "elsewhere"
    real = make_picture("elsewhere/a.png", "a fox", "")
    followed.mkdir()
    (followed / "link").symlink_to(elsewhere)
    with watching(library, followed) as watched:
        watched.until_equal(real)
        new = make_picture("followed/link/b.png", "a crow", "")
        watched.until_equal(real, elsewhere / "b.png")
        (followed / "c.png").symlink_to(new)
        watched.until_equal(real, elsewhere / "b.png", followed / "c.png")
        library.index([followed, followed / "c.png"])
        watched.until_equal(real, elsewhere / "b.png", followed / "c.png")


def test_two_watchers_write_nothing_twice(
    library: Library, home: Path, schema: str, tiny_weights: Path, folder: Path, make_picture: MakePicture
) -> None:
    with Library.open(home, library=schema, weights=[tiny_weights]) as other:
        with watching(library, folder) as one, watching(other, folder) as two:
            paths = [make_picture(f"{n}.png", f"prompt {n}", "") for n in range(40)]
            one.until_equal(*paths)
            moved = [path.rename(path.with_name(f"moved {path.name}")) for path in paths]
            one.until_equal(*moved)
        assert one.embedded + two.embedded == 40 + 3 * 41


@posix_only
def test_server_that_dies_is_started_again_and_nothing_is_missed(
    tmp_path: Path, tiny_weights: Path, folder: Path, make_picture: MakePicture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("toolkit_core.database.database.CONNECTION_TIMEOUT", 2.0)
    pid_file = tmp_path / "home" / "postgres" / "postmaster.pid"
    with Library.open(tmp_path / "home", weights=[tiny_weights]) as library, watching(library, folder) as watched:
        one = make_picture("1.png", "a fox", "")
        watched.until_equal(one)
        server = psutil.Process(int(pid_file.read_text().splitlines()[0]))
        processes = [server, *server.children(recursive=True)]
        for process in processes:
            process.kill()
        psutil.wait_procs(processes, timeout=30)
        two = make_picture("2.png", "a crow", "")
        one.unlink()

        def is_another_one_up() -> bool:
            try:
                return int(pid_file.read_text().splitlines()[0]) != server.pid and bool(state(library))
            except (OSError, ValueError, IndexError, DatabaseError):
                return False

        watched.until(is_another_one_up)
        watched.until_equal(two, missing=1)


def test_file_that_comes_back_while_the_database_is_away_is_read(
    library: Library, folder: Path, make_picture: MakePicture
) -> None:
    away, tried = threading.Event(), threading.Event()

    @contextmanager
    def opened() -> Iterator[Library]:
        if away.is_set():
            tried.set()
            raise DatabaseError("away")
        yield library

    path, other = make_picture("a.png", "a fox", ""), make_picture("b.png", "a crow", "")
    follower = Follower(opened, [folder], FollowOptions())
    watched = Watched(library, follower.run)
    watched.thread.start()
    try:
        watched.until_equal(path, other)
        away.set()
        path.unlink()
        other.unlink()
        watched.until(tried.is_set)
        make_picture("a.png", "a badger", "")
        # Once it is tried again, what came is known.
        tried.clear()
        watched.until(tried.is_set)
        away.clear()
        watched.until(lambda: state(library)[str(path)][1] == "a badger")
        watched.until_equal(path, missing=1)
    finally:
        watched.end()


def test_while_it_is_busy_only_metadata_is_read(library: Library, folder: Path, make_picture: MakePicture) -> None:
    idle = threading.Event()
    old = make_picture("old.png", "an old fox", "")
    with following(library, folder, is_idle=idle.is_set) as watched:
        new = make_picture("new.png", "a new fox", "")
        watched.until(lambda: str(new) in state(library))
        assert list(state(library)) == [str(new)], "the walk waits, too"
        assert library.image(1).embeddings == ()
        idle.set()
        watched.until_equal(old, new)


def test_embedding_gives_way_to_whatever_is_more_urgent(
    library: Library, folder: Path, make_picture: MakePicture
) -> None:
    idle = threading.Event()
    for n in range(100):
        make_picture(f"{n}.png", f"prompt {n}", "")
    library.index([folder], embed=False)
    begun = threading.Event()

    def embed(library: Any, progress: Any) -> IndexReport:
        def told(done: Any) -> None:
            begun.set()
            idle.clear()
            progress(done)

        return library.index([], told)

    idle.set()
    with following(library, folder, is_idle=idle.is_set, embed=embed) as watched:
        watched.until(begun.is_set)
        late = make_picture("late.png", "a fox", "")
        watched.until(lambda: str(late) in state(library))
        assert sum(library.status().pending.values()) > 0
        assert watched.embedded == 0, "its run did not come to an end"
        idle.set()
        watched.until(lambda: begun.is_set())


def test_since_a_moment_only_what_is_new_or_was_known_is_indexed(
    library: Library, folder: Path, make_picture: MakePicture
) -> None:
    names = ("backlog", "known", "moved", "gone", "changed")
    paths = {name: make_picture(f"{name}.png", f"a {name} fox", "") for name in names}
    for hour, path in enumerate(paths.values(), 1):
        os.utime(path, (hour * 3600, hour * 3600))
    library.index([path for name, path in paths.items() if name != "backlog"])
    moved = paths["moved"].rename(folder / "new name.png")
    paths["gone"].unlink()
    make_picture("changed.png", "a crow", "")
    new = make_picture("new.png", "a new fox", "")
    with following(library, folder, since=datetime.now(timezone.utc) + timedelta(hours=1)) as watched:
        watched.until_equal(paths["known"], paths["changed"], moved, new, missing=1)
        assert sum(report.moved for report in watched.reports) == 1
        watched.until(lambda: state(library)[str(paths["changed"])][1] == "a crow")


def test_since_a_moment_an_unknown_folder_is_left_alone_but_for_what_came_then(
    library: Library, folder: Path, make_picture: MakePicture
) -> None:
    os.utime(make_picture("old.png", "a fox", ""), (3600, 3600))
    unheard = make_picture("unheard.png", "a fox", "")
    os.utime(unheard, (3 * 3600, 3 * 3600))
    walked = threading.Event()

    def embed(library: Any, progress: Any) -> IndexReport:
        walked.set()
        return library.index([], progress)

    with following(library, folder, since=EPOCH + timedelta(hours=2), embed=embed) as watched:
        watched.until(walked.is_set)
        watched.until_equal(unheard)
        new = make_picture("new.png", "a new fox", "")
        watched.until_equal(unheard, new)


def test_file_named_as_a_folder_is_refused(library: Library, make_picture: MakePicture) -> None:
    with pytest.raises(PathNotFound, match=r"a\.png' is a file"):
        library.watch([make_picture("a.png")])
