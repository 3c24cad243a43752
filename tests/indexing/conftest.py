"""Folders that the tests of this room begin with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from toolkit_core.library import Library


@pytest.fixture
def two(library: Library, make_picture: Callable[..., Path]) -> Path:
    """A folder of a.png and b.png, which is indexed."""
    make_picture("a.png", "a fox", "blurry", seed=1)
    folder = make_picture("b.png", "a badger", "blurry", seed=2).parent
    library.index([folder])
    return folder


@pytest.fixture
def folder(pictures: Path) -> Path:
    pictures.mkdir(parents=True, exist_ok=True)
    return pictures


@pytest.fixture
def often_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """A listener looks ten times a second whether its folder has come or gone."""
    monkeypatch.setattr("toolkit_core.indexing.listen.TICK_SECONDS", 0.1)
