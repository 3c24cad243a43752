"""Filters and the server: patterns of paths, any text at all, the limits of full text, and the indexes used."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from psycopg import sql

from toolkit_core.database import Database, images
from toolkit_core.database.filters import condition
from toolkit_core.database.images import ImageRow
from toolkit_core.errors import FilterError
from toolkit_core.indexing.scan import EPOCH
from toolkit_core.records import GenerationParameters, Lora
from toolkit_core.search.filter_language import parse_filter

from .filter_checks import found


@pytest.mark.parametrize(
    ("pattern", "path", "matches"),
    [
        ("renders", "/art/renders/a.png", True),
        ("renders", "/art/renders.png", False),
        ("renders/", "/art/renders/best/a.png", True),
        ("renders/*", "/art/renders/best/a.png", False),
        ("renders/**", "/art/renders/best/a.png", True),
        ("enders/**", "/art/renders/a.png", False),
        ("Renders/**", "/art/renders/a.png", False),
        ("**/a.png", "/a.png", True),
        ("/art/**/a.png", "/art/a.png", True),
        ("/art/**/a.png", "/art/b/c/a.png", True),
        ("/art/**/a.png", "/art/ba.png", False),
        ("/renders/**", "/art/renders/a.png", False),
        ("/art/re", "/art/renders/a.png", False),
        ("/art/re*", "/art/renders.png", True),
        ("/art/re**", "/art/renders/a.png", True),
        ("/", "/a.png", True),
        ("/art//renders", "/art/renders/a.png", True),
        ("C:/art/**", "C:\\art\\a.png", True),
        (r"C:\\art\\**", "C:\\art\\a.png", True),
        ("art/a.png", "C:\\art\\a.png", True),
        ("//nas/art/*", "\\\\nas\\art\\a.png", True),
        (r"\\nas\art", "\\\\nas\\art\\a.png", True),
        ("a?.png", "/art/a/.png", False),
        ("[a](b)+{1}^$.png", "/art/[a](b)+{1}^$.png", True),
        ("a%_.png", "/art/abc.png", False),
        ("/art/\ud7ff*", "/art/\ud7ff\ue000.png", True),
        ("/art/\udcff*", "/art/\udcff.png", True),
        ("/\U0010ffff/*", "/\U0010ffff/a.png", True),
        ("new\nline.png", "/art/new\nline.png", True),
    ],
)
def test_path_pattern(database: Database, pattern: str, path: str, matches: bool) -> None:
    with database.transaction() as connection:
        images.write(connection, [ImageRow(path, b"", 1, EPOCH, 1, 1, GenerationParameters(), None)])
    assert bool(found(database, f'path:"{pattern}"')) is matches


def test_capital_letters_of_any_language_make_no_difference(database: Database) -> None:
    name = "Ölbild_ÄRGER"
    made = GenerationParameters(
        prompt=name, negative_prompt=name, model=name, vae=name, sampler=name, loras=(Lora(name),)
    )
    with database.transaction() as connection:
        [id] = images.write(connection, [ImageRow("/a.png", b"", 1, EPOCH, 1, 1, made, name)])
        connection.execute("UPDATE image_file SET tags = ARRAY[%s]", [name])
    for written in (name, "ölbild_ärger", "ÖLBILD_ÄRGER"):
        for field in ("prompt", "negative", "model", "vae", "sampler", "lora", "error", "tag"):
            assert found(database, f"{field}:{written}") == {id}, (field, written)
        assert found(database, f"model:={written}") == {id}


@pytest.mark.parametrize("stored", ["NFC", "NFD"])
@pytest.mark.parametrize("written", ["NFC", "NFD"])
def test_composed_and_decomposed_letters_are_the_same(
    database: Database, stored: Literal["NFC", "NFD"], written: Literal["NFC", "NFD"]
) -> None:
    name = unicodedata.normalize(stored, "größe")
    made = GenerationParameters(prompt=f"a {name}, snow", model=name, loras=(Lora(name),))
    with database.transaction() as connection:
        [id, _] = images.write(
            connection,
            [
                ImageRow(f"/art/{name}/a.png", b"", 1, EPOCH, 1, 1, made, None),
                ImageRow("/art/b.png", b"", 1, EPOCH, 1, 1, GenerationParameters(prompt="grove grosse"), None),
            ],
        )
    for text in (
        "größe",
        '"a größe snow"',
        "größ*",
        "grö*",
        "model:größe",
        "model:=GRÖSSE or model:=größe",
        "lora:größe",
        "path:größe",
        "path:/art/größe/**",
        "path:*ö*/a.png",
    ):
        assert found(database, unicodedata.normalize(written, text)) == {id}, text


PIECES = """
    model: path: tag: rating: date: seed: lora: error: size: aspect: has: id: negative: cfg: fox 5 -9 2026-01 16:9 true
    none prompt clip_h 狐 🦊 ² İ ( ) - | , " * ? **/ / \\ [ { $ ^ + ' % %s %(filter_0)s _ :* & ! <-> ;-- .. >= < 99999
