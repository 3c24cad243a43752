"""Finding images: filters, weights, pages and what explains a score."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]
Ask = Callable[..., Any]


def names(hits: list[dict[str, Any]]) -> list[str]:
    return [Path(hit["path"]).name for hit in hits]


def test_filter_alone_lists_the_newest_first(run: Run, ask: Ask, filled: Any) -> None:
    found = ask("search", "--filter", "fox or lighthouse")
    assert names(found["hits"]) == ["copy.png", "lighthouse.png", "fox [bold]:fire:.png", "fox.png"]
    assert (found["weights"], found["certainty"], found["next_page"]) == ({}, "exact", None)
    said = run("search", "--filter", "-lighthouse -badger").stdout
    assert said.index("1970-01-02") < said.index("fox [bold]:fire:.png") < said.index("1970-01-01")
    assert "score" not in said


def test_pages_go_on_where_the_one_before_ends(run: Run, ask: Ask, filled: Any) -> None:
    asked = ("search", "--id", filled.ids[0], "--weight", "clip_h=1", "--top-k", 3)
    whole = names(ask(*asked[:-1], 5)["hits"])
    said = run(*asked).stdout
    token = re.search(r"Go on with the same command and --page (\S+)\n", said)
    assert token is not None
    second = ask(*asked, "--page", token[1])
    assert names(second["hits"]) == whole[3:]
    assert second["next_page"] is None
    assert "--page" not in run(*asked, "--page", token[1]).stdout


def test_page_behind_the_last_image_says_that_there_are_no_more(run: Run, ask: Ask, filled: Any) -> None:
    asked = ("search", "--filter", "lighthouse", "--top-k", 2)
    token = ask(*asked)["next_page"]
    assert run(*asked, "--page", token).stdout == "There are no more.\n"


def test_page_is_also_asked_for_by_its_number(run: Run, ask: Ask, filled: Any) -> None:
    asked = ("search", "--id", filled.ids[0], "--weight", "clip_h=1", "--top-k", 3)
    assert ask(*asked, "--page", 2) == ask(*asked, "--page", ask(*asked)["next_page"])
    assert (ask(*asked, "--page", 2)["passed"], ask(*asked, "--page", 7)["passed"]) == (3, 5)
    there_is_none = "There is no page 3: the search finds 5 images, which 2 pages of 3 hold.\n"
    assert run(*asked, "--page", 3).stdout == there_is_none
    assert names(ask("search", "--filter", "fox or lighthouse", "--top-k", 2, "--page", 2)["hits"])[-1] == "fox.png"
    refused = run(*asked, "--page", 0, check=False)
    assert (refused.returncode, refused.stderr) == (1, "Error: page is 0; the first page is 1.\n")


def test_negative_weight_asks_for_images_unlike(ask: Ask, filled: Any) -> None:
    weights = ("--weight", "clip_h=-3", "--weight", "bge=1")
    found = ask("search", "--id", filled.ids[0], *weights, "--filter", "fox or badger")
    assert found["weights"] == {"clip_h": -0.75, "bge": 0.25}
    assert names(found["hits"]) == ["badger.png", "fox.png", "fox [bold]:fire:.png"]
    assert [hit["score"] for hit in found["hits"]] == pytest.approx([0, -0.5, -0.522], abs=1e-3)


def test_thresholds_are_of_the_score_or_of_a_space(ask: Ask, filled: Any) -> None:
    asked = ("search", "--id", filled.ids[0], "--weight", "clip_h=1", "--weight", "bge=1")
    all_of_them = ask(*asked)["hits"]
    lowest = all_of_them[1]["score"]
    assert lowest > all_of_them[2]["score"]
    assert len(ask(*asked, "--threshold", lowest - 0.01)["hits"]) == 2
    near = ask(*asked, "--threshold", "clip_h=0.49", "--threshold=-1")["hits"]
    assert len(near) == 4
    assert all(hit["scores"]["clip_h"] > 0.49 for hit in near)


def test_sort_and_diversity_reach_the_search(ask: Ask, filled: Any) -> None:
    filled.library.curate([filled.ids[2]], rating=9)
    asked = ("search", "--id", filled.ids[0], "--top-k", 3)
    assert names(ask(*asked, "--sort", "rating")["hits"])[0] == "lighthouse.png"
    assert names(ask(*asked, "--diversity", 0.9)["hits"]) != names(ask(*asked)["hits"])


def test_explanation_adds_up_to_the_score(run: Run, filled: Any) -> None:
    weights = ("--weight", "clip_h=0.7", "--weight", "bge=-0.3")
    said = run("search", "--id", filled.ids[0], *weights, "--explain", columns=100).stdout
    products = re.findall(r"(clip_h|bge) +(-?\d\.\d{3}) × +(-?\d\.\d{3}) = +(-?\d\.\d{3})", said)
    assert len(products) == 2 * len(filled.ids)
    for _, similarity, weight, product in products:
        assert float(similarity) * float(weight) == pytest.approx(float(product), abs=2e-3)
    scores = re.findall(r"│ \d+ +│ (-?\d\.\d{3}) │", said)
    for n, score in enumerate(scores):
        assert float(score) == pytest.approx(
            sum(float(product[3]) for product in products[2 * n : 2 * n + 2]), abs=2e-3
        )
    assert len(scores) == len(filled.ids)
    assert "Exact: every image that could be among these was compared." in said


def test_names_are_shown_as_they_are(run: Run, filled: Any) -> None:
    said = run("search", "--id", filled.ids[1], "--top-k", 1, "--explain").stdout
    assert "/pictures/fox [bold]:fire:.png" in said


@pytest.mark.parametrize("columns", [80, 200])
def test_mistake_in_a_filter_is_pointed_at(run: Run, filled: Any, columns: int) -> None:
    text = f'{"fox " * 30}tag::fire: "[red]x[/red]" smell:good {"owl " * 30}'
    done = run("search", "--filter", text, check=False, columns=columns)
    assert done.returncode == 1
    first, *_, line, caret = done.stderr.splitlines()
    assert first.startswith(f"Error: The filter cannot be read at character {text.index('smell') + 1}.")
    assert line[caret.index("^") :].startswith("smell:good owl")
    assert ' tag::fire: "[red]x[/red]" smell:good' in line


def test_neighbours_are_without_the_image_itself(run: Run, ask: Ask, filled: Any) -> None:
    hits = ask("neighbours", filled.ids[0], "--top-k", 2)
    assert names(hits)[0] == "fox [bold]:fire:.png"
    assert filled.ids[0] not in {hit["id"] for hit in hits}
    assert len(hits) == 2
    assert "0.985" in run("neighbours", filled.ids[0]).stdout


def test_duplicates_are_grouped_by_the_one_that_stands_for_them(run: Run, ask: Ask, filled: Any) -> None:
    filled.library.curate([filled.ids[3]], favorite=True)
    [identical] = ask("duplicates", "--threshold", 0.99)
    assert (identical["kind"], identical["ids"]) == ("identical", [filled.ids[3], filled.ids[2]])
    said = run("duplicates", "--threshold", 0.98).stdout
    assert said.index("copy.png") < said.index("lighthouse.png")
    assert "similar" in said
    assert "Groups: 2. The first image of each would do; left over: 2." in said
