"""Commands for what a person says of images."""

from __future__ import annotations

from typing import Annotated

import typer

from ..errors import SettingsError
from ..report import print_tags
from .options import DatabaseUrl, Filter, Home, Json, LibraryName, opened, out, print_json, print_result


def curate(
    ids: Annotated[list[int] | None, typer.Argument(help="Images by their ids.", show_default=False)] = None,
    filter: Filter = None,
    favorite: Annotated[bool | None, typer.Option("--favorite/--no-favorite", help="Favourites, or no longer.")] = None,
    rating: Annotated[int | None, typer.Option(help="How good they are, from 0 to 10.")] = None,
    clear_rating: Annotated[bool, typer.Option("--clear-rating", help="Take their rating away.")] = False,
    tag: Annotated[list[str] | None, typer.Option(help="Add a tag; may be given again.", show_default=False)] = None,
    untag: Annotated[
        list[str] | None,
        typer.Option(help="Take a tag away, in capital letters or not; may be given again.", show_default=False),
    ] = None,
    home: Home = None,
    database_url: DatabaseUrl = None,
    library: LibraryName = None,
    as_json: Json = False,
) -> None:
    """Say of images that they are favourites, how good they are, and what they are about.

    They are those of the ids, or all that meet --filter and whose files are there. What is not given stays as it is.
    """
    wanted = (filter or "").strip()
    if ids and wanted:
        raise SettingsError("There are both ids and a --filter. Name the images by one of them.")
    if not (ids or wanted):
        raise SettingsError("Name the images by their ids, or by a --filter that is not empty.")
    if favorite is None and rating is None and not (clear_rating or tag or untag):
        raise SettingsError(
            "Say what is to change: --favorite, --no-favorite, --rating, --clear-rating, --tag or --untag."
        )
    with opened(home, database_url, library) as images:
        chosen = sorted(set(ids)) if ids else images.find(wanted)
        changed = images.curate(
            chosen,
            favorite=favorite,
            rating=rating,
            clear_rating=clear_rating,
            add_tags=tag or (),
            remove_tags=untag or (),
        )
    if as_json:
        print_json({"images": len(chosen), "changed": changed})
    else:
        out.print(f"{changed} of {len(chosen)} images changed.")


def tags(
    home: Home = None, database_url: DatabaseUrl = None, library: LibraryName = None, as_json: Json = False
) -> None:
    """List the tags, the most used first, and how many images have each."""
    with opened(home, database_url, library) as images:
        counts = images.tags()
    print_result(counts, as_json, print_tags)