"""
pieces = st.sampled_from([*PIECES.split(), " ", " ", "or ", "not ", "\ud800", "\0", "\u0301"])


@pytest.fixture(scope="module")
def one_image(home: Path) -> Iterator[Database]:
    """A library of one image that has a long text wherever a filter may look."""
    database = Database.embedded(home, "filtered_one")
    text = "a fox/" * 10_000
    made = GenerationParameters(prompt=text, negative_prompt=text, model=text, loras=(Lora(text),))
    with database.transaction() as connection:
        images.write(connection, [ImageRow("/a/" * 800, b"", 1, EPOCH, 2**31 - 1, 1, made, text)])
        connection.execute("UPDATE image_file SET tags = ARRAY[repeat('a', 2000)]")
    yield database
    database.close()


@settings(max_examples=300, deadline=None)
@given(text=st.lists(pieces, min_size=1, max_size=12).map("".join) | st.text(st.characters(exclude_categories=())))
@example("x" * 4000)
@example("狐*" * 2000)
@example("path:" + "?" * 3990)
@example("path:" + "*a" * 1990)
@example("path:/" + "**/" * 1300)
@example("error:" + "*a" * 1990)
@example("model:a," * 199 + "b")
@example("has:prompt -has:bge negative:a -lora:a " * 50)
@example("(a or (model:b " * 14 + "x" + "))" * 14)
@example("id:>" + "9" * 30)
@example("'; DROP TABLE image_file; --")
@example('model:"\'); DROP TABLE image_file; --"')
def test_any_filter_runs_on_the_server(one_image: Database, text: str) -> None:
    try:
        wanted = parse_filter(text)
    except FilterError:
        return
    if wanted is not None:
        assert found(one_image, text) <= {1}


@pytest.mark.parametrize(
    "text",
    ["rating:40000", "rating:<-40000", f"steps:>={2**31}", f"width:<-{2**31}", f"id:{2**63}", f"seed:{10**29}"],
)
def test_number_that_its_column_cannot_hold_finds_nothing(one_image: Database, text: str) -> None:
    assert found(one_image, text) == set()
    assert found(one_image, f"-{text}") == {1}


def test_placeholders_leave_other_names_to_the_caller() -> None:
    wanted = parse_filter("fox model:a tag:b path:/c/** rating:1..2 date:2026 aspect:square cfg:1 negative:d*")
    assert wanted is not None
    parameters = condition(wanted).parameters
    assert list(parameters) == [f"filter_{n}" for n in range(len(parameters))]
    assert len(parameters) == 15


def test_prompts_that_would_overflow_a_tsvector_are_stored_and_found(database: Database) -> None:
    letters = "".join(f"{chr(0x20000 + n % 40_000)}{chr(0x20000 + n // 40_000)} " for n in range(400_000))
    texts = [
        letters * 13,
        "x" * 2_000_000,
        "fox " * 500_000,
        "a-" * 1_000_000,
        "fox.owl@snow/" * 150_000,
        "狐" * 700_000,
    ]
    with database.transaction() as connection:
        rows = [
            ImageRow(f"/{n}.png", b"", 1, EPOCH, 1, 1, GenerationParameters(prompt=text), None)
            for n, text in enumerate(texts)
        ]
        ids = images.write(connection, rows)
    assert found(database, "fox") == {ids[2], ids[4]}
    assert found(database, '"fox owl snow"') == {ids[4]}
    assert found(database, letters[150_000:150_002]) == {ids[0]}


@pytest.fixture(scope="module")
def many(home: Path) -> Iterator[Database]:
    """30,000 images, few of which have any one thing."""
    database = Database.embedded(home, "filtered_many")
    with database.transaction() as connection:
        connection.execute(
            "INSERT INTO prompt_text (sha256, text)"
            " SELECT sha256(n::text::bytea), 'masterpiece, fox' || n % 1000 FROM generate_series(1, 30000) n"
        )
        connection.execute(
            "INSERT INTO image_file"
            " (path, modified_at, prompt_id, negative_prompt_id, model, seed, favorite, rating, tags, error)"
            " SELECT '/art/' || n % 100 || '/' || n || '.png', timestamptz '2026-01-01' + n * interval '1 minute',"
            " n, n, 'model' || n % 60, n, n % 300 = 0, CASE WHEN n % 100 = 0 THEN 4 END,"
            " CASE WHEN n % 100 = 1 THEN ARRAY['Tag' || n % 7] ELSE '{}' END, CASE WHEN n % 300 = 1 THEN 'bad' END"
            " FROM generate_series(1, 30000) n"
        )
    with database.autocommit() as connection:
        connection.execute("VACUUM ANALYZE")
    yield database
    database.close()


@pytest.mark.parametrize(
    ("text", "index", "count"),
    [
        ("fox7", "prompt_text_words", 30),
        ("fox7 | fox8", "prompt_text_words", 60),
        ("negative:fox99*", "prompt_text_words", 330),
        ('"masterpiece fox7"', "prompt_text_words", 30),
        ("favorite:true", "image_file_favorite", 100),
        ("rating:>=4", "image_file_rating", 300),
        ("has:rating", "image_file_rating", 300),
        ("tag:tag3", "image_file_lower_tags", 43),
        ("tag:*3", "image_file_tags", 43),
        ("has:tag", "image_file_tags", 300),
        ("has:error", "image_file_error", 100),
        ("error:bad", "image_file_error", 100),
        ("model:=model7", "image_file_model", 500),
        ("model:model7,none", "image_file_model", 500),
        ("date:2026-01-03", "image_file_modified_at", 1440),
        ("seed:77", "image_file_seed", 1),
        ("path:/art/7/**", "image_file_path_key", 300),
        ("id:5..9", "image_file_pkey", 5),
        ("favorite:true -model:model7", "image_file_favorite", 100),
    ],
)
def test_filter_walks_its_index(many: Database, text: str, index: str, count: int) -> None:
    wanted = parse_filter(text)
    assert wanted is not None
    where = condition(wanted)
    query = sql.SQL("EXPLAIN SELECT f.id FROM image_file f WHERE {}").format(where.sql)
    with many.transaction() as connection:
        plan = "\n".join(line for (line,) in connection.execute(query, where.parameters))
    assert re.search(rf"\b{index}\b", plan), plan
    assert len(found(many, text)) == count
