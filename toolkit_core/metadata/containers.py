"""The metadata blocks of image files, straight from the bytes: EXIF, XMP and comments.

No decoder is started, and a damaged file gives what is left of it.
Sources: JPEG (ITU-T T.81, annex B), XMP specification part 3, the WebP container specification, GIF89a, ISO/IEC
14496-12 (meta, iinf, iloc, idat), TIFF 6.0, ImageMagick's raw profiles in PNG texts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

from .png import SIGNATURE, chunks

_EXIF_HEAD = b"Exif\0\0"
_XMP_HEAD = b"http://ns.adobe.com/xap/1.0/\0"
_RAW_PROFILE = "Raw profile type "
_MAX_BOXES = 4096
_MAX_EXTENTS = 256
_MAX_GIF_BLOCKS = 100_000


class Block(NamedTuple):
    """kind: what it is. data: EXIF from its TIFF header or its "Exif" on, an XMP packet, or a comment's bytes."""

    kind: Literal["exif", "xmp", "comment"]
    data: bytes


def blocks(data: bytes) -> Iterator[Block]:
    """The metadata blocks of a JPEG, PNG, WebP, GIF, AVIF, HEIC or TIFF file in order, without PNG's texts."""
    for signature, offset, read in _FORMATS:
        if data.startswith(signature, offset):
            return read(data)
    return iter(())


def raw_profile(keyword: str, text: str) -> Block | None:
    """EXIF or XMP that ImageMagick wrote in hexadecimal into a PNG text. None where the text is none of that."""
    kind = keyword.removeprefix(_RAW_PROFILE).lower()
    if kind == keyword.lower() or kind not in ("exif", "app1", "xmp"):
        return None
    lines = text.strip().split("\n", 2)  # the profile's name, its length, its bytes
    try:
        data = bytes.fromhex(lines[2]) if len(lines) == 3 else b""
    except ValueError:
        return None
    if kind == "xmp" or data.startswith(_XMP_HEAD):
        return Block("xmp", data.removeprefix(_XMP_HEAD))
    return Block("exif", data)


def _png_blocks(data: bytes) -> Iterator[Block]:
    return (Block("exif", bytes(chunk.data)) for chunk in chunks(data) if chunk.kind == b"eXIf")


def _tiff_blocks(data: bytes) -> Iterator[Block]:
    return iter((Block("exif", data),))


def _jpeg_blocks(data: bytes) -> Iterator[Block]:
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:
            at += 1
            continue
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == 0xDA or length < 2:  # the scan: no more headers
            return
        segment = data[at + 4 : at + 2 + length]
        if marker == 0xE1 and segment.startswith(_EXIF_HEAD):
            yield Block("exif", segment)
        elif marker == 0xE1 and segment.startswith(_XMP_HEAD):
            yield Block("xmp", segment.removeprefix(_XMP_HEAD))
        elif marker == 0xFE:
            yield Block("comment", segment)
        at += 2 + length


def _webp_blocks(data: bytes) -> Iterator[Block]:
    if data[8:12] != b"WEBP":
        return
    at = 12
    while at + 8 <= len(data):
        kind, length = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        if kind == b"EXIF":
            yield Block("exif", data[at + 8 : at + 8 + length])
        elif kind == b"XMP ":
            yield Block("xmp", data[at + 8 : at + 8 + length])
        at += 8 + length + length % 2


def _gif_blocks(data: bytes) -> Iterator[Block]:
    """Its comment extensions."""
    at = 13 + _colour_table(data[10:11])
    for _ in range(_MAX_GIF_BLOCKS):
        introducer, label = data[at : at + 1], data[at + 1 : at + 2]
        if introducer == b"!":
            content, at = _sub_blocks(data, at + 2)
            if label == b"\xfe":
                yield Block("comment", content)
        elif introducer == b",":
            _, at = _sub_blocks(data, at + 11 + _colour_table(data[at + 9 : at + 10]), keep=False)
        else:
            return


