"""Texts in the lowest bits of the pixels."""

from __future__ import annotations

import gzip
import io
import json
import struct
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from toolkit_core.metadata import read_generation_parameters, read_parameters, read_texts
from toolkit_core.metadata.stealth import may_hide_text, read_hidden_text
from toolkit_core.records import GenerationParameters

Build = Callable[..., bytes]

A1111 = "a duck 彩虹\nNegative prompt: fog\nSteps: 15, Sampler: Euler a, CFG scale: 5, Seed: 3, Size: 8x8"


def picture_that_hides(
    text: str, signature: str, *, size: tuple[int, int] = (64, 160), length: int | None = None, noise: int = 7
) -> Image.Image:
    """A noisy picture with the text in its pixels, column by column."""
    packed = gzip.compress(text.encode()) if signature.endswith("comp") else text.encode()
    head = signature.encode() + (8 * len(packed) if length is None else length).to_bytes(4, "big")
    bits = np.unpackbits(np.frombuffer(head + packed, np.uint8))
    channels = slice(3, 4) if "png" in signature else slice(0, 3)
    pixels = np.random.default_rng(noise).integers(0, 256, (size[1], size[0], 4), np.uint8)
    if "rgb" in signature:
        pixels = pixels[:, :, :3].copy()
    columns = pixels[:, :, channels].transpose(1, 0, 2).reshape(-1)
    columns[: len(bits)] = (columns[: len(bits)] & 254) | bits
    width, height, depth = size[0], size[1], channels.stop - channels.start
    pixels[:, :, channels] = columns.reshape(width, height, depth).transpose(1, 0, 2)
    return Image.fromarray(pixels)


def saved(image: Image.Image, file_format: str = "PNG", **options: object) -> bytes:
    target = io.BytesIO()
    image.save(target, file_format, **options)
    return target.getvalue()


ALL = ["stealth_pnginfo", "stealth_pngcomp", "stealth_rgbinfo", "stealth_rgbcomp"]


@pytest.mark.parametrize("size", [(64, 160), (160, 64), (200, 119), (40, 120)])
@pytest.mark.parametrize("signature", ALL)
def test_every_variant_is_read_from_a_png_of_any_shape(signature: str, size: tuple[int, int]) -> None:
    data = saved(picture_that_hides(A1111, signature, size=size))
    reading = read_parameters(read_texts(data))
    assert (reading.parameters.prompt, reading.parameters.seed) == ("a duck 彩虹", 3)
    assert reading.found_by == f"AUTOMATIC1111's settings line in hidden text '{signature}'"


@pytest.mark.parametrize("signature", ALL)
def test_every_variant_is_read_from_a_lossless_webp(signature: str) -> None:
    data = saved(picture_that_hides(A1111, signature), "WEBP", lossless=True, exact=True)
    assert read_generation_parameters(data).prompt == "a duck 彩虹"


def with_filter(kind: int) -> bytes:
    """A PNG whose rows all have one filter, as a picture of noise never gets it from Pillow."""
    pixels = np.asarray(picture_that_hides(A1111, "stealth_pngcomp")).astype(np.int32)
    left, up = np.zeros_like(pixels), np.zeros_like(pixels)
    left[:, 1:], up[1:] = pixels[:, :-1], pixels[:-1]
    corner = np.zeros_like(pixels)
    corner[1:, 1:] = pixels[:-1, :-1]
    estimate = left + up - corner
    distances = np.stack([abs(estimate - one) for one in (left, up, corner)])
    nearest = np.choose(distances.argmin(0), (left, up, corner))
    predicted = (np.zeros_like(pixels), left, up, (left + up) // 2, nearest)[kind]
    rows = ((pixels - predicted) % 256).astype(np.uint8).reshape(len(pixels), -1)
    raw = np.insert(rows, 0, kind, axis=1).tobytes()

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    packed = zlib.compress(raw)
    head = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], 8, 6, 0, 0, 0)
    parts = [chunk(b"IDAT", packed[at : at + 999]) for at in range(0, len(packed), 999)]
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + b"".join(parts) + chunk(b"IEND", b"")


@pytest.mark.parametrize("kind", range(5))
def test_the_first_column_is_found_under_every_filter_of_png(kind: int) -> None:
    assert read_generation_parameters(with_filter(kind)).prompt == "a duck 彩虹"


def test_novelais_json_is_taken_apart() -> None:
    comment = {"steps": 28, "sampler": "k_euler", "seed": 5, "scale": 6, "uc": "fog"}
    text = {"Description": "a fox", "Software": "NovelAI", "Source": "NovelAI V3", "Comment": json.dumps(comment)}
    reading = read_parameters(read_texts(saved(picture_that_hides(json.dumps(text), "stealth_pngcomp"))))
    assert (reading.parameters.prompt, reading.parameters.model) == ("a fox", "NovelAI V3")
    assert reading.found_by == "NovelAI's JSON in hidden text 'stealth_pngcomp'"


def test_the_pixels_are_not_searched_where_the_texts_say_a_prompt() -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("parameters", A1111.replace("duck", "fox"))
    texts = read_texts(saved(picture_that_hides(A1111, "stealth_pnginfo"), pnginfo=info))
    assert [text.source for text in texts] == ["png"]


def test_a_text_that_says_no_prompt_does_not_hide_the_hidden_one() -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("Software", "a browser")
    data = saved(picture_that_hides(A1111, "stealth_pnginfo"), pnginfo=info)
    assert read_generation_parameters(data).prompt == "a duck 彩虹"


@pytest.mark.parametrize(
    "image",
    [
        Image.new("RGBA", (200, 200), (1, 2, 3, 255)),
        Image.new("RGB", (200, 200), "white"),
        Image.new("RGBA", (3, 3)),
        Image.new("L", (200, 200)),
        picture_that_hides(A1111, "stealth_pngnone"),
    ],
    ids=["opaque", "white", "tiny", "grey", "another signature"],
)
@pytest.mark.parametrize("file_format", ["PNG", "WEBP"])
def test_ordinary_pictures_hide_nothing(image: Image.Image, file_format: str) -> None:
    data = saved(image, file_format, lossless=True)
    assert read_hidden_text(data) is None
    assert read_generation_parameters(data) == GenerationParameters()


@pytest.mark.parametrize("length", [0, 2**32 - 1, 8 * 100_000_000])
@pytest.mark.parametrize("signature", ALL)
def test_a_wrong_length_gives_no_prompt(signature: str, length: int) -> None:
    data = saved(picture_that_hides(A1111, signature, length=length))
    assert read_generation_parameters(data).prompt is None


def test_a_hidden_text_that_unpacks_to_too_much_is_cut() -> None:
    hidden = read_hidden_text(saved(picture_that_hides("x" * 20_000_000, "stealth_pngcomp", size=(600, 600))))
    assert hidden and len(hidden[1]) <= 8 * 2**20


def test_a_picture_that_claims_too_many_pixels_is_not_decoded(png: Build) -> None:
    data = bytearray(saved(picture_that_hides(A1111, "stealth_pnginfo")))
    data[16:24] = (60_000).to_bytes(4, "big") * 2
    assert not may_hide_text(bytes(data))
    assert read_hidden_text(bytes(data)) is None


@pytest.mark.parametrize("cut", [20, 30, 60, 500, 5_000])
def test_a_picture_cut_off_hides_nothing(cut: int) -> None:
    assert read_hidden_text(saved(picture_that_hides(A1111, "stealth_pnginfo"))[:cut]) is None


def test_a_lossy_webp_without_alpha_is_not_searched() -> None:
    assert not may_hide_text(saved(Image.new("RGB", (200, 200)), "WEBP"))
