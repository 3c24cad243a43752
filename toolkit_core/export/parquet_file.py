"""One Parquet file: the columns of the view `image`."""

from __future__ import annotations

import json
import os
from contextlib import ExitStack, suppress
from dataclasses import asdict
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..database.export_rows import ExportBatch
from ..database.stored_text import storable
from ..errors import ExportError
from ..records import ImageRecord
from ..spaces import EMBEDDINGS, SPACES
from .contents import FORMAT_NAME, FORMAT_VERSION, Contents
from .target import PartFile

if TYPE_CHECKING:
    import pyarrow as pa


DICTIONARIES = ["prompt", "negative_prompt", "generator", "model", "vae", "sampler", "scheduler"]


class ParquetFile:
    """A row group a batch.

    Vectors are float32, which every reader knows, split into byte streams: of halves they take 1.75 bytes a value.
    Seeds are decimals: some are past int64, some below zero.
    """

    def __init__(self, target: Path, contents: Contents, stack: ExitStack) -> None:
        try:
            import pyarrow as pa
            import pyarrow.parquet as pq
        except ImportError as error:
            raise ExportError(
                "Parquet files need pyarrow, which is not installed. Run pip install 'diffusion-toolkit[parquet]', or "
                "pip install 'pyarrow>=17' in ComfyUI's environment; or name a target that ends in .safetensors."
            ) from error
        self._schema = _schema(contents)
        options: dict[str, Any] = {
            "compression": "zstd",
            "use_dictionary": DICTIONARIES,
            "use_byte_stream_split": [f"{e.view_column}.list.element" for e in contents.embeddings],
            "write_statistics": ["id"],
        }
        self._file = PartFile(target, stack)
        self._writer = pq.ParquetWriter(pa.PythonFile(self._file.file, mode="w"), self._schema, **options)
        stack.callback(self._close)

    def write(self, batch: ExportBatch) -> None:
        import pyarrow as pa

        rows = [_row(image) for image in batch.images]
        arrays = {
            field.name: pa.array([row[field.name] for row in rows], field.type)
            for field in self._schema
            if field.name in rows[0]
        }
        arrays |= {EMBEDDINGS[name].view_column: _vectors(vectors) for name, vectors in batch.vectors.items()}
        self._writer.write_batch(pa.record_batch(arrays, schema=self._schema))

    def finish(self) -> tuple[int, int]:
        self._writer.close()
        return 1, self._file.finish()

    def publish(self) -> None:
        self._file.publish()

    def _close(self) -> None:
        with suppress(OSError):  # It writes a footer, which a full disk does not take.
            self._writer.close()


def _schema(contents: Contents) -> pa.Schema:
    import pyarrow as pa

    lora = [("name", pa.string()), ("strength_model", pa.float64()), ("strength_clip", pa.float64())]
    columns: list[tuple[str, Any]] = [
        ("id", pa.int64()),
        ("path", pa.string()),
        ("path_bytes", pa.binary()),
        ("prompt", pa.string()),
        ("negative_prompt", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("generator", pa.string()),
        ("model", pa.string()),
        ("vae", pa.string()),
        ("loras", pa.list_(pa.struct(lora))),
        ("sampler", pa.string()),
        ("scheduler", pa.string()),
        ("steps", pa.int32()),
        ("cfg_scale", pa.float64()),
        ("guidance", pa.float64()),
        ("seed", pa.decimal128(20, 0)),
        ("denoise", pa.float64()),
        ("favorite", pa.bool_()),
        ("rating", pa.int16()),
        ("tags", pa.list_(pa.string())),
        ("error", pa.string()),
        *((e.view_column, pa.list_(pa.float32(), SPACES[e.space].width)) for e in contents.embeddings),
    ]
    said = {
        "diffusion_toolkit": FORMAT_NAME,
        "version": str(FORMAT_VERSION),
        "images": str(contents.images),
        "encoders": json.dumps(contents.encoders),
    }
    return pa.schema(columns, metadata=said)


def _row(image: ImageRecord) -> dict[str, Any]:
    made = image.parameters
    # Parquet's texts are UTF-8. A path that has another byte in it is exact in `path_bytes`, for os.fsdecode.
    path = storable(image.path)
    return {
        **asdict(made),
        "id": image.id,
        "path": path,
        "path_bytes": None if path == image.path else os.fsencode(image.path),
        "width": image.width,
        "height": image.height,
        "seed": None if made.seed is None else Decimal(made.seed),
        "favorite": image.favorite,
        "rating": image.rating,
        "tags": list(image.tags),
        "error": image.error,
    }


def _vectors(vectors: NDArray[np.float16]) -> pa.Array:
    """float16 of shape (n, width), rows of NaN where missing, as a column that is null there."""
    import pyarrow as pa

    values = pa.array(vectors.astype(np.float32).ravel())
    missing = pa.array(np.isnan(vectors[:, 0]))
    return pa.FixedSizeListArray.from_arrays(values, vectors.shape[1], mask=missing)
