"""What cannot be heard of a followed folder is found all the same, and listening goes on."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from toolkit_core.indexing.listen import Heard, Listener
from toolkit_core.library import Library

from .watched import following, state, until, watching

MakePicture = Callable[..., Path]

pytestmark = pytest.mark.usefixtures("often_looked_at")
posix_only = pytest.mark.skipif(sys.platform == "win32", reason="Windows does so in another way")
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="only Linux watches each folder by itself")


# Runs a command in a user namespace, which has a limit of watches of its own, once its users are those outside.
WITH_FEW_WATCHES = """
import ctypes, os, sys
if ctypes.CDLL(None).unshare(0x10000000) == 0:
    print("unshared", flush=True)
    sys.stdin.readline()
    with open("/proc/sys/user/max_inotify_watches", "w") as limit:
        limit.write("4")
    os.execv(sys.argv[1], sys.argv[1:])
"""


@contextmanager
def watch_with_few_watches(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", WITH_FEW_WATCHES, sys.executable, "-m", "toolkit_core", "watch", *arguments]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        if process.stdout.readline().strip() != "unshared":
            pytest.skip("nobody may make a user namespace here")
        user = os.getuid()
        for kind in ("uid", "gid") if user == 0 else ("uid",):
            Path(f"/proc/{process.pid}/{kind}_map").write_text(f"{user} {user} {1 if user else 2**32 - 1}")
        process.stdin.write("\n")
        process.stdin.flush()
        try:
            yield process
        finally:
            process.terminate()


@linux_only
def test_folders_are_walked_where_watches_run_out_and_a_warning_says_so(
    library: Library, home: Path, schema: str, folder: Path, make_picture: MakePicture
) -> None:
    paths = [make_picture(f"{n}/a.png", f"fox {n}") for n in range(8)]
    with watch_with_few_watches(str(folder), "--no-embed", "--home", str(home), "--library", schema) as process:

        def are_there(*paths: Path) -> bool:
            return process.poll() is not None or state(library).keys() == set(map(str, paths))

        until(lambda: are_there(*paths))
        # After the first walk, in all of the folders.
        paths += [make_picture(f"{n}/b.png", f"crow {n}") for n in range(8)]
        paths[0].unlink()
        until(lambda: are_there(*paths))
        until(lambda: process.poll() is not None or state(library)[str(paths[0])][3])
        assert process.poll() is None
        process.terminate()
        _, errors = process.communicate(timeout=60)
    assert "cannot be listened to for now; it is walked every 60 s at least" in " ".join(errors.split())


@posix_only
def test_name_that_is_no_utf_8_is_heard_of_and_all_that_comes_later(
    library: Library, folder: Path, make_picture: MakePicture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("toolkit_core.indexing.listen.POLL_SECONDS", 3600.0)
    first = make_picture("first.png", "a fox", "")
    with watching(library, folder, embed=False) as watched:
        watched.until(lambda: len(state(library)) == 1)
        undecodable = os.fsencode(folder) + b"/\xff.png"
        try:
            shutil.copy(os.fsencode(first), undecodable)
        except OSError:
            pytest.skip("this file system has no such names")
        watched.until(lambda: len(state(library)) == 2)
        for n in range(10):
            make_picture(f"sub {n}/later.png", "a crow", "")
            watched.until(lambda n=n: len(state(library)) == 3 + n)
            time.sleep(0.1)
        first.unlink()
        watched.until(lambda: state(library)[str(first)][3])


def test_listener_that_trips_over_anything_walks_and_listens_again(
    library: Library, folder: Path, make_picture: MakePicture, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    import watchfiles

    class Panic(BaseException):
        pass

    failures: list[BaseException] = [Panic("of watchfiles"), OverflowError("odd"), OSError("limit reached")]
    heard_by_system = watchfiles.watch

    def watch(*paths: Any, **options: Any) -> Any:
        if failures:
            raise failures.pop(0)
        return heard_by_system(*paths, **options)

    monkeypatch.setattr("watchfiles.watch", watch)
    path = make_picture("a.png", "a fox", "")
    with watching(library, folder) as watched:
        watched.until_equal(path)
        watched.until(lambda: not failures)
        path.unlink()
        watched.until_equal(missing=1)
    assert "Panic: of watchfiles" in caplog.text


@pytest.mark.parametrize("poll", [float("inf"), float("nan")])
def test_listener_survives_seconds_that_cannot_be_waited_for(
    folder: Path, poll: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("toolkit_core.indexing.listen.LONGEST_PAUSE", 0.1)
    news: list[Heard] = []
    listener = Listener(folder, news.append, poll)
    listener.start()
    until(lambda: sum(heard.walk for heard in news) > 5)
    listener.stop()


# Listens as a user who is nobody, which only root may become.
LISTENING_AS_NOBODY = """
import os, sys, time
import watchfiles
from toolkit_core.indexing import listen
os.setuid(65534)
listen.TICK_SECONDS, listen.POLL_SECONDS = 0.1, 0.5
listener = listen.Listener(sys.argv[1], lambda heard: print("walk" if heard.walk else "news", flush=True))
listener.start()
time.sleep(5)
listener.stop()
"""


@linux_only
def test_folder_that_may_not_be_looked_into_hides_no_other() -> None:
    if os.getuid() != 0:
        pytest.skip("it takes root to become somebody else")
    # In no folder of pytest's, into which other users may not look.
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        for n in range(20):
            (Path(folder) / str(n)).mkdir(mode=0 if n == 10 else 0o755)
        command = [sys.executable, "-c", LISTENING_AS_NOBODY, folder]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split().count("walk") > 5
    assert "cannot be listened to" in done.stderr


@posix_only
def test_folder_by_a_link_is_followed_to_where_the_link_leads(
    library: Library, folder: Path, make_picture: MakePicture
) -> None:
    one, two = make_picture("1/a.png", "a fox", ""), make_picture("2/b.png", "a crow", "")
    (folder / "current").symlink_to(folder / "1")
    with watching(library, folder / "current") as watched:
        watched.until_equal(one)
        (folder / "next").symlink_to(folder / "2")
        (folder / "next").replace(folder / "current")
        watched.until_equal(one, two)
        new = make_picture("2/new.png", "a badger", "")
        watched.until_equal(one, two, new)


@linux_only
def test_link_that_comes_later_is_followed(library: Library, folder: Path, make_picture: MakePicture) -> None:
    behind = make_picture("elsewhere/deep/a.png", "a fox", "")
    followed = folder / "followed"
    followed.mkdir()
    with watching(library, followed) as watched:
        watched.until(lambda: bool(watched.reports))
        (followed / "link").symlink_to(folder / "elsewhere")
        watched.until_equal(behind)
        new = make_picture("elsewhere/deep/new.png", "a crow", "")
        watched.until_equal(behind, new)
        behind.unlink()
        watched.until_equal(new, missing=1)


def test_folder_in_the_place_of_another_has_nothing_of_it(
    library: Library, folder: Path, make_picture: MakePicture
) -> None:
    old = [make_picture(f"a/{n}.png", f"fox {n}", "") for n in range(2)] + [make_picture("a/deep/2.png", "a crow", "")]
    outside = folder.parent / "outside"
    with watching(library, folder) as watched:
        watched.until_equal(*old)
        (folder / "a").rename(outside)
        new = make_picture("a/new.png", "a badger", "")
        watched.until_equal(new, missing=3)
        outside.rename(folder / "back")
        back = [folder / "back" / path.relative_to(folder / "a") for path in old]
        watched.until_equal(new, *back)


def test_temporary_file_is_no_reason_to_open_the_library(
    library: Library, folder: Path, make_picture: MakePicture
) -> None:
    from toolkit_core.indexing import Follower, FollowOptions

    opened: list[float] = []

    @contextmanager
    def noted() -> Iterator[Library]:
        opened.append(time.monotonic())
        yield library

    stop = threading.Event()
    follower = Follower(noted, [folder], FollowOptions(is_idle=lambda: False))
    thread = threading.Thread(target=follower.run, args=(stop,))
    thread.start()
    try:
        time.sleep(1)
        for n in range(5):
            (folder / f"{n}.tmp").touch()
            (folder / f"folder {n}").mkdir()
            time.sleep(0.2)
            (folder / f"{n}.tmp").unlink()
            (folder / f"folder {n}").rmdir()
        time.sleep(2)
        assert opened == []
        path = make_picture("a.png", "a fox")
        until(lambda: str(path) in state(library))
    finally:
        stop.set()
        thread.join(60)


def test_file_that_is_written_to_all_the_time_does_not_hold_embedding_up(
    library: Library, folder: Path, make_picture: MakePicture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("toolkit_core.indexing.watch.PATIENCE_SECONDS", 1.0)
    whole = make_picture("whole.png", "a fox", "blurry").read_bytes()
    growing = folder / "growing.png"
    stop = threading.Event()

    def grow() -> None:
        with growing.open("wb") as file:
            file.write(whole)
            while not stop.wait(0.1):
                file.write(b"x")
                file.flush()

    thread = threading.Thread(target=grow)
    with following(library, folder) as watched:
        watched.until_equal(folder / "whole.png")
        thread.start()
        try:
            others = [make_picture(f"{n}.png", f"crow {n}", "") for n in range(3)]
            watched.until_equal(folder / "whole.png", *others)
        finally:
            stop.set()
            thread.join()
        watched.until_equal(folder / "whole.png", *others, growing)
