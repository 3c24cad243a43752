"""What an image was made with, read from the bytes of its file."""

from __future__ import annotations

import logging

from ..records import GenerationParameters
from .automatic1111 import read_automatic1111
from .carriers import read_metadata_texts
from .comfyui import read_comfyui
from .other_generators import read_fooocus, read_invokeai, read_midjourney, read_novelai
from .values import has_content

__all__ = ["read_generation_parameters"]

_log = logging.getLogger(__name__)

_READERS = (read_comfyui, read_fooocus, read_automatic1111, read_invokeai, read_novelai, read_midjourney)


def read_generation_parameters(data: bytes) -> GenerationParameters:
    """Read the generation parameters out of a whole image file of any kind.

    Returns the first reader's that found a prompt, else the first that found anything, down to a generator's name; all
    None where the file says nothing. Never raises: what can't be read is logged at debug level and left out. Texts are
    as the file has them, lone surrogates and NUL characters included.
    """
    try:
        texts = read_metadata_texts(data)
    except Exception:
        _log.debug("The file's metadata could not be read.", exc_info=True)
        return GenerationParameters()
    found: list[GenerationParameters] = []
    for read in _READERS:
        try:
            parameters = read(texts)
        except Exception:  # from sd-parsers, on metadata of an unexpected shape
            _log.debug("%s could not read this metadata.", read.__name__, exc_info=True)
            continue
        if parameters and parameters.prompt:
            return parameters
        if parameters:
            found.append(parameters)
    return next((parameters for parameters in found if has_content(parameters)), (*found, GenerationParameters())[0])
