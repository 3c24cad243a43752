"""What happened to a folder while nobody followed it."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from pathlib import Path

import pytest

from toolkit_core.indexing import catch_up as catching_up
from toolkit_core.indexing.catch_up import catch_up
from toolkit_core.library import Library
from toolkit_core.records import IndexReport

MakePicture = Callable[..., Path]


def at(path: Path, year: int) -> Path:
    """The file, modified in a year."""
    seconds = datetime(year, 1, 1, tzinfo=timezone.utc).timestamp()
    os.utime(path, (seconds, seconds))
    return path


def caught_up(library: Library, folder: Path) -> int:
    """How many files were new."""
    reports = catch_up(library.database, str(folder), lambda _: None, lambda paths: library.index(paths, embed=False))
    return sum(report.new for report in reports)


def known(library: Library) -> list[str]:
    return sorted(Path(hit.path).name for hit in library.search(filter="id:>0", top_k=100))


@pytest.mark.parametrize("year", [2001, 2090])
def test_what_was_made_meanwhile_is_found_whatever_the_times_of_the_others(
    library: Library, make_picture: MakePicture, pictures: Path, year: int
) -> None:
    at(make_picture("backlog.png"), 2000)
    library.index([at(make_picture("known.png"), year)], embed=False)
    make_picture("new.png")
    assert caught_up(library, pictures) == 1
    assert known(library) == ["known.png", "new.png"]
    make_picture("newer.png")
    assert caught_up(library, pictures) == 1
    assert caught_up(library, pictures) == 0


def test_what_was_made_meanwhile_is_found_after_an_interruption(
    library: Library, make_picture: MakePicture, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newest comes first by its name, and is all that is read before ComfyUI has something to do."""
    monkeypatch.setattr(catching_up, "FILES_A_RUN", 1)
    at(make_picture("backlog.png"), 2000)
    library.index([at(make_picture("known.png"), 2001)], embed=False)
    with library.database.transaction() as connection:
        connection.execute("UPDATE image_file SET indexed_at = '2001-02-01'")
    made = [at(make_picture(name), year) for name, year in (("c.png", 2002), ("b.png", 2003), ("a.png", 2004))]

    def interrupted(paths: Sequence[str]) -> IndexReport:
        assert paths == [str(made[-1])]
        library.index(paths, embed=False)
        raise InterruptedError

    with pytest.raises(InterruptedError):
        list(catch_up(library.database, str(pictures), lambda _: None, interrupted))
    assert known(library) == ["a.png", "known.png"]
    assert caught_up(library, pictures) == 2
    assert known(library) == ["a.png", "b.png", "c.png", "known.png"]


def test_folder_of_which_the_library_has_nothing_is_left_alone(
    library: Library, make_picture: MakePicture, pictures: Path
) -> None:
    make_picture("backlog.png")
    assert caught_up(library, pictures) == 0
    assert known(library) == []
