"""The language of filters: what each text means, and what a mistake in one is told."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from toolkit_core.errors import FilterError, SearchError
from toolkit_core.filters import HAS, And, Favorite, Filter, Has, Matches, Not, Number, Or, PathGlob, Period, Tag, Words
from toolkit_core.search.filter_language import DEEPEST_NESTING, LONGEST_FILTER, MOST_CONDITIONS, parse_filter
from toolkit_core.search.filter_values import FIELDS

A, B, C = Words("prompt", "a"), Words("prompt", "b"), Words("prompt", "c")


def number(field: str, lowest: int | None, highest: int | None) -> Number:
    low, high = (None if bound is None else Decimal(bound) for bound in (lowest, highest))
    return Number(field, low, high)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("a b", And((A, B))),
        ("a and b AND c", And((A, B, C))),
        ("a or b OR c", Or((A, B, C))),
        ("a|b", Or((A, B))),
        ("a b or c", Or((And((A, B)), C))),
        ("a (b or c)", And((A, Or((B, C))))),
        ("-a b", And((Not(A), B))),
        ("not a or b", Or((Not(A), B))),
        ("-(a b)", Not(And((A, B)))),
        ("not not a", A),
        ("((a))", A),
        ("nota android orb", And((Words("prompt", "nota"), Words("prompt", "android"), Words("prompt", "orb")))),
        ('"or"', Words("prompt", "or")),
        ('"a b" c', And((Words("prompt", "a b"), C))),
        ('"say ""hi"""', Words("prompt", 'say "hi"')),
        ("fox, red-haired", And((Words("prompt", "fox"), Words("prompt", "red-haired")))),
        ("a,b c", And((Or((A, B)), C))),
        ("a,,b,", Or((A, B))),
        ("-a,b", Not(Or((A, B)))),
        ("fo*,b", Or((Words("prompt", "fo", prefix=True), B))),
        ('"a,b"', Words("prompt", "a,b")),
        ("prompt:a,b", Or((A, B))),
        ("16:9", Words("prompt", "16:9")),
        ("cath*", Words("prompt", "cath", prefix=True)),
        ('"red fo*"', Words("prompt", "red fo", prefix=True)),
        ('"2 * 3"', Words("prompt", "2 * 3")),
        ("🦊", Words("prompt", "🦊")),
        ("negative:a", Words("negative", "a")),
        ("model:a,b c", And((Or((Matches("model", "a"), Matches("model", "b"))), C))),
        ("Model: a , b", Or((Matches("model", "a"), Matches("model", "b")))),
        ('model:="a b"', Matches("model", "a b", whole=True)),
        ("model:none", Not(Has("model"))),
        ('model:"none"', Matches("model", "none")),
        ("lora:fur:0.8", Matches("lora", "fur:0.8")),
        ("favorite:true", Favorite()),
        ("favorite:no", Not(Favorite())),
        ("rating:4", number("rating", 4, 4)),
        ("rating>=4", number("rating", 4, None)),
        ("rating: >= 4", number("rating", 4, None)),
        ("rating:3..5", number("rating", 3, 5)),
        ("rating:..5", number("rating", None, 5)),
        ("rating:3..", number("rating", 3, None)),
        ("rating:none,=5", Or((Not(Has("rating")), number("rating", 5, 5)))),
        ("steps:<20", Number("steps", None, Decimal(20), highest_is_in=False)),
        ("cfg:>5.5", Number("cfg", Decimal("5.5"), None, lowest_is_in=False)),
        ("seed:18446744073709551615", number("seed", 2**64 - 1, 2**64 - 1)),
        ("size:1024X768", And((number("width", 1024, 1024), number("height", 768, 768)))),
        ("tag:por*", Tag("por*")),
        (r"path:C:\art\**", PathGlob(r"C:\art\**")),
        ('path:"C:\\my art\\"', PathGlob("C:\\my art\\")),
        *((f"has:{name.upper()}", Has(name)) for name in HAS),
    ],
)
def test_text_means(text: str, meant: Filter) -> None:
    assert parse_filter(text) == meant


@pytest.mark.parametrize("text", ["", " ", "\n\t\u3000"])
def test_blank_text_is_no_filter(text: str) -> None:
    assert parse_filter(text) is None


