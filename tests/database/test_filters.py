"""Filters on real rows: each field and each combination finds what plain Python finds."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toolkit_core.database import Database, images, vectors
from toolkit_core.database.images import ImageRow
from toolkit_core.indexing.scan import EPOCH
from toolkit_core.records import GenerationParameters, Lora
from toolkit_core.spaces import EMBEDDINGS, SPACES

from .filter_checks import found

VOCABULARY = ("fox", "owl", "snow", "red", "8k", "1girl", "art", "artist", "a", "be")
SEPARATORS = (" ", ", ", "_", "-", ".", "/", " (", ":1.2), ", "\n", "'", " <lora:", "…", "，")
MODELS = (None, "SDXL\\Juggernaut XL_v9.safetensors", "SDXL/juggernaut xl 100%.ckpt", "flux1-dev", "_", "none", "")
LORAS = ("Add_Detail.safetensors", "people\\fur", "fur", 'quo"ted', "none")
SAMPLERS = (None, "euler", "Euler a", "dpm++ 2m", "euler_ancestral")
FOLDERS = (
    "/art/renders",
    "/art/renders/2026-01",
    "/art/my renders/2026-02/best",
    "C:\\art\\renders",
    "C:\\art",
    "/a.b",
)
TAGS = ("Portrait", "to print", "por", "100%")


@dataclass(frozen=True)
class Row:
    """An image as the test knows it. `has` names its stored embeddings."""

    path: str
    made: GenerationParameters
    modified_at: datetime | None
    width: int | None
    height: int | None
    favorite: bool
    rating: int | None
    tags: list[str]
    error: str | None
    has: set[str] = field(default_factory=set)


def a_row(number: int, chosen: random.Random) -> Row:
    def text() -> str:
        words = [chosen.choice((str.lower, str.upper))(chosen.choice(VOCABULARY)) for _ in range(chosen.randint(1, 5))]
        return "".join(word + chosen.choice(SEPARATORS) for word in words)

    def maybe(value: Any) -> Any:
        return chosen.choice((value, value, None))

    prompt = maybe(text())
    return Row(
        path=f"{chosen.choice(FOLDERS)}{{}}{number}{chosen.choice(('.png', '.PNG', ' [x].png'))}",
        made=GenerationParameters(
            prompt=prompt,
            negative_prompt=maybe(text()),
            generator=chosen.choice((None, "ComfyUI", "AUTOMATIC1111")),
            model=chosen.choice(MODELS),
            vae=chosen.choice((None, "sdxl_vae")),
            loras=tuple(Lora(name, 1.0) for name in chosen.sample(LORAS, chosen.randint(0, 2))),
            sampler=chosen.choice(SAMPLERS),
            scheduler=chosen.choice((None, "karras")),
            steps=maybe(chosen.randint(1, 6)),
            cfg_scale=maybe(chosen.choice((1.0, 4.5, float(np.float32(5.6)), 7.0))),
            guidance=maybe(chosen.choice((2.0, 3.5))),
            seed=maybe(chosen.choice((0, 5, 2**53 + 1, 2**63, 2**64 - 1))),
            denoise=maybe(chosen.choice((0.1 + 0.2, 0.3, 1.0))),
        ),
        modified_at=EPOCH.replace(year=2025, month=12) + timedelta(hours=chosen.randint(0, 3000)),
        width=maybe(chosen.choice((512, 768, 1000, 1010, 1024, 1920, 1888))),
        height=maybe(chosen.choice((512, 768, 1000, 1024, 1080))),
        favorite=chosen.random() < 0.2,
        rating=maybe(chosen.randint(0, 10)),
        tags=chosen.sample(TAGS, chosen.randint(0, 2)),
        error=chosen.choice((None, None, "Truncated file")),
    )


@dataclass(frozen=True, repr=False)
class Filled:
    """A library, and its rows in Python by id."""

    database: Database
    rows: dict[int, Row]


@pytest.fixture(scope="module")
def filled(home: Path) -> Iterator[Filled]:
    """200 rows that have or lack everything."""
    database = Database.embedded(home, "filtered")
    chosen = random.Random(3)
    rows: dict[int, Row] = {}
    with database.transaction() as connection:
        for number in range(200):
            row = a_row(number, chosen)
            row = Row(**{**vars(row), "path": row.path.format("\\" if row.path.startswith("C") else "/")})
            written = ImageRow(row.path, b"", 1, row.modified_at or EPOCH, row.width, row.height, row.made, row.error)
            [id] = images.write(connection, [written])
            connection.execute(
                "UPDATE image_file SET favorite = %s, rating = %s, tags = %s WHERE id = %s",
                [row.favorite, row.rating, row.tags, id],
            )
            rows[id] = row
        images.mark_unopened(connection, "/art/locked.png", "locked")
        row = connection.execute("SELECT max(id) FROM image_file").fetchone()
        assert row is not None
        rows[row[0]] = Row("/art/locked.png", GenerationParameters(), None, None, None, False, None, [], "locked")
        for space in SPACES.values():
            waiting = [id for id, _ in vectors.pending(connection, space, 0, 1000) if id % 2]
            vectors.write(connection, space, waiting, np.ones((len(waiting), space.width), np.float32))
        for id, row in rows.items():
            row.has.update(images.embeddings(connection, id))
    yield Filled(database, rows)
    database.close()


Meets = Callable[[Row], bool]
Term = tuple[str, Meets]
COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "": lambda a, b: a == b,
    "=": lambda a, b: a == b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
}


def words_of(text: str | None) -> list[str]:
    return re.findall("[a-z0-9]+", (text or "").lower())


def has_phrase(text: str | None, phrase: list[str], prefix: bool) -> bool:
    words, n = words_of(text), len(phrase)
    return any(
        words[i : i + n - 1] == phrase[:-1]
        and (words[i + n - 1].startswith(phrase[-1]) if prefix else words[i + n - 1] == phrase[-1])
        for i in range(len(words) - n + 1)
    )


def is_like(text: str | None, pattern: str, whole: bool) -> bool:
    if text is None:
        return False
    parts = [re.escape(part) for part in pattern.lower().replace("\\", "/").split("*")]
    match = re.fullmatch if whole else re.search
    return match(".*".join(parts), text.lower().replace("\\", "/"), re.DOTALL) is not None


@st.composite
def word_terms(draw: st.DrawFn) -> Term:
    of, key = draw(st.sampled_from([("", "prompt"), ("prompt:", "prompt"), ("Negative:", "negative_prompt")]))
    phrase: list[str] = [*draw(st.lists(st.sampled_from(VOCABULARY), min_size=1, max_size=3))]
    prefix = draw(st.booleans())
    quoted = draw(st.booleans())
    if prefix:
        phrase[-1] = phrase[-1][: draw(st.integers(1, 3))]
    text = (draw(st.sampled_from([" ", ", ", "."])) if quoted else "_").join(phrase) + ("*" if prefix else "")
    return of + (f'"{text}"' if quoted else text), lambda row: has_phrase(getattr(row.made, key), phrase, prefix)


@st.composite
def text_terms(draw: st.DrawFn) -> Term:
    name, texts = draw(
        st.sampled_from(
            [
                ("model", lambda row: [row.made.model]),
                ("lora", lambda row: [lora.name for lora in row.made.loras]),
                ("sampler", lambda row: [row.made.sampler]),
                ("scheduler", lambda row: [row.made.scheduler]),
                ("generator", lambda row: [row.made.generator]),
                ("vae", lambda row: [row.made.vae]),
                ("error", lambda row: [row.error]),
            ]
        )
    )
    known = [
        t for t in (*MODELS, *LORAS, *SAMPLERS, "karras", "ComfyUI", "AUTOMATIC1111", "sdxl_vae", "Truncated") if t
    ]
    patterns = []
    for _ in range(draw(st.integers(1, 3))):
        text = draw(st.sampled_from(known))
        start = draw(st.integers(0, len(text) - 1))
        text = text[start : start + draw(st.integers(1, 40))]
        if draw(st.booleans()):
            at = draw(st.integers(0, len(text) - 1))
            text = text[:at] + "*" + text[at + 1 :]
        patterns.append((draw(st.sampled_from(["", "="])), text if text.strip() else "x"))
    shown = ",".join(sign + '"' + text.replace('"', '""') + '"' for sign, text in patterns)
    return f"{name}:{shown}", lambda row: any(
        is_like(text, pattern, sign == "=") for text in texts(row) for sign, pattern in patterns
    )


@st.composite
def number_terms(draw: st.DrawFn) -> Term:
    name, value_of, low, high = draw(
        st.sampled_from(
            [
                ("rating", lambda row: row.rating, -1, 11),
                ("steps", lambda row: row.made.steps, 0, 7),
                ("WIDTH", lambda row: row.width, 500, 2000),
                ("height", lambda row: row.height, 500, 2000),
                ("cfg", lambda row: row.made.cfg_scale, 0, 8),
                ("guidance", lambda row: row.made.guidance, 1, 4),
                ("denoise", lambda row: row.made.denoise, 0, 2),
                ("seed", lambda row: row.made.seed, 0, 2**64),
            ]
        )
    )
    known = {"cfg": ["4.5", "5.6", "7"], "denoise": ["0.3", "1"], "guidance": ["3.5", "2"]}.get(
        name, ["512", "1024", str(2**53 + 1), str(2**63), str(2**64 - 1), "5", "2.5", "-0.5", "9" * 30, "-" + "9" * 30]
    )
    numbers = st.sampled_from(known) | st.integers(low, high).map(str)

    def exact(value: float | int | None) -> Any:
        return round(value, 3) if isinstance(value, float) else value

    def number(text: str) -> Any:
        return int(text) if re.fullmatch("-?[0-9]+", text) else float(text)

    if draw(st.booleans()):
        sign, text = draw(st.sampled_from(list(COMPARE))), draw(numbers)
        return (
            f"{name}:{sign}{text}",
            lambda row: value_of(row) is not None and COMPARE[sign](exact(value_of(row)), number(text)),
        )
    ends = sorted((draw(numbers), draw(numbers)), key=number)
    first, last = draw(st.sampled_from([(ends[0], ends[1]), (ends[0], ""), ("", ends[1])]))
    return (
        f"{name}:{first}..{last}",
        lambda row: (
            value_of(row) is not None
            and (not first or exact(value_of(row)) >= number(first))
            and (not last or exact(value_of(row)) <= number(last))
        ),
    )


@st.composite
def date_terms(draw: st.DrawFn) -> Term:
    """Compared as texts: the day of an image begins with the month that it is in."""
    dates = st.sampled_from(["2025", "2026", "2025-12", "2026-01", "2026-02", "2026-01-31", "2026-02-01", "2027"])

    def shown(row: Row, like: str) -> str:
        assert row.modified_at is not None
        return row.modified_at.astimezone().date().isoformat()[: len(like)]

    if draw(st.booleans()):
        sign, date = draw(st.sampled_from(list(COMPARE))), draw(dates)
        return f"date:{sign}{date}", lambda row: row.modified_at is not None and COMPARE[sign](shown(row, date), date)
    first, last = sorted((draw(dates), draw(dates)), key=lambda date: (f"{date}-01-01"[:10], len(date)))
    open_end = draw(st.booleans())
    return (
        f"date:{first}..{'' if open_end else last}",
        lambda row: (
            row.modified_at is not None and shown(row, first) >= first and (open_end or shown(row, last) <= last)
        ),
    )


def glob_matches(pattern: list[str], names: list[str]) -> bool:
    if not pattern:
        return not names
    if pattern[0] == "**":
        return any(glob_matches(pattern[1:], names[i:]) for i in range(len(names) + 1 if pattern[1:] else 0)) or (
            not pattern[1:] and bool(names)
        )
    name = "".join({"*": ".*", "?": "."}.get(c, re.escape(c)) for c in pattern[0])
    return bool(names) and re.fullmatch(name, names[0]) is not None and glob_matches(pattern[1:], names[1:])


@st.composite
def path_terms(draw: st.DrawFn) -> Term:
    name = st.sampled_from(
        ["renders", "art", "*", "**", "2026-*", "?????????.png", "*.png", "a.b", "my renders", "REN*"]
    )
    pattern = draw(st.sampled_from([[""], ["C:"], [], []])) + draw(st.lists(name, min_size=1, max_size=4))
    separator = draw(st.sampled_from(["/", "\\"]))
    absolute = pattern[0] in ("", "C:") and len(pattern) > 1

    def meets(row: Row) -> bool:
        names = re.split(r"[/\\]", row.path)
        starts = [0] if absolute else range(len(names))
        below = not any(c in name for name in pattern for c in "*?")
        ends = range(1, len(names) + 1) if below else [len(names)]
        return any(glob_matches(pattern, names[start:end]) for start in starts for end in ends)

    return f'path:"{separator.join(pattern)}"', meets


@st.composite
def other_terms(draw: st.DrawFn) -> Term:
    def ratio(row: Row) -> float | None:
        return row.width / row.height if row.width and row.height else None

    def aspect(is_so: Callable[[float], bool]) -> Meets:
        return lambda row: (r := ratio(row)) is not None and is_so(r)

    has: dict[str, Meets] = {
        "prompt": lambda row: bool(row.made.prompt),
        "negative": lambda row: bool(row.made.negative_prompt),
        "model": lambda row: bool(row.made.model),
        "vae": lambda row: row.made.vae is not None,
        "generator": lambda row: row.made.generator is not None,
        "lora": lambda row: bool(row.made.loras),
        "rating": lambda row: row.rating is not None,
        "tag": lambda row: bool(row.tags),
        "error": lambda row: row.error is not None,
        "date": lambda row: row.modified_at is not None,
        "seed": lambda row: row.made.seed is not None,
        "cfg": lambda row: row.made.cfg_scale is not None,
    }
    terms: list[Term] = [
        ("favorite:true", lambda row: row.favorite),
        ("FAVORITE:No", lambda row: not row.favorite),
        ("size:1024x1024", lambda row: (row.width, row.height) == (1024, 1024)),
        ("aspect:portrait", aspect(lambda r: r < 100 / 102)),
        ("aspect:landscape", aspect(lambda r: r > 1.02)),
        ("aspect:square", aspect(lambda r: 100 / 102 <= r <= 1.02)),
        ("aspect:16:9,2:3", aspect(lambda r: any(x / 1.02 <= r <= x * 1.02 for x in (16 / 9, 2 / 3)))),
        ("tag:portrait", lambda row: "Portrait" in row.tags),
        ("tag:POR*", lambda row: bool({"Portrait", "por"} & set(row.tags))),
        ('tag:"to print","100%"', lambda row: bool({"to print", "100%"} & set(row.tags))),
        ("tag:1_0%", lambda row: False),
        *((f"has:{name}", meets) for name, meets in has.items()),
        *((f"{name}:none", lambda row, meets=meets: not meets(row)) for name, meets in has.items()),
        *((f"has:{name}", lambda row, name=name: name in row.has) for name in EMBEDDINGS),
    ]
    return draw(st.sampled_from(terms))


def combined(terms: st.SearchStrategy[Term]) -> st.SearchStrategy[Term]:
    def negated(parts: tuple[str, Term]) -> Term:
        sign, (text, meets) = parts
        return f"{sign}({text})", lambda row: not meets(row)

    def all_of(parts: tuple[str, list[Term]]) -> Term:
        return parts[0].join(f"({text})" for text, _ in parts[1]), lambda row: all(m(row) for _, m in parts[1])

    def any_of(parts: tuple[str, list[Term]]) -> Term:
        return parts[0].join(f"({text})" for text, _ in parts[1]), lambda row: any(m(row) for _, m in parts[1])

    several = st.lists(terms, min_size=2, max_size=3)
    return (
        st.tuples(st.sampled_from(["-", "not ", "NOT "]), terms).map(negated)
        | st.tuples(st.sampled_from([" ", " and ", "\n"]), several).map(all_of)
        | st.tuples(st.sampled_from([" or ", " OR ", "|"]), several).map(any_of)
    )


TERMS = [word_terms(), text_terms(), number_terms(), date_terms(), path_terms(), other_terms()]


def check(filled: Filled, term: Term) -> None:
    text, meets = term
    expected = {id for id, row in filled.rows.items() if meets(row)}
    assert found(filled.database, text) == expected
    assert found(filled.database, f"-({text})") == filled.rows.keys() - expected


@pytest.mark.parametrize("terms", TERMS, ids=["words", "texts", "numbers", "dates", "paths", "others"])
def test_every_field_finds_what_plain_python_finds(filled: Filled, terms: st.SearchStrategy[Term]) -> None:
    @settings(max_examples=80, deadline=None)
    @given(term=terms)
    def finds(term: Term) -> None:
        check(filled, term)

    finds()


@settings(max_examples=150, deadline=None)
@given(term=st.recursive(st.one_of(TERMS), combined, max_leaves=6))
def test_any_combination_finds_what_plain_python_finds(filled: Filled, term: Term) -> None:
    check(filled, term)


def test_images_without_a_value_meet_the_negation_alone(filled: Filled) -> None:
    without = {id for id, row in filled.rows.items() if row.made.model is None}
    assert without
    assert not without & found(filled.database, "model:*")
    assert without <= found(filled.database, "-model:flux")
    assert without <= found(filled.database, "-(model:flux cfg:7) -(model:flux or model:sdxl)")
