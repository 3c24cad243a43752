"""Commands for the encoders' weights, and the demo, which makes its own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from ..library import locate_weights
from ..report import UNTRAINED, download_bars, print_weights
from ..settings import load_settings
from .options import Home, Json, Weights, err, out, print_result

models_app = typer.Typer()


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
    print_result(locations, as_json, print_weights)


@models_app.command()
def download(
    spaces: Annotated[list[str] | None, typer.Argument(help="bge, clip_h; both if none is named.")] = None,
    home: Home = None,
) -> None:
    """Get BGE and CLIP-H from the Hugging Face hub, about 5.3 GB; a broken download is resumed."""
    from ..encoders.download import download as download_weights

    with download_bars(err) as progress:
        written = download_weights(spaces or ["bge", "clip_h"], load_settings(home).downloads, progress)
    for path in written:
        out.print(Text(str(path)))


@models_app.command()
def tiny(folder: Annotated[Path, typer.Argument(help="Where to write them.")]) -> None:
    """Write small untrained weights of the same architectures, for trying the program."""
    from ..encoders.tiny import write_tiny_weights

    for path in write_tiny_weights(folder):
        out.print(Text(str(path)))
    out.print(UNTRAINED, style="yellow")


def demo(
    folder: Annotated[Path | None, typer.Argument(help="Where to keep the pictures and the contact sheet.")] = None,
) -> None:
    """Make a dozen pictures with prompts, index them with untrained weights, and search them."""
    from ..demo import run_demo

    run_demo(out, folder)
