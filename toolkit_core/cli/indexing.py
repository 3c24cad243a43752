"""Commands that fill a library and keep its vectors in order."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..database.segments import ROWS_WORTH_AN_INDEX
from ..report import print_failed, print_index_report, print_reread_report, print_sealed, progress_bars
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
    exit_if_refused,
    opened,
    out,
    print_json,
    print_result,
    typed_path,
)


def index(
    folders: Annotated[list[Path], typer.Argument(parser=typed_path, help="Folders, at any depth, or pictures.")],
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
    with opened(home, database_url, library, weights, device, dtype, comfyui) as images, progress_bars(err) as progress:
        done = images.index(folders, progress) if ray is None else images.index_on_ray(folders, progress, address=ray)
    print_result(done, as_json, print_index_report)
    exit_if_refused(done)


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
    with opened(home, database_url, library, weights, device, dtype, comfyui) as images, progress_bars(err) as progress:
        done = images.reread(progress, everything=everything)
    print_result(done, as_json, print_reread_report)
    exit_if_refused(done.embedding)


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
    if abandon:
        with opened(home, database_url, library, weights, device, dtype) as images:
            given_up = images.abandon_reindex(space)
        out.print(f"{space} keeps its vectors." if given_up else f"No reindex of {space} was under way.")
        return
    with opened(home, database_url, library, weights, device, dtype) as images, progress_bars(err) as progress:
        done = images.reindex(space, progress)
    print_result(done, as_json, print_index_report)
    exit_if_refused(done)


def failures(
    folders: Annotated[
        list[Path] | None,
        typer.Argument(parser=typed_path, help="Only what lies in or below these.", show_default=False),
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
    if retry:
        with opened(home, database_url, library, weights, device, dtype) as images, progress_bars(err) as progress:
            done = images.retry(folders or None, progress)
        print_result(done, as_json, print_index_report)
        exit_if_refused(done)
        return
    with opened(home, database_url, library, weights, device, dtype) as images:
        failed = images.failures(folders or None)
    print_result(failed, as_json, print_failed)


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
    with opened(home, database_url, library) as images, progress_bars(err) as progress:
        done = images.optimize(progress, rebuild=rebuild)
    if as_json:
        print_json(done)
    elif done:
        print_sealed(out, done)
    else:
        out.print(
            f"Nothing was to be done. Up to {ROWS_WORTH_AN_INDEX:,} vectors a space needs no index, and while another "
            "process brings the indexes up to date, this one leaves them alone."
        )
