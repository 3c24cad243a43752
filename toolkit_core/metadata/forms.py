"""What a text is by its own form, wherever it lies: the PNG keywords under which its program would have put it."""

from __future__ import annotations

import json
import re
from typing import Any

from . import civitai, easydiffusion
from .drawthings import is_drawthings
from .fooocus import is_fooocus
from .infotext import parse_infotext
from .midjourney import is_job
from .novelai import is_novelai
from .swarmui import MARK as SWARMUI_MARK
from .values import MAX_JSON, PADDING, parse_json

OWN_KEYWORDS = (
    *("prompt", "workflow", "parameters", "generation_data", civitai.KEYWORD),
    *("invokeai_metadata", "invokeai_graph", "sd-metadata", "Dream"),
)
"""The keywords that one program alone writes; the text under any other counts by its form, too."""

_NAMED_JSON = re.compile(r"\s*(prompt|workflow)\s*:\s*(?=[{\"])", re.IGNORECASE)
_NOVELAI_KEYWORDS = ("Title", "Description", "Software", "Source", "Comment")


def keywords_of(text: str) -> list[tuple[str, str]]:
    """(PNG keyword, text) of a text in a known form; nothing for any other, so that a caption is never taken."""
    if len(text) > MAX_JSON:
        return []
    named = _NAMED_JSON.match(text)
    if named:
        return [(named[1].lower(), text[named.end() :])]
    value = parse_json(text) if text.lstrip(PADDING)[:1] in ("{", '"') else None
    if isinstance(value, dict):
        return _keywords_of_object(value, text) or _keywords_inside(value)
    if parse_infotext(text):
        return [("parameters", text)]
    if is_job(text):
        return [("Description", text)]
    if easydiffusion.fields_in(text):
        return [(easydiffusion.KEYWORD, text)]
    return []


def _keywords_of_object(value: dict[str, Any], text: str) -> list[tuple[str, str]]:
    if any(isinstance(node, dict) and "class_type" in node for node in value.values()):
        extra = _as_text(value.get(civitai.KEYWORD))
        return [("prompt", text), *([(civitai.KEYWORD, extra)] if extra else [])]
    if isinstance(value.get("nodes"), list):
        return [("workflow", text)]
    if SWARMUI_MARK in value or is_fooocus(value):
        return [("parameters", text)]
    if is_drawthings(value) or is_novelai(value):
        return [("Comment", text)]
    if "positive_prompt" in value and ("app_version" in value or "generation_mode" in value):
        return [("invokeai_metadata", text)]
    if "app_id" in value and "image" in value:
        return [("sd-metadata", text)]
    if easydiffusion.fields_in(text):
        return [(easydiffusion.KEYWORD, text)]
    if civitai.details_of(value):
        return [(civitai.KEYWORD, text)]
    return []


def _keywords_inside(value: dict[str, Any]) -> list[tuple[str, str]]:
    """Of an object that holds the texts of a PNG by keyword, those in a known form."""
    comment = parse_json(_as_text(value.get("Comment")) or "")
    if isinstance(comment, dict) and is_novelai(comment):
        texts = [(name, _as_text(value.get(name))) for name in _NOVELAI_KEYWORDS]
        return [(name, text) for name, text in texts if text]
    found: list[tuple[str, str]] = []
    for keyword in OWN_KEYWORDS:
        text = _as_text(value.get(keyword))
        inner = parse_json(text) if text and text.startswith(("{", '"')) else None
        if text and isinstance(inner, dict):
            found += _keywords_of_object(inner, text)
        elif text and keyword == "parameters" and parse_infotext(text):
            found.append((keyword, text))
    return found


def _as_text(value: Any) -> str | None:
    """A text, or the JSON of an object."""
    if isinstance(value, dict):
        try:
            return json.dumps(value)
        except RecursionError:
            return None
    return value if isinstance(value, str) else None
