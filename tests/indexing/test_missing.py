"""Files that are gone: what is known of them stays, is not found meanwhile, and goes when it is told to."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from toolkit_core.database import images, reembedding
from toolkit_core.database import missing as missing_rows
from toolkit_core.database.moved import PRUNING
from toolkit_core.indexing import indexer
from toolkit_core.indexing.gone import note_gone
from toolkit_core.library import Library
from toolkit_core.records import Progress, Pruned
from toolkit_core.spaces import EMBEDDINGS, SPACES

from .presence import found, missing
from .watched import until

MakePicture = Callable[..., Path]


def rows(library: Library, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
    with library.database.transaction() as connection:
        return connection.execute(statement.encode(), parameters).fetchall()


def ids(library: Library) -> dict[str, int]:
    return {Path(path).name: id for id, path in rows(library, "SELECT id, path FROM image_file")}


@pytest.mark.parametrize(
    "query",
    [
        {"text": "a fox"},
        {"image_id": 1},
        {"text": "a fox", "weights": {"bge": 1, "clip_h": 1}, "image_id": 1},
        {"text": "a fox", "filter": "width:320"},
        {"text": "a fox", "weights": {"bge": 1, "clip_h": 1}, "image_id": 1, "filter": "width:320"},
        {"filter": "width:320"},
        {"filter": "width:320", "sort": "rating"},
    ],
)
def test_search_leaves_out_what_is_missing(library: Library, two: Path, query: dict[str, Any]) -> None:
    before = library.revision()
    assert {Path(hit.path).name for hit in library.search(**query)} == {"a.png", "b.png"}
    (two / "b.png").unlink()
    assert library.index([two]).missing == 1
    assert library.revision() != before
    assert {Path(hit.path).name for hit in library.search(**query)} == {"a.png"}


def test_filter_speaks_of_what_is_there_wherever_it_stands(library: Library, two: Path, tmp_path: Path) -> None:
    (two / "unreadable.png").write_bytes(b"no picture")
    library.index([two])
    every = ids(library)
    (two / "b.png").unlink()
    library.index([two])
    there = [every["a.png"], every["unreadable.png"]]
    assert {hit.id for hit in library.search(filter="id:>0")} == set(there)
    assert library.find("id:>0") == library.find("") == there
    assert library.find("badger") == []
    assert library.find("has:error") == [every["unreadable.png"]]
    for filter in ("id:>0", None):
        assert library.export(tmp_path / "set.safetensors", filter=filter).images == 2


def test_what_is_missing_is_reached_by_its_id(library: Library, two: Path, tmp_path: Path) -> None:
    id = ids(library)["b.png"]
    (two / "b.png").unlink()
    library.index([two])
    assert library.curate([id], rating=3) == 1
    assert library.export(tmp_path / "b.json", ids=[id]).images == 1
    assert library.image(id).rating == 3


def test_duplicates_leave_out_what_is_missing(library: Library, two: Path) -> None:
    shutil.copy(two / "a.png", two / "copy.png")
    library.index([two])
    assert [group.kind for group in library.duplicates()] == ["identical"]
    (two / "copy.png").unlink()
    library.index([two])
    assert library.duplicates() == []


def test_missing_image_is_kept_with_everything_until_its_file_is_back(library: Library, two: Path) -> None:
    before = library.image(ids(library)["b.png"])
    library.curate([before.id], rating=9, add_tags=["fur"])
    (two / "b.png").rename(two.parent / "elsewhere.png")
    report = library.index([two])
    assert (report.missing, report.unchanged) == (1, 1)
    assert "1 missing" in report.summary()
    kept = library.image(before.id)
    assert (kept.rating, kept.tags, kept.embeddings, kept.error) == (9, ("fur",), tuple(EMBEDDINGS), None)
    assert kept.missing_since is not None
    assert library.status().missing == 1
    assert library.index([two]).missing == 1
    assert library.image(before.id).missing_since == kept.missing_since, "the first time counts"
    (two.parent / "elsewhere.png").rename(two / "b.png")
    report = library.index([two])
    assert (report.missing, report.unchanged, sum(report.embedded.values())) == (0, 2, 0)
    assert library.image(before.id).missing_since is None
    assert found(library) == {"a.png", "b.png"}


def test_missing_file_that_is_found_in_another_folder_is_the_same_image(library: Library, two: Path) -> None:
    id = ids(library)["b.png"]
    (two / "b.png").rename(two.parent / "moved.png")
    library.index([two])
    assert missing(library) == ["b.png"]
    report = library.index([two.parent / "moved.png"])
    assert (report.moved, report.new) == (1, 0)
    record = library.image(id)
    assert (Path(record.path).name, record.missing_since) == ("moved.png", None)


def test_other_content_in_the_place_of_a_missing_file_is_another_image(
    library: Library, two: Path, make_picture: Any
) -> None:
    (two / "b.png").unlink()
    library.index([two])
    make_picture("b.png", "a crow", seed=9)
    report = library.index([two])
    assert (report.new, report.changed, report.missing) == (1, 0, 1)
    assert missing(library) == ["b.png"]
    assert found(library) == {"a.png", "b.png"}
    assert [image.parameters.prompt for image in map(library.image, (2, 3))] == ["a badger", "a crow"]
    assert library.status().missing == 1


def test_only_what_is_gone_below_the_indexed_folders_is_missing(library: Library, two: Path, make_picture: Any) -> None:
    deep = make_picture("deep/c.png", "a crow")
    library.index([two])
    other = two.parent / "other"
    other.mkdir()
    (two / "a.png").unlink()
    assert library.index([other]).missing == 0
    assert library.index([two / "b.png"]).missing == 0
    assert library.index([deep.parent]).missing == 0
    assert library.index([two], recursive=False).missing == 1
    assert missing(library) == ["a.png"]


def test_file_that_could_not_be_opened_for_a_while_has_no_error_left(library: Library, two: Path) -> None:
    path = two / "a.png"
    with library.database.transaction() as connection:
        assert images.mark_unopened(connection, str(path), "It cannot be opened: Permission denied")
    assert found(library) == {"a.png", "b.png"}, "a list shows what has an error, too"
    assert library.search("a fox", top_k=1)[0].path == str(two / "b.png")
    library.index([two])
    assert library.image(ids(library)["a.png"]).error is None


def test_reading_without_embedding_and_embedding_later_is_the_same(
    library: Library, home: Path, schema: str, tiny_weights: Path, make_picture: MakePicture, pictures: Path
) -> None:
    for n in range(5):
        make_picture(f"{n}.png", f"prompt {n}", "blurry", seed=n)
    whole = (pictures / "0.png").read_bytes()
    (pictures / "broken.png").write_bytes(whole[: len(whole) // 2])
    report = library.index([pictures], embed=False)
    assert (report.new, report.failed, sum(report.embedded.values()), report.pending) == (6, (), 0, {})
    assert library.search(filter="prompt:2 width:320 height:240")[0].path == str(pictures / "2.png")
    assert not library.image(ids(library)["2.png"]).embeddings
    library.index([])
    with Library.open(home, library=f"{schema}_whole", weights=[tiny_weights]) as other:
        other.index([pictures])
        for name, id in ids(other).items():
            mine, theirs = library.image(ids(library)[name]), other.image(id)
            assert (mine.parameters, mine.width, mine.error) == (theirs.parameters, theirs.width, theirs.error), name
            assert mine.embeddings == theirs.embeddings
            for space, vector in other.embeddings(id).items():
                assert np.allclose(library.embeddings(mine.id)[space], vector, rtol=2e-3, atol=2e-3)
    assert library.status().pending == dict.fromkeys(library.status().pending, 0), "what is damaged is not tried again"


@pytest.fixture(params=["loop", "permission"])
def closed(request: pytest.FixtureRequest) -> Callable[[Path], AbstractContextManager[None]]:
    """Closes a folder for a while: by its permissions, and by a link to itself in its place, which stops root, too."""
    if sys.platform == "win32":
        pytest.skip("Windows closes folders in another way")

    @contextmanager
    def refused(folder: Path) -> Iterator[None]:
        folder.chmod(0)
        with suppress(PermissionError):
            list(folder.iterdir())
            pytest.skip("root may enter any folder")
        yield
        folder.chmod(0o700)

    @contextmanager
    def replaced(folder: Path) -> Iterator[None]:
        folder.rename(folder.parent.parent / "away")
        folder.symlink_to(folder)
        yield
        folder.unlink()
        (folder.parent.parent / "away").rename(folder)

    return refused if request.param == "permission" else replaced


Closed = Callable[[Path], AbstractContextManager[None]]


def test_what_lies_in_a_folder_that_cannot_be_entered_is_not_missing(
    library: Library, two: Path, make_picture: MakePicture, closed: Closed
) -> None:
    deep = make_picture("deep/c.png", "a crow")
    library.index([two])
    with closed(deep.parent):
        report = library.index([two])
        assert (report.missing, report.unchanged) == (0, 2)
        assert [Path(file.path).name for file in report.failed] == ["deep"]
        assert [file.path for file in library.index([deep]).failed] == [str(deep)]
        assert note_gone(library.database, [str(deep)]) == 0
        assert (missing(library), found(library)) == ([], {"a.png", "b.png", "c.png"})
    shutil.rmtree(deep.parent)
    assert note_gone(library.database, [str(deep)]) == 1
    assert missing(library) == ["c.png"]


def test_missing_image_stays_so_while_its_folder_cannot_be_entered(
    library: Library, two: Path, make_picture: MakePicture, closed: Closed
) -> None:
    deep = make_picture("deep/c.png", "a crow")
    library.index([two])
    whole = deep.read_bytes()
    deep.unlink()
    library.index([two])
    with closed(deep.parent):
        library.index([two])
        assert library.prune([image.id for image in library.missing()]) == Pruned()
        assert missing(library) == ["c.png"]
        (two / "copy.png").write_bytes(whole)
        report = library.index([two / "copy.png"])
        assert (report.moved, report.new) == (0, 1), "the file may be back, and this one a copy of it"
    assert library.prune([image.id for image in library.missing()]).images == 1


def test_failure_in_a_folder_that_cannot_be_entered_stays_one(
    library: Library, two: Path, make_picture: MakePicture, closed: Closed
) -> None:
    broken = make_picture("deep/c.png", "a crow")
    broken.write_bytes(broken.read_bytes()[:200])
    library.index([two])
    failed = library.failures()
    with closed(broken.parent):
        assert [file.path for file in library.retry().failed] == [str(broken)]
        assert library.failures() == failed


def test_prune_removes_rows_vectors_and_texts_that_no_image_has(library: Library, two: Path) -> None:
    a, b = ids(library)["a.png"], ids(library)["b.png"]
    (two / "b.png").unlink()
    library.index([two])
    before = library.revision()
    assert library.prune([a, b]) == Pruned(images=1, texts=1), "the negative prompt is a.png's, too"
    assert library.revision() != before
    assert list(ids(library)) == ["a.png"]
    assert {text for (text,) in rows(library, "SELECT text FROM prompt_text")} == {"a fox", "blurry"}
    assert rows(library, "SELECT image_id FROM image_clip_h") == [(a,)]
    for table in ("prompt_bge", "prompt_clip_l", "prompt_clip_g", "prompt_bge_sketch"):
        assert rows(library, f"SELECT count(*) FROM {table}") == [(2,)], table
    assert rows(library, "SELECT count(*) FROM raw_metadata") == [(1,)]
    assert library.search("a badger")[0].id == a
    assert library.prune([a, b]) == Pruned()


def test_vectors_that_wait_to_take_the_old_ones_place_go_with_the_picture(
    library: Library, two: Path, make_picture: MakePicture
) -> None:
    """A reindex of clip_h is half done when one file is replaced, and the other one is pruned."""
    with library.database.transaction() as connection:
        made = np.ones((2, 1024), np.float32)
        reembedding.write(connection, SPACES["clip_h"], [ids(library)["a.png"], ids(library)["b.png"]], made)
    make_picture("a.png", "a fox", seed=9)
    library.index([two])
    assert rows(library, "SELECT image_id FROM image_clip_h_next") == [(ids(library)["b.png"],)]
    (two / "b.png").unlink()
    library.index([two])
    library.prune([image.id for image in library.missing()])
    assert rows(library, "SELECT image_id FROM image_clip_h_next") == []


def test_prune_leaves_what_is_back(library: Library, two: Path) -> None:
    (two / "b.png").rename(two / "b.txt")
    library.index([two])
    (two / "b.txt").rename(two / "b.png")
    assert missing(library) == ["b.png"]
    assert library.prune([image.id for image in library.missing()]) == Pruned()
    assert missing(library) == []
    assert found(library) == {"a.png", "b.png"}


def test_metadata_that_others_are_packed_against_outlives_its_image(
    library: Library, make_picture: MakePicture, pictures: Path
) -> None:
    words = " ".join(f"word{n}" for n in range(200))
    base = make_picture("base.png", words, seed=1)
    library.index([base])
    make_picture("variant.png", words, seed=2)
    library.index([pictures])
    assert rows(library, "SELECT count(*) FROM raw_metadata WHERE base_id IS NOT NULL") == [(1,)]
    base.unlink()
    library.index([pictures])
    assert library.prune([image.id for image in library.missing()]).images == 1
    assert rows(library, "SELECT count(*) FROM raw_metadata") == [(2,)]
    assert library.reread(everything=True).from_kept == 1
    (pictures / "variant.png").unlink()
    library.index([pictures])
    library.prune([image.id for image in library.missing()])
    assert rows(library, "SELECT count(*) FROM raw_metadata") == [(0,)]


def test_missing_is_asked_by_folder_and_by_time(library: Library, two: Path, make_picture: MakePicture) -> None:
    deep = make_picture("deep/c.png", "a crow")
    library.index([two])
    shutil.rmtree(deep.parent)
    (two / "a.png").unlink()
    library.index([two])
    assert missing(library) == ["a.png", "c.png"]
    assert [Path(image.path).name for image in library.missing([deep.parent])] == ["c.png"]
    assert library.missing(["/nowhere"]) == []
    assert library.missing([]) == []
    assert library.missing(at_least=timedelta(minutes=1)) == []
    rows(library, "UPDATE image_file SET missing_since = now() - interval '2 days' WHERE id = %s RETURNING id", 1)
    assert [image.id for image in library.missing(at_least=timedelta(days=1))] == [1]


def test_writer_that_uses_a_text_while_it_is_pruned_is_not_refused(
    library: Library, two: Path, make_picture: MakePicture
) -> None:
    """The text of a missing image comes again in a new one while the old one is pruned, again and again."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(2) as threads:
        for n in range(10):
            (two / "b.png").unlink(missing_ok=True)
            library.index([two], embed=False)
            make_picture("b.png", "a badger", "blurry", seed=100 + n)
            pruned = threads.submit(library.prune, [image.id for image in library.missing()])
            written = threads.submit(library.index, [two], embed=False)
            pruned.result()
            report = written.result()
            assert report.new + report.changed == 1
    assert [text for (text,) in rows(library, "SELECT text FROM prompt_text ORDER BY text")] == [
        "a badger",
        "a fox",
        "blurry",
    ]
    assert os.path.lexists(two / "b.png")


