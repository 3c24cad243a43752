"""Where generators put their metadata in a file: every text, and all of them by PNG keyword."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

from ..records import MetadataText
from . import png, xmp
from .containers import Block, blocks, raw_profile
from .exif import XMP, read_exif_texts
from .forms import OWN_KEYWORDS, keywords_of
from .values import parse_json

SIDECAR_SUFFIXES = (".txt", ".json", ".swarm.json")
"""A sidecar of `name.png` is `name` or `name.png` with one of these behind it; the suffix is its text's name."""
MAX_SIDECAR_BYTES = 4 * 2**20
"""A bigger file beside a picture is no sidecar."""

_log = logging.getLogger(__name__)


class Keywords(dict[str, str]):
    """The texts of a file under the keywords that the same program uses in a PNG, and where each was read."""

    def __init__(self) -> None:
        super().__init__()
        self._origins: dict[str, MetadataText] = {}
        self._values: dict[str, Any] = {}

    def offer(self, keyword: str, value: str, origin: MetadataText) -> None:
        """Take a text; the first of a keyword counts."""
        if keyword not in self:
            self[keyword] = value
            self._origins[keyword] = origin

    def json(self, keyword: str) -> Any:
        """The JSON value of a keyword's text, parsed once; None where there is no such text or it is no JSON."""
        if keyword not in self._values:
            self._values[keyword] = parse_json(self.get(keyword, ""))
        return self._values[keyword]

    def where(self, keyword: str) -> str:
        """Where this keyword's text lies in the file, in words: "PNG text 'prompt'"."""
        origin = self._origins[keyword]
        return f"{_SOURCES.get(origin.source, origin.source)} {origin.name!r}"


_SOURCES = {
    "png": "PNG text",
    "exif": "EXIF",
    "xmp": "XMP",
    "comment": "comment",
    "stealth": "hidden text",
    "sidecar": "the sidecar",
}
_XMP_KEYWORD = "XML:com.adobe.xmp"


def read_file_texts(data: bytes) -> list[MetadataText]:
    """The texts of a file of any kind, as they are, in the order in which they count.

    Never raises: what is damaged is left out.
    """
    texts: list[MetadataText] = []
    try:
        for keyword, text in png.read_texts(data):
            profile = raw_profile(keyword, text)
            if profile:
                texts += _texts_of(profile)
            else:
                texts.append(MetadataText("xmp" if keyword == _XMP_KEYWORD else "png", keyword, text))
        for block in blocks(data):
            texts += _texts_of(block)
    except Exception:
        _log.debug("The file's metadata could not be read.", exc_info=True)
    return texts


def _texts_of(block: Block) -> list[MetadataText]:
    if block.kind == "exif":
        pairs = read_exif_texts(block.data)
        return [MetadataText("xmp" if tag == XMP else "exif", tag, text) for tag, text in pairs]
    text = png.decode_text(block.data.rstrip(b"\0"))
    return [MetadataText(block.kind, block.kind, text)] if text else []


def by_keyword(texts: Iterable[MetadataText]) -> Keywords:
    """The texts by PNG keyword.

    PNG's own keywords count first. Any other text is taken only where its own form says what it is, so that a camera's
    maker, model and comment and a caption beside a picture are left alone.
    """
    texts = tuple(texts)
    found = Keywords()
    for text in texts:
        if text.source == "png":
            found.offer(text.name, text.text, text)
    for text in texts:
        if text.source == "png" and text.name in OWN_KEYWORDS:
            continue
        try:
            for part in _properties_of(text) if text.source == "xmp" else (text,):
                for keyword, value in keywords_of(part.text):
                    found.offer(keyword, value, part)
        except Exception:
            _log.debug("The form of %s could not be told.", text.name, exc_info=True)
    return found


def _properties_of(packet: MetadataText) -> list[MetadataText]:
    return [MetadataText(packet.source, name, text) for name, text in xmp.read_properties(packet.text)]
