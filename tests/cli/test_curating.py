"""Saying of images what they are worth and about."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from typing import Any

import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]
Ask = Callable[..., Any]


def test_curated_by_ids(run: Run, ask: Ask, filled: Any) -> None:
    first, second, *_ = filled.ids
    said = run("curate", first, second, first, "--favorite", "--rating", 7, "--tag", "Fox", "--tag", "to print").stdout
    assert said == "2 of 2 images changed.\n"
    image = filled.library.image(second)
    assert (image.favorite, image.rating, image.tags) == (True, 7, ("Fox", "to print"))
    assert ask("curate", first, second, "--untag", "Fox") == {"images": 2, "changed": 2}
    assert ask("curate", second, "--no-favorite", "--clear-rating") == {"images": 1, "changed": 1}
    image = filled.library.image(second)
    assert (image.favorite, image.rating, image.tags) == (False, None, ("to print",))
    assert filled.library.image(first).rating == 7


def test_curated_by_a_filter(ask: Ask, filled: Any) -> None:
    assert ask("curate", "--filter", "-fox", "--tag", "other") == {"images": 3, "changed": 3}
    assert ask("curate", "--filter", "lighthouse or fox", "--tag", "other") == {"images": 4, "changed": 2}
    assert ask("curate", "--filter", "owl", "--tag", "other") == {"images": 0, "changed": 0}
    assert filled.library.tags() == {"other": 5}


def test_tags_are_listed_with_their_counts(run: Run, ask: Ask, filled: Any) -> None:
    assert run("tags").stdout.startswith("No image has a tag.")
    filled.library.curate(filled.ids, add_tags=["[bold]many[/bold]"])
    filled.library.curate(filled.ids[:1], add_tags=["one"])
    assert ask("tags") == {"[bold]many[/bold]": 5, "one": 1}
    said = run("tags").stdout
    assert said.index("[bold]many[/bold] │      5") < said.index("one               │      1")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--tag", "x"), "Name the images by their ids, or by a --filter that is not empty"),
        (("1", "--filter", "fox", "--tag", "x"), "There are both ids and a --filter"),
        (("--filter", " ", "--tag", "x"), "Name the images by their ids, or by a --filter that is not empty"),
        (("--filter", "fox"), "Say what is to change"),
        (("--filter", "fox", "--rating", "11"), "The rating is 11"),
        (("--filter", "fox", "--tag", "x", "--untag", "x"), "'x' is to be added and removed at once"),
        (("--filter", "smell:good", "--tag", "x"), "The filter cannot be read at character 1"),
        (("1", "424242", "--tag", "x"), "no image with id 424242. Nothing was changed."),
    ],
)
def test_what_cannot_be_done_changes_nothing(run: Run, filled: Any, arguments: tuple[str, ...], said: str) -> None:
    done = run("curate", *arguments, check=False)
    assert done.returncode == 1
    assert said in done.stderr.replace("\n", " ")
    assert filled.library.tags() == {}
