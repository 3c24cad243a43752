"""What has a picture's name and is no file, or never ends, is not waited for and not read without an end."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from toolkit_core.indexing.read import read_bytes
from toolkit_core.indexing.regular import read_regular
from toolkit_core.indexing.scan import FoundFile, find_file
from toolkit_core.indexing.sidecars import read_sidecars
from toolkit_core.library import Library
from toolkit_core.records import FailedFile

MakePicture = Callable[..., Path]

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pipes or devices in folders"),
    pytest.mark.timeout(60, method="thread"),
]


def replace_by_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def test_pipes_and_devices_are_failures_and_stop_nothing(
    library: Library, make_picture: MakePicture, pictures: Path
) -> None:
    picture = make_picture("a.png", "a fox")
    os.mkfifo(pictures / "pipe.png")
    (pictures / "device.png").symlink_to("/dev/null")
    failed = library.index([pictures]).failed
    assert [Path(file.path).name for file in failed] == ["device.png", "pipe.png"]
    assert all("it is no file" in file.error for file in failed)
    assert library.index([pictures]).failed == failed
    assert library.index([pictures / "pipe.png"]).failed == failed[1:]
    assert [hit.path for hit in library.search("a fox")] == [str(picture)]
    assert library.status().images == 1


def test_picture_that_is_a_pipe_when_it_is_embedded_stays_pending(library: Library, make_picture: MakePicture) -> None:
    path = make_picture("a.png", "a fox")
    library.index([path], embed=False)
    replace_by_pipe(path)
    assert library.index([]).pending["clip_h"] == 1
    assert library.failures() == []


def test_what_becomes_a_pipe_after_it_was_found_is_not_opened(make_picture: MakePicture) -> None:
    path = make_picture("a.png")
    path.with_suffix(".txt").write_text("a fox")
    found = find_file(str(path), {})
    assert isinstance(found, FoundFile)
    replace_by_pipe(path)
    replace_by_pipe(path.with_suffix(".txt"))
    failed = read_bytes(found)
    assert isinstance(failed, FailedFile)
    assert "it is no file" in failed.error
    assert read_sidecars(found.sidecars) == {}
    assert isinstance(find_file(str(path), {}), FailedFile)


@pytest.mark.parametrize("size", [0, 1, 1000])
def test_file_is_read_as_a_whole_up_to_the_limit(tmp_path: Path, size: int) -> None:
    path = tmp_path / "file"
    path.write_bytes(os.urandom(size))
    assert read_regular(str(path), size) == read_regular(str(path), 10 * size) == path.read_bytes()
    if size:
        with pytest.raises(OSError, match=f"more than {size - 1} bytes"):
            read_regular(str(path), size - 1)


@pytest.mark.skipif(sys.platform != "linux", reason="files that say they are empty are Linux's /proc")
def test_file_that_has_more_than_it_says_is_read_up_to_the_limit() -> None:
    file = Path("/proc/self/maps")
    assert file.stat().st_size == 0
    assert read_regular("/proc/version", 10_000) == Path("/proc/version").read_bytes()
    with pytest.raises(OSError, match="more than 100 bytes"):
        read_regular(str(file), 100)


def test_file_that_grows_while_it_is_read_comes_to_an_end(tmp_path: Path) -> None:
    path = tmp_path / "grows.png"
    path.write_bytes(b"x")
    stop = threading.Event()

    def grow() -> None:
        with path.open("ab") as file:
            while not stop.is_set():
                file.write(b"x" * 2**20)
                file.flush()

    growing = threading.Thread(target=grow)
    growing.start()
    try:
        with pytest.raises(OSError, match="more than 8388608 bytes"):
            while True:
                read_regular(str(path), 2**23)
    finally:
        stop.set()
        growing.join()