def test_walk_does_not_find_again_what_went_while_it_ran(
    library: Library, two: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file is walked by, then deleted, and a watch marks it before the walk ends."""
    note_unseen = indexer.note_unseen

    def went_meanwhile(*arguments: Any) -> Any:
        (two / "b.png").unlink()
        assert note_gone(library.database, [str(two / "b.png")]) == 1
        return note_unseen(*arguments)

    monkeypatch.setattr(indexer, "note_unseen", went_meanwhile)
    assert library.index([two]).missing == 1
    assert missing(library) == ["b.png"]
    assert found(library) == {"a.png"}


def test_file_that_goes_while_its_mark_is_taken_away_is_marked_again(
    library: Library, two: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = (two / "b.png").rename(two.parent / "away.png")
    library.index([two])
    away.rename(two / "b.png")
    mark_found = missing_rows.mark_found

    def gone_by_then(*arguments: Any) -> Any:
        (two / "b.png").unlink()
        assert note_gone(library.database, [str(two / "b.png")]) == 0, "it is marked still"
        return mark_found(*arguments)

    monkeypatch.setattr(missing_rows, "mark_found", gone_by_then)
    library.index([two])
    assert missing(library) == ["b.png"]


@pytest.mark.parametrize("mark", [missing_rows.mark, missing_rows.mark_below])
def test_files_that_went_are_marked_in_the_order_that_all_writers_lock_them_in(
    library: Library, make_picture: MakePicture, mark: Callable[[Any, list[str]], int]
) -> None:
    """Two processes that hear of the same files would wait for each other otherwise."""
    last, first = make_picture("b.png"), make_picture("a.png")
    library.index([last], embed=False)
    library.index([first], embed=False)
    lock = "SELECT FROM image_file WHERE path = %s FOR NO KEY UPDATE NOWAIT"

    def marked() -> int:
        with library.database.transaction() as connection:
            return mark(connection, [str(last), str(first)])

    with ThreadPoolExecutor(1) as other:
        with library.database.transaction() as connection:
            connection.execute(lock, [str(first)])
            waiting = other.submit(marked)
            until(lambda: rows(library, "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock'") != [])
            connection.execute(lock, [str(last)])
        assert waiting.result(60) == 2


def test_prune_leaves_what_a_run_may_find_under_another_name(library: Library, two: Path) -> None:
    library.curate(list(ids(library).values()), favorite=True)
    before = ids(library)
    moved = two.parent / "moved"
    two.rename(moved)
    pruned: list[Pruned] = []

    def meanwhile(progress: Progress) -> None:
        if progress.stage == "read" and not pruned:
            pruned.append(library.prune(list(before.values())))

    # Of two batches, the first of which is read when it is asked.
    for n in range(40):
        shutil.copy(moved / "a.png", moved / f"0 copy {n}.png")
    library.index([two.parent], meanwhile, embed=False)
    assert pruned
    assert (pruned[0].images, pruned[0].texts) == (0, 0)
    assert pruned[0].left >= 1
    assert set(before.values()) <= set(ids(library).values())
    assert library.missing() == []


def test_prune_leaves_what_a_run_has_yet_to_come_by(library: Library, two: Path) -> None:
    [gone] = [id for name, id in ids(library).items() if name == "b.png"]
    elsewhere = two.parent / "elsewhere"
    elsewhere.mkdir()
    (two / "b.png").rename(elsewhere / "moved.png")
    library.index([two], embed=False)
    for n in range(1000):  # a walk tells how far it is behind every thousand
        (elsewhere / f"{n}.png").write_bytes(b"no picture")
    pruned: list[Pruned] = []

    def meanwhile(progress: Progress) -> None:
        if progress.stage == "scan" and not pruned:
            pruned.append(library.prune([gone]))

    library.index([elsewhere], meanwhile, embed=False)
    assert pruned == [Pruned(left=1)]
    assert ids(library)["moved.png"] == gone


def test_prune_waits_for_no_run_and_goes_on_after_it(library: Library, two: Path) -> None:
    gone = ids(library)["b.png"]
    (two / "b.png").unlink()
    library.index([two])
    with library.database.among(PRUNING), library.database.among(PRUNING):
        assert library.prune([gone]) == Pruned(left=1)
    assert library.prune([gone]) == Pruned(images=1, texts=1)
