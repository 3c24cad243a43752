"""The properties of an XMP packet in which generators keep texts.

Source: XMP specification part 1 (RDF: a property is an element, or an attribute of rdf:Description, and may hold a
list of alternatives).
"""

from __future__ import annotations

from xml.parsers import expat

from .values import PADDING

MAX_PACKET = 4 * 2**20
"""What a packet with a picture in it may take, in characters."""

_PROPERTIES = {
    "http://purl.org/dc/elements/1.1/ description": "dc:description",
    "http://ns.adobe.com/exif/1.0/ UserComment": "exif:UserComment",
    "http://ns.adobe.com/tiff/1.0/ ImageDescription": "tiff:ImageDescription",
}

_ALTERNATIVE = "http://www.w3.org/1999/02/22-rdf-syntax-ns# li"


class _Refused(Exception):
    """The packet has a document type, which XMP has no use for and entity bombs need."""


def read_properties(packet: str) -> list[tuple[str, str]]:
    """(name, text) of the description and the comments. Empty where the packet is damaged, too big or no XML."""
    if len(packet) > MAX_PACKET:
        return []
    reader = _Reader()
    parser = expat.ParserCreate(encoding="utf-8", namespace_separator=" ")
    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = reader.refuse
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.text
    try:
        parser.Parse(packet.strip(PADDING).encode("utf-8", "replace"), True)
    except (expat.ExpatError, _Refused):
        return []
    return reader.found


class _Reader:
    """Collects the text inside of a wanted element; nothing is kept of the rest."""

    def __init__(self) -> None:
        self.found: list[tuple[str, str]] = []
        self._inside: str | None = None
        self._parts: list[str] = []

    def refuse(self, *_: object) -> None:
        raise _Refused

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if self._inside is None and name in _PROPERTIES:
            self._inside, self._parts = name, []
        self.found += [(_PROPERTIES[key], value) for key, value in attributes.items() if key in _PROPERTIES]

    def end(self, name: str) -> None:
        if self._inside is not None and name in (self._inside, _ALTERNATIVE):
            text = "".join(self._parts).strip()
            if text:
                self.found.append((_PROPERTIES[self._inside], text))
            self._parts = []
            self._inside = None if name == self._inside else self._inside

    def text(self, text: str) -> None:
        if self._inside is not None:
            self._parts.append(text)