@pytest.fixture
def new_york(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    if not hasattr(time, "tzset"):
        pytest.skip("Windows takes no time zone from the environment")
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("text", "start", "end"),
    [
        ("2026", "2026-01-01T05", "2027-01-01T05"),
        ("2026-12", "2026-12-01T05", "2027-01-01T05"),
        ("2026-3-8", "2026-03-08T05", "2026-03-09T04"),
        ("2026-01..2026-03", "2026-01-01T05", "2026-04-01T04"),
        ("2026-05..2026", "2026-05-01T04", "2027-01-01T05"),
        ("2026-01..", "2026-01-01T05", None),
        ("..2026-07", None, "2026-08-01T04"),
        (">=2026-07", "2026-07-01T04", None),
        (">2026-07", "2026-08-01T04", None),
        ("<2026-07", None, "2026-07-01T04"),
        ("<=2026-07", None, "2026-08-01T04"),
        ("=2024-02-29", "2024-02-29T05", "2024-03-01T05"),
    ],
)
def test_date_is_a_period_of_this_machines_time_zone(
    new_york: None, text: str, start: str | None, end: str | None
) -> None:
    def moment(hour: str | None) -> datetime | None:
        return None if hour is None else datetime.fromisoformat(f"{hour}:00+00:00")

    period = parse_filter(f"date:{text}")
    assert period == Period(moment(start), moment(end))


@pytest.mark.parametrize(
    ("text", "position", "said"),
    [
        ("fox modle:xl", 4, "no field 'modle'. Did you mean model? Fields: prompt, negative, favorite, tag, model"),
        ("xyzzy>3", 0, "no field 'xyzzy'. Fields:"),
        ("rating:good", 7, "'good' is not possible here. Values look like 4, >=4, 3..5 or none"),
        ("rating:3,x", 9, "'x' is not possible here"),
        ("rating:>=x", 9, "'x' is not possible here"),
        ("rating:>=none", 7, ">= has no meaning with none"),
        ("rating:5..3", 7, "runs backwards"),
        ("rating:..", 7, "'..' is not possible here"),
        ("rating:>3..5", 8, "'3..5' is not possible here"),
        ("rating:٣", 7, "is not possible here"),
        ("seed:" + "9" * 31, 5, "is not possible here"),
        ("model:>a", 6, "> cannot stand behind model. Only = is possible"),
        ("favorite:>=true", 9, "It takes no comparison"),
        ("favorite:maybe", 9, "Values are true and false"),
        ('model:""', 6, "The value of model is empty"),
        ("model:", 6, "missing at the end. What is possible is a value"),
        ("model: (a)", 7, "'(' cannot stand here. What is possible is a value"),
        ("model:a,", 8, "missing at the end"),
        ("size:1024", 5, "Values look like 1024x1024"),
        ("aspect:16:0", 7, "portrait, landscape, square, 16:9"),
        ("aspect:wide", 7, "portrait, landscape, square, 16:9"),
        ("date:2026-13", 5, "2026-01-31"),
        ("date:2026-02-30", 5, "2026-01-31"),
        ("date:2026..2025", 5, "runs backwards"),
        ("date:1066", 5, "years from 1971 to 2999"),
        ("date:yesterday", 5, "2026-01-31"),
        ("has:modle", 4, "Did you mean model? An image can have: prompt"),
        ("a f*x", 3, "A * is only possible at the end, for how the last word begins"),
        ("a,f*x", 3, "A * is only possible at the end"),
        ("a,!!!", 2, "neither a letter nor a digit"),
        ('"f*x"', 2, "A * is only possible at the end"),
        ('a "fo* snow"', 5, "A * is only possible at the end"),
        ('"a *fox"', 3, "A * is only possible at the end"),
        ('"fox**"', 4, "A * is only possible at the end"),
        ('negative:"say ""f*x"""', 17, "A * is only possible at the end"),
        ("a !!!", 2, "neither a letter nor a digit"),
        ("negative:-", 9, "neither a letter nor a digit"),
        ('a "b c', 2, "This quote is not closed"),
        ('model:"b c', 6, "This quote is not closed"),
        ("(a or (b c)", 0, "This ( is never closed"),
        ("a (b", 2, "This ( is never closed"),
        ("a) b", 1, "There is no ( that this ) would close"),
        ("a ()", 3, "')' cannot stand here. What is possible is a word"),
        ("or a", 0, "'or' cannot stand here"),
        ("a or", 4, "missing at the end. What is possible is a word"),
        ("a or or b", 5, "'or' cannot stand here"),
        ("a and | b", 6, "'|' cannot stand here"),
        ("not", 3, "missing at the end"),
        ("fox - red", 4, "A - stands directly before what is not wanted"),
        ("a , b", 2, "',' cannot stand here"),
        ("a b\0c", 3, "NUL character"),
        ("(" * DEEPEST_NESTING + "(a", DEEPEST_NESTING, f"Parentheses go {DEEPEST_NESTING} deep"),
        ("a " * (MOST_CONDITIONS + 1), 2 * MOST_CONDITIONS, "one condition too many"),
        ("a " + "a," * MOST_CONDITIONS, 2, "one condition too many"),
        ("a" * (LONGEST_FILTER + 1), LONGEST_FILTER, f"{LONGEST_FILTER} are the most"),
    ],
)
def test_mistake_is_shown_where_it_is_with_what_is_possible(text: str, position: int, said: str) -> None:
    with pytest.raises(FilterError) as caught:
        parse_filter(text)
    assert (caught.value.text, caught.value.position) == (text, position)
    assert said in str(caught.value)
    assert isinstance(caught.value, SearchError)