def _colour_table(flags: bytes) -> int:
    return 3 * 2 ** (1 + (flags[0] & 7)) if flags and flags[0] & 0x80 else 0


def _sub_blocks(data: bytes, at: int, *, keep: bool = True) -> tuple[bytes, int]:
    """The content of a chain of sub-blocks and where it ends."""
    parts: list[bytes] = []
    while at < len(data) and (size := data[at]):
        if keep:
            parts.append(data[at + 1 : at + 1 + size])
        at += 1 + size
    return b"".join(parts), at + 1


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


def _isobmff_blocks(data: bytes) -> Iterator[Block]:
    for kind, start, end in _boxes(data, 0, len(data)):
        if kind != b"meta":
            continue
        inner = {box: (first, last) for box, first, last in _boxes(data, start + 4, end)}
        if b"iinf" not in inner or b"iloc" not in inner:
            continue
        items = dict(_metadata_items(data, *inner[b"iinf"]))
        for item, content in _items(data, *inner[b"iloc"], set(items), inner.get(b"idat")):
            if items[item] == "exif":  # behind the offset of its TIFF header
                content = content[4 + int.from_bytes(content[:4], "big") :]
            yield Block(items[item], content)
        return


def _metadata_items(data: bytes, start: int, end: int) -> Iterator[tuple[int, Literal["exif", "xmp"]]]:
    """(item id, kind) of the EXIF and XMP items of an iinf box."""
    for kind, first, last in _boxes(data, start + (6 if data[start : start + 1] == b"\0" else 8), end):
        if kind != b"infe":
            continue
        width = 2 if data[first : first + 1] == b"\x02" else 4
        item = int.from_bytes(data[first + 4 : first + 4 + width], "big")
        item_type = data[first + 6 + width : first + 10 + width]
        if item_type == b"Exif":
            yield item, "exif"
        elif item_type == b"mime" and b"application/rdf+xml" in data[first + 10 + width : min(last, first + 512)]:
            yield item, "xmp"


def _items(
    data: bytes, start: int, end: int, wanted: set[int], idat: tuple[int, int] | None
) -> Iterator[tuple[int, bytes]]:
    """(id, bytes) of the wanted items that an iloc box places in the file, or in the meta box's own idat."""
    at = start

    def take(size: int) -> int:
        nonlocal at
        at += size
        return int.from_bytes(data[at - size : at], "big")

    version, _, sizes, more_sizes = take(1), take(3), take(1), take(1)
    offset_size, length_size, base_size = sizes >> 4, sizes & 15, more_sizes >> 4
    index_size = more_sizes & 15 if version else 0
    id_size = 4 if version == 2 else 2
    left = len(data)
    for _ in range(take(id_size)):
        if at > end:
            return
        item = take(id_size)
        in_idat = bool(version and take(2) & 15 == 1)
        take(2)  # data reference
        base = take(base_size)
        extents = take(2)
        if item not in wanted:
            at += extents * (index_size + offset_size + length_size)
            continue
        first, last = idat if in_idat and idat else (0, len(data))
        parts: list[bytes] = []
        for _ in range(min(extents, _MAX_EXTENTS)):
            take(index_size)
            offset, length = first + base + take(offset_size), take(length_size)
            part = data[offset : min(offset + length, last, offset + left)]
            left -= len(part)
            parts.append(part)
        at += max(extents - _MAX_EXTENTS, 0) * (index_size + offset_size + length_size)
        yield item, b"".join(parts)


_FORMATS: tuple[tuple[bytes, int, Callable[[bytes], Iterator[Block]]], ...] = (
    (SIGNATURE, 0, _png_blocks),
    (b"\xff\xd8", 0, _jpeg_blocks),
    (b"RIFF", 0, _webp_blocks),
    (b"GIF8", 0, _gif_blocks),
    (b"ftyp", 4, _isobmff_blocks),
    (b"II*\0", 0, _tiff_blocks),
    (b"MM\0*", 0, _tiff_blocks),
)
