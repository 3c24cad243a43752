"""The command that brings a library along from DiffusionToolkit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from ..errors import SettingsError
from ..report import print_import_report, progress_bars
from .options import (
    ComfyUI,
    DatabaseUrl,
    Device,
    Dtype,
    Embed,
    Home,
    Json,
    LibraryName,
    Weights,
    err,
    exit_if_refused,
    opened,
    print_result,
)


def import_(
    database: Annotated[
        str,
        typer.Argument(
            help="The SQLite file of DiffusionToolkit, diffusion-toolkit.db, or the postgresql:// URL of its fork.",
            show_default=False,
        ),
    ],
    mapped: Annotated[
        list[str] | None,
        typer.Option(
            "--map",
            metavar="FROM=TO",
            help="Where a folder of its paths is on this machine, as D:\\renders=/mnt/renders; may be given again.",
            show_default=False,
        ),
    ] = None,
    schema: Annotated[
        str | None, typer.Option(help="Of a PostgreSQL database that has several with images.", show_default=False)
    ] = None,
    tagger_tags: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            max=1.0,
            help="Also the tags that taggers were so sure of, from 0 to 1.",
            show_default=False,
        ),
    ] = None,
    embed: Embed = True,
    comfyui: ComfyUI = None,
    weights: Weights = None,
    home: Home = None,
    database_url: DatabaseUrl = None,
    library: LibraryName = None,
    device: Device = None,
    dtype: Dtype = None,
    as_json: Json = False,
) -> None:
    """Bring the images of a DiffusionToolkit database along, with their favourites, ratings, tags and albums.

    The database is only read. Files are indexed where they are, and nothing that is said of an image here is changed
    by what is said there, only added to. Stop it at any moment, or run it again when more files are there: what is
    done is found to be done.
    """
    folders = folders_by_name(mapped or ())
    with opened(home, database_url, library, weights, device, dtype, comfyui) as images, progress_bars(err) as progress:
        done = images.import_toolkit(
            database, progress, folders=folders, schema=schema, tagger_confidence=tagger_tags, embed=embed
        )
    print_result(done, as_json, print_import_report)
    exit_if_refused(done.indexing)


def folders_by_name(items: Sequence[str]) -> dict[str, str]:
    """The values of --map. Raises SettingsError for what is not FROM=TO."""
    folders: dict[str, str] = {}
    for item in items:
        there, _, here = item.partition("=")
        if not there or not here:
            raise SettingsError(f'--map {item!r} is not FROM=TO, like "D:\\renders=/mnt/renders".')
        folders[there] = here
    return folders
