"""JSON as ComfyUI workflows read it: one file an image; in a folder, with a manifest."""

from __future__ import annotations

import json
import math
import os
import re
from array import array
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..database.export_rows import ExportBatch
from ..errors import ExportError
from ..records import ImageRecord, Lora
from ..spaces import SPACES
from .contents import FORMAT_NAME, FORMAT_VERSION, Contents
from .target import PART, PartFile

KEYS = {
    "clip_l": "ClipL",
    "clip_g": "ClipG",
    "clip_h": "ImageEmbedding",
    "bge": "PromptEmbedding",
    "bge_negative": "NegativePromptEmbedding",
}
"""An embedding's key in a file, by its name."""

MANIFEST = "manifest.json"
OLD_MANIFEST = MANIFEST + ".old"
MANIFEST_HEAD = f'{{\n"Format": {json.dumps(FORMAT_NAME)}'
IMAGE_NAME = re.compile(r"image_\d+\.json")
PART_FOLDER = "export" + PART


def metadata(image: ImageRecord) -> dict[str, Any]:
    """What is said of an image beside its vectors, for JSON; what is not known is None."""
    made = image.parameters
    return {
        "ImageId": image.id,
        "ImagePath": image.path,
        "Width": image.width,
        "Height": image.height,
        "Prompt": made.prompt,
        "NegativePrompt": made.negative_prompt,
        "Generator": made.generator,
        "Model": made.model,
        "Vae": made.vae,
        "Loras": [_lora(lora) for lora in made.loras],
        "Sampler": made.sampler,
        "Scheduler": made.scheduler,
        "Steps": made.steps,
        "CfgScale": _finite(made.cfg_scale),
        "Guidance": _finite(made.guidance),
        "Seed": made.seed,
        "Denoise": _finite(made.denoise),
        "Favorite": image.favorite,
        "Rating": image.rating,
        "Tags": list(image.tags),
        "Error": image.error,
    }


