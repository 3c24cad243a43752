"""Pixels as CLIP sees them, from any kind of file."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from toolkit_core.encoders.pixels import Pixels, decode
from toolkit_core.errors import ImageError


def encoded(image: Image.Image, format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def picture(width: int = 400, height: int = 300) -> Image.Image:
    coarse = np.random.default_rng(3).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def comfyui_pixels(image: Image.Image) -> torch.Tensor:
    """ComfyUI's `clip_preprocess` (comfy/clip_model.py) up to its normalisation, in 8-bit steps."""
    pixels = torch.from_numpy(np.asarray(image.convert("RGB")).astype(np.float32) / 255.0)[None].movedim(-1, 1)
    scale = 224 / min(pixels.shape[2], pixels.shape[3])
    size = (round(scale * pixels.shape[2]), round(scale * pixels.shape[3]))
    pixels = torch.nn.functional.interpolate(pixels, size=size, mode="bicubic", antialias=True)
    top, left = (pixels.shape[2] - 224) // 2, (pixels.shape[3] - 224) // 2
    return torch.clip(255.0 * pixels[0, :, top : top + 224, left : left + 224], 0, 255).round().movedim(0, -1)


def difference(a: Pixels, b: Pixels) -> float:
    return float(np.abs(a.astype(np.int16) - b.astype(np.int16)).mean())


@pytest.mark.parametrize("size", [(400, 300), (300, 400), (1024, 1024), (225, 2000), (64, 40), (224, 224), (833, 1217)])
def test_resize_and_crop_are_comfyuis(size: tuple[int, int]) -> None:
    image = picture(*size)
    pixels = decode(encoded(image, "PNG")).pixels
    assert pixels.shape == (224, 224, 3)
    assert pixels.dtype == np.uint8
    expected = comfyui_pixels(image).numpy()
    assert np.abs(pixels.astype(np.int16) - expected).max() <= 2
    assert difference(pixels, expected.astype(np.uint8)) < 0.3


def test_picture_of_224_passes_untouched() -> None:
    image = picture(224, 224)
    assert np.array_equal(decode(encoded(image, "PNG")).pixels, np.asarray(image))


@pytest.mark.parametrize(
    ("format", "options", "tolerance"),
    [
        ("PNG", {}, 0),
        ("BMP", {}, 0),
        ("TIFF", {}, 0),
        ("WEBP", {"lossless": True}, 0),
        ("WEBP", {"quality": 95}, 4),
        ("JPEG", {"quality": 95}, 4),
        ("AVIF", {"quality": 95}, 6),
        ("GIF", {}, 25),
    ],
)
def test_every_format_gives_the_same_picture(format: str, options: dict[str, object], tolerance: float) -> None:
    image = picture()
    decoded = decode(encoded(image, format, **options))
    assert (decoded.width, decoded.height) == image.size
    assert difference(decoded.pixels, decode(encoded(image, "PNG")).pixels) <= tolerance


def test_first_frame_of_an_animation_counts() -> None:
    frames = [picture(), Image.new("RGB", (400, 300), "black")]
    expected = decode(encoded(frames[0], "PNG")).pixels
    for format, options in (("WEBP", {"lossless": True}), ("PNG", {})):
        data = encoded(frames[0], format, save_all=True, append_images=frames[1:], **options)
        assert difference(decode(data).pixels, expected) == 0


def test_orientation_is_applied() -> None:
    image = picture()
    exif = Image.Exif()
    exif[0x0112] = 6  # rotated by 90 degrees
    decoded = decode(encoded(image, "PNG", exif=exif))
    assert (decoded.width, decoded.height) == (300, 400)
    upright = decode(encoded(image.transpose(Image.Transpose.ROTATE_270), "PNG")).pixels
    assert difference(decoded.pixels, upright) == 0


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "LA", "1"])
def test_other_colour_modes_are_read(mode: str) -> None:
    image = picture().convert(mode)
    assert difference(decode(encoded(image, "PNG")).pixels, decode(encoded(image.convert("RGB"), "PNG")).pixels) == 0


def test_16_bit_grey_keeps_its_brightness() -> None:
    grey = picture().convert("L")
    deep = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    assert difference(decode(encoded(deep, "PNG")).pixels, decode(encoded(grey, "PNG")).pixels) <= 2


def png_header_claiming(width: int, height: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "empty"),
        (b"not a picture", "no picture"),
        (b"%PDF-1.7 ", "no picture"),
        (encoded(picture(), "PNG")[:2000], "damaged"),
        (encoded(picture(), "JPEG")[:300], "damaged"),
        (png_header_claiming(60_000, 60_000), "pixels"),
        (png_header_claiming(14_000, 14_500), "pixels"),
        (encoded(picture(), "ICO"), "no picture"),
    ],
)
def test_unreadable_bytes_are_explained(data: bytes, said: str) -> None:
    with pytest.raises(ImageError, match=said):
        decode(data)


def test_mislabelled_file_is_read_by_its_content(tmp_path: Path) -> None:
    path = tmp_path / "really-a.jpg"
    path.write_bytes(encoded(picture(), "WEBP"))
    assert decode(path.read_bytes()).width == 400
