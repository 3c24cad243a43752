"""Paths that no machine has, wherever one is named."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from toolkit_core.errors import PathNotFound
from toolkit_core.library import Library
from toolkit_core.named_paths import named_path
from toolkit_core.settings import load_settings


def ended() -> threading.Event:
    """What a watch that was not refused would stop for."""
    event = threading.Event()
    event.set()
    return event


CALLS: dict[str, Callable[[Library, str], object]] = {
    "index": lambda library, path: library.index([path]),
    "watch": lambda library, path: library.watch([path], stop=ended()),
    "missing": lambda library, path: library.missing([path]),
    "failures": lambda library, path: library.failures([path]),
    "import": lambda library, path: library.import_toolkit(path),
    "import to": lambda library, path: library.import_toolkit("/none.db", folders={"/there": path}),
    "search": lambda library, path: library.search(image=path),
    "export": lambda library, path: library.export(path),
    "settings": lambda _, path: load_settings(path),
    "weights": lambda library, path: load_settings(library.settings.home, weights=[path]),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    ("path", "said"),
    [("~no such user/a.png", "home folder of a user that this machine does not know"), ("a\0b", "NUL")],
)
def test_path_that_no_machine_has_is_told(library: Library, call: str, path: str, said: str) -> None:
    with pytest.raises(PathNotFound, match=said):
        CALLS[call](library, path)


def test_home_folder_is_written_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path))
    assert named_path("~/a.png") == named_path(Path("~") / "a.png") == tmp_path / "a.png"
    assert named_path("a/~b") == Path("a/~b")
