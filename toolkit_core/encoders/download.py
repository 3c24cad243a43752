"""Getting BGE and CLIP-H from the Hugging Face hub: resumable, and checked against the hub's own checksums.

`huggingface_hub` is asked where a file lies and what its checksum is. The bytes are fetched here, because its own
`hf_hub_download` no longer keeps a partial file (version 2.4): 3.9 GB would start again at every interruption.
"""

from __future__ import annotations

import hashlib
import http.client
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import EncoderError
from ..records import Progress
from .weights import NEEDS

OnProgress = Callable[[Progress], None]

_BLOCK = 1 << 20
_TIMEOUT_S = 30
_ATTEMPTS = 5


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

    Returns BGE's folder and CLIP-H's file, in the order of `spaces`. `progress` gets the bytes done and in all of each
    file. What is there and whole is not fetched again, what was interrupted goes on where it stopped. Raises
    EncoderError for a space that is not on the hub, when the hub can't be reached, and for a file that arrived damaged
    (it is deleted).
    """
    for space in spaces:
        if space not in SOURCES:
            need = NEEDS.get(space, f"no such space; downloadable are {', '.join(SOURCES)}.")
            raise EncoderError(
                f"{space} can't be downloaded from here: {need} "
                f"Point to it with --weights DIR, or in the settings file."
            )
    written: list[Path] = []
    for space in spaces:
        source = SOURCES[space]
        target = folder / source.folder
        for name in source.files:
            _download_file(source.repository, name, target / name, progress)
        written.append(target if space == "bge" else target / source.files[0])
    return written


def _download_file(repository: str, name: str, file: Path, progress: OnProgress | None) -> None:
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    # Of whichever HTTP library the installed client uses.
    from huggingface_hub.errors import HTTPError  # pyright: ignore[reportPrivateImportUsage]

    item = f"{repository}/{name}"
    try:
        expected = get_hf_file_metadata(hf_hub_url(repository, name), timeout=_TIMEOUT_S)
        if file.is_file() and _is_whole(file, expected):
            return
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_name(file.name + ".partial")
        for _ in range(_ATTEMPTS):
            _fetch(expected, partial, item, progress)
            if expected.size is None or partial.stat().st_size >= expected.size:
                break
        else:
            raise OSError(f"the connection broke {_ATTEMPTS} times")
        whole = _is_whole(partial, expected)
        if whole:
            partial.replace(file)
        else:
            partial.unlink()
    except (OSError, HTTPError, http.client.HTTPException) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise EncoderError(
            f"{item} could not be downloaded ({reason}). Check the connection to huggingface.co (or HF_ENDPOINT) "
            f"and the free space of {file.parent}, and run it again: it goes on where it stopped."
        ) from error
    if not whole:
        raise EncoderError(
            f"{item} arrived damaged (it does not have the hub's checksum) and was deleted: run it again."
        )


def _fetch(expected: Any, partial: Path, item: str, progress: OnProgress | None) -> None:
    """Append to `partial` until the server stops sending; a server that ignores ranges starts it over."""
    have = partial.stat().st_size if partial.is_file() else 0
    if expected.size is not None and have >= expected.size:
        return
    request = urllib.request.Request(expected.location, headers={"Range": f"bytes={have}-"} if have else {})
    with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:
        resumed = answer.status == http.client.PARTIAL_CONTENT
        with partial.open("ab" if resumed else "wb") as out:
            done = have if resumed else 0
            while block := answer.read(_BLOCK):
                out.write(block)
                done += len(block)
                if progress is not None:
                    progress(Progress("download", done, expected.size, item))


def _is_whole(file: Path, expected: Any) -> bool:
    """Whether a file has the size and the checksum that the hub gives: sha256, or git's sha1 for a small file."""
    if expected.size is not None and file.stat().st_size != expected.size:
        return False
    etag = (expected.etag or "").strip('"')
    if len(etag) == 64:
        return _digest(file, hashlib.sha256()) == etag
    if len(etag) == 40:
        return _digest(file, hashlib.sha1(b"blob %d\0" % file.stat().st_size, usedforsecurity=False)) == etag
    return True


def _digest(file: Path, digest: Any) -> str:
    with file.open("rb") as opened:
        while block := opened.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
