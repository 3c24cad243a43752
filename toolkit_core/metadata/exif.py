"""Texts out of an EXIF block, which is a TIFF file without a picture.

Only the handful of tags that generators write are read, straight from the bytes: nothing warns, and a damaged block
gives what is left of it.
Sources: Exif 2.32 (UserComment), TIFF 6.0.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from .png import decode_text

ByteOrder = Literal["little", "big"]

_BYTE_ORDERS: dict[bytes, ByteOrder] = {b"II*\0": "little", b"MM\0*": "big"}
_EXIF_IFD = 0x8769
_USER_COMMENT = 0x9286
_XP_COMMENT = 0x9C9C
_XMP_PACKET = 0x02BC
_TEXT_TAGS = {0x010D: "DocumentName", 0x010E: "ImageDescription", 0x010F: "Make", 0x0110: "Model"}
_WANTED_TAGS = {_EXIF_IFD, _USER_COMMENT, _XP_COMMENT, _XMP_PACKET, *_TEXT_TAGS}
_TYPE_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 7: 1, 13: 4}
_MAX_ENTRIES = 4096
XMP = "XMP"
"""The name under which TIFF's own XMP packet is given."""


def read_exif_texts(block: bytes) -> list[tuple[str, str]]:
    """(tag's name, text) of the tags above and the XMP packet of a TIFF, those of the EXIF directory first."""
    tiff = block.removeprefix(b"Exif\0\0")
    if tiff[:4] not in _BYTE_ORDERS:
        return []
    return [(tag, text) for tag, text in _texts_of_tiff(tiff, _BYTE_ORDERS[tiff[:4]]) if text]


def _texts_of_tiff(tiff: bytes, order: ByteOrder) -> Iterator[tuple[str, str]]:
    first = _directory(tiff, int.from_bytes(tiff[4:8], order), order)
    second = _directory(tiff, int.from_bytes(first.get(_EXIF_IFD, b""), order), order)
    for tag, raw in {**second, **first}.items():
        if tag == _USER_COMMENT:
            yield "UserComment", decode_user_comment(raw, order)
        elif tag == _XP_COMMENT:
            yield "XPComment", raw.decode("utf-16-le", "replace").rstrip("\0")
        elif tag == _XMP_PACKET:
            yield XMP, decode_text(raw)
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
