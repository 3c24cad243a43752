"""One run after another over folders that change: what is done, what is left alone, and that nothing is lost."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, PngImagePlugin
from safetensors.numpy import load_file, save_file

from toolkit_core.errors import EncoderMismatch, ImageNotFound, SearchError, WeightsMissing
from toolkit_core.library import Library
from toolkit_core.records import Progress
from toolkit_core.spaces import EMBEDDINGS, SPACES

MakePicture = Callable[..., Path]


def rows(library: Library, query: str, *values: object) -> list[tuple[Any, ...]]:
    with library.database.transaction() as connection:
        return connection.execute(query.encode(), values).fetchall()


def content(library: Library) -> dict[str, tuple[Any, ...]]:
    """Everything that is stored, by path; without ids and times, which no two runs share."""
    names = ", ".join(f"{e.view_column}::text" for e in EMBEDDINGS.values())
    found = rows(library, f"SELECT path, prompt, negative_prompt, seed, width, error, content_hash, {names} FROM image")
    return {path: tuple(values) for path, *values in found}


def id_of(library: Library, path: Path) -> int:
    [(id,)] = rows(library, "SELECT id FROM image_file WHERE path = %s", str(path))
    return id


def test_first_run_stores_five_embeddings_and_the_next_does_nothing(
    library: Library, make_picture: MakePicture
) -> None:
    path = make_picture("a.png", "a fox", "blurry", seed=1)
    report = library.index([path.parent])
    assert (report.new, report.unchanged, report.failed) == (1, 0, ())
    assert report.embedded == {"bge": 2, "clip_h": 1, "clip_l": 2, "clip_g": 2}
    record = library.image(id_of(library, path))
    assert record.embeddings == tuple(EMBEDDINGS)
    assert (record.parameters.prompt, record.parameters.negative_prompt) == ("a fox", "blurry")
    assert (record.width, record.height, record.parameters.seed) == (320, 240, 1)
    again = library.index([path.parent])
    assert (again.new, again.changed, again.unchanged) == (0, 0, 1)
    assert sum(again.embedded.values()) == 0


def test_unchanged_folder_loads_no_weights(
    library: Library, home: Path, schema: str, make_picture: MakePicture
) -> None:
    path = make_picture("a.png", "a fox", "blurry")
    library.index([path.parent])
    with Library.open(home, library=schema, weights=["/nowhere"]) as other:
        report = other.index([path.parent])
    assert (report.unchanged, report.skipped, report.refused) == (1, {}, {})


def test_texts_are_embedded_once_however_many_images_share_them(
    library: Library, make_picture: MakePicture, pictures: Path
) -> None:
    for n in range(5):
        make_picture(f"{n}.png", "the same prompt", "the same negative")
    report = library.index([pictures])
    assert (report.new, report.embedded["bge"], report.embedded["clip_l"]) == (5, 2, 2)
    assert rows(library, "SELECT count(DISTINCT prompt_id) FROM image_file") == [(1,)]


def test_image_without_prompt_has_its_picture_embedding_alone(library: Library, make_picture: MakePicture) -> None:
    path = make_picture("a.png")
    library.index([path])
    record = library.image(id_of(library, path))
    assert (record.parameters.prompt, record.embeddings) == (None, ("clip_h",))


def test_stored_vectors_are_the_encoders_own(library: Library, make_picture: MakePicture) -> None:
    path = make_picture("a.png", "a (red:1.3) fox <lora:fur:0.8>", "blurry")
    library.index([path])
    stored = library.embeddings(id_of(library, path))
    for name in ("clip_l", "clip_g", "bge"):
        expected = library._encoders.text(name).encode(["a (red:1.3) fox <lora:fur:0.8>"])[0]
        assert np.allclose(stored[name], expected, rtol=2e-3, atol=2e-3), name
    negative = library._encoders.text("bge").encode(["blurry"])[0]
    assert np.allclose(stored["bge_negative"], negative, atol=2e-3)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such names")
@pytest.mark.parametrize("name", [b"new\nline 'quoted\".png", "日本 🦊.png".encode(), b"undecodable \xff\xfe.png"])
def test_file_of_any_name_is_stored_and_known_again(library: Library, make_picture: MakePicture, name: bytes) -> None:
    path = make_picture(os.fsdecode(name), "a fox")
    assert library.index([path.parent]).new == 1
    [hit] = library.search(image=path)
    assert (hit.path, Path(hit.path).exists()) == (str(path), True)
    assert library.index([path.parent]).unchanged == 1


@pytest.mark.parametrize("prompt", ["word " * 20_000, "(" * 100_000, "x" * 100_000, "nul \0 and more", "", "   "])
def test_any_prompt_is_stored_and_embedded(library: Library, make_picture: MakePicture, prompt: str) -> None:
    path = make_picture("a.png")
    graph = {
        "1": {"class_type": "CLIPTextEncode", "inputs": {"text": prompt, "clip": ["9", 0]}},
        "2": {"class_type": "KSampler", "inputs": {"positive": ["1", 0], "negative": ["1", 0], "seed": 5}},
        "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 0]}},
    }
    metadata = PngImagePlugin.PngInfo()
    metadata.add_text("prompt", json.dumps(graph))
    with Image.open(path) as image:
        image.load()
        image.save(path, pnginfo=metadata)
    report = library.index([path])
    assert (report.failed, report.refused, sum(report.pending.values())) == ((), {}, 0)
    record = library.image(id_of(library, path))
    assert record.embeddings == tuple(EMBEDDINGS)
    assert record.parameters.seed == 5


@pytest.mark.parametrize("renamed", ["b.png", "sub folder/日本.png"])
def test_moved_file_keeps_its_id_favourite_rating_and_vectors(
    library: Library, make_picture: MakePicture, renamed: str
) -> None:
    path = make_picture("a.png", "a fox", "blurry")
    library.index([path.parent])
    before = id_of(library, path)
    rows(library, "UPDATE image_file SET favorite = true, rating = 9, tags = '{fur}' RETURNING id")
    moved = path.parent / renamed
    moved.parent.mkdir(exist_ok=True)
    path.rename(moved)
    report = library.index([path.parent])
    assert (report.moved, report.new, sum(report.embedded.values())) == (1, 0, 0)
    record = library.image(before)
    assert (record.path, record.favorite, record.rating, record.tags) == (str(moved), True, 9, ("fur",))
    assert library.index([path.parent]).unchanged == 1


def test_copy_beside_its_original_is_another_image(library: Library, make_picture: MakePicture) -> None:
    path = make_picture("a.png", "a fox")
    library.index([path.parent])
    shutil.copy(path, path.parent / "b.png")
    report = library.index([path.parent])
    assert (report.new, report.moved) == (1, 0)
    assert rows(library, "SELECT count(*) FROM image_file") == [(2,)]


def test_touched_file_is_not_made_again(library: Library, make_picture: MakePicture) -> None:
    path = make_picture("a.png", "a fox")
    library.index([path])
    os.utime(path, (1, 1))
    report = library.index([path])
    assert (report.unchanged, report.changed, sum(report.embedded.values())) == (1, 0, 0)
    assert library.index([path]).unchanged == 1


def test_overwritten_file_keeps_its_favourite_and_gets_new_vectors(library: Library, make_picture: MakePicture) -> None:
    path = make_picture("a.png", "a fox", seed=1)
    library.index([path])
    before = library.embeddings(id_of(library, path))
    rows(library, "UPDATE image_file SET favorite = true RETURNING id")
    make_picture("a.png", "a badger at night", seed=2)
    os.utime(path, (10**9, 10**9))
    report = library.index([path])
    assert (report.changed, report.new) == (1, 0)
    record = library.image(id_of(library, path))
    assert (record.parameters.prompt, record.favorite) == ("a badger at night", True)
    after = library.embeddings(record.id)
    assert not np.array_equal(before["clip_h"], after["clip_h"])
    assert not np.array_equal(before["bge"], after["bge"])


def test_file_that_cannot_be_read_is_recorded_and_tried_again_when_it_changes(
    library: Library, make_picture: MakePicture
) -> None:
    good = make_picture("good.png", "a fox")
    broken = good.parent / "broken.png"
    whole = make_picture("whole.png", "a badger", seed=3).read_bytes()
    broken.write_bytes(whole[: len(whole) // 2])
    (good.parent / "empty.webp").touch()
    (good.parent / "text.jpg").write_text("no picture")
    report = library.index([good.parent])
    assert {Path(f.path).name: f.error for f in report.failed} == {
        "broken.png": library.image(id_of(library, broken)).error,
        "empty.webp": "The file is empty.",
        "text.jpg": "It is no picture in a format that can be read.",
    }
    assert library.image(id_of(library, broken)).parameters.prompt == "a badger", "the metadata is before the damage"
    assert library.status().failed == 3
    assert library.index([good.parent]).unchanged == 5
    broken.write_bytes(whole + b"\0")
    report = library.index([good.parent])
    assert (report.changed, report.failed) == (1, ())
    assert library.image(id_of(library, broken)).embeddings == tuple(EMBEDDINGS)


def test_what_could_not_be_read_is_listed_and_tried_again_when_told(
    library: Library, make_picture: MakePicture
) -> None:
    good, other = make_picture("a/good.png", "a fox"), make_picture("b/other.png", "a crow")
    whole = good.read_bytes()
    status = good.stat()
    good.write_bytes(bytes(len(whole)))
    other.write_bytes(b"no picture")
    os.utime(good, ns=(status.st_atime_ns, status.st_mtime_ns))
    library.index([good.parent, other.parent])
    library.curate([id_of(library, good)], rating=7)
    failed = library.failures()
    assert [(image.path, image.error) for image in failed] == [
        (str(good), library.image(failed[0].id).error),
        (str(other), "It is no picture in a format that can be read."),
    ]
    assert [image.path for image in library.failures([other.parent])] == [str(other)]
    # As a drive does that reads badly for a while: nothing of the file tells that it is another.
    good.write_bytes(whole)
    os.utime(good, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert library.index([good.parent]).unchanged == 1
    assert [file.path for file in library.retry().failed] == [str(other)]
    image = library.image(failed[0].id)
    assert (image.error, image.rating, image.embeddings) == (None, 7, tuple(EMBEDDINGS))
    other.unlink()
    assert library.retry().failed == ()
    library.index([other.parent])
    assert library.failures() == [], "a missing file is not tried in vain"


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="root may open any file")
def test_file_without_permission_is_tried_again_by_every_run(library: Library, make_picture: MakePicture) -> None:
    path = make_picture("a.png", "a fox")
    path.chmod(0)
    assert [f.path for f in library.index([path.parent]).failed] == [str(path)]
    path.chmod(0o600)
    assert library.index([path.parent]).failed == ()
    assert library.image(id_of(library, path)).error is None


def test_missing_weights_leave_a_space_pending_and_a_later_run_fills_it(
    home: Path, schema: str, tiny_weights: Path, tmp_path: Path, make_picture: MakePicture
) -> None:
    some = tmp_path / "some"
    some.mkdir()
    shutil.copy(tiny_weights / "clip_l.safetensors", some)
    path = make_picture("a.png", "a fox", "blurry")
    with Library.open(home, library=schema, weights=[some]) as library:
        report = library.index([path.parent])
        assert report.pending == {"bge": 2, "clip_h": 1, "clip_l": 0, "clip_g": 2}
        assert sorted(report.skipped) == ["bge", "clip_g", "clip_h"]
        assert str(some) in report.skipped["clip_h"]
        assert library.status().encoders["bge"] is None
        shutil.copy(tiny_weights / "clip_g.safetensors", some)
        assert library.index([]).embedded["clip_g"] == 2, "weights that came since are found"
    with Library.open(home, library=schema, weights=[tiny_weights]) as library:
        report = library.index([path.parent])
        assert (report.unchanged, sum(report.pending.values())) == (1, 0)
        assert report.embedded == {"bge": 2, "clip_h": 1, "clip_l": 0, "clip_g": 0}


def test_other_weights_are_refused_and_the_other_spaces_go_on(
    home: Path, schema: str, tiny_weights: Path, tmp_path: Path, library: Library, make_picture: MakePicture
) -> None:
    library.index([make_picture("a.png", "a fox")])
    other = tmp_path / "other"
    shutil.copytree(tiny_weights, other)
    tensors = load_file(other / "clip_l.safetensors")
    name = next(name for name in tensors if name.endswith("final_layer_norm.bias"))
    tensors[name] = tensors[name] + np.linspace(-1, 1, tensors[name].size, dtype=tensors[name].dtype)
    save_file(tensors, other / "clip_l.safetensors")
    with Library.open(home, library=schema, weights=[other]) as changed:
        report = changed.index([make_picture("b.png", "a badger")])
        assert report.new == 1
        assert list(report.refused) == ["clip_l"]
        assert report.pending == {"bge": 0, "clip_h": 0, "clip_l": 1, "clip_g": 0}
        assert "`diffusion-toolkit reindex clip_l`" in report.refused["clip_l"]
        with pytest.raises(EncoderMismatch):
            changed.search("a fox", weights={"clip_l": 1})
    report = library.index([make_picture("c.png", "a crow")])
    assert sum(report.pending.values()) == 0
    before = library.embeddings(1)
    with Library.open(home, library=schema, weights=[other]) as changed:
        report = changed.reindex("clip_l")
        assert (report.embedded["clip_l"], sum(report.pending.values()), report.refused) == (4, 0, {})
        assert changed.search("a fox", weights={"clip_l": 1}, top_k=1)[0].prompt == "a fox"
        after = changed.embeddings(1)
    assert not np.allclose(before["clip_l"], after["clip_l"], atol=1e-2)
    assert np.array_equal(before["clip_g"], after["clip_g"])
    assert library.index([]).refused == {}, "nothing is pending, so nothing is asked of the old weights"
    with pytest.raises(EncoderMismatch):
        library.search("a fox", weights={"clip_l": 1})
    assert list(library.index([make_picture("d.png", "a wren")]).refused) == ["clip_l"]


def test_reindex_without_weights_drops_nothing(
    home: Path, schema: str, library: Library, make_picture: MakePicture
) -> None:
    library.index([make_picture("a.png", "a fox")])
    with Library.open(home, library=schema, weights=["/nowhere"]) as bare:
        with pytest.raises(WeightsMissing):
            bare.reindex("clip_h")
        with pytest.raises(SearchError, match=r"'bge_negative' is an embedding of the space bge, .* Name bge"):
            bare.reindex("bge_negative")
        with pytest.raises(SearchError, match="'smell' is no space"):
            bare.reindex("smell")
    assert library.status().pending == dict.fromkeys(SPACES, 0)


def test_truncated_weights_are_refused_with_their_name(
    home: Path, schema: str, tiny_weights: Path, tmp_path: Path, make_picture: MakePicture
) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    data = (tiny_weights / "clip_h.safetensors").read_bytes()
    (broken / "clip_h.safetensors").write_bytes(data[: len(data) // 2])
    with Library.open(home, library=schema, weights=[broken]) as library:
        report = library.index([make_picture("a.png", "a fox")])
        assert report.new == 1
        assert "clip_h.safetensors" in {**report.skipped, **report.refused}["clip_h"]


def test_run_stopped_by_its_progress_keeps_what_is_done(
    library: Library, make_picture: MakePicture, pictures: Path
) -> None:
    for n in range(70):
        make_picture(f"{n}.png", f"prompt {n}")

    class Cancelled(Exception):
        pass

    def cancel(progress: Progress) -> None:
        if progress.stage == "read":
            raise Cancelled

    with pytest.raises(Cancelled):
        library.index([pictures], cancel)
    done = library.status().images
    assert 0 < done < 70
    report = library.index([pictures])
    assert (report.unchanged, report.new) == (done, 70 - done)
    assert sum(report.pending.values()) == 0


INDEX = """
import sys
from toolkit_core.library import Library
with Library.open(sys.argv[1], library=sys.argv[2], weights=[sys.argv[3]]) as library:
    library.index([sys.argv[4]])
