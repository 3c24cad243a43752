"""Text in the lowest bits of a picture's pixels, column by column, where upload sites don't strip it.

A signature, the text's length in bits (32, big-endian), the text, packed by gzip in the "comp" variants; in the alpha
channel, or in red, green and blue in turn.
Source: sd_webui_stealth_pnginfo, NovelAI's novelai-image-metadata, SwarmUI's MetadataHelper.
"""

from __future__ import annotations

import io
import logging
import warnings
import zlib
from typing import TYPE_CHECKING

from .png import chunks, is_png, without_damaged_chunks

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_log = logging.getLogger(__name__)

_ALPHA_SIGNATURES = (b"stealth_pnginfo", b"stealth_pngcomp")
_RGB_SIGNATURES = (b"stealth_rgbinfo", b"stealth_rgbcomp")
_SIGNATURE_BYTES = 15
_SIGNATURE_BITS = 8 * _SIGNATURE_BYTES
_LENGTH_BYTES = 4
_GZIP = 31
_MOST_PIXELS = 64_000_000
_MAX_TEXT_BYTES = 8 * 2**20
_CHANNELS = {2: 3, 6: 4}
"""Of the PNG colour types that can hide a text, with 8 bits a channel."""


def may_hide_text(data: bytes) -> bool:
    """Whether it is a PNG or WebP whose pixels' lowest bits survive saving, told by its header."""
    if is_png(data):
        return _png_layout(data) is not None
    if data[:4] != b"RIFF" or data[8:12] != b"WEBP":
        return False
    flags = data[20] if data[12:16] == b"VP8X" and len(data) > 20 else 0
    animated, with_alpha = bool(flags & 0x02), bool(flags & 0x10)
    return data[12:16] == b"VP8L" or (not animated and (with_alpha or b"VP8L" in data[:4096]))


def read_hidden_text(data: bytes) -> tuple[str, str] | None:
    """(signature, text) of a picture that hides one. Never raises.

    A PNG is decoded only after its first column has the signature; a WebP always.
    """
    try:
        if is_png(data) and not _first_column_is_signed(data):
            return None
        pixels = _decode(data)
        return None if pixels is None else _read_pixels(pixels)
    except Exception:
        _log.debug("The picture could not be searched for a hidden text.", exc_info=True)
        return None


def _png_layout(data: bytes) -> tuple[int, int, int] | None:
    """(width, height, channels); None where it is interlaced or has another depth or kind of colour."""
    header = data[16:29]
    if len(header) < 13 or header[8] != 8 or header[12] != 0 or header[9] not in _CHANNELS:
        return None
    width, height = int.from_bytes(header[:4], "big"), int.from_bytes(header[4:8], "big")
    return (width, height, _CHANNELS[header[9]]) if 0 < width * height <= _MOST_PIXELS else None


def _first_column_is_signed(data: bytes) -> bool:
    """Whether the first pixels of the rows hold a signature, from the few rows that are needed.

    Left of the first pixel there is none, so that only the pixel above counts in its filters (PNG, section 9).
    """
    layout = _png_layout(data)
    if layout is None:
        return False
    width, height, channels = layout
    if height < _SIGNATURE_BITS:  # a small picture, whose signature goes on in the next column
        return True
    stride = 1 + width * channels
    above = bytes(channels)
    column: list[bytes] = []
    raw = _first_rows(data, stride * _SIGNATURE_BITS)
    for at in range(0, len(raw) - channels, stride):
        kind, pixel = raw[at], raw[at + 1 : at + 1 + channels]
        if kind in (2, 4):
            pixel = bytes((value + up) & 255 for value, up in zip(pixel, above, strict=True))
        elif kind == 3:
            pixel = bytes((value + up // 2) & 255 for value, up in zip(pixel, above, strict=True))
        column.append(pixel)
        above = pixel
    alpha = [pixel[3] & 1 for pixel in column] if channels == 4 else []
    colours = [value & 1 for pixel in column[: _SIGNATURE_BITS // 3] for value in pixel[:3]]
    return _bytes_of(alpha) in _ALPHA_SIGNATURES or _bytes_of(colours) in _RGB_SIGNATURES


def _bytes_of(bits: list[int]) -> bytes:
    return int("".join(map(str, bits)) or "0", 2).to_bytes(_SIGNATURE_BYTES, "big")


def _first_rows(data: bytes, wanted: int) -> bytes:
    """The first bytes of the filtered rows."""
    unpacker = zlib.decompressobj()
    rows = b""
    for chunk in chunks(data):
        if chunk.kind == b"IDAT":
            try:
                rows += unpacker.decompress(chunk.data, wanted - len(rows))
            except zlib.error:
                break
            if len(rows) >= wanted:
                break
    return rows


def _decode(data: bytes) -> NDArray[np.uint8] | None:
    """The pixels, uint8, shape (height, width, 3 or 4); None where they can hide nothing. Raises what Pillow raises."""
    import numpy as np
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Image.open(io.BytesIO(without_damaged_chunks(data)), formats=("PNG", "WEBP")) as image:
            if image.width * image.height > _MOST_PIXELS or image.mode not in ("RGB", "RGBA"):
                return None
            return np.asarray(image)


def _read_pixels(pixels: NDArray[np.uint8]) -> tuple[str, str] | None:
    ways = [(slice(3, 4), _ALPHA_SIGNATURES)] if pixels.shape[2] == 4 else []
    for channels, signatures in [*ways, (slice(0, 3), _RGB_SIGNATURES)]:
        layer = pixels[:, :, channels]
        head = _lowest_bits(layer, _SIGNATURE_BYTES + _LENGTH_BYTES)
        signature, length = head[:_SIGNATURE_BYTES], int.from_bytes(head[_SIGNATURE_BYTES:], "big") // 8
        if signature not in signatures or length > _MAX_TEXT_BYTES:
            continue
        packed = _lowest_bits(layer, len(head) + length)[len(head) :]
        if signature.endswith(b"comp"):
            try:
                packed = zlib.decompressobj(_GZIP).decompress(packed, _MAX_TEXT_BYTES)
            except zlib.error:
                continue
        return signature.decode("ascii"), packed.decode("utf-8", "replace")
    return None


def _lowest_bits(layer: NDArray[np.uint8], wanted: int) -> bytes:
    """The first bytes that the lowest bits make, down the columns and through the channels of each pixel."""
    import numpy as np

    height, _, channels = layer.shape
    columns = -(-8 * wanted // (height * channels))
    bits = layer[:, :columns].transpose(1, 0, 2).reshape(-1)[: 8 * wanted] & 1
    return np.packbits(bits).tobytes()
