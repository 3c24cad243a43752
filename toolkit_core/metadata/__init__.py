"""What an image was made with, read from the bytes of its file.

Two steps: `read_texts` takes the texts out of a file as they are, `read_parameters` makes sense of them. The texts are
kept in the library, so that a better second step can be taken again without the files.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from ..records import GenerationParameters, MetadataReading, MetadataText
from .automatic1111 import read_automatic1111
from .carriers import MAX_SIDECAR_BYTES, NO_SIDECARS, SIDECAR_SUFFIXES, by_keyword, read_texts
from .comfyui import read_comfyui
from .other_generators import read_fooocus, read_invokeai, read_midjourney, read_novelai
from .values import has_content

if TYPE_CHECKING:
    from .comfyui_types import NodeTypes

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

_OTHER_READERS = (read_fooocus, read_automatic1111, read_invokeai, read_novelai, read_midjourney)


def read_generation_parameters(data: bytes, sidecars: Mapping[str, str] = NO_SIDECARS) -> GenerationParameters:
    """Read the generation parameters out of a whole image file of any kind, and out of the sidecars beside it.

    Never raises; see `read_texts` and `read_parameters`.
    """
    return read_parameters(read_texts(data, sidecars)).parameters


def read_parameters(texts: Sequence[MetadataText], node_types: NodeTypes | None = None) -> MetadataReading:
    """Make sense of the texts of a file.

    node_types: what a running ComfyUI says of its nodes, for the walk of a graph.
    Returns the first reader's that found a prompt, else the first that found anything, down to a generator's name; all
    None where the file says nothing. Never raises: what can't be read is logged at debug level and left out. Texts are
    as the file has them, lone surrogates and NUL characters included.
    """
    keywords = by_keyword(texts)
    found: list[MetadataReading] = []
    for read in (partial(read_comfyui, node_types=node_types), *_OTHER_READERS):
        try:
            reading = read(keywords)
        except Exception:  # from sd-parsers, on metadata of an unexpected shape
            _log.debug("%s could not read this metadata.", read, exc_info=True)
            continue
        if reading and reading.parameters.prompt:
            return reading
        if reading:
            found.append(reading)
    nothing = MetadataReading(GenerationParameters())
    return next((reading for reading in found if has_content(reading.parameters)), (*found, nothing)[0])
