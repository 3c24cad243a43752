"""What is read from one file, without a library."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .indexing.read import read_file
from .indexing.scan import FoundFile, modified_at
from .records import FailedFile, to_json


def inspect_file(path: Path) -> dict[str, Any]:
    """Everything that indexing would read from a file: path, generator, prompt, …, width, height, error."""
    try:
        status = path.stat()
    except OSError as error:
        return {"path": str(path), "error": f"It cannot be looked at: {error.strerror or error}"}
    read = read_file(FoundFile(str(path), status.st_size, modified_at(status)))
    if isinstance(read, FailedFile):
        return {"path": read.path, "error": read.error}
    row = read.row
    return {
        "path": row.path,
        **to_json(row.parameters),
        "width": row.width,
        "height": row.height,
        "error": row.error,
    }
