"""Where generators put their metadata in a file: every text, and all of them by PNG keyword."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from ..records import MetadataText
from . import png
from .exif import read_exif_texts
from .values import parse_json

SIDECAR_SUFFIXES = (".txt", ".json", ".swarm.json")
"""A sidecar of `name.png` is `name` or `name.png` with one of these behind it; the suffix is its text's name."""
MAX_SIDECAR_BYTES = 4 * 2**20
"""A bigger file beside a picture is no sidecar."""

_log = logging.getLogger(__name__)

NO_SIDECARS: Mapping[str, str] = MappingProxyType({})
_NAMED_JSON = re.compile(r"\s*(prompt|workflow)\s*:\s*(?=[{\"])", re.IGNORECASE)
_SETTINGS = re.compile(r"(?:^|\n)[ \t]{0,8}Steps: \d+, ")


class Keywords(dict[str, str]):
    """The texts of a file under the keywords that the same program uses in a PNG, and where each was read."""

    def __init__(self) -> None:
        super().__init__()
        self._origins: dict[str, MetadataText] = {}

    def offer(self, keyword: str, value: str, origin: MetadataText) -> None:
        """Take a text; the first of a keyword counts."""
        if keyword not in self:
            self[keyword] = value
            self._origins[keyword] = origin

    def where(self, keyword: str) -> str:
        """Where this keyword's text lies in the file, in words: "PNG text 'prompt'"."""
        origin = self._origins[keyword]
        return f"{_SOURCES.get(origin.source, origin.source)} {origin.name!r}"


_SOURCES = {"png": "PNG text", "exif": "EXIF", "sidecar": "the sidecar"}


def read_texts(data: bytes, sidecars: Mapping[str, str] = NO_SIDECARS) -> tuple[MetadataText, ...]:
    """The texts of a file of any kind, as they are, in the order in which they count.

    sidecars: the texts of the files beside it by suffix (see SIDECAR_SUFFIXES); they count after the file's own.
    Never raises: what is damaged is left out.
    """
    try:
        texts = [MetadataText("png", keyword, text) for keyword, text in png.read_texts(data)]
        texts += [MetadataText("exif", tag, text) for tag, text in read_exif_texts(data)]
    except Exception:
        _log.debug("The file's metadata could not be read.", exc_info=True)
        texts = []
    texts += [MetadataText("sidecar", suffix, text.removeprefix("\ufeff")) for suffix, text in sidecars.items()]
    return tuple(texts)


def by_keyword(texts: Iterable[MetadataText]) -> Keywords:
    """The texts by PNG keyword.

    A text of another source is taken only where its own form says what it is, so that a camera's maker, model and
    comment and a caption beside a picture are left alone.
    """
    found = Keywords()
    for origin in texts:
        if origin.source == "png":
            found.offer(origin.name, origin.text, origin)
        else:
            for keyword, value in _keywords_of(origin.text):
                found.offer(keyword, value, origin)
    return found


def _keywords_of(text: str) -> list[tuple[str, str]]:
    """What a text is: `prompt:{…}` and `workflow:{…}` as ComfyUI writes them, or the whole of a known form."""
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
