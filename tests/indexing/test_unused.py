"""What is kept of pictures that were replaced, and no image has any more, goes with a prune."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from toolkit_core.database import images, raw_metadata
from toolkit_core.indexing.read import ReadFile, read_file
from toolkit_core.indexing.scan import FoundFile, resolve, scan
from toolkit_core.library import Library
from toolkit_core.records import Pruned

MakePicture = Callable[..., Path]


def rows(library: Library, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
    with library.database.transaction() as connection:
        return connection.execute(statement.encode(), parameters).fetchall()


def texts(library: Library) -> list[str]:
    return [text for (text,) in rows(library, "SELECT text FROM prompt_text ORDER BY text")]


def test_prompt_vectors_and_metadata_of_a_replaced_picture_are_pruned(
    library: Library, make_picture: MakePicture, pictures: Path
) -> None:
    make_picture("a.png", "a fox", "blurry", seed=1)
    make_picture("b.png", "a badger", "blurry", seed=2)
    library.index([pictures])
    make_picture("b.png", "a crow", "blurry", seed=3)
    library.index([pictures])
    [(badger,)] = rows(library, "SELECT id FROM prompt_text WHERE text = 'a badger'")
    assert library.prune([]) == Pruned(images=0, texts=1)
    assert texts(library) == ["a crow", "a fox", "blurry"]
    for table in ("prompt_bge", "prompt_clip_l", "prompt_clip_g", "prompt_bge_sketch"):
        assert rows(library, f"SELECT prompt_id FROM {table} WHERE prompt_id = %s", badger) == [], table
        assert rows(library, f"SELECT count(*) FROM {table}") == [(3,)], table
    assert rows(library, "SELECT count(*) FROM raw_metadata") == [(2,)]
    assert library.reread(everything=True).from_kept == 2
    assert library.prune([]) == Pruned()


def test_metadata_that_others_are_packed_against_is_kept_for_them(
    library: Library, make_picture: MakePicture, pictures: Path
) -> None:
    words = " ".join(f"word{n}" for n in range(200))
    base = make_picture("base.png", words, seed=1)
    library.index([base], embed=False)
    variant = make_picture("variant.png", words, seed=2)
    library.index([variant], embed=False)
    make_picture("base.png", seed=3)
    library.index([pictures], embed=False)
    assert library.prune([]) == Pruned()
    assert library.reread(everything=True).from_kept == 2
    make_picture("variant.png", seed=4)
    library.index([pictures], embed=False)
    assert library.prune([]) == Pruned(texts=2)
    assert texts(library) == []
    assert rows(library, "SELECT count(*) FROM raw_metadata") == [(1,)], "that of files without any metadata"


def test_writer_whose_metadata_is_pruned_before_it_refers_to_it_has_none_kept(
    library: Library, make_picture: MakePicture, pictures: Path
) -> None:
    path = make_picture("a.png", "a fox")
    [found] = scan(resolve([path]))
    assert isinstance(found, FoundFile)
    read = read_file(found)
    assert isinstance(read, ReadFile)
    with library.database.transaction() as connection:
        [kept] = raw_metadata.write(connection, [read.texts])
    library.prune([])
    with library.database.transaction() as connection:
        images.write(connection, [images.ImageRow(**{**vars(read.row), "metadata_id": kept})])
    assert rows(library, "SELECT metadata_id FROM image_file") == [(None,)]
    assert library.reread(everything=True).from_files == 1
    assert library.prune([]) == Pruned()
    assert library.reread(everything=True).from_kept == 1


@pytest.mark.parametrize("everything", [False, True])
def test_those_who_index_and_reread_are_not_refused_while_others_prune(
    library: Library, make_picture: MakePicture, pictures: Path, everything: bool
) -> None:
    """The same few texts come and go, so that each is found unused again and again."""
    with ThreadPoolExecutor(1) as threads:
        for n in range(12):
            for name in range(6):
                make_picture(f"{name}.png", f"prompt {(n + name) % 8}", "blurry", seed=6 * n + name)
            pruned = [threads.submit(library.prune, []) for _ in range(5)]
            library.index([pictures], embed=False, reindex=everything)
            if everything:
                library.reread(everything=True)
            for future in pruned:
                future.result()
    library.prune([])
    assert texts(library) == sorted({f"prompt {(11 + name) % 8}" for name in range(6)} | {"blurry"})
    assert rows(library, "SELECT count(*) FROM image_file WHERE prompt_id IS NULL") == [(0,)]
