"""What is read from one file, without a library."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .indexing.read import read_file
from .indexing.scan import find_file
from .records import FailedFile, MetadataReading, MetadataText, to_json

if TYPE_CHECKING:
    from .metadata.comfyui.types import NodeTypes


@dataclass(frozen=True)
class Inspection:
    """A file's metadata as it is, what was made of it, and the picture's size; `error` says what could not be read."""

    path: str
    reading: MetadataReading | None = None
    texts: tuple[MetadataText, ...] = ()
    width: int | None = None
    height: int | None = None
    error: str | None = None

    def to_json(self, *, raw: bool = False) -> dict[str, Any]:
        """As plain values: the parameters beside the path, then how they were found; the texts themselves if `raw`."""
        if self.reading is None:
            return {"path": self.path, "error": self.error}
        return {
            "path": self.path,
            **to_json(self.reading.parameters),
            "width": self.width,
            "height": self.height,
            "error": self.error,
            "found_by": self.reading.found_by,
            "rules": dict(self.reading.rules),
            "texts": [
                {"source": t.source, "name": t.name, "length": len(t.text), **({"text": t.text} if raw else {})}
                for t in self.texts
            ],
        }


def inspect_file(path: Path, node_types: NodeTypes | None = None) -> Inspection:
    """Everything that indexing would read from a file and its sidecars. node_types: see `metadata.read_parameters`."""
    found = find_file(str(path), {})
    read = found if isinstance(found, FailedFile) else read_file(found, node_types)
    if isinstance(read, FailedFile):
        return Inspection(read.path, error=read.error)
    return Inspection(read.path, read.reading, read.texts, read.row.width, read.row.height, read.row.error)
