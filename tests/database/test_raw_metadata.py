"""Kept metadata: what goes in comes out, each once, packed against what is like it."""

from __future__ import annotations

import json
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import sql

from toolkit_core.database import Database, images, raw_metadata, rereading
from toolkit_core.database.images import ImageRow
from toolkit_core.database.migrate import _migrations
from toolkit_core.database.raw_metadata import LARGEST_KEPT, from_bytes, to_bytes
from toolkit_core.errors import DatabaseError
from toolkit_core.indexing.scan import EPOCH
from toolkit_core.records import GenerationParameters, MetadataText

Texts = tuple[MetadataText, ...]
any_text = st.text(st.characters(exclude_categories=()), max_size=60)
any_texts = st.lists(st.builds(MetadataText, any_text, any_text, any_text), max_size=4).map(tuple)


def rows(database: Database, query: str, *values: object) -> list[tuple[Any, ...]]:
    with database.transaction() as connection:
        return connection.execute(query.encode(), values).fetchall()


def keep(database: Database, *texts: Texts | None) -> list[int | None]:
    with database.transaction() as connection:
        return raw_metadata.write(connection, texts)


def kept(database: Database, *ids: int | None) -> list[Texts]:
    with database.transaction() as connection:
        found = raw_metadata.read(connection, [id for id in ids if id is not None])
    return [found[id] for id in ids if id is not None]


def graph(seed: int, prompt: str = "a fox") -> Texts:
    """Texts as ComfyUI writes them; those of two seeds differ in nothing else."""
    nodes = {
        str(n): {"class_type": f"Node{n * 7919 % 1000}", "inputs": {f"input_{n * 31 % 97}": n, "text": prompt}}
        for n in range(120)
    }
    nodes["200"] = {"class_type": "KSampler", "inputs": {"seed": seed, "model": ["1", 0]}}
    text = json.dumps(nodes)
    return (MetadataText("png", "prompt", text), MetadataText("png", "workflow", json.dumps({"nodes": [text, seed]})))


@given(texts=any_texts)
def test_any_texts_come_back_as_they_were(texts: Texts) -> None:
    data = to_bytes(texts)
    assert data is not None
    assert from_bytes(data) == texts


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batch=st.lists(any_texts, max_size=5))
def test_any_batch_is_kept_and_read(database: Database, batch: list[Texts]) -> None:
    assert kept(database, *keep(database, *batch)) == batch


def test_texts_of_a_batch_are_kept_once(database: Database) -> None:
    first = keep(database, graph(1), graph(1), graph(2), ())
    again = keep(database, graph(2), (), graph(1))
    assert (first[0], first[2], first[3]) == (first[1], again[0], again[1])
    assert rows(database, "SELECT count(*) FROM raw_metadata") == [(3,)]


def test_texts_that_differ_in_a_seed_take_a_fraction_of_the_first(database: Database) -> None:
    ids = [id for seed in range(10) for id in keep(database, graph(2**60 + seed), graph(2**61 + seed))]
    [(whole,)] = rows(database, "SELECT length(data) FROM raw_metadata WHERE base_id IS NULL")
    packed = rows(database, "SELECT length(data) FROM raw_metadata WHERE base_id IS NOT NULL")
    assert len(packed) == 19
    assert max(length for (length,) in packed) < whole / 5
    expected = [texts for seed in range(10) for texts in (graph(2**60 + seed), graph(2**61 + seed))]
    assert kept(database, *ids) == expected


