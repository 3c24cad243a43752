"""One safetensors file of all vectors, and a line of JSON an image beside it."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from ..database.export_rows import ExportBatch
from ..spaces import SPACES
from .contents import FORMAT_NAME, FORMAT_VERSION, Contents
from .json_files import encoded, metadata
from .target import PartFile


class SafetensorsFile:
    """Tensors `ids` and one an embedding. Each batch is written to its place in every tensor: one pass, no memory.

    The texts of the images would make a header that every reader loads whole, so they are in TARGET.jsonl.
    """

    def __init__(self, target: Path, contents: Contents, stack: ExitStack) -> None:
        self._tensors = {"ids": np.dtype("<i8").itemsize}  # by name, the bytes of a row
        entries: dict[str, object] = {}
        shapes = {"ids": [contents.images]}
        for e in contents.embeddings:
            width = SPACES[e.space].width
            shapes[e.name] = [contents.images, width]
            self._tensors[e.name] = width * np.dtype("<f2").itemsize
        self._starts: dict[str, int] = {}
        end = 0
        for name, row in self._tensors.items():
            self._starts[name], end = end, end + contents.images * row
            entries[name] = {
                "dtype": "I64" if name == "ids" else "F16",
                "shape": shapes[name],
                "data_offsets": [self._starts[name], end],
            }
        texts = target.with_name(target.name + ".jsonl")
        entries["__metadata__"] = {  # its values have to be texts
            "diffusion_toolkit": FORMAT_NAME,
            "version": str(FORMAT_VERSION),
            "images": str(contents.images),
            "encoders": json.dumps(contents.encoders),
            "texts": encoded(texts.name).decode(),
        }
        header = json.dumps(entries).encode()
        header += b" " * (-len(header) % 8)
        self._data = 8 + len(header)
        self._rows = 0
        self._file = PartFile(target, stack)
        self._texts = PartFile(texts, stack)
        self._file.file.write(len(header).to_bytes(8, "little") + header)

    def write(self, batch: ExportBatch) -> None:
        self._put("ids", np.array([image.id for image in batch.images], "<i8"))
        for name, vectors in batch.vectors.items():
            self._put(name, vectors.astype("<f2", copy=False))
        self._rows += len(batch.images)
        for image in batch.images:
            self._texts.file.write(encoded(metadata(image)) + b"\n")

    def finish(self) -> tuple[int, int]:
        return 2, self._file.finish() + self._texts.finish()

    def publish(self) -> None:
        # First, so that never those of one export lie beside the texts of another.
        self._file.withdraw()
        self._texts.publish()
        self._file.publish()

    def _put(self, name: str, rows: np.ndarray) -> None:
        self._file.file.seek(self._data + self._starts[name] + self._rows * self._tensors[name])
        self._file.file.write(rows.tobytes())
