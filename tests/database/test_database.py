"""A library as a schema: migrations, the view that a user's own SQL reads, and servers that cannot be used."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psycopg
import pytest
from pgvector import Vector
from psycopg.conninfo import make_conninfo

import toolkit_core.database
from toolkit_core.database import Connection, Database, images, vectors
from toolkit_core.database.images import ImageRow
from toolkit_core.database.segments import seal
from toolkit_core.errors import DatabaseError, EncoderError
from toolkit_core.indexing.scan import EPOCH
from toolkit_core.records import GenerationParameters, Lora
from toolkit_core.spaces import SPACES

# The guide's "Advanced Queries"; only the parameters' style differs.
CLIP_L_QUERY = """
SELECT
    id,
    path,
    prompt,
    1 - (clip_l_embedding <=> %(query_clip_l)s) AS similarity
FROM image
WHERE clip_l_embedding IS NOT NULL
ORDER BY clip_l_embedding <=> %(query_clip_l)s
LIMIT 50;
"""
CLIP_H_QUERY = """
SELECT
    id,
    path,
    1 - (image_embedding <=> %(query_image)s) AS similarity
FROM image
WHERE image_embedding IS NOT NULL
ORDER BY image_embedding <=> %(query_image)s
LIMIT 50;
"""
COMBINED_QUERY = """
SELECT
    id,
    path,
    prompt,
    (0.5 * (1 - (prompt_embedding <=> %(query_prompt)s)) +
     0.5 * (1 - (image_embedding <=> %(query_image)s))) AS combined_score
FROM image
WHERE prompt_embedding IS NOT NULL
  AND image_embedding IS NOT NULL
ORDER BY combined_score DESC
LIMIT 50;
"""

ROWS = 3000
MIGRATIONS = Path(toolkit_core.database.__file__).parent / "migrations"


def row(path: str, prompt: str | None = None, **parameters: object) -> ImageRow:
    made = GenerationParameters(prompt=prompt, **parameters)  # pyright: ignore[reportArgumentType]
    return ImageRow(path, path.encode(), 1, EPOCH, 512, 512, made, None)


@pytest.fixture(scope="module")
def filled(home: Path) -> Iterator[Database]:
    """A library with random vectors in every space and an HNSW index on each."""
    database = Database.embedded(home, "filled")
    random = np.random.default_rng(7)
    with database.transaction() as connection:
        ids = images.write(connection, [row(f"/{n:05}.png", f"prompt {n}") for n in range(ROWS)])
        for space in SPACES.values():
            owners = ids if space.of == "image" else [id for id, _ in vectors.pending(connection, space, 0, 2 * ROWS)]
            vectors.write(connection, space, owners, random.standard_normal((len(owners), space.width), np.float32))
    assert [done.space for done in seal(database, rows_worth_an_index=1000)] == list(SPACES)
    with database.autocommit() as connection:
        connection.execute("ANALYZE")
    yield database
    database.close()


@pytest.fixture
def user(filled: Database) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    """A user's own session, with none of our settings but those of the database."""
    with psycopg.connect(filled.connection_string()) as connection:
        connection.execute("SET search_path TO filled, public")
        yield connection


def query_parameters(connection: Connection, image_id: int) -> dict[str, Vector]:
    found = images.embeddings(connection, image_id)
    return {
        "query_prompt": Vector(found["bge"]),
        "query_image": Vector(found["clip_h"]),
        "query_clip_l": Vector(found["clip_l"]),
    }


