"""Walking folders: what is found, and what can be in the way."""

from __future__ import annotations

import os
import sys
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from toolkit_core.database import Database, images
from toolkit_core.database.images import ImageRow
from toolkit_core.errors import ImageError, PathNotFound
from toolkit_core.indexing.scan import EARLIEST, EPOCH, LATEST, FoundFile, modified_at, presence, resolve, scan
from toolkit_core.records import FailedFile, GenerationParameters

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such names or links")


def found(*paths: Path) -> list[str]:
    return sorted(file.path for file in scan(resolve(paths)))


def test_images_are_found_at_any_depth_by_any_spelling_of_their_suffix(tmp_path: Path) -> None:
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    wanted = [tmp_path / "1.PNG", tmp_path / "a" / "2.JpEg", deep / "3.webp", deep / "x.y.avif", deep / ".hidden.gif"]
    for path in (*wanted, tmp_path / "notes.txt", tmp_path / "png", deep / "model.safetensors"):
        path.touch()
    assert found(tmp_path) == sorted(map(str, wanted))


def test_file_named_twice_is_found_once(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    picture = tmp_path / "a" / "1.png"
    picture.touch()
    assert found(tmp_path, tmp_path / "a", picture, tmp_path / "a" / ".." / "a") == [str(picture)]


def test_what_is_named_inside_a_named_folder_is_left_out_where_its_walk_comes_by(tmp_path: Path) -> None:
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    for path in (tmp_path / "1.png", tmp_path / "a" / "2.png", deep / "3.png"):
        path.touch()
    named = [tmp_path, tmp_path / "1.png", tmp_path / "a", deep / "3.png"]
    assert resolve(named) == [str(tmp_path)]
    flat = resolve(named, recursive=False)
    assert flat == [str(tmp_path), str(tmp_path / "a"), str(deep / "3.png")]
    assert [Path(file.path).name for file in scan(flat, recursive=False)] == ["1.png", "2.png", "3.png"]


@pytest.mark.parametrize("name", ["notes.txt", "picture", "picture.png.json", "png"])
def test_file_that_is_no_picture_by_its_name_is_refused_before_anything_is_done(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(ImageError, match=rf"{name}' is no picture by its name\. .* \.apng, \.avif, .*\.webp\."):
        resolve([tmp_path, tmp_path / name])
    assert presence(tmp_path / name, of="anything") == "there"
    assert presence(tmp_path / name) == "gone"


def test_empty_path_is_refused() -> None:
    with pytest.raises(PathNotFound, match=r'"" is no folder or file\. Write \. for'):
        resolve([""])


def test_folder_that_is_missing_is_named_before_anything_is_done(tmp_path: Path) -> None:
    with pytest.raises(PathNotFound, match=r"no folder or file .*absent"):
        resolve([tmp_path, tmp_path / "absent"])


@posix_only
def test_path_that_the_system_refuses_is_a_failure_and_not_called_missing(tmp_path: Path) -> None:
    refused = tmp_path / ("x" * 300) / "1.png"
    (failed,) = scan(resolve([refused]))
    assert isinstance(failed, FailedFile)
    assert (failed.path, "too long" in failed.error) == (str(refused), True)


@posix_only
def test_only_what_the_system_says_is_not_there_is_gone(tmp_path: Path) -> None:
    (tmp_path / "1.png").touch()
    (tmp_path / "broken.png").symlink_to(tmp_path / "nowhere")
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    (tmp_path / "folder.png").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    gone = ("2.png", "folder/2.png", "1.png/2.png", "broken.png")
    unknown = ("x" * 300 + ".png", "loop.png", "loop.png/1.png", "\ud800.png")
    assert {presence(tmp_path / name, of="anything") for name in ("1.png", "folder.png", "pipe.png", ".")} == {"there"}
    assert {presence(tmp_path / name, of="anything") for name in gone} == {"gone"}
    assert {presence(tmp_path / name, of="anything") for name in unknown} == {"unknown"}
    assert presence(tmp_path / "1.png") == "there"
    assert {presence(tmp_path / name) for name in (*gone, "folder.png", "pipe.png")} == {"gone"}
    assert {presence(tmp_path / name) for name in unknown} == {"unknown"}


def test_empty_folder_holds_nothing(tmp_path: Path) -> None:
    assert found(tmp_path) == []


@posix_only
def test_symlink_loop_ends(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.png").touch()
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    (tmp_path / "itself").symlink_to(tmp_path / "itself")
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere")
    results = list(scan(resolve([tmp_path])))
    assert [r.path for r in results if isinstance(r, FoundFile)] == [str(tmp_path / "a" / "1.png")]
    assert sorted(r.path for r in results if isinstance(r, FailedFile)) == [
        str(tmp_path / "gone.png"),
        str(tmp_path / "itself"),
    ]


@posix_only
def test_linked_folder_gives_the_real_paths(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "1.png").touch()
    (tmp_path / "outputs").mkdir()
    (tmp_path / "outputs" / "link").symlink_to(elsewhere)
    assert found(tmp_path / "outputs") == [str(elsewhere / "1.png")]


@posix_only
@pytest.mark.parametrize("name", [b"new\nline.png", b"quote'\".png", "日本 ünï.png".encode(), b"\xff\xfe.png"])
def test_any_file_name_is_found(tmp_path: Path, name: bytes) -> None:
    path = Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), name)))  # noqa: PTH118 - bytes
    path.touch()
    assert found(tmp_path) == [str(path)]


