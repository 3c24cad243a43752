"""Commands that show what a file says, and what a library holds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..report import print_inspection, print_record, print_status, print_texts
from .options import (
    ComfyUI,
    DatabaseUrl,
    Home,
    ImageId,
    Json,
    LibraryName,
    node_definitions,
    opened,
    out,
    print_json,
    print_result,
)


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
    image_id: ImageId,
    home: Home = None,
    database_url: DatabaseUrl = None,
    library: LibraryName = None,
    as_json: Json = False,
) -> None:
    """Show everything stored about an image."""
    with opened(home, database_url, library) as images:
        record = images.image(image_id)
    print_result(record, as_json, print_record)


def status(
    home: Home = None, database_url: DatabaseUrl = None, library: LibraryName = None, as_json: Json = False
) -> None:
    """Show how many images there are, what is pending, and by space the index, its size and whose vectors it holds."""
    with opened(home, database_url, library) as images:
        found = images.status()
    print_result(found, as_json, print_status)
