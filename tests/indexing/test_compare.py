"""The disk and the library's rows side by side."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from toolkit_core.indexing import compare
from toolkit_core.indexing.compare import compared, is_as_known
from toolkit_core.indexing.scan import FoundFile, resolve
from toolkit_core.library import Library

MakePicture = Callable[..., Path]


@pytest.mark.parametrize("page", [1, 2, 100])
def test_files_and_rows_meet_whatever_the_page(
    library: Library, make_picture: MakePicture, pictures: Path, monkeypatch: pytest.MonkeyPatch, page: int
) -> None:
    monkeypatch.setattr(compare, "ROWS_A_PAGE", page)
    kept = [make_picture(name, "a fox") for name in ("a/1.png", "a-/2.png", "a.png", "b/c/3.png", "Z.png")]
    gone = [make_picture(name, "a crow") for name in ("a/0.png", "b/c/9.png", "z.png")]
    library.index([pictures])
    for path in gone:
        path.unlink()
    new = [make_picture(name, "a badger") for name in ("a/00.png", "zz.png")]
    pairs = list(compared(library.database, resolve([pictures])))
    both = {found.path for found, row in pairs if found and row}
    assert both == set(map(str, kept))
    assert all(isinstance(found, FoundFile) and is_as_known(found, row) for found, row in pairs if found and row)
    assert {row.path for found, row in pairs if row and not found} == set(map(str, gone))
    assert {found.path for found, row in pairs if found and not row} == set(map(str, new))


def test_files_that_are_named_meet_their_rows(library: Library, make_picture: MakePicture, pictures: Path) -> None:
    named = [make_picture(name, "a fox") for name in ("b.png", "a/1.png")]
    make_picture("c.png", "a crow")
    library.index([pictures])
    new = make_picture("d.png", "a badger")
    pairs = list(compared(library.database, resolve([*named, new])))
    assert [(found.path if found else None, row.path if row else None) for found, row in pairs] == [
        (str(named[1]), str(named[1])),
        (str(named[0]), str(named[0])),
        (str(new), None),
    ]