@pytest.mark.parametrize(
    ("query", "index"), [(CLIP_L_QUERY, "prompt_clip_l_sealed_index"), (CLIP_H_QUERY, "image_clip_h_sealed_index")]
)
def test_guides_query_runs_on_the_view_through_the_hnsw_index(
    filled: Database, user: Connection, query: str, index: str
) -> None:
    with filled.transaction() as connection:
        parameters = {name: str(v.to_list()) for name, v in query_parameters(connection, 17).items()}
    plan = "\n".join(line for (line,) in user.execute(f"EXPLAIN {query}".encode(), parameters))
    assert f"Index Scan using {index}" in plan
    found = user.execute(query.encode(), parameters).fetchall()
    assert len(found) == 50
    assert found[0][:2] == (17, "/00016.png")
    assert found[0][-1] == pytest.approx(1, abs=1e-3)
    # The index orders by unit vectors that it rounds to half precision, which moves a cosine by up to 4e-5.
    similarities = [hit[-1] for hit in found]
    assert similarities == pytest.approx(sorted(similarities, reverse=True), abs=1e-4)


def test_guides_combined_query_ranks_by_the_weighted_sum(filled: Database, user: Connection) -> None:
    with filled.transaction() as connection:
        parameters = {name: str(v.to_list()) for name, v in query_parameters(connection, 17).items()}
    found = user.execute(COMBINED_QUERY.encode(), parameters).fetchall()
    assert len(found) == 50
    assert found[0][0] == 17
    assert found[0][-1] == pytest.approx(1, abs=1e-3)


def test_users_session_gets_as_many_rows_as_it_asks_for(user: Connection) -> None:
    assert user.execute("SHOW hnsw.iterative_scan").fetchone() == ("strict_order",)
    rare = "SELECT id FROM image WHERE id % 50 = 0 ORDER BY image_embedding <=> (SELECT image_embedding FROM image"
    assert len(user.execute(f"{rare} WHERE id = 5) LIMIT 55".encode()).fetchall()) == 55


def test_processes_that_migrate_at_once_do_not_race(home: Path, schema: str) -> None:
    with ThreadPoolExecutor(6) as threads:
        opened = list(threads.map(lambda _: Database.embedded(home, schema), range(6)))
    with opened[0].transaction() as connection:
        applied = [version for (version,) in connection.execute("SELECT version FROM schema_version ORDER BY 1")]
    assert applied == list(range(1, len(list(MIGRATIONS.glob("*.sql"))) + 1))
    for database in opened:
        database.close()


def test_libraries_on_one_server_do_not_see_each_other(home: Path, database: Database, schema: str) -> None:
    other = Database.embedded(home, f"{schema}_other")
    with database.transaction() as connection:
        images.write(connection, [row("/a.png", "mine")])
    with other.transaction() as connection:
        assert images.counts(connection) == (0, 0, 0)
    other.close()


def test_library_of_a_newer_version_is_refused(home: Path, database: Database, schema: str) -> None:
    with database.transaction() as connection:
        connection.execute("INSERT INTO schema_version (version, name) VALUES (9999, 'from_the_future')")
    with pytest.raises(DatabaseError, match="newer version"):
        Database.embedded(home, schema)


@pytest.mark.parametrize("name", ["", "Art", "pg_art", "1art", "a b", "x;drop", "a" * 64, 'a"b'])
def test_name_that_cannot_be_a_library_is_refused(home: Path, name: str) -> None:
    with pytest.raises(DatabaseError, match="cannot name a library"):
        Database.embedded(home, name)


def test_external_server_by_url_holds_the_same_library(database: Database, schema: str) -> None:
    with database.transaction() as connection:
        images.write(connection, [row("/a.png", "mine")])
    external = Database.external(database.connection_string(), schema)
    with external.transaction() as connection:
        assert images.counts(connection) == (1, 0, 1)
    external.close()
    with database.transaction() as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,), "closing a client must not stop the server"


def test_server_without_pgvector_says_how_to_get_it(database: Database) -> None:
    with database.autocommit() as connection:
        connection.execute("CREATE DATABASE bare")
    url = make_conninfo(database.connection_string(), dbname="bare", options="-c extension_control_path=/nowhere")
    with pytest.raises(DatabaseError, match=r"has no pgvector .*CREATE EXTENSION vector"):
        Database.external(url, "library")


