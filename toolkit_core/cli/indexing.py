"""Commands that fill a library and keep its vectors in order."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..database.segments import ROWS_WORTH_AN_INDEX
from ..records import IndexReport, to_json
from ..report import print_failed, print_index_report, print_reread_report, print_sealed, progress_bars
from ..settings import load_settings
from ..spaces import SPACES
from .options import (
    ComfyUI,
    DatabaseUrl,
    Device,
    Dtype,
    Home,
    Json,
    LibraryName,
    Weights,
    err,
    opened,
    out,
    print_json,
)


def index(
    folders: Annotated[list[Path], typer.Argument(help="Folders, at any depth, or files.")],
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help='Work on a Ray cluster: "auto" for the one that this machine is part of, or its HOST:PORT.',
        ),
    ] = None,
    comfyui: ComfyUI = None,
    weights: Weights = None,
    home: Home = None,
    database_url: DatabaseUrl = None,
    library: LibraryName = None,
    device: Device = None,
    dtype: Dtype = None,
    as_json: Json = False,
) -> None:
    """Bring the library up to date with folders: read, embed and store what is new or changed."""
    settings = load_settings(
        home, weights=weights or (), database_url=database_url, library=library, device=device, dtype=dtype
    )
    with opened(settings, comfyui) as images, progress_bars(err) as progress:
        done = images.index(folders, progress) if ray is None else images.index_on_ray(folders, progress, address=ray)
    _show_report(done, as_json)


def reread(
    everything: Annotated[bool, typer.Option("--all", help="Also what this version has read before.")] = False,
    comfyui: ComfyUI = None,
    weights: Weights = None,
    home: Home = None,
    database_url: DatabaseUrl = None,
    library: LibraryName = None,
    device: Device = None,
    dtype: Dtype = None,
    as_json: Json = False,
) -> None:
    """Make sense of the kept metadata again, after an update of this program; needs no image files.

    Only images that an older version has read are read again. Files are opened for those whose metadata is not kept.
    """
    settings = load_settings(
        home, weights=weights or (), database_url=database_url, library=library, device=device, dtype=dtype
    )
    with opened(settings, comfyui) as images, progress_bars(err) as progress:
        done = images.reread(progress, everything=everything)
    if as_json:
        print_json(to_json(done))
    else:
        print_reread_report(out, done)
    if done.embedding.refused:
        raise typer.Exit(1)


def reindex(
    space: Annotated[str, typer.Argument(help=f"The space to fill anew: {', '.join(SPACES)}.")],
    abandon: Annotated[
        bool, typer.Option("--abandon", help="Give up what an unfinished run has made; the old vectors stay.")
    ] = False,
    weights: Weights = None,
    home: Home = None,
    database_url: DatabaseUrl = None,
    library: LibraryName = None,
    device: Device = None,
    dtype: Dtype = None,
    as_json: Json = False,
) -> None:
    """Make all vectors of a space anew, after its model was changed.

    The old ones serve until the new ones are complete. Stop it at any moment: the next run goes on.
    """
    settings = load_settings(
        home, weights=weights or (), database_url=database_url, library=library, device=device, dtype=dtype
    )
    if abandon:
        with opened(settings) as images:
            given_up = images.abandon_reindex(space)
        out.print(f"{space} keeps its vectors." if given_up else f"No reindex of {space} was under way.")
        return
    with opened(settings) as images, progress_bars(err) as progress:
        done = images.reindex(space, progress)
    _show_report(done, as_json)


def failures(
    folders: Annotated[
        list[Path] | None, typer.Argument(help="Only what lies in or below these.", show_default=False)
    ] = None,
    retry: Annotated[bool, typer.Option("--retry", help="Read them again, though they have not changed.")] = False,
    weights: Weights = None,
    home: Home = None,
    database_url: DatabaseUrl = None,
    library: LibraryName = None,
    device: Device = None,
    dtype: Dtype = None,
    as_json: Json = False,
) -> None:
    """List the images that could not be read, and why; with --retry, read them again.

    `index` does so by itself when such a file changes, or could not even be opened.
    """
    settings = load_settings(
        home, weights=weights or (), database_url=database_url, library=library, device=device, dtype=dtype
    )
    if retry:
        with opened(settings) as images, progress_bars(err) as progress:
            done = images.retry(folders or None, progress)
        _show_report(done, as_json)
        return
    with opened(settings) as images:
        failed = images.failures(folders or None)
    if as_json:
        print_json([to_json(image) for image in failed])
    else:
        print_failed(out, failed)


def optimize(
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Build the indexes anew, as after many images are gone.")
    ] = False,
    home: Home = None,
    database_url: DatabaseUrl = None,
    library: LibraryName = None,
    as_json: Json = False,
) -> None:
    """Bring every vector into its space's index, which `index` does by itself once many are not.

    Searches and indexing go on meanwhile, and also when this is stopped.
    """
    settings = load_settings(home, database_url=database_url, library=library)
    with opened(settings) as images, progress_bars(err) as progress:
        done = images.optimize(progress, rebuild=rebuild)
    if as_json:
        print_json([to_json(space) for space in done])
    elif done:
        print_sealed(out, done)
    else:
        out.print(
            f"Nothing was to be done. Up to {ROWS_WORTH_AN_INDEX:,} vectors a space needs no index, and while another "
            "process brings the indexes up to date, this one leaves them alone."
        )


def _show_report(done: IndexReport, as_json: bool) -> None:
    """A space whose weights cannot be used makes it exit code 1; one without weights is only pending."""
    if as_json:
        print_json(to_json(done))
    else:
        print_index_report(out, done)
    if done.refused:
        raise typer.Exit(1)