def test_texts_that_are_too_large_are_not_kept(database: Database) -> None:
    whole = MetadataText("png", "prompt", "x" * LARGEST_KEPT)
    wide = MetadataText("png", "prompt", "狐" * (LARGEST_KEPT // 2))
    fits = MetadataText("png", "prompt", "y" * (LARGEST_KEPT - 100))
    large, wider, none, id = keep(database, (whole,), (wide,), None, (fits,))
    assert (large, wider, none) == (None, None, None)
    assert kept(database, id) == [(fits,)]


def test_damaged_and_newer_rows_are_errors_that_say_so(database: Database) -> None:
    [id] = keep(database, graph(1))
    rows(database, "UPDATE raw_metadata SET data = substr(data, 1, 40) RETURNING id")
    with pytest.raises(DatabaseError, match=f"kept metadata {id} is damaged"):
        kept(database, id)
    rows(database, r"UPDATE raw_metadata SET data = '\x09'::bytea || data RETURNING id")
    with pytest.raises(DatabaseError, match="newer version"):
        kept(database, id)


def row(path: str, metadata_id: int | None, **parameters: Any) -> ImageRow:
    made = GenerationParameters(**parameters)
    return ImageRow(path, path.encode(), 1, EPOCH, 8, 8, made, None, metadata_id, reader_version=1)


def test_row_is_counted_as_changed_by_any_parameter_and_by_nothing_else(database: Database) -> None:
    made = GenerationParameters(
        generator="ComfyUI", prompt="a fox", vae="vae.safetensors", steps=20, cfg_scale=4.1, seed=2**64 - 1, denoise=0.3
    )
    [metadata_id] = keep(database, graph(1))
    with database.transaction() as connection:
        images.write(connection, [ImageRow("/a.png", b"a", 1, EPOCH, 8, 8, made, None, metadata_id, reader_version=1)])
        [file] = rereading.waiting(connection, 2, 0, 10)
        same = rereading.Reread(file, made, metadata_id)
        assert rereading.write(connection, [same], 2) == 0
        assert rereading.waiting(connection, 2, 0, 10) == []
        other = rereading.Reread(file, GenerationParameters(**{**vars(made), "vae": None}), metadata_id)
        assert rereading.write(connection, [other], 3) == 1
        record = images.get(connection, file.id)
    assert (record.parameters.vae, record.parameters.seed) == (None, 2**64 - 1)


def test_row_that_was_indexed_meanwhile_is_left_as_it_is(database: Database) -> None:
    old, new = keep(database, graph(1), graph(2))
    with database.transaction() as connection:
        images.write(connection, [row("/a.png", old, prompt="old")])
        [file] = rereading.waiting(connection, 2, 0, 10)
        images.write(connection, [row("/a.png", new, prompt="new")])
        assert rereading.write(connection, [rereading.Reread(file, GenerationParameters(prompt="stale"), old)], 2) == 0
        record = images.get(connection, file.id)
    assert record.parameters.prompt == "new"


def test_library_of_version_2_keeps_its_rows(home: Any, schema: str, database: Database) -> None:
    old = f"{schema}_old"
    with psycopg.connect(database.conninfo) as connection:
        connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(old)))
        connection.execute(sql.SQL("SET search_path TO {}, public").format(sql.Identifier(old)))
        connection.execute(
            "CREATE TABLE schema_version"
            " (version integer PRIMARY KEY, name text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"
        )
        for version, (name, statements) in sorted(_migrations().items())[:2]:
            connection.execute(statements)
            connection.execute("INSERT INTO schema_version (version, name) VALUES (%s, %s)", [version, name])
        connection.execute("INSERT INTO prompt_text (sha256, text) VALUES ('x', 'a fox')")
        connection.execute(
            "INSERT INTO image_file (path, content_hash, file_size, modified_at, prompt_id, seed, favorite)"
            " VALUES ('/a.png', 'hash', 1, now(), 1, 18446744073709551615, true)"
        )
    migrated = Database.embedded(home, old)
    try:
        with migrated.transaction() as connection:
            record = images.get(connection, 1)
            assert rereading.count(connection, 1) == 1
            [file] = rereading.waiting(connection, 1, 0, 10)
            assert connection.execute("SELECT vae FROM image").fetchall() == [(None,)]
    finally:
        migrated.close()
    assert (record.parameters.prompt, record.parameters.seed, record.favorite) == ("a fox", 2**64 - 1, True)
    assert (file.path, file.content_hash, file.metadata_id) == ("/a.png", b"hash", None)
