"""Where generators put their metadata in a file: everything as one dictionary of texts, by PNG keyword."""

from __future__ import annotations

import re

from .exif import read_exif_texts
from .png import read_texts
from .values import parse_json

_NAMED_JSON = re.compile(r"\s*(prompt|workflow)\s*:\s*(?=[{\"])", re.IGNORECASE)
_SETTINGS = re.compile(r"(?:^|\n)[ \t]{0,8}Steps: \d+, ")


def read_metadata_texts(data: bytes) -> dict[str, str]:
    """The texts of a file of any kind, under the keywords that the same program uses in a PNG.

    The first text of a keyword counts; EXIF comes after PNG text. An EXIF text is taken only where its own form says
    what it is, so that a camera's maker, model and comment are left alone.
    """
    found: dict[str, str] = {}
    for keyword, text in read_texts(data):
        found.setdefault(keyword, text)
    for text in read_exif_texts(data):
        for keyword, value in _keywords_of(text):
            found.setdefault(keyword, value)
    return found


def _keywords_of(text: str) -> list[tuple[str, str]]:
    """What an EXIF text is: `prompt:{…}` and `workflow:{…}` as ComfyUI writes them, or the whole of a known form."""
    named = _NAMED_JSON.match(text)
    if named:
        return [(named[1].lower(), text[named.end() :])]
    if _SETTINGS.search(text):
        return [("parameters", text)]
    if not text.lstrip().startswith("{"):
        return []
    value = parse_json(text)
    if not isinstance(value, dict):
        return []
    if any(isinstance(node, dict) and "class_type" in node for node in value.values()):
        return [("prompt", text)]
    if isinstance(value.get("nodes"), list):
        return [("workflow", text)]
    if "base_model" in value:
        return [("parameters", text)]
    return []