def test_old_pgvector_is_refused_with_both_versions(database: Database) -> None:
    """The version that the server reports is set back; an old pgvector for this PostgreSQL cannot be had here."""
    with database.autocommit() as connection:
        connection.execute("CREATE DATABASE dated")
    url = make_conninfo(database.connection_string(), dbname="dated")
    with psycopg.connect(url) as connection:
        connection.execute("CREATE EXTENSION vector")
        connection.execute("UPDATE pg_extension SET extversion = '0.8.3' WHERE extname = 'vector'")
    with pytest.raises(DatabaseError, match=r"pgvector 0\.8\.3; 0\.8\.4 or newer"):
        Database.external(url, "library")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://user:secret@127.0.0.1:1/name", "No connection to PostgreSQL database name on 127.0.0.1"),
        ("mysql://nonsense", "cannot be read"),
        ("postgresql://user:secret%zz@127.0.0.1/name", "a % is written %25"),
        ("postgresql://user:sec ret@127.0.0.1/name", "a space %20"),
    ],
)
def test_unusable_url_is_explained_without_its_password(url: str, said: str) -> None:
    with pytest.raises(DatabaseError, match=said) as caught:
        Database.external(url, "library")
    assert "secret" not in str(caught.value)
    assert "sec ret" not in str(caught.value)


def test_stored_parameters_come_back_as_they_were(database: Database) -> None:
    made = GenerationParameters(
        generator="ComfyUI",
        prompt="a NUL \0 and a surrogate \ud800 in " + "100,000 characters " * 6000,
        negative_prompt=None,
        model="m",
        loras=(Lora("detail", 0.8, None),),
        sampler="euler",
        scheduler="karras",
        steps=30,
        cfg_scale=5.5,
        guidance=3.5,
        seed=2**64 - 1,
        denoise=0.6,
    )
    path = "/pictures/new\nline 'quote' \udcff\udc80 日本.png"
    with database.transaction() as connection:
        [id] = images.write(connection, [ImageRow(path, b"hash", 1, EPOCH, 3, 4, made, None)])
        record = images.get(connection, id)
    assert record.path == path
    stored = record.parameters
    assert stored.prompt == (made.prompt or "").replace("\0", "�").replace("\ud800", "�")
    assert stored.negative_prompt == "", "an image with a prompt and no negative one was made against the empty text"
    assert (stored.seed, stored.loras, stored.cfg_scale) == (2**64 - 1, made.loras, 5.5)


def test_vector_that_cannot_be_found_again_is_refused(database: Database) -> None:
    with database.transaction() as connection:
        [id] = images.write(connection, [row("/a.png")])
    for value in (np.nan, np.inf, 1e6):
        with pytest.raises(EncoderError, match="not finite"), database.transaction() as connection:
            vectors.write(connection, SPACES["clip_h"], [id], np.full((1, 1024), value, np.float32))
    for value in (0, 1e-9):
        with pytest.raises(EncoderError, match="zero in half"), database.transaction() as connection:
            vectors.write(connection, SPACES["clip_h"], [id], np.full((1, 1024), value, np.float32))
    with pytest.raises(EncoderError, match="shape"), database.transaction() as connection:
        vectors.write(connection, SPACES["clip_h"], [id], np.ones((1, 768), np.float32))


def test_connection_that_the_server_ends_is_told_and_replaced(database: Database) -> None:
    with pytest.raises(DatabaseError, match="connection"), database.autocommit() as connection:
        connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")
    with database.autocommit() as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_lock_of_a_connection_that_ended_is_free(database: Database) -> None:
    with pytest.raises(DatabaseError, match="connection"), database.alone("test") as ours:
        with database.alone("test") as theirs:
            assert (ours, theirs) == (True, False)
        with database.transaction() as connection:
            connection.execute("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'")
    with database.alone("test") as ours:
        assert ours


def test_no_two_migrations_have_one_number() -> None:
    numbers = [path.name[:4] for path in MIGRATIONS.glob("*.sql")]
    assert sorted(numbers) == [f"{number:04}" for number in range(1, len(numbers) + 1)]
