"""Reading a library's metadata again: without its files, as often as readers become better, and through a kill."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, PngImagePlugin

from toolkit_core.library import Library
from toolkit_core.metadata import READER_VERSION
from toolkit_core.records import Progress
from toolkit_core.spaces import SPACES

MakePicture = Callable[..., Path]
NONE_PENDING = dict.fromkeys(SPACES, 0)


def rows(library: Library, query: str, *values: object) -> list[tuple[Any, ...]]:
    with library.database.transaction() as connection:
        return connection.execute(query.encode(), values).fetchall()


def parameters(library: Library) -> list[tuple[Any, ...]]:
    columns = "path, prompt, negative_prompt, seed, steps, model, favorite, rating"
    return rows(library, f"SELECT {columns} FROM image ORDER BY path")


def as_an_older_reader_did(library: Library) -> None:
    """Every row says what a reader that understood little would have made of its file."""
    rows(library, "INSERT INTO prompt_text (sha256, text) VALUES ('poor', 'poor reading') RETURNING id")
    rows(
        library,
        "UPDATE image_file SET reader_version = NULL, seed = 1, steps = NULL, model = NULL, negative_prompt_id = NULL,"
        " prompt_id = (SELECT id FROM prompt_text WHERE sha256 = 'poor') RETURNING id",
    )


def test_library_is_read_again_without_its_files(library: Library, make_picture: MakePicture, pictures: Path) -> None:
    for n in range(6):
        make_picture(f"{n}.png", f"prompt {n // 2}", "blurry", seed=2**53 + 1 + n)
    library.index([pictures])
    rows(library, "UPDATE image_file SET favorite = true, rating = 7 WHERE path LIKE '%%3.png' RETURNING id")
    before, vector = parameters(library), library.embeddings(1)
    as_an_older_reader_did(library)
    shutil.rmtree(pictures)
    revision = library.revision()
    assert library.status().read_by_older == 6
    report = library.reread()
    assert (report.from_kept, report.from_files, report.changed, report.unread) == (6, 0, 6, ())
    assert parameters(library) == before
    assert library.revision() != revision
    assert library.status().pending == NONE_PENDING
    assert all((library.embeddings(1)[name] == vector[name]).all() for name in vector)
    assert library.status().read_by_older == 0


def test_what_this_reader_has_read_is_left_out(library: Library, make_picture: MakePicture) -> None:
    path = make_picture("a.png", "a fox")
    library.index([path])
    revision = library.revision()
    report = library.reread()
    assert (report.from_kept, report.changed, report.current) == (0, 0, 1)
    report = library.reread(everything=True)
    assert (report.from_kept, report.changed, report.current) == (1, 0, 0)
    assert library.revision() == revision
    rows(library, "UPDATE image_file SET reader_version = %s RETURNING id", READER_VERSION + 1)
    assert library.reread().current == 1, "a newer version of this program knows better"


def test_new_prompt_is_embedded(library: Library, make_picture: MakePicture) -> None:
    library.index([make_picture("a.png", "a fox", "blurry")])
    as_an_older_reader_did(library)
    rows(library, "DELETE FROM prompt_bge RETURNING prompt_id")
    report = library.reread()
    assert report.embedding.embedded["bge"] == 2
    assert library.status().pending == NONE_PENDING


def test_image_without_kept_metadata_is_read_from_its_file(library: Library, make_picture: MakePicture) -> None:
    there, changed, gone = (make_picture(f"{name}.png", f"a {name}") for name in ("there", "changed", "gone"))
    library.index([there.parent])
    as_an_older_reader_did(library)
    rows(library, "UPDATE image_file SET metadata_id = NULL RETURNING id")
    make_picture("changed.png", "another picture")
    gone.unlink()
    report = library.reread()
    assert (report.from_kept, report.from_files, report.changed) == (0, 1, 1)
    assert sorted(failed.path for failed in report.unread) == [str(changed), str(gone)]
    assert next(failed.error for failed in report.unread if failed.path == str(changed)).endswith("Index it.")
    assert [prompt for _, prompt, *_ in parameters(library)] == ["poor reading", "poor reading", "a there"]
    there.unlink()
    report = library.reread(everything=True)
    assert (report.from_kept, report.from_files, len(report.unread)) == (1, 0, 2)


def test_images_of_one_batch_share_their_metadata(library: Library, pictures: Path) -> None:
    pictures.mkdir()
    metadata = PngImagePlugin.PngInfo()
    metadata.add_text("prompt", json.dumps({"1": {"class_type": "KSampler", "inputs": {"seed": 1}}}))
    for n in range(4):
        Image.new("RGB", (8, 8), (n, n, n)).save(pictures / f"{n}.png", pnginfo=metadata)
    library.index([pictures])
    assert rows(library, "SELECT count(*), count(DISTINCT metadata_id) FROM image_file") == [(4, 1)]


def test_definitions_of_nodes_are_asked_for_once_and_only_to_read(
    home: Path, schema: str, tiny_weights: Path, make_picture: MakePicture
) -> None:
    asked = []

    def definitions() -> dict[str, Any]:
        asked.append(1)
        return {}

    path = make_picture("a.png", "a fox")
    with Library.open(home, library=schema, weights=[tiny_weights], node_definitions=definitions) as library:
        library.search("a fox")
        assert asked == []
        library.index([path])
        library.reread(everything=True)
        assert asked == [1]


def test_reread_stopped_by_its_progress_goes_on_where_it_was(
    library: Library, make_picture: MakePicture, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("toolkit_core.indexing.reread.ROWS_A_BATCH", 4)
    for n in range(10):
        make_picture(f"{n}.png", f"prompt {n}")
    library.index([pictures])
    before = parameters(library)
    as_an_older_reader_did(library)

    class Cancelled(Exception):
        pass

    def cancel(progress: Progress) -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        library.reread(cancel)
    report = library.reread()
    assert (report.current, report.from_kept) == (4, 6)
    assert parameters(library) == before


REREAD = """
import sys
from toolkit_core.indexing import reread
from toolkit_core.library import Library
reread.ROWS_A_BATCH = 2
with Library.open(sys.argv[1], library=sys.argv[2], weights=["/nowhere"]) as library:
    library.reread()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_killed_reread_is_finished_by_the_next(
    home: Path, schema: str, library: Library, make_picture: MakePicture, pictures: Path
) -> None:
    for n in range(120):
        make_picture(f"{n:03}.png", f"prompt {n}", seed=n)
    library.index([pictures])
    before = parameters(library)
    as_an_older_reader_did(library)
    shutil.rmtree(pictures)
    process = subprocess.Popen([sys.executable, "-c", REREAD, str(home), schema])
    deadline = time.monotonic() + 120
    while library.status().read_by_older == 120 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    left = library.status().read_by_older
    assert left < 120
    report = library.reread()
    assert (report.from_kept, report.current, report.unread) == (left, 120 - left, ())
    assert parameters(library) == before
