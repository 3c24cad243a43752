"""The command line: `diffusion-toolkit`, or `python -m toolkit_core`. One file a subject of commands."""

from __future__ import annotations

import logging
import sys
from typing import Annotated

import typer
from rich.logging import RichHandler
from rich.text import Text

from ..errors import ToolkitError
from .curating import curate, tags
from .exporting import export
from .importing import import_
from .indexing import failures, index, optimize, reindex, reread
from .inspecting import inspect, show, status
from .models import demo, models_app
from .options import err
from .searching import duplicates, neighbours, search
from .watching import prune, watch

app = typer.Typer(
    help="Five embeddings for every generated image, in PostgreSQL with pgvector.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


@app.callback()
def _configure(verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log what happens.")] = False) -> None:
    logging.basicConfig(
        level=logging.INFO if verbose else logging.WARNING,
        format="%(message)s",
        handlers=[RichHandler(console=err, show_path=False, show_time=verbose)],
    )


for panel, commands in {
    "Fill a library": (index, import_, watch, failures, prune, reread, reindex, optimize, status),
    "Find images": (search, neighbours, duplicates, show, inspect),
    "Use them": (curate, tags, export),
    "Weights": (demo,),
}.items():
    for command in commands:
        app.command(command.__name__.rstrip("_"), rich_help_panel=panel)(command)
app.add_typer(models_app, name="models", rich_help_panel="Weights")


def main() -> None:
    """Run the command line. An error of ours is one sentence on stderr and exit code 1."""
    for stream in (sys.stdout, sys.stderr):
        # Windows consoles and undecodable file names: better a question mark than a crash.
        stream.reconfigure(errors="replace")  # pyright: ignore[reportAttributeAccessIssue]
    try:
        app()
    except ToolkitError as error:
        err.print(Text(f"Error: {error}", "red"))
        sys.exit(1)