@posix_only
def test_path_too_long_for_the_database_is_a_failure_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "1.png").touch()
    here = Path.cwd()
    try:
        os.chdir(tmp_path)
        for _ in range(12):
            Path("x" * 250).mkdir()
            os.chdir("x" * 250)
        Path("deep.png").touch()
    finally:
        os.chdir(here)
    results = list(scan(resolve([tmp_path])))
    assert [Path(r.path).name for r in results if isinstance(r, FailedFile)] == ["deep.png"]
    assert [Path(r.path).name for r in results if isinstance(r, FoundFile)] == ["1.png"]


@pytest.mark.parametrize("seconds", [0, -(10**9), 2**33, 10**11, -62135596800, -210866803200])
def test_any_modification_time_fits(tmp_path: Path, seconds: int) -> None:
    path = tmp_path / "1.png"
    path.touch()
    try:
        os.utime(path, (seconds, seconds))
    except (OSError, OverflowError):
        pytest.skip("this file system does not keep such a time")
    assert EARLIEST <= modified_at(path.stat()) <= LATEST


@pytest.mark.parametrize(
    ("seconds", "time"),
    [
        (-210866803200, EARLIEST),
        (-62135596800, EARLIEST),
        (-1, EPOCH - timedelta(seconds=1)),
        (1, EPOCH + timedelta(seconds=1)),
        (253402300799, LATEST),
        (9 * 10**11, LATEST),
    ],
)
def test_modification_time_out_of_the_years_that_are_known_is_the_nearest_of_these(
    seconds: int, time: datetime
) -> None:
    status: Any = SimpleNamespace(st_mtime_ns=seconds * 10**9)
    assert modified_at(status) == time


@pytest.mark.parametrize("time_zone", ["America/New_York", "Pacific/Honolulu", "Pacific/Kiritimati", "UTC"])
def test_earliest_and_latest_time_are_read_in_any_time_zone(
    home: Path, schema: str, monkeypatch: pytest.MonkeyPatch, time_zone: str
) -> None:
    monkeypatch.setenv("PGTZ", time_zone)
    database = Database.embedded(home, schema)
    times = [EARLIEST, LATEST, EPOCH]
    with database.transaction() as connection:
        rows = [
            ImageRow(f"/{n}.png", bytes([n]), 1, time, 1, 1, GenerationParameters(), None)
            for n, time in enumerate(times)
        ]
        images.write(connection, rows)
        assert connection.execute("SHOW TimeZone").fetchone() == (time_zone,)
        assert [file.modified_at for file in images.known_files(connection, "/", None, 10)] == times
    database.close()


def test_walk_is_sorted_by_path_as_the_librarys_rows_are(tmp_path: Path) -> None:
    names = ["a/1.png", "a/b/2.png", "a-/3.png", "a.png", "a0/4.png", "b.png", "B/5.png", "ä.png", "日本/6.png"]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    walked = [file.path for file in scan(resolve([tmp_path]))]
    assert walked == sorted((str(tmp_path / name) for name in names), key=lambda path: path.encode())
