"""PNG chunks straight from the bytes: the texts, and a copy without the chunks that are damaged.

Source: Portable Network Graphics Specification (Third Edition), sections 5 and 11.3.3.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import NamedTuple

SIGNATURE = b"\x89PNG\r\n\x1a\n"
MAX_TEXT_BYTES = 16 * 2**20
"""What the compressed texts of one file may unpack to, all together."""

_ANCILLARY = 0x20
_PLAIN_TEXT = (b"tEXt", b"comf")


class Chunk(NamedTuple):
    """One whole chunk. `start` and `end` enclose its length, type, data and CRC."""

    kind: bytes
    data: memoryview
    crc: int
    start: int
    end: int

    @property
    def is_damaged(self) -> bool:
        return zlib.crc32(self.data, zlib.crc32(self.kind)) != self.crc


def is_png(data: bytes) -> bool:
    return data.startswith(SIGNATURE)


def chunks(data: bytes) -> Iterator[Chunk]:
    """Every whole chunk up to IEND, or to where the file is cut off or is no chunk any more."""
    if not is_png(data):
        return
    view = memoryview(data)
    start = len(SIGNATURE)
    while start + 12 <= len(data):
        length = int.from_bytes(view[start : start + 4], "big")
        kind = bytes(view[start + 4 : start + 8])
        end = start + 12 + length
        if end > len(data) or not (kind.isascii() and kind.isalpha()):
            return
        yield Chunk(kind, view[start + 8 : end - 4], int.from_bytes(view[end - 4 : end], "big"), start, end)
        if kind == b"IEND":
            return
        start = end


def read_texts(data: bytes) -> list[tuple[str, str]]:
    """(keyword, text) of every tEXt, zTXt and iTXt chunk in order, also after IDAT, whatever its CRC says.

    ComfyUI's SaveAnimatedPNG writes what would be tEXt into "comf" chunks.
    """
    texts: list[tuple[str, str]] = []
    budget = MAX_TEXT_BYTES
    for chunk in chunks(data):
        if chunk.kind not in (*_PLAIN_TEXT, b"zTXt", b"iTXt"):
            continue
        keyword, _, rest = bytes(chunk.data).partition(b"\0")
        if chunk.kind in _PLAIN_TEXT:
            raw: bytes | None = rest
        elif chunk.kind == b"zTXt":
            raw = _inflate(rest[1:], budget)
        else:
            raw = _international_text(rest, budget)
        if raw is None:
            continue
        if chunk.kind not in _PLAIN_TEXT:
            budget -= len(raw)
        texts.append((keyword.decode("latin-1"), decode_text(raw)))
    return texts


def without_damaged_chunks(data: bytes) -> bytes:
    """A PNG without its ancillary chunks whose CRC is wrong, so that Pillow can open it.

    Returns the same object when nothing is damaged, and when `data` is no PNG. Pillow refuses a file for any wrong CRC,
    and some programs edit text chunks in place.
    """
    damaged = [chunk for chunk in chunks(data) if chunk.kind[0] & _ANCILLARY and chunk.is_damaged]
    if not damaged:
        return data
    parts: list[memoryview] = []
    view = memoryview(data)
    start = 0
    for chunk in damaged:
        parts.append(view[start : chunk.start])
        start = chunk.end
    parts.append(view[start:])
    return b"".join(parts)


def decode_text(raw: bytes) -> str:
    """UTF-8 where it is valid UTF-8, else Latin-1: many programs write UTF-8 where Latin-1 is asked for."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def _international_text(rest: bytes, budget: int) -> bytes | None:
    """The text of an iTXt chunk after its keyword: two flags, language, translated keyword, text."""
    if len(rest) < 2:
        return None
    compressed = rest[0] == 1
    _, _, rest = rest[2:].partition(b"\0")
    _, separator, text = rest.partition(b"\0")
    if not separator:
        return None
    return _inflate(text, budget) if compressed else text


def _inflate(packed: bytes, limit: int) -> bytes | None:
    """At most `limit` bytes; None where there are more, or where it is no zlib stream."""
    if limit <= 0:
        return None
    unpacker = zlib.decompressobj()
    try:
        raw = unpacker.decompress(packed, limit)
    except zlib.error:
        return None
    return None if unpacker.unconsumed_tail else raw
