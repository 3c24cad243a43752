"""Pixels as CLIP sees them, from any kind of file."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from toolkit_core.encoders.clip import ClipVisionEncoder
from toolkit_core.encoders.clip_crop import Pixels
from toolkit_core.encoders.libvips import decode_common
from toolkit_core.encoders.pixels import MOST_PIXELS, clip_pixels, decode, open_rgb
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


SAME = 0.15
"""The mean difference of equal pictures, for Pillow and libvips round differently."""


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
        ("PNG", {}, SAME),
        ("BMP", {}, SAME),
        ("TIFF", {}, SAME),
        ("WEBP", {"lossless": True}, SAME),
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
        assert difference(decode(data).pixels, expected) <= SAME


def test_orientation_is_applied() -> None:
    image = picture()
    exif = Image.Exif()
    exif[0x0112] = 6  # rotated by 90 degrees
    decoded = decode(encoded(image, "PNG", exif=exif))
    assert (decoded.width, decoded.height) == (300, 400)
    upright = decode(encoded(image.transpose(Image.Transpose.ROTATE_270), "PNG")).pixels
    assert difference(decoded.pixels, upright) <= SAME


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "LA", "1"])
def test_other_colour_modes_are_read(mode: str) -> None:
    image = picture().convert(mode)
    assert difference(decode(encoded(image, "PNG")).pixels, clip_pixels(image.convert("RGB"))) <= SAME


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


LARGE = picture(2800, 2100)


@pytest.mark.parametrize(
    ("format", "mode", "size", "options"),
    [
        ("PNG", "RGB", (1024, 1024), {"compress_level": 4}),
        ("PNG", "RGBA", (833, 1217), {}),
        ("PNG", "RGB", (225, 2000), {}),
        ("JPEG", "RGB", (400, 300), {"quality": 95}),
        ("JPEG", "RGB", (1024, 1024), {"quality": 95, "subsampling": 0}),
        ("JPEG", "RGB", (1217, 833), {"quality": 90, "progressive": True}),
        ("JPEG", "RGB", (1400, 3001), {"quality": 95}),
        ("JPEG", "RGB", (5400, 5400), {"quality": 90}),
    ],
)
def test_libvips_shows_what_pillow_shows(
    format: str, mode: str, size: tuple[int, int], options: dict[str, object]
) -> None:
    data = encoded(picture(*size).convert(mode), format, **options)
    common = decode_common(data, MOST_PIXELS)
    assert common is not None
    assert common[0] == size
    assert difference(common[1], clip_pixels(open_rgb(data))) < 0.3


def with_chunk(data: bytes, kind: bytes, body: bytes) -> bytes:
    """A PNG with one more chunk after its header."""
    chunk = struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    return data[:33] + chunk + data[33:]


def turned(format: str, image: Image.Image | None = None) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(image or picture(), format, exif=exif)


@pytest.mark.parametrize(
    "data",
    [
        encoded(picture().convert("P"), "PNG"),
        encoded(picture().convert("L"), "PNG"),
        encoded(Image.new("I;16", (300, 300)), "PNG"),
        encoded(picture(), "PNG", transparency=(0, 0, 0)),
        encoded(picture(), "PNG", save_all=True, append_images=[picture(400, 300)]),
        encoded(picture(224, 300), "PNG"),
        turned("PNG"),
        turned("JPEG"),
        with_chunk(encoded(picture(), "PNG"), b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0<x tiff:Orientation='6'/>"),
        with_chunk(encoded(picture(), "PNG"), b"tEXt", b"Raw profile type exif\0\nexif\n"),
        with_chunk(encoded(picture(), "PNG"), b"IHDR", encoded(picture(), "PNG")[16:29]),
        encoded(picture(), "JPEG", xmp=b'<x tiff:Orientation="6"/>'),
        encoded(picture().convert("CMYK"), "JPEG"),
        encoded(picture().convert("L"), "JPEG"),
        encoded(picture(), "WEBP"),
        encoded(picture(), "PNG")[:-2000],
        encoded(picture(), "JPEG")[:-2000],
        b"",
    ],
)
def test_what_is_rare_or_damaged_is_left_to_pillow(data: bytes) -> None:
    assert decode_common(data, MOST_PIXELS) is None


def test_a_claim_of_many_pixels_is_refused_before_they_are_decoded() -> None:
    for format in ("PNG", "JPEG"):
        data = encoded(picture(), format)
        assert decode_common(data, 400 * 300) is not None
        assert decode_common(data, 400 * 300 - 1) is None


@pytest.mark.parametrize("kept", [0.02, 0.3, 0.6, 0.98])
@pytest.mark.parametrize(("format", "options"), [("PNG", {}), ("JPEG", {}), ("JPEG", {"progressive": True})])
def test_a_file_that_is_cut_off_is_damaged(format: str, options: dict[str, object], kept: float) -> None:
    data = encoded(picture(), format, **options)
    with pytest.raises(ImageError, match=r"damaged|no picture"):
        decode(data[: int(kept * len(data))])


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_large_jpeg_is_what_its_whole_decoding_would_be(mode: str) -> None:
    data = encoded(LARGE.convert(mode), "JPEG", quality=95)
    decoded = decode(data)
    assert (decoded.width, decoded.height) == LARGE.size
    assert difference(decoded.pixels, clip_pixels(open_rgb(data))) < 0.3


def test_a_large_jpeg_is_turned_upright() -> None:
    decoded = decode(turned("JPEG", LARGE))
    assert (decoded.width, decoded.height) == (2100, 2800)
    upright = encoded(LARGE.transpose(Image.Transpose.ROTATE_270), "PNG")
    assert difference(decoded.pixels, decode(upright).pixels) < 0.5


def test_pictures_are_decoded_where_pyvips_is_missing(tmp_path: Path) -> None:
    kinds = {"a.png": encoded(picture(), "PNG"), "b.jpg": encoded(LARGE, "JPEG", quality=95)}
    for name, data in kinds.items():
        (tmp_path / name).write_bytes(data)
    script = (
        "import sys; sys.modules['pyvips'] = None\n"
        "from pathlib import Path; import numpy as np\n"
        "from toolkit_core.encoders.pixels import decode\n"
        "for path in map(Path, sys.argv[1:]): np.save(path, decode(path.read_bytes()).pixels)\n"
    )
    subprocess.run([sys.executable, "-c", script, *(str(tmp_path / name) for name in kinds)], check=True)
    for name, data in kinds.items():
        assert difference(np.load(tmp_path / f"{name}.npy"), decode(data).pixels) < 0.3


def kinds_of_files() -> dict[str, bytes]:
    deep = np.asarray(picture().convert("L")).astype(np.uint16) * 257
    transparent = picture().convert("RGBA")
    transparent.putalpha(Image.linear_gradient("L").resize(transparent.size))
    frames = {"save_all": True, "append_images": [Image.new("RGB", (400, 300), "black")]}
    return {
        "rgb.png": encoded(picture(1024, 1024), "PNG", compress_level=4),
        "tall.png": encoded(picture(833, 1217), "PNG"),
        "alpha.png": encoded(transparent, "PNG"),
        "palette.png": encoded(picture().quantize(200), "PNG"),
        "clear-palette.png": encoded(picture().quantize(200), "PNG", transparency=3),
        "grey.png": encoded(picture().convert("L"), "PNG"),
        "grey-alpha.png": encoded(transparent.convert("LA"), "PNG"),
        "grey16.png": encoded(Image.fromarray(deep), "PNG"),
        "turned.png": turned("PNG"),
        "animated.png": encoded(picture(), "PNG", **frames),
        "rgb.jpg": encoded(picture(1024, 1024), "JPEG", quality=95),
        "444.jpg": encoded(picture(), "JPEG", quality=95, subsampling=0),
        "large.jpg": encoded(LARGE, "JPEG", quality=95),
        "grey.jpg": encoded(picture().convert("L"), "JPEG", quality=95),
        "cmyk.jpg": encoded(picture().convert("CMYK"), "JPEG", quality=95),
        "turned.jpg": turned("JPEG"),
        "lossy.webp": encoded(picture(), "WEBP", quality=95),
        "lossless.webp": encoded(transparent, "WEBP", lossless=True),
        "animated.webp": encoded(picture(), "WEBP", lossless=True, **frames),
        "animated.gif": encoded(picture().quantize(200), "GIF", **frames),
    }


def test_vectors_are_those_after_comfyuis_own_loading(
    ask_comfyui: Callable[[str, dict[str, Any]], dict[str, np.ndarray]], tiny_weights: Path, tmp_path: Path
) -> None:
    files = kinds_of_files()
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    loaded = ask_comfyui("pictures", {"folder": str(tmp_path), "names": list(files)})
    encoder = ClipVisionEncoder(tiny_weights / "clip_h.safetensors")
    ours = encoder.encode(np.stack([decode(data).pixels for data in files.values()]))
    theirs = encoder.encode(np.stack([loaded[name] for name in files]))
    cosines = (ours * theirs).sum(1) / (np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1))
    assert {name: cosine for name, cosine in zip(files, cosines, strict=True) if cosine < 0.999} == {}
