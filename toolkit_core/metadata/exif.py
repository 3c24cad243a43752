"""Texts out of EXIF, from JPEG, PNG, WebP, AVIF, HEIC and TIFF files.

Only the handful of tags that generators write are read, straight from the bytes: no decoder is started, nothing warns,
and a damaged file gives what is left of it.
Sources: Exif 2.32 (UserComment), TIFF 6.0, the WebP container specification, ISO/IEC 14496-12 (meta, iinf, iloc).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from .png import chunks, decode_text, is_png

ByteOrder = Literal["little", "big"]

_EXIF_IFD = 0x8769
_USER_COMMENT = 0x9286
_XP_COMMENT = 0x9C9C
_TEXT_TAGS = {0x010E: "ImageDescription", 0x010F: "Make", 0x0110: "Model"}
_WANTED_TAGS = {_EXIF_IFD, _USER_COMMENT, _XP_COMMENT, *_TEXT_TAGS}
_TYPE_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 7: 1, 13: 4}
_MAX_ENTRIES = 4096
_MAX_BOXES = 4096


def read_exif_texts(data: bytes) -> list[tuple[str, str]]:
    """(tag's name, text) of ImageDescription, Make, Model, UserComment and XPComment, in the file's order."""
    texts: list[tuple[str, str]] = []
    for block in _exif_blocks(data):
        header = block.removeprefix(b"Exif\0\0")
        if header.startswith(b"II*\0"):
            texts.extend(_texts_of_tiff(header, "little"))
        elif header.startswith(b"MM\0*"):
            texts.extend(_texts_of_tiff(header, "big"))
    return [(tag, text) for tag, text in texts if text]


def _texts_of_tiff(tiff: bytes, order: ByteOrder) -> Iterator[tuple[str, str]]:
    first = _directory(tiff, int.from_bytes(tiff[4:8], order), order)
    second = _directory(tiff, int.from_bytes(first.get(_EXIF_IFD, b""), order), order)
    for tag, raw in {**second, **first}.items():
        if tag == _USER_COMMENT:
            yield "UserComment", decode_user_comment(raw, order)
        elif tag == _XP_COMMENT:
            yield "XPComment", raw.decode("utf-16-le", "replace").rstrip("\0")
        elif tag in _TEXT_TAGS:
            yield _TEXT_TAGS[tag], decode_text(raw.rstrip(b"\0"))


def _directory(tiff: bytes, offset: int, order: ByteOrder) -> dict[int, bytes]:
    """The value bytes of the wanted tags of one image file directory; the first entry of a tag counts."""
    values: dict[int, bytes] = {}
    count = min(int.from_bytes(tiff[offset : offset + 2], order), _MAX_ENTRIES) if offset else 0
    for index in range(count):
        at = offset + 2 + 12 * index
        entry = tiff[at : at + 12]
        if len(entry) < 12:
            break
        tag = int.from_bytes(entry[:2], order)
        if tag in values or tag not in _WANTED_TAGS:
            continue
        size = _TYPE_SIZES.get(int.from_bytes(entry[2:4], order), 0) * int.from_bytes(entry[4:8], order)
        where = int.from_bytes(entry[8:12], order)
        values[tag] = entry[8 : 8 + size] if size <= 4 else tiff[where : where + size]
    return values


def decode_user_comment(raw: bytes, order: ByteOrder) -> str:
    """The text of a UserComment: eight bytes that name its character code, then the text; some programs omit them."""
    prefix, text = raw[:8], raw[8:]
    if prefix == b"UNICODE\0":
        return _decode_utf16(text, order)
    if prefix not in (b"ASCII\0\0\0", b"JIS\0\0\0\0\0", bytes(8)):
        text = raw
    if text[:2] in (b"\xff\xfe", b"\xfe\xff") or text.count(0, 0, 256) > min(len(text), 256) // 4:
        return _decode_utf16(text, order)
    return decode_text(text.rstrip(b"\0"))


def _decode_utf16(text: bytes, order: ByteOrder) -> str:
    """By its byte order mark; else by where the zero bytes are; else as the file itself is ordered.

    The standard says the file's order, but most writers use big-endian whatever the file is, so the text decides.
    """
    if text[:2] in (b"\xff\xfe", b"\xfe\xff"):
        order, text = "little" if text[0] == 0xFF else "big", text[2:]
    else:
        zeros_first, zeros_second = text[::2].count(0), text[1::2].count(0)
        if zeros_first != zeros_second:
            order = "big" if zeros_first > zeros_second else "little"
    return text.decode("utf-16-le" if order == "little" else "utf-16-be", "replace").rstrip("\0")


def _exif_blocks(data: bytes) -> Iterator[bytes]:
    if is_png(data):
        yield from (bytes(chunk.data) for chunk in chunks(data) if chunk.kind == b"eXIf")
    elif data.startswith(b"\xff\xd8"):
        yield from _jpeg_blocks(data)
    elif data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        yield from _webp_blocks(data)
    elif data[4:8] == b"ftyp":
        yield from _isobmff_blocks(data)
    elif data[:4] in (b"II*\0", b"MM\0*"):
        yield data


def _jpeg_blocks(data: bytes) -> Iterator[bytes]:
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:
            at += 1
            continue
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == 0xDA or length < 2:  # the scan: no more headers
            return
        if marker == 0xE1 and data[at + 4 : at + 10] == b"Exif\0\0":
            yield data[at + 10 : at + 2 + length]
        at += 2 + length


def _webp_blocks(data: bytes) -> Iterator[bytes]:
    at = 12
    while at + 8 <= len(data):
        length = int.from_bytes(data[at + 4 : at + 8], "little")
        if data[at : at + 4] == b"EXIF":
            yield data[at + 8 : at + 8 + length]
        at += 8 + length + length % 2


def _boxes(data: bytes, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """(kind, start and end of the content) of each ISO base media box between two offsets."""
    for _ in range(_MAX_BOXES):
        if start + 8 > end:
            return
        size, kind, header = int.from_bytes(data[start : start + 4], "big"), data[start + 4 : start + 8], 8
        if size == 1:
            size, header = int.from_bytes(data[start + 8 : start + 16], "big"), 16
        elif size == 0:
            size = end - start
        if size < header or start + size > end:
            return
        yield kind, start + header, start + size
        start += size


def _isobmff_blocks(data: bytes) -> Iterator[bytes]:
    for kind, start, end in _boxes(data, 0, len(data)):
        if kind != b"meta":
            continue
        inner = {box: (first, last) for box, first, last in _boxes(data, start + 4, end)}
        if b"iinf" not in inner or b"iloc" not in inner:
            continue
        items = _exif_items(data, *inner[b"iinf"])
        block = _item(data, *inner[b"iloc"], items)
        yield block[4 + int.from_bytes(block[:4], "big") :]
        return


def _exif_items(data: bytes, start: int, end: int) -> set[int]:
    """The item ids of kind Exif in an iinf box."""
    items: set[int] = set()
    for kind, first, _ in _boxes(data, start + (6 if data[start : start + 1] == b"\0" else 8), end):
        if kind != b"infe":
            continue
        width = 2 if data[first : first + 1] == b"\x02" else 4
        if data[first + 6 + width : first + 10 + width] == b"Exif":
            items.add(int.from_bytes(data[first + 4 : first + 4 + width], "big"))
    return items


def _item(data: bytes, start: int, end: int, items: set[int]) -> bytes:
    """The bytes of the first of these items that an iloc box places in the file; empty where it places none."""
    at = start

    def take(size: int) -> int:
        nonlocal at
        at += size
        return int.from_bytes(data[at - size : at], "big")

    version, _, sizes, more_sizes = take(1), take(3), take(1), take(1)
    offset_size, length_size, base_size = sizes >> 4, sizes & 15, more_sizes >> 4
    index_size = more_sizes & 15 if version else 0
    id_size = 4 if version == 2 else 2
    for _ in range(take(id_size)):
        if at > end:
            break
        item = take(id_size)
        take(4 if version else 2)  # construction method, data reference
        offset = take(base_size)
        extents = take(2)
        if item in items and extents:
            take(index_size)
            offset += take(offset_size)
            return data[offset : offset + take(length_size)]
        at += extents * (index_size + offset_size + length_size)
    return b""
