"""Whose vector is written: of an image or a text that is still there, and of the picture that it still is."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as StillRunning
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from toolkit_core.database import missing, vectors
from toolkit_core.database.claims import worker
from toolkit_core.database.vectors import Picture
from toolkit_core.encoders.clip import ClipVisionEncoder
from toolkit_core.encoders.pixels import decode
from toolkit_core.indexing import reembed_space
from toolkit_core.indexing.embedder import Embedder, Waiting, with_pixels
from toolkit_core.library import Library
from toolkit_core.spaces import SPACES, Space

MakePicture = Callable[..., Path]
BGE, CLIP_H = SPACES["bge"], SPACES["clip_h"]


class Interrupted(ClipVisionEncoder):
    """The real encoder, with something that happens once, after it was given the first pictures behind its probe."""

    def __init__(self, file: Path, happens: Callable[[], None]) -> None:
        super().__init__(file, "cpu")
        self._happens = happens
        self._is_probed = False

    def probe(self) -> NDArray[np.float32]:
        fresh = super().probe()
        self._is_probed = True
        return fresh

    def encode(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        if self._is_probed:
            self._is_probed = False
            self._happens()
        return super().encode(images)


@pytest.fixture
def waiting(library: Library, make_picture: MakePicture, pictures: Path) -> Path:
    """A folder of three pictures that are indexed and not embedded."""
    for n in range(3):
        make_picture(f"{n}.png", f"prompt {n}", "blurry", seed=n)
    library.index([pictures], embed=False)
    return pictures


@pytest.fixture
def embedder(library: Library) -> Iterator[Embedder]:
    with worker(library.database) as at_work:
        yield Embedder(library.database, library._encoders, at_work)


def rows(library: Library, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
    with library.database.transaction() as connection:
        return connection.execute(statement.encode(), parameters).fetchall()


def taken(embedder: Embedder, space: Space) -> Waiting:
    """All that waits in a space, pictures with their pixels."""
    [found] = embedder.waiting(space, 0)
    if space.of == "text":
        return found
    with ThreadPoolExecutor(2) as readers:
        return with_pixels(readers, found)[0]


def remove(library: Library, path: Path) -> None:
    path.unlink()
    library.index([path.parent], embed=False)
    assert library.prune([image.id for image in library.missing()]).images == 1


def assert_vectors_are_of_the_files(library: Library) -> None:
    encoder = library._encoders.image("clip_h")
    found = rows(library, "SELECT id, path FROM image_file")
    for id, path in found:
        own = encoder.encode(decode(Path(path).read_bytes()).pixels[np.newaxis])[0]
        np.testing.assert_allclose(library.embeddings(id)["clip_h"], own, rtol=1e-2, atol=1e-2, err_msg=path)
    assert rows(library, "SELECT count(*) FROM image_clip_h") == [(len(found),)]


def test_picture_that_is_replaced_while_its_vector_is_made_gets_its_own(
    library: Library, waiting: Path, embedder: Embedder, make_picture: MakePicture
) -> None:
    job = taken(embedder, CLIP_H)
    made = embedder.encode(CLIP_H, job.values)
    make_picture("1.png", "prompt 1", "blurry", seed=999)
    assert library.index([waiting], embed=False).changed == 1
    embedder.finish(job, made)
    assert embedder.embedded["clip_h"] == 2
    assert library.status().pending["clip_h"] == 1
    assert library.index([waiting]).embedded["clip_h"] == 1
    assert_vectors_are_of_the_files(library)


def test_file_that_is_another_one_by_now_is_not_embedded_for_the_row_of_the_old_one(
    library: Library, waiting: Path, make_picture: MakePicture
) -> None:
    """Its size and its time are the old one's, so that nobody else finds out."""
    path = waiting / "1.png"
    path.write_bytes(path.read_bytes().ljust(500_000, b"\0"))
    library.index([waiting], embed=False)
    before = path.stat()
    path.write_bytes(make_picture("1.png", "prompt 1", "blurry", seed=999).read_bytes().ljust(500_000, b"\0"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    report = library.index([])
    assert (report.embedded["clip_h"], report.pending["clip_h"]) == (2, 1)
    report = library.index([waiting])
    assert (report.changed, report.unchanged, report.failed) == (1, 2, ())
    assert_vectors_are_of_the_files(library)


def test_damage_is_recorded_of_the_content_that_is_damaged_alone(library: Library, waiting: Path) -> None:
    [(id, content), *_] = rows(library, "SELECT id, content_hash FROM image_file")
    with library.database.transaction() as connection:
        missing.mark_damaged(connection, {id: "It is damaged."}, {id: b"another"})
    assert library.failures() == []
    with library.database.transaction() as connection:
        missing.mark_damaged(connection, {id: "It is damaged."}, {id: content})
    assert [image.id for image in library.failures()] == [id]


@pytest.mark.parametrize("space", [BGE, CLIP_H])
def test_vector_of_what_was_pruned_meanwhile_is_not_written(
    library: Library, waiting: Path, embedder: Embedder, space: Space
) -> None:
    job = taken(embedder, space)
    made = embedder.encode(space, job.values)
    remove(library, waiting / "1.png")
    embedder.finish(job, made)
    assert embedder.embedded[space.name] == len(job.owners) - 1
    owners = rows(library, "SELECT prompt_id FROM prompt_bge UNION ALL SELECT image_id FROM image_clip_h ORDER BY 1")
    there = "SELECT id FROM prompt_text ORDER BY 1" if space is BGE else "SELECT id FROM image_file ORDER BY 1"
    assert owners == rows(library, there)


@pytest.mark.parametrize("space", [BGE, CLIP_H])
def test_prune_waits_for_whoever_writes_a_vector_and_takes_it_along(
    library: Library, waiting: Path, space: Space
) -> None:
    (waiting / "1.png").unlink()
    library.index([waiting], embed=False)
    contents = dict(rows(library, "SELECT id, content_hash FROM image_file"))
    owners = list(contents) if space is CLIP_H else [id for (id,) in rows(library, "SELECT id FROM prompt_text")]
    with ThreadPoolExecutor(1) as threads:
        pruned: Future[Any]
        with library.database.transaction() as connection:
            assert vectors.held(connection, space, owners, contents) == set(owners)
            pruned = threads.submit(library.prune, [image.id for image in library.missing()])
            with pytest.raises(StillRunning):
                pruned.result(timeout=1)
            vectors.write(connection, space, owners, np.ones((len(owners), space.width), np.float32))
        assert pruned.result(timeout=30).images == 1
    for table in ("prompt_bge", "prompt_bge_sketch", "image_clip_h", "image_clip_h_sketch"):
        expected = 0 if (space is BGE) != table.startswith("prompt") else len(owners) - 1
        assert rows(library, f"SELECT count(*) FROM {table}") == [(expected,)], table


def test_file_that_is_replaced_waits_for_the_vector_of_the_old_one_and_removes_it(
    library: Library, waiting: Path, make_picture: MakePicture
) -> None:
    contents = dict(rows(library, "SELECT id, content_hash FROM image_file"))
    make_picture("1.png", "prompt 1", "blurry", seed=999)
    with ThreadPoolExecutor(1) as threads:
        with library.database.transaction() as connection:
            owners = sorted(vectors.held(connection, CLIP_H, list(contents), contents))
            indexed = threads.submit(library.index, [waiting], embed=False)
            with pytest.raises(StillRunning):
                indexed.result(timeout=1)
            vectors.write(connection, CLIP_H, owners, np.ones((3, 1024), np.float32))
        assert indexed.result(timeout=30).changed == 1
    assert library.status().pending["clip_h"] == 1


def test_picture_that_another_process_is_changing_is_left_pending_and_not_waited_for(
    library: Library, waiting: Path, embedder: Embedder
) -> None:
    job = taken(embedder, CLIP_H)
    made = embedder.encode(CLIP_H, job.values)
    with library.database.transaction() as connection:
        connection.execute("UPDATE image_file SET favorite = true WHERE id = %s", [job.owners[1]])
        embedder.finish(job, made)
    assert embedder.embedded["clip_h"] == 2
    assert library.index([]).embedded["clip_h"] == 1
    assert_vectors_are_of_the_files(library)


@pytest.mark.parametrize("becomes", ["another picture", "pruned"])
def test_vectors_made_again_are_of_the_pictures_that_are_there(
    library: Library, waiting: Path, make_picture: MakePicture, tiny_weights: Path, becomes: str
) -> None:
    library.index([waiting])

    def happens() -> None:
        if becomes == "pruned":
            remove(library, waiting / "1.png")
        else:
            make_picture("1.png", "prompt 1", "blurry", seed=999)
            assert library.index([waiting]).changed == 1

    encoder = Interrupted(tiny_weights / "clip_h.safetensors", happens)
    assert reembed_space(library.database, CLIP_H, encoder, "hnsw", lambda _: None) == 2
    library.index([])
    assert_vectors_are_of_the_files(library)


def test_pending_picture_names_its_file_and_what_it_held(library: Library, waiting: Path) -> None:
    with library.database.transaction() as connection:
        found = vectors.pending(connection, CLIP_H, 0, 10)
    contents = rows(library, "SELECT id, path, content_hash FROM image_file ORDER BY id")
    assert found == [(id, Picture(path, content)) for id, path, content in contents]
