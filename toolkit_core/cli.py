"""The command line: `diffusion-toolkit`, or `python -m toolkit_core`."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.logging import RichHandler

from . import report
from .errors import SearchError, ToolkitError
from .library import Library, locate_weights
from .records import IndexReport, to_json
from .settings import Settings, load_settings
from .spaces import EMBEDDINGS, SPACES

app = typer.Typer(
    help="Five embeddings for every generated image, in PostgreSQL with pgvector.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
models_app = typer.Typer()
app.add_typer(models_app, name="models")

out = Console()
err = Console(stderr=True)

Home = Annotated[
    Path | None,
    typer.Option(
        help="Folder of the embedded database, downloaded weights and settings.toml.", envvar="DIFFUSION_TOOLKIT_HOME"
    ),
]
DatabaseUrl = Annotated[
    str | None,
    typer.Option(
        help="A PostgreSQL server in place of the embedded one.",
        envvar="DIFFUSION_TOOLKIT_DATABASE_URL",
        show_envvar=True,
    ),
]
LibraryName = Annotated[str | None, typer.Option("--library", help="Which library on that server (a schema).")]
Weights = Annotated[
    list[Path] | None, typer.Option(help="A folder to look for weights in; may be given again.", show_default=False)
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
ComfyUI = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="A running ComfyUI, as http://127.0.0.1:8188, whose own word on its nodes helps to read their graphs.",
    ),
]
Device = Annotated[str | None, typer.Option(help="Device of the encoders: cpu, cuda:0, mps…")]
Dtype = Annotated[str | None, typer.Option(help="float32, float16 or bfloat16; by the device if not given.")]


@app.callback()
def _configure(verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log what happens.")] = False) -> None:
    logging.basicConfig(
        level=logging.INFO if verbose else logging.WARNING,
        format="%(message)s",
        handlers=[RichHandler(console=err, show_path=False, show_time=verbose)],
    )


@app.command()
def index(
    folders: Annotated[list[Path], typer.Argument(help="Folders, at any depth, or files.")],
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
    with _library(settings, comfyui) as opened, report.progress_bars(err) as progress:
        done = opened.index(folders, progress)
    _show_report(done, as_json)


@app.command()
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
    with _library(settings, comfyui) as opened, report.progress_bars(err) as progress:
        done = opened.reread(progress, everything=everything)
    if as_json:
        _print_json(to_json(done))
    else:
        report.print_reread_report(out, done)
    if done.embedding.refused:
        raise typer.Exit(1)


@app.command()
def reindex(
    space: Annotated[str, typer.Argument(help=f"The space to fill anew: {', '.join(SPACES)}.")],
    weights: Weights = None,
    home: Home = None,
    database_url: DatabaseUrl = None,
    library: LibraryName = None,
    device: Device = None,
    dtype: Dtype = None,
    as_json: Json = False,
) -> None:
    """Make all vectors of a space anew, after its model was changed."""
    settings = load_settings(
        home, weights=weights or (), database_url=database_url, library=library, device=device, dtype=dtype
    )
    with _library(settings) as opened, report.progress_bars(err) as progress:
        done = opened.reindex(space, progress)
    _show_report(done, as_json)


@app.command()
def search(
    text: Annotated[str | None, typer.Argument(help="What the prompt is about.")] = None,
    image: Annotated[Path | None, typer.Option(help="A picture to find similar ones to.")] = None,
    image_id: Annotated[
        int | None, typer.Option("--id", help="An image of the library to find similar ones to.")
    ] = None,
    weight: Annotated[
        list[str] | None,
        typer.Option(help=f"SPACE=W, may be given again. Spaces: {', '.join(EMBEDDINGS)}.", show_default=False),
    ] = None,
    top_k: Annotated[int, typer.Option(help="How many images.")] = 20,
    threshold: Annotated[float | None, typer.Option(help="The lowest score, a cosine similarity.")] = None,
    weights: Weights = None,
    home: Home = None,
    database_url: DatabaseUrl = None,
    library: LibraryName = None,
    device: Device = None,
    dtype: Dtype = None,
    as_json: Json = False,
) -> None:
    """Find images by a text, a picture, or an image of the library; or by several, weighted."""
    settings = load_settings(
        home, weights=weights or (), database_url=database_url, library=library, device=device, dtype=dtype
    )
    counted = dict(_weight(item) for item in weight or ())
    with _library(settings) as opened:
        hits = opened.search(text, image=image, image_id=image_id, weights=counted, top_k=top_k, threshold=threshold)
    if as_json:
        _print_json([to_json(hit) for hit in hits])
    else:
        report.print_hits(out, hits)


@app.command()
def inspect(
    files: Annotated[list[Path], typer.Argument(help="Image files.")],
    raw: Annotated[bool, typer.Option("--raw", help="The metadata itself, as the files have it.")] = False,
    comfyui: ComfyUI = None,
    as_json: Json = False,
) -> None:
    """Show what is read from files and the sidecars beside them, and by which rule. Touches no database.

    With --json one object a line.
    """
    from .inspection import inspect_file
    from .metadata.comfyui.types import NodeTypes

    node_types = NodeTypes.from_object_info(_node_definitions(comfyui)) if comfyui else None
    for file in files:
        found = inspect_file(file, node_types)
        if as_json:
            _print_json(found.to_json(raw=raw), indent=None)
        elif raw:
            report.print_texts(out, found)
        else:
            report.print_inspection(out, found)


@app.command()
def show(
    image_id: Annotated[int, typer.Argument(metavar="ID")],
    home: Home = None,
    database_url: DatabaseUrl = None,
    library: LibraryName = None,
    as_json: Json = False,
) -> None:
    """Show everything stored about an image."""
    with _library(load_settings(home, database_url=database_url, library=library)) as opened:
        record = opened.image(image_id)
    if as_json:
        _print_json(to_json(record))
    else:
        report.print_record(out, record)


@app.command()
def status(
    home: Home = None, database_url: DatabaseUrl = None, library: LibraryName = None, as_json: Json = False
) -> None:
    """Show how many images there are, what is pending, and whose vectors each space holds."""
    with _library(load_settings(home, database_url=database_url, library=library)) as opened:
        found = opened.status()
    if as_json:
        _print_json(to_json(found))
    else:
        report.print_status(out, found)


@app.command()
def demo(
    folder: Annotated[Path | None, typer.Argument(help="Where to keep the pictures and the contact sheet.")] = None,
) -> None:
    """Make a dozen pictures with prompts, index them with untrained weights, and search them."""
    from .demo import run_demo

    run_demo(out, folder)


@models_app.callback(invoke_without_command=True)
def models(
    context: typer.Context,
    weights: Weights = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """List what each space needs, where it was looked for, and what is missing; download it; write tiny ones to try."""
    if context.invoked_subcommand is not None:
        return
    locations = locate_weights(load_settings(home, weights=weights or ()))
    if as_json:
        _print_json({name: to_json(location) for name, location in locations.items()})
    else:
        report.print_weights(out, locations)


@models_app.command()
def download(
    spaces: Annotated[list[str] | None, typer.Argument(help="bge, clip_h; both if none is named.")] = None,
    home: Home = None,
) -> None:
    """Get BGE and CLIP-H from the Hugging Face hub, about 5.3 GB; a broken download is resumed."""
    from .encoders.download import download as download_weights

    with report.download_bars(err) as progress:
        written = download_weights(spaces or ["bge", "clip_h"], load_settings(home).downloads, progress)
    for path in written:
        out.print(f"{path}", markup=False)


@models_app.command()
def tiny(folder: Annotated[Path, typer.Argument(help="Where to write them.")]) -> None:
    """Write small untrained weights of the same architectures, for trying the program."""
    from .encoders.tiny import write_tiny_weights

    for path in write_tiny_weights(folder):
        out.print(f"{path}", markup=False)
    out.print(report.UNTRAINED, style="yellow")


def main() -> None:
    """Run the command line. An error of ours is one sentence on stderr and exit code 1."""
    for stream in (sys.stdout, sys.stderr):
        # Windows consoles and undecodable file names: better a question mark than a crash.
        stream.reconfigure(errors="replace")  # pyright: ignore[reportAttributeAccessIssue]
    try:
        app()
    except ToolkitError as error:
        err.print(f"Error: {error}", style="red", markup=False, highlight=False)
        sys.exit(1)


@contextmanager
def _library(settings: Settings, comfyui: str | None = None) -> Iterator[Library]:
    # Asked before anything else is done, so that a wrong address is told at once.
    definitions = _node_definitions(comfyui) if comfyui else None
    with Library(
        settings,
        node_definitions=None if definitions is None else lambda: definitions,
        on_wait=lambda message: err.print(message, markup=False),
    ) as opened:
        yield opened


def _node_definitions(comfyui: str) -> Mapping[str, Any]:
    from .comfyui_server import fetch_node_definitions

    return fetch_node_definitions(comfyui)


def _show_report(done: IndexReport, as_json: bool) -> None:
    """A space whose weights cannot be used makes it exit code 1; one without weights is only pending."""
    if as_json:
        _print_json(to_json(done))
    else:
        report.print_index_report(out, done)
    if done.refused:
        raise typer.Exit(1)


def _weight(item: str) -> tuple[str, float]:
    name, _, value = item.partition("=")
    try:
        return name, float(value)
    except ValueError:
        raise SearchError(f"--weight {item!r} is not SPACE=W, like bge=0.5.") from None


def _print_json(value: Any, indent: int | None = 2) -> None:
    # Not through rich, which would fold long lines; ASCII, so that any name survives any console.
    out.file.write(json.dumps(value, default=str, indent=indent) + "\n")