@pytest.mark.parametrize("name", FIELDS)
def test_every_field_says_what_its_values_look_like(name: str) -> None:
    with pytest.raises(FilterError, match="Values"):
        parse_filter(f'{name}:>""')


@given(before=st.text(st.characters(min_codepoint=33, max_codepoint=0x2FF, categories=("L", "N")), max_size=200))
def test_caret_stands_below_the_mistake(before: str) -> None:
    text = f'"{before}a" modle:x ' + "b " * 100
    with pytest.raises(FilterError) as caught:
        parse_filter(text)
    _, line, caret = str(caught.value).split("\n")
    assert line[caret.index("^") :].startswith("modle:x b b")


def test_caret_stands_on_one_line_below_wide_and_unprintable_characters() -> None:
    with pytest.raises(FilterError) as caught:
        parse_filter("狐\ud800\n modle:x")
    assert str(caught.value).split("\n")[1:] == ["  狐�  modle:x", "       ^"]


pieces = st.sampled_from(
    [
        *FIELDS,
        *":><=(),.-|*?\"'/\\%_ \n\0",
        "..",
        "or ",
        "and ",
        "not ",
        "none",
        "2026-01",
        "12",
        "狐",
        "🦊",
        "\ud800",
        "fox ",
    ]
)


@settings(max_examples=400, deadline=None)
@given(text=st.text(st.characters(exclude_categories=())) | st.lists(pieces, max_size=15).map("".join))
@example("(" * LONGEST_FILTER)
@example("-" * LONGEST_FILTER)
@example("not " * (LONGEST_FILTER // 4))
@example("-(" * (LONGEST_FILTER // 2))
def test_any_text_is_a_filter_or_a_filter_error(text: str) -> None:
    try:
        meant = parse_filter(text)
    except FilterError as error:
        assert 0 <= error.position <= len(text)
        str(error).encode()
    else:
        assert (meant is None) == (not text.strip())


def documented() -> list[str]:
    """What docs/filters.md gives as filters: what stands before the last column of its tables, and its one-liner."""
    page = (Path(__file__).parents[2] / "docs" / "filters.md").read_text(encoding="utf-8")
    cells = [re.split(r"(?<!\\)\|", line)[1:-2] for line in page.splitlines() if line.startswith("|")]
    filters = [text for row in cells for cell in row for text in re.findall(r"`([^`]+)`", cell)]
    return [text.replace("\\|", "|") for text in filters if text not in FIELDS and text != '"…"'] + [
        line.strip() for line in page.splitlines() if line.startswith("    favorite:")
    ]


def test_the_page_about_filters_has_every_field_and_filters_that_can_be_read() -> None:
    filters = documented()
    assert len(filters) > 50
    for text in filters:
        assert parse_filter(text) is not None, text
    fields = {field for text in filters for field in re.findall(r"(\w+):", text)}
    assert fields >= FIELDS.keys()
