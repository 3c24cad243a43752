"""Commands that find images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, cast

import typer

from ..report import print_duplicates, print_hits, print_results, progress_bars
from .options import (
    DatabaseUrl,
    Device,
    Dtype,
    Filter,
    Home,
    ImageId,
    Json,
    LibraryName,
    Picture,
    Threshold,
    TopK,
    Weight,
    Weights,
    err,
    opened,
    out,
    page_or_number,
    print_json,
    print_result,
    thresholds_by_space,
    weights_by_space,
)

if TYPE_CHECKING:
    from ..search import Sort


def search(
    text: Annotated[str | None, typer.Argument(help="What the prompt is about.")] = None,
    image: Picture = None,
    image_id: Annotated[
        int | None, typer.Option("--id", help="An image of the library to find similar ones to.")
    ] = None,
    filter: Filter = None,
    weight: Weight = None,
    threshold: Threshold = None,
    top_k: TopK = 20,
    diversity: Annotated[
        float, typer.Option(help="From 0 to 1: how much they should differ instead of being like what is asked for.")
    ] = 0.0,
    sort: Annotated[str, typer.Option(help="The found images by relevance, date or rating.")] = "relevance",
    page: Annotated[
        str | None,
        typer.Option(
            metavar="PAGE|NUMBER",
            help="Where to go on, as the page before says it; or the page's number, counted as the library is now.",
            show_default=False,
        ),
    ] = None,
    explain: Annotated[bool, typer.Option("--explain", help="How each score comes about, and how sure it is.")] = False,
    weights: Weights = None,
    home: Home = None,
    database_url: DatabaseUrl = None,
    library: LibraryName = None,
    device: Device = None,
    dtype: Dtype = None,
    as_json: Json = False,
) -> None:
    """Find images by a text, a picture, or an image of the library; or by several, weighted.

    With nothing but --filter the newest images that meet it are listed first.
    """
    counted = weights_by_space(weight)
    lowest, thresholds = thresholds_by_space(threshold)
    begin = page_or_number(page)
    with opened(home, database_url, library, weights, device, dtype) as images:
        results = images.search(
            text,
            image=image,
            image_id=image_id,
            weights=counted,
            top_k=top_k,
            threshold=lowest,
            thresholds=thresholds,
            filter=filter,
            diversity=diversity,
            sort=cast("Sort", sort),
            page=begin,
        )
    if as_json:
        print_json(
            {
                "hits": results,
                "weights": results.weights,
                "certainty": results.certainty,
                "passed": results.passed,
                "next_page": results.next_page,
            }
        )
    elif isinstance(begin, int) and not results and results.passed:
        from ..search import no_such_page

        out.print(no_such_page(begin, top_k, results.passed))
    else:
        print_results(out, results, explain=explain)


def neighbours(
    image_id: ImageId,
    top_k: TopK = 20,
    home: Home = None,
    database_url: DatabaseUrl = None,
    library: LibraryName = None,
    as_json: Json = False,
) -> None:
    """Find the images that look most like one of the library, without itself."""
    with opened(home, database_url, library) as images:
        hits = images.neighbours(image_id, top_k)
    print_result(hits, as_json, print_hits)


def duplicates(
    threshold: Annotated[
        float, typer.Option(help="The lowest CLIP-H cosine similarity of pictures that are as good as the same.")
    ] = 0.98,
    home: Home = None,
    database_url: DatabaseUrl = None,
    library: LibraryName = None,
    as_json: Json = False,
) -> None:
    """Find identical files, and pictures that are as good as the same.

    Each group begins with the one that stands for it: the favourite, the best rated or else the oldest.
    """
    with opened(home, database_url, library) as images, progress_bars(err) as progress:
        groups = images.duplicates(threshold, progress)
    print_result(groups, as_json, print_duplicates)
