"""Images with their embeddings as files for other programs and training sets.

image_123.json: one image. `json_files.metadata` and `json_files.KEYS` have its keys. A float is the shortest text that
    gives the stored float16, and its float32, back. What is missing is null.
folder: image_ID.json an image, and manifest.json, which lists them in order and is there only when all of them are.
set.safetensors: `ids`, int64 [n], and by embedding name float16 [n, width], the stored halves, with a row of NaN where
    an image lacks one. Line n of set.safetensors.jsonl says what row n is: ImageId, ImagePath, Prompt and the rest.
set.parquet: columns of the view `image`, with the vectors as fixed_size_list<float>, null where missing.
"""

from .exporter import FORMATS, Selection, export
from .target import allowed_target

__all__ = ["FORMATS", "Selection", "allowed_target", "export"]
