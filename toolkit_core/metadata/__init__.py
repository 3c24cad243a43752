"""What an image was made with, read from the bytes of its file.

Two steps: `read_texts` takes the texts out of a file as they are, `read_parameters` makes sense of them. The texts are
kept in the library, so that a better second step can be taken again without the files.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING

from ..records import GenerationParameters, MetadataReading, MetadataText
from .automatic1111 import read_automatic1111
from .carriers import MAX_SIDECAR_BYTES, SIDECAR_SUFFIXES, by_keyword, read_file_texts
from .civitai import read_civitai
from .comfyui import read_comfyui
from .drawthings import read_drawthings
from .easydiffusion import read_easydiffusion
from .fooocus import read_fooocus
from .forms import OWN_KEYWORDS
from .invokeai import read_invokeai
from .midjourney import read_midjourney
from .novelai import read_novelai
from .stealth import may_hide_text, read_hidden_text
from .swarmui import read_swarmui
from .values import has_content

if TYPE_CHECKING:
    from .comfyui.types import NodeTypes

__all__ = [
    "MAX_SIDECAR_BYTES",
    "READER_VERSION",
    "SIDECAR_SUFFIXES",
    "read_generation_parameters",
    "read_parameters",
    "read_texts",
]

READER_VERSION = 1
"""Raised when `read_parameters` makes something else of the same texts, so that libraries know what to read again."""

_log = logging.getLogger(__name__)

_OTHER_READERS = (
    read_swarmui,
    read_fooocus,
    read_automatic1111,
    read_invokeai,
    read_novelai,
    read_drawthings,
    read_easydiffusion,
    read_civitai,
    read_midjourney,
)
_NO_SIDECARS: Mapping[str, str] = MappingProxyType({})


def read_generation_parameters(data: bytes, sidecars: Mapping[str, str] = _NO_SIDECARS) -> GenerationParameters:
    """Read the generation parameters out of a whole image file of any kind, and out of the sidecars beside it.

    Never raises; see `read_texts` and `read_parameters`.
    """
    return read_parameters(read_texts(data, sidecars)).parameters


def read_texts(data: bytes, sidecars: Mapping[str, str] = _NO_SIDECARS) -> tuple[MetadataText, ...]:
    """The texts of a file of any kind, as they are, in the order in which they count.

    sidecars: the texts of the files beside it by suffix (see SIDECAR_SUFFIXES); they count after the file's own.
    The pixels are searched only where the file's own texts say no prompt. Never raises: what is damaged is left out.
    """
    texts = read_file_texts(data)
    if may_hide_text(data) and not _says_a_prompt(texts) and (hidden := read_hidden_text(data)):
        texts.append(MetadataText("stealth", *hidden))
    texts += [MetadataText("sidecar", suffix, text.removeprefix("\ufeff")) for suffix, text in sidecars.items()]
    return tuple(texts)


def _says_a_prompt(texts: Sequence[MetadataText]) -> bool:
    """Whether a generator's own keyword is there, which is not read twice to know it, or else a prompt."""
    return any(text.name in OWN_KEYWORDS for text in texts) or bool(read_parameters(texts).parameters.prompt)


def read_parameters(texts: Sequence[MetadataText], node_types: NodeTypes | None = None) -> MetadataReading:
    """Make sense of the texts of a file.

    node_types: what a running ComfyUI says of its nodes, for the walk of a graph.
    Returns the first reader's that found a prompt, else the first that found anything, down to a generator's name; all
    None where the file says nothing. Sidecars count where the file itself says no prompt. Never raises: what can't be
    read is logged at debug level and left out. Texts are as the file has them, lone surrogates and NUL characters
    included.
    """
    own = _read([text for text in texts if text.source != "sidecar"], node_types)
    sidecars = [text for text in texts if text.source == "sidecar"]
    if own.parameters.prompt or not sidecars:
        return own
    beside = _read(sidecars, node_types)
    more = has_content(beside.parameters) and not has_content(own.parameters)
    return beside if beside.parameters.prompt or more else own


def _read(texts: Sequence[MetadataText], node_types: NodeTypes | None) -> MetadataReading:
    keywords = by_keyword(texts)
    found: list[MetadataReading] = []
    for read in (partial(read_comfyui, node_types=node_types), *_OTHER_READERS):
        try:
            reading = read(keywords)
        except Exception:
            _log.debug("%s could not read this metadata.", read, exc_info=True)
            continue
        if reading and reading.parameters.prompt:
            return reading
        if reading:
            found.append(reading)
    nothing = MetadataReading(GenerationParameters())
    return next((reading for reading in found if has_content(reading.parameters)), (*found, nothing)[0])
