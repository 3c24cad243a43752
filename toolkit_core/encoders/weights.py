"""Where the weights of each space are, and the encoder that a place makes."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import EncoderError, WeightsMissing
from ..spaces import SPACES
from .base import Encoder
from .bge import BgeEncoder, model_file
from .clip import ClipTextEncoder, ClipVisionEncoder
from .clip_checkpoint import read_contents
from .replicas import ImageReplicas, TextReplicas

log = logging.getLogger(__name__)

SEARCH_DEPTH = 3

NEEDS = {
    "bge": "BAAI/bge-large-en-v1.5 as ONNX: a folder with onnx/model.onnx and its tokenizer (1.3 GB). "
    "`diffusion-toolkit models download bge` gets it.",
    "clip_h": "CLIP ViT-H/14 laion2B-s32B-b79K, one safetensors file (2.5 GB, or 3.9 GB with the text tower, "
    "by which a text finds pictures). ComfyUI users have it in models/clip_vision; "
    "`diffusion-toolkit models download clip_h` gets it with both towers.",
    "clip_l": "CLIP-L, the text encoder of SD1, SDXL and FLUX, one safetensors file (0.25 GB), such as "
    "clip_l.safetensors. It comes with ComfyUI's models (models/text_encoders), or name an SDXL checkpoint.",
    "clip_g": "CLIP-G, the second text encoder of SDXL and SD3, one safetensors file (1.4 GB), such as "
    "clip_g.safetensors. It comes with ComfyUI's models (models/text_encoders), or name an SDXL checkpoint.",
}

# Stems that are known to be the right weights, best first; letter case and the signs between words do not matter.
KNOWN_NAMES: dict[str, tuple[str, ...]] = {
    "bge": ("bge-large-en-v1.5", "bge-large-en-v1-5", "bge"),
    "clip_h": (
        "CLIP-ViT-H-14-laion2B-s32B-b79K",
        "clip_vision_h",
        "clip_h",
        "open_clip_model",
        "open_clip_pytorch_model",
        "ip-adapter-image-encoder",
    ),
    "clip_l": ("clip_l",),
    "clip_g": ("clip_g",),
}


@dataclass(frozen=True)
class WeightsLocation:
    """What was found for one space.

    path: a safetensors file, or BGE's folder; None when nothing usable was found.
    problem: why there is no path; None when there is one.
    needs: the model in words: what it is, its size, where to get it.
    looked_in: the folders and files that were looked at.
    """

    space: str
    path: Path | None
    problem: str | None
    needs: str
    looked_in: tuple[Path, ...]


@dataclass(frozen=True)
class _Candidates:
    """The files and folders that could serve each space, and why others that were looked at could not be read."""

    usable: dict[str, list[Path]] = field(default_factory=lambda: {space: [] for space in SPACES})
    unreadable: list[str] = field(default_factory=list)


def find_weights(folders: Sequence[Path], files: Mapping[str, Path] | None = None) -> dict[str, WeightsLocation]:
    """Look for the weights of all four spaces, in what is named for a space in `files`, else in `folders`.

    Folders are searched three levels deep, by content: a file's name only decides among several. Full checkpoints are
    taken only when named. Never raises for what it finds or fails to find: see `WeightsLocation.problem`.
    """
    files = files or {}
    candidates = _candidates(folders) if any(space not in files for space in SPACES) else _Candidates()
    return {
        space: _named(space, Path(files[space])) if space in files else _chosen(space, candidates, folders)
        for space in SPACES
    }


def make_encoder(location: WeightsLocation, device: str | None = None, dtype: str | None = None) -> Encoder:
    """An encoder, not yet loaded; see the encoders for `device` and `dtype` (BGE's dtype is its graph's own).

    device: of several, with commas between them, each has a replica, and they share the work.
    Raises WeightsMissing, with the places that were looked at, when the location has no path.
    """
    if location.path is None:
        places = ", ".join(map(str, location.looked_in)) or "no folder (none is set)"
        raise WeightsMissing(
            f"No weights for {location.space}: {location.problem} Looked in {places}. Needed: {location.needs}"
        )
    devices = [None] if device is None else [name.strip() for name in device.split(",")]
    if location.space == "clip_h":
        pictures = [ClipVisionEncoder(location.path, name, dtype) for name in devices]
        return pictures[0] if len(pictures) == 1 else ImageReplicas(pictures)
    texts = [
        BgeEncoder(location.path, name)
        if location.space == "bge"
        else ClipTextEncoder(location.space, location.path, name, dtype)
        for name in devices
    ]
    return texts[0] if len(texts) == 1 else TextReplicas(texts)


def _named(space: str, path: Path) -> WeightsLocation:
    """Weights that a person named: a file or folder, or a folder to take an only candidate from."""
    path = path.expanduser()
    problem: str | None = None
    if not path.exists():
        problem = f"{path}, which is set for {space}, does not exist."
    elif path.is_dir():
        return _chosen(space, _candidates([path]), [path])
    elif space == "bge":
        # The graph itself may be named; the tokenizer lies beside it or one folder up.
        folder = path.parent.parent if path.parent.name == "onnx" else path.parent
        if model_file(folder) is None:
            problem = f"{path}, which is set for bge, is not BGE's folder nor its model.onnx."
        path = folder
    else:
        try:
            if space not in read_contents(path).spaces:
                problem = f"{path}, which is set for {space}, holds no weights for it."
        except EncoderError as error:
            problem = str(error)
    return WeightsLocation(space, None if problem else path, problem, NEEDS[space], (path,))


def _chosen(space: str, candidates: _Candidates, folders: Sequence[Path]) -> WeightsLocation:
    looked_in = tuple(folders)
    found = candidates.usable[space]
    known = [_plain_name(name) for name in KNOWN_NAMES[space]]
    best = min((known.index(_name(path)) for path in found if _name(path) in known), default=None)
    named = [path for path in found if best is not None and _name(path) == known[best]]
    # Two files of one known name are the same weights in two places: the first folder wins.
    if named or len(found) == 1:
        return WeightsLocation(space, (named or found)[0], None, NEEDS[space], looked_in)
    if not found:
        problem = " ".join(("none was found.", *candidates.unreadable))
        return WeightsLocation(space, None, problem, NEEDS[space], looked_in)
    names = ", ".join(map(str, found))
    problem = (
        f"{len(found)} files could serve it, and their names don't tell which is meant: {names}. "
        f"Name one in the settings file under [weights]: {space} = PATH."
    )
    return WeightsLocation(space, None, problem, NEEDS[space], looked_in)


def _name(path: Path) -> str:
    # A hub repository's own folder name tells more than "model.safetensors" in it.
    stem = path.name if path.is_dir() else path.stem
    return _plain_name(path.parent.name if stem in ("model", "model.fp16") else stem)


def _plain_name(name: str) -> str:
    return "".join(c for c in name.lower() if c.isalnum())


def _candidates(folders: Sequence[Path]) -> _Candidates:
    found = _Candidates()
    for folder in folders:
        for path in _walk(folder.expanduser(), SEARCH_DEPTH, set()):
            if path.is_dir():
                found.usable["bge"].append(path)
                continue
            try:
                contents = read_contents(path)
            except EncoderError as error:
                found.unreadable.append(str(error))
                continue
            if not contents.is_checkpoint:
                for space in contents.spaces:
                    found.usable[space].append(path)
    return found


def _walk(folder: Path, depth: int, seen: set[str]) -> Iterator[Path]:
    """BGE folders and safetensors files under a folder, each real folder once, in the order of their names."""
    real = os.path.realpath(folder)
    if real in seen:
        return
    seen.add(real)
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        log.debug("Not searched for weights: %s", error)
        return
    if _is_bge_folder(folder):
        yield folder
    for entry in entries:
        if entry.suffix.lower() == ".safetensors" and entry.is_file():
            yield entry
        elif depth and entry.name != "onnx" and not entry.name.startswith(".") and entry.is_dir():
            yield from _walk(entry, depth - 1, seen)


def _is_bge_folder(folder: Path) -> bool:
    """A graph with a BERT tokenizer beside it; whether it is 1024 wide shows when it is loaded."""
    return model_file(folder) is not None and (folder / "tokenizer.json").is_file()
