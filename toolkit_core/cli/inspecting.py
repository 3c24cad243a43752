"""Commands that show what a file says, and what a library holds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..records import to_json
from ..report import print_inspection, print_record, print_status, print_texts
from ..settings import load_settings
from .options import ComfyUI, DatabaseUrl, Home, Json, LibraryName, node_definitions, opened, out, print_json


def inspect(
    files: Annotated[list[Path], typer.Argument(help="Image files.")],
    raw: Annotated[bool, typer.Option("--raw", help="The metadata itself, as the files have it.")] = False,
    comfyui: ComfyUI = None,
    as_json: Json = False,
) -> None:
    """Show what is read from files and the sidecars beside them, and by which rule. Touches no database.

    With --json one object a line.
    """
    from ..inspection import inspect_file
    from ..metadata.comfyui.types import NodeTypes

    node_types = NodeTypes.from_object_info(node_definitions(comfyui)) if comfyui else None
    for file in files:
        found = inspect_file(file, node_types)
        if as_json:
            print_json(found.to_json(raw=raw), indent=None)
        elif raw:
            print_texts(out, found)
        else:
            print_inspection(out, found)


def show(
    image_id: Annotated[int, typer.Argument(metavar="ID")],
    home: Home = None,
    database_url: DatabaseUrl = None,
    library: LibraryName = None,
    as_json: Json = False,
) -> None:
    """Show everything stored about an image."""
    with opened(load_settings(home, database_url=database_url, library=library)) as images:
        record = images.image(image_id)
    if as_json:
        print_json(to_json(record))
    else:
        print_record(out, record)


def status(
    home: Home = None, database_url: DatabaseUrl = None, library: LibraryName = None, as_json: Json = False
) -> None:
    """Show how many images there are, what is pending, and by space the index, its size and whose vectors it holds."""
    with opened(load_settings(home, database_url=database_url, library=library)) as images:
        found = images.status()
    if as_json:
        print_json(to_json(found))
    else:
        print_status(out, found)
