"""What a search found, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from ..records import Certainty, DuplicateGroup, SearchHit, SearchResults
from .text import printable, shortened

CERTAINTIES: Mapping[Certainty, str] = {
    "exact": "Exact: every image that could be among these was compared.",
    "index": "As right as the vector indexes: no image that they did not name can be among these.",
    "budget": "Not certain: the search ended before it was shown that no other image belongs among these.",
}


def print_results(console: Console, results: SearchResults, *, explain: bool) -> None:
    """A page of what a search found, and how to get the next one.

    explain: how each score comes about, and how sure it is that these are the best.
    """
    if not results and results.passed:
        console.print("There are no more.")
        return
    if explain and results.weights and results:
        _print_scores(console, results)
    else:
        print_hits(console, results)
    if explain:
        console.print(CERTAINTIES[results.certainty])
    if results.next_page is not None:
        console.print(Text(f"Go on with the same command and --page {results.next_page}"), soft_wrap=True)


def print_hits(console: Console, hits: Sequence[SearchHit]) -> None:
    if not hits:
        console.print("Nothing found. See `diffusion-toolkit status` for what is indexed.")
        return
    names = list(hits[0].scores)
    parts = names if len(names) > 1 else []
    path = Column("path", overflow="fold", ratio=1)
    table = Table("id", *(("score", *parts) if names else ("date", "rating")), path, Column("prompt", ratio=1))
    for hit in hits:
        scores = [f"{hit.score:.3f}", *(f"{hit.scores[name]:.3f}" for name in parts)]
        listed = [
            f"{hit.modified_at:%Y-%m-%d}" if hit.modified_at else "",
            "" if hit.rating is None else str(hit.rating),
        ]
        table.add_row(str(hit.id), *(scores if names else listed), Text(printable(hit.path)), shortened(hit.prompt))
    console.print(table)


def print_duplicates(console: Console, groups: Sequence[DuplicateGroup]) -> None:
    if not groups:
        console.print("No two images are as good as the same.")
        return
    table = Table("kind", "similarity", "id", Column("path", overflow="fold", ratio=1))
    for group in groups:
        for n, (id, path) in enumerate(zip(group.ids, group.paths, strict=True)):
            kind, similarity = ("", "") if n else (group.kind, f"{group.similarity:.3f}")
            table.add_row(kind, similarity, str(id), Text(printable(path)), end_section=n + 1 == len(group.ids))
    console.print(table)
    spare = len({id for group in groups for id in group.ids[1:]})
    console.print(f"Groups: {len(groups)}. The first image of each would do; left over: {spare}.")


def _print_scores(console: Console, results: SearchResults) -> None:
    name_width = max(map(len, results.weights))
    parts = Column("similarity × weight = contribution", no_wrap=True)
    table = Table("id", "score", parts, Column("path", overflow="fold", ratio=1), show_lines=len(results.weights) > 1)
    for hit in results:
        products = (
            f"{name:{name_width}} {hit.scores[name]:6.3f} × {weight:6.3f} = {hit.scores[name] * weight:6.3f}"
            for name, weight in results.weights.items()
        )
        table.add_row(str(hit.id), f"{hit.score:.3f}", Text("\n".join(products)), Text(printable(hit.path)))
    console.print(table)