def encoded(value: Any) -> bytes:
    """JSON in UTF-8. Lone surrogates, which stand for undecodable bytes of a path, become escapes."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False).encode("utf-8", "backslashreplace")


class JsonFile:
    """One image in one file."""

    def __init__(self, target: Path, contents: Contents, stack: ExitStack) -> None:
        if contents.images == 0:
            raise ExportError(f"{str(target)!r} takes one image, and no image of the library is what was asked for.")
        if contents.images != 1:
            raise ExportError(
                f"{str(target)!r} takes one image, and {contents.images} were asked for. Name a folder to get a JSON "
                "file an image."
            )
        self._file = PartFile(target, stack)

    def write(self, batch: ExportBatch) -> None:
        for document in _documents(batch):
            self._file.file.write(document)

    def finish(self) -> tuple[int, int]:
        return 1, self._file.finish()

    def publish(self) -> None:
        self._file.publish()


class JsonFolder:
    """One file an image and a manifest, written to FOLDER.part, or in a folder that is there to FOLDER/export.part.

    A new folder appears by one rename. Into one that is there (it may be a disk of its own) the files are moved one by
    one, and the manifest last. Images of an earlier export that are not in this one are removed; what else lies there
    stays.
    """

    def __init__(self, target: Path, contents: Contents, stack: ExitStack) -> None:
        there = target.is_dir()
        if target.exists() and not there:
            raise ExportError(f"{str(target)!r} is no folder, and JSON files of several images need one.")
        if there and not _is_empty(target) and not _is_export(target):
            raise ExportError(
                f"The folder {str(target)!r} holds other things than an earlier export. Name a new or an empty folder."
            )
        self._target = target
        self._part = target / PART_FOLDER if there else target.with_name(target.name + PART)
        self._remove_part()
        if os.path.lexists(self._part):
            raise ExportError(f"{str(self._part)!r} is in the way and is no part of an export. Move it away.")
        self._part.mkdir(parents=True)
        stack.callback(self._discard)
        self._bytes = 0
        self._ids = array("q")
        self._manifest = (self._part / MANIFEST).open("xb")
        stack.callback(self._close)
        self._manifest.write(_manifest_head(contents))

    def write(self, batch: ExportBatch) -> None:
        for image, document in zip(batch.images, _documents(batch), strict=True):
            name = _name(image.id)
            (self._part / name).write_bytes(document)
            entry = encoded({"ImageId": image.id, "ImagePath": image.path, "File": name})
            self._manifest.write(b",\n" + entry if self._ids else b"\n" + entry)
            self._bytes += len(document)
            self._ids.append(image.id)

    def finish(self) -> tuple[int, int]:
        self._manifest.write(b"\n]\n}\n")
        self._manifest.flush()
        os.fsync(self._manifest.fileno())
        self._manifest.close()
        return len(self._ids) + 1, self._bytes + (self._part / MANIFEST).stat().st_size

    def publish(self) -> None:
        if not self._target.exists():
            self._part.rename(self._target)
            return
        # First, so that it never lists what is not there, or is of another export by now. Kept to know the folder by.
        with suppress(FileNotFoundError):
            (self._target / MANIFEST).replace(self._target / OLD_MANIFEST)
        for name in _image_names(self._target):
            if not (self._part / name).exists():
                (self._target / name).unlink()
        for name in map(_name, self._ids):
            (self._part / name).replace(self._target / name)
        (self._part / MANIFEST).replace(self._target / MANIFEST)
        (self._target / OLD_MANIFEST).unlink(missing_ok=True)

    def _close(self) -> None:
        with suppress(OSError):  # A full disk does not take what is buffered, either.
            self._manifest.close()

    def _discard(self) -> None:
        with suppress(OSError):
            self._remove_part()

    def _remove_part(self) -> None:
        """Remove what an export writes; the folder as well, if that was all."""
        if self._part.is_symlink() or not self._part.is_dir():
            return
        for name in [*_image_names(self._part), MANIFEST]:
            (self._part / name).unlink(missing_ok=True)
        with suppress(OSError):
            self._part.rmdir()


def _documents(batch: ExportBatch) -> Iterator[bytes]:
    """The JSON text of each image: a line a key."""
    for n, image in enumerate(batch.images):
        members = {key: encoded(value) for key, value in metadata(image).items()}
        members |= {KEYS[name]: _vector(vectors[n]) for name, vectors in batch.vectors.items()}
        yield b"{\n" + b",\n".join(b'"%s": %s' % (key.encode(), text) for key, text in members.items()) + b"\n}\n"


def _manifest_head(contents: Contents) -> bytes:
    embeddings = {
        KEYS[e.name]: {"Name": e.name, "Width": SPACES[e.space].width, "Encoder": contents.encoders[e.name]}
        for e in contents.embeddings
    }
    head = f'{MANIFEST_HEAD},\n"Version": {FORMAT_VERSION},\n"Count": {contents.images},\n'
    return head.encode() + b'"Embeddings": ' + encoded(embeddings) + b',\n"Images": ['


def _name(id: int) -> str:
    return f"image_{id}.json"


def _image_names(folder: Path) -> list[str]:
    """All at once: some file systems skip names where others are removed while they are listed."""
    with os.scandir(folder) as entries:
        return [entry.name for entry in entries if IMAGE_NAME.fullmatch(entry.name)]


def _is_empty(folder: Path) -> bool:
    with os.scandir(folder) as entries:
        return next(entries, None) is None


def _is_export(folder: Path) -> bool:
    """Whether a folder holds an export, or what a kill left of one."""
    if (folder / PART_FOLDER).is_dir():
        return True
    head = MANIFEST_HEAD.encode()
    for name in (MANIFEST, OLD_MANIFEST):
        with suppress(OSError), (folder / name).open("rb") as file:
            if file.read(len(head)) == head:
                return True
    return False


def _vector(halves: NDArray[np.float16]) -> bytes:
    if np.isnan(halves[0]):
        return b"null"
    texts = _texts_of_halves()
    return b"[" + ", ".join([texts[bits] for bits in halves.view(np.uint16).tolist()]).encode() + b"]"


@lru_cache(maxsize=1)
def _texts_of_halves() -> list[str]:
    """By its bits, the shortest text of every float16 that gives its float32 back: 10 times faster than formatting."""
    return np.arange(2**16, dtype=np.uint16).view(np.float16).astype(np.float32).astype(str).tolist()


def _lora(lora: Lora) -> Mapping[str, Any]:
    return {
        "Name": lora.name,
        "StrengthModel": _finite(lora.strength_model),
        "StrengthClip": _finite(lora.strength_clip),
    }


def _finite(value: float | None) -> float | None:
    """JSON has no text for the others."""
    return value if value is not None and math.isfinite(value) else None