"""


def index_process(home: Path, schema: str, weights: Path, folder: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", INDEX, str(home), schema, str(weights), str(folder)])


def test_two_indexers_at_once_write_nothing_twice(
    home: Path, schema: str, tiny_weights: Path, library: Library, make_picture: MakePicture, pictures: Path
) -> None:
    for n in range(80):
        make_picture(f"{n}.png", f"prompt {n % 20}", f"negative {n % 3}")
    other = index_process(home, schema, tiny_weights, pictures)
    report = library.index([pictures])
    assert other.wait(120) == 0
    assert report.failed == ()
    assert rows(library, "SELECT count(*), count(DISTINCT path) FROM image_file") == [(80, 80)]
    assert rows(library, "SELECT count(*) FROM prompt_text") == [(23,)]
    assert sum(library.index([pictures]).pending.values()) == 0


# More of them by the environment: DIFFUSION_TOOLKIT_KILLS=50 takes some minutes.
KILLS = int(os.environ.get("DIFFUSION_TOOLKIT_KILLS", "5"))


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_killed_indexer_and_a_rerun_end_in_the_rows_of_an_undisturbed_run(
    home: Path, schema: str, tiny_weights: Path, library: Library, make_picture: MakePicture, pictures: Path
) -> None:
    for n in range(40 * KILLS):
        make_picture(f"{n:03}.png", f"prompt {n}", "negative", seed=n)
    random = np.random.default_rng(5)
    with Library.open(home, library=f"{schema}_killed", weights=[tiny_weights]) as killed:
        stopped_early = 0
        for _ in range(KILLS):
            process = index_process(home, f"{schema}_killed", tiny_weights, pictures)
            before = killed.status()
            deadline = time.monotonic() + 60
            # From the first rows on, a kill at a random moment: while files are read, or while texts are embedded.
            while killed.status() == before and process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.02)
            time.sleep(random.uniform(0, 0.6))
            process.send_signal(signal.SIGKILL)
            stopped_early += process.wait() == -signal.SIGKILL
        assert stopped_early > 0
        killed.index([pictures])
        library.index([pictures])
        assert len(content(library)) == 40 * KILLS
        again, undisturbed = content(killed), content(library)
        assert {p: values[:6] for p, values in again.items()} == {p: values[:6] for p, values in undisturbed.items()}
        for column in range(6, 11):
            for p in undisturbed:
                a, b = (np.fromstring(c[p][column][1:-1], sep=",") for c in (again, undisturbed))
                assert np.allclose(a, b, rtol=2e-3, atol=2e-3), "batches differ, so a half-precision digit may"


def test_server_that_dies_in_the_middle_loses_nothing_committed(
    tmp_path: Path, tiny_weights: Path, make_picture: MakePicture, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import psutil

    from toolkit_core.errors import DatabaseError

    monkeypatch.setattr("toolkit_core.database.database.CONNECTION_TIMEOUT", 2.0)
    for n in range(70):
        make_picture(f"{n}.png", f"prompt {n}")
    home = tmp_path / "home"

    def kill_server(progress: Progress) -> None:
        if progress.stage == "read" and progress.done < 60:
            server = psutil.Process(int((home / "postgres" / "postmaster.pid").read_text().splitlines()[0]))
            processes = [server, *server.children(recursive=True)]
            for process in processes:
                process.kill()
            psutil.wait_procs(processes, timeout=30)

    with Library.open(home, weights=[tiny_weights]) as library, pytest.raises(DatabaseError, match="run again"):
        library.index([pictures], kill_server)
    with Library.open(home, weights=[tiny_weights]) as library:
        report = library.index([pictures])
        assert (report.unchanged > 0, report.unchanged + report.new) == (True, 70)
        assert sum(report.pending.values()) == 0


def test_corpus_has_five_embeddings_of_every_image_with_a_prompt(library: Library, corpus: Path) -> None:
    library.index([corpus])
    lacking = rows(
        library,
        "SELECT path FROM image WHERE error IS NULL AND prompt IS NOT NULL AND (prompt_embedding IS NULL OR "
        "negative_prompt_embedding IS NULL OR image_embedding IS NULL OR clip_l_embedding IS NULL OR "
        "clip_g_embedding IS NULL)",
    )
    assert lacking == []
    [(with_prompt,)] = rows(library, "SELECT count(*) FROM image WHERE prompt IS NOT NULL")
    assert with_prompt >= 50
    again = library.index([corpus])
    assert (again.new, again.changed, sum(again.embedded.values())) == (0, 0, 0)


def test_unknown_id_is_an_error_that_names_it(library: Library) -> None:
    with pytest.raises(ImageNotFound, match="12345"):
        library.image(12345)
