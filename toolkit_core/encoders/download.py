"""Getting BGE and CLIP-H from the Hugging Face hub: resumable, and checked against the hub's own sha256."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import EncoderError
from ..records import Progress
from .weights import NEEDS

OnProgress = Callable[[Progress], None]

_SHA256 = re.compile(r"[0-9a-f]{64}")
_BLOCK = 1 << 22


@dataclass(frozen=True)
class HubFiles:
    """A repository on the hub, the files of it that an encoder reads, and the folder that they are put in."""

    repository: str
    files: tuple[str, ...]
    folder: str


SOURCES: dict[str, HubFiles] = {
    "bge": HubFiles(
        "BAAI/bge-large-en-v1.5",
        (
            "config.json",
            "special_tokens_map.json",
            "tokenizer.json",
            "tokenizer_config.json",
            "vocab.txt",
            "onnx/model.onnx",
        ),
        "bge-large-en-v1.5",
    ),
    "clip_h": HubFiles(
        "laion/CLIP-ViT-H-14-laion2B-s32B-b79K",
        ("open_clip_model.safetensors",),
        "CLIP-ViT-H-14-laion2B-s32B-b79K",
    ),
}


def download(spaces: Sequence[str], folder: Path, progress: OnProgress | None = None) -> list[Path]:
    """Download the weights of `spaces` into `folder`, where `find_weights([folder])` finds them.

    Returns BGE's folder and CLIP-H's file, in the order of `spaces`. `progress` gets bytes done and in all of each file. What
    is there already is not fetched again, what was interrupted goes on. Raises EncoderError for a space that is not on the
    hub, when the hub can't be reached, and for a file whose sha256 is not the hub's (that file is deleted).
    """
    for space in spaces:
        if space not in SOURCES:
            need = NEEDS.get(space, f"unknown space; downloadable are {', '.join(SOURCES)}.")
            raise EncoderError(
                f"{space} can't be downloaded from here: {need} Point to it with --weights DIR, or in the settings file."
            )
    written: list[Path] = []
    for space in spaces:
        source = SOURCES[space]
        target = folder / source.folder
        for name in source.files:
            _download_file(source.repository, name, target, progress)
        written.append(target if space == "bge" else target / source.files[0])
    return written


def _download_file(repository: str, name: str, target: Path, progress: OnProgress | None) -> None:
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url
    from huggingface_hub.errors import HTTPError  # of whichever HTTP library the installed hub client uses

    try:
        expected = get_hf_file_metadata(hf_hub_url(repository, name), timeout=20)
        options: dict[str, Any] = {} if progress is None else {"tqdm_class": _reporter(f"{repository}/{name}", progress)}
        file = Path(hf_hub_download(repository, name, local_dir=target, **options))
    except (OSError, HTTPError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise EncoderError(
            f"{repository}/{name} could not be downloaded ({reason}). Check the connection to huggingface.co (or HF_ENDPOINT) "
            f"and the free space of {target}, and run it again: what is there is kept."
        ) from error
    _check(file, expected, f"{repository}/{name}")


def _check(file: Path, expected: Any, name: str) -> None:
    """Raises EncoderError, after deleting the file, when it is not what the hub says."""
    digest = (expected.etag or "").strip('"')
    size = file.stat().st_size
    wrong = expected.size is not None and size != expected.size
    # Only large (LFS) files have their sha256 as the etag; the small ones have git's sha1 of a framed blob.
    if not wrong and _SHA256.fullmatch(digest):
        wrong = _sha256(file) != digest
    if wrong:
        file.unlink()
        raise EncoderError(f"{name} arrived damaged (it is not what the hub's checksum says) and was deleted: run it again.")


def _sha256(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as opened:
        while block := opened.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _reporter(item: str, progress: OnProgress) -> Any:
    """A tqdm that draws nothing and reports instead."""
    from tqdm.std import tqdm

    class Reporter(tqdm):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            kwargs.pop("name", None)
            kwargs["disable"] = False
            super().__init__(*args, **kwargs)

        def display(self, *args: Any, **kwargs: Any) -> bool:
            progress(Progress("download", int(self.n), None if self.total is None else int(self.total), item))
            return True

    return Reporter
