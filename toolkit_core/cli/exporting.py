"""The command that writes images and their embeddings to files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..report import print_export_report, progress_bars
from ..spaces import EMBEDDINGS
from .options import (
    DatabaseUrl,
    Device,
    Dtype,
    Filter,
    Home,
    Json,
    LibraryName,
    Picture,
    Threshold,
    Weight,
    Weights,
    err,
    opened,
    print_result,
    thresholds_by_space,
    weights_by_space,
)


def export(
    target: Annotated[
        Path,
        typer.Argument(
            help="A file that ends in .safetensors or .parquet; one in .json, for one image; or a folder, for a JSON "
            "file an image."
        ),
    ],
    ids: Annotated[
        list[int] | None, typer.Option("--id", help="An image; may be given again.", show_default=False)
    ] = None,
    filter: Filter = None,
    text: Annotated[str | None, typer.Option(help="Images that a search by this text finds.")] = None,
    image: Picture = None,
    like: Annotated[
        int | None, typer.Option(metavar="ID", help="An image of the library to find similar ones to.")
    ] = None,
    weight: Weight = None,
    threshold: Threshold = None,
    top_k: Annotated[
        int | None, typer.Option(help="How many images the search finds; 20 if not given.", show_default=False)
    ] = None,
    embedding: Annotated[
        list[str] | None,
        typer.Option(
            help=f"One of {', '.join(EMBEDDINGS)}; may be given again. All, if none is named.", show_default=False
        ),
    ] = None,
    format: Annotated[
        str | None, typer.Option(help="json, safetensors or parquet, where the target's name does not say it.")
    ] = None,
    weights: Weights = None,
    home: Home = None,
    database_url: DatabaseUrl = None,
    library: LibraryName = None,
    device: Device = None,
    dtype: Dtype = None,
    as_json: Json = False,
) -> None:
    """Write images and their embeddings to files that other programs read.

    They are those of --id, then those that a search finds, in its order; where neither is asked for, all images whose
    files are there. With --filter, only those that meet it. An earlier export at the target is replaced once this one
    is whole.
    """
    counted = weights_by_space(weight)
    lowest, thresholds = thresholds_by_space(threshold)
    is_search = bool(counted or thresholds) or any(given is not None for given in (text, image, like, top_k, lowest))
    with opened(home, database_url, library, weights, device, dtype) as images:
        chosen = list(ids) if ids else None
        if is_search:
            hits = images.search(
                text,
                image=image,
                image_id=like,
                weights=counted,
                top_k=20 if top_k is None else top_k,
                threshold=lowest,
                thresholds=thresholds,
                filter=filter,
            )
            chosen = [*(chosen or ()), *(hit.id for hit in hits)]
        with progress_bars(err) as progress:
            done = images.export(
                target,
                ids=chosen,
                filter=filter,
                format=format,
                embeddings=embedding or tuple(EMBEDDINGS),
                progress=progress,
            )
    print_result(done, as_json, print_export_report)
