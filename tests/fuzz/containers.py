"""Changes to image files that leave their container whole: chunks, segments and boxes, with right lengths and CRCs."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from random import Random

from tests.metadata.conftest import SIGNATURE, png_chunk
from toolkit_core.metadata.png import chunks, is_png

from .trees import MutateBytes

Part = tuple[bytes, bytes]
"""The kind and the content of a chunk, segment or box."""

_PNG_KINDS = (b"tEXt", b"zTXt", b"iTXt", b"eXIf", b"IEND", b"IDAT", b"IHDR")
_WEBP_KINDS = (b"EXIF", b"XMP ", b"VP8X", b"ALPH", b"VP8L")
_JPEG_KINDS = (b"\xff\xe1", b"\xff\xfe", b"\xff\xed", b"\xff\xda", b"\xff\xe0", b"\xff\xd9")
_BOX_KINDS = (b"meta", b"iinf", b"iloc", b"infe", b"mdat", b"ftyp", b"uuid")
_KINDS = {"png": _PNG_KINDS, "webp": _WEBP_KINDS, "jpeg": _JPEG_KINDS, "boxes": _BOX_KINDS}


class FileMutator:
    """Changes the parts of a file, or its bytes where it is no known container."""

    def __init__(self, donors: Sequence[bytes], words: Sequence[str], mutate_bytes: MutateBytes) -> None:
        """`donors` are files whose parts may be taken over, `words` what a keyword may be."""
        self._donors = [part for data in donors for part in _parts(data)]
        self._words = [word.encode() for word in words]
        self._mutate_bytes = mutate_bytes

    def mutate(self, data: bytes, max_size: int, random: Random) -> bytes:
        parts = _parts(data)
        if not parts or random.random() < 0.4:
            return self._mutate_bytes(data, max_size)
        at = random.randrange(len(parts))
        kind, content = parts[at]
        way = random.randrange(7)
        if way == 0:
            del parts[at]
        elif way == 1:
            parts[at:at] = [parts[at]] * random.choice((1, 2, 100))
        elif way == 2:
            parts.insert(at, random.choice(self._donors))
        elif way == 3:
            parts[at] = (random.choice(_KINDS[format_of(data)]), content)
        elif way == 4:
            parts[at] = (kind, self._with_keyword(kind, content, random))
        else:
            parts[at] = (kind, self._changed(kind, content, random))
        return _joined(format_of(data), parts)[:max_size]

    def _with_keyword(self, kind: bytes, content: bytes, random: Random) -> bytes:
        if kind not in (b"tEXt", b"zTXt", b"iTXt"):
            return self._mutate_bytes(content, len(content) + 64)
        return random.choice(self._words) + b"\0" + content.partition(b"\0")[2]

    def _changed(self, kind: bytes, content: bytes, random: Random) -> bytes:
        """Change a content, and a packed text inside its packing."""
        keyword, _, rest = content.partition(b"\0")
        if kind == b"zTXt" and random.random() < 0.7:
            try:
                text = zlib.decompressobj().decompress(rest[1:], 2**18)
            except zlib.error:
                text = b""
            text = self._mutate_bytes(text, len(text) + 64) * random.choice((1, 1, 1, 40))
            return keyword + b"\0\0" + zlib.compress(text[: 2**22], 1)
        return self._mutate_bytes(content, len(content) + 64)


def format_of(data: bytes) -> str:
    if is_png(data):
        return "png"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    if data[:2] == b"\xff\xd8":
        return "jpeg"
    return "boxes" if data[4:8] == b"ftyp" else "bytes"


def _parts(data: bytes) -> list[Part]:
    parts: list[Part] = []
    kind = format_of(data)
    if kind == "png":
        return [(chunk.kind, bytes(chunk.data)) for chunk in chunks(data)]
    at = {"webp": 12, "jpeg": 2, "boxes": 0}.get(kind, len(data))
    while at + 8 <= len(data):
        if kind == "webp":
            length = int.from_bytes(data[at + 4 : at + 8], "little")
            parts.append((data[at : at + 4], data[at + 8 : at + 8 + length]))
            at += 8 + length + length % 2
        elif kind == "jpeg":
            length = max(2, int.from_bytes(data[at + 2 : at + 4], "big"))
            parts.append((data[at : at + 2], data[at + 4 : at + 2 + length]))
            at += 2 + length
        else:
            length = max(8, int.from_bytes(data[at : at + 4], "big"))
            parts.append((data[at + 4 : at + 8], data[at + 8 : at + length]))
            at += length
    return parts


def _joined(container: str, parts: Sequence[Part]) -> bytes:
    if container == "png":
        return SIGNATURE + b"".join(png_chunk(kind, content) for kind, content in parts)
    if container == "webp":
        pieces = [kind + struct.pack("<I", len(content)) + content + bytes(len(content) % 2) for kind, content in parts]
        body = b"WEBP" + b"".join(pieces)
        return b"RIFF" + struct.pack("<I", len(body)) + body
    if container == "jpeg":
        pieces = [kind + struct.pack(">H", min(len(content) + 2, 0xFFFF)) + content for kind, content in parts]
        return b"\xff\xd8" + b"".join(pieces)
    return b"".join(struct.pack(">I", len(content) + 8) + kind + content for kind, content in parts)
