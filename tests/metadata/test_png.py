from __future__ import annotations

import io
import zlib
from collections.abc import Callable

import pytest
from PIL import Image, PngImagePlugin, UnidentifiedImageError

from toolkit_core.metadata.png import MAX_TEXT_BYTES, read_texts, without_damaged_chunks

Build = Callable[..., bytes]


def test_all_three_kinds_of_text_chunks_are_read_in_order(png: Build, chunk: Build) -> None:
    data = png(
        chunk(b"tEXt", b"one\0plain"),
        chunk(b"zTXt", b"two\0\0" + zlib.compress(b"packed")),
        chunk(b"iTXt", b"three\0\0\0en\0drei\0" + "größe".encode()),
        chunk(b"iTXt", b"four\0\1\0\0\0" + zlib.compress("彩虹".encode())),
    )
    assert read_texts(data) == [("one", "plain"), ("two", "packed"), ("three", "größe"), ("four", "彩虹")]


def test_an_animated_png_of_comfyui_is_read() -> None:
    info = PngImagePlugin.PngInfo()
    info.add(b"comf", b"prompt\0" + b'{"1": {}}', after_idat=True)
    target = io.BytesIO()
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    frames[0].save(target, "PNG", save_all=True, append_images=frames[1:], pnginfo=info)
    assert read_texts(target.getvalue()) == [("prompt", '{"1": {}}')]


def test_text_after_the_pixels_is_read(png: Build, chunk: Build) -> None:
    assert read_texts(png(chunk(b"tEXt", b"late\0text"), after_idat=True)) == [("late", "text")]


def test_text_of_a_chunk_with_a_wrong_crc_is_read(png: Build, chunk: Build) -> None:
    assert read_texts(png(chunk(b"tEXt", b"key\0text", damaged=True))) == [("key", "text")]


def test_plain_text_is_utf8_where_valid_and_else_latin1(png: Build, chunk: Build) -> None:
    data = png(chunk(b"tEXt", b"utf\0" + "é".encode()), chunk(b"tEXt", b"latin\0\xe9"))
    assert read_texts(data) == [("utf", "é"), ("latin", "é")]


def test_a_text_that_unpacks_to_more_than_the_limit_is_left_out(png: Build, chunk: Build) -> None:
    bomb = zlib.compress(bytes(MAX_TEXT_BYTES + 1))
    data = png(chunk(b"zTXt", b"bomb\0\0" + bomb), chunk(b"tEXt", b"key\0text"))
    assert read_texts(data) == [("key", "text")]


def test_many_texts_share_one_limit(png: Build, chunk: Build) -> None:
    half = zlib.compress(bytes(MAX_TEXT_BYTES // 2 + 1))
    data = png(*(chunk(b"zTXt", b"half\0\0" + half) for _ in range(4)))
    assert len(read_texts(data)) == 1


def test_a_file_cut_off_inside_a_chunk_gives_what_comes_before(png: Build, chunk: Build) -> None:
    data = png(chunk(b"tEXt", b"key\0text"), chunk(b"tEXt", b"cut\0" + bytes(100)))
    cut = data.index(b"cut\0") + 20
    assert read_texts(data[:cut]) == [("key", "text")]


def test_pillow_opens_a_file_after_its_damaged_chunk_is_dropped(png: Build, chunk: Build) -> None:
    data = png(chunk(b"tEXt", b"key\0kept"), chunk(b"tEXt", b"bad\0text", damaged=True))
    with pytest.raises(UnidentifiedImageError):
        Image.open(io.BytesIO(data))
    with Image.open(io.BytesIO(without_damaged_chunks(data))) as image:
        image.load()
        assert image.info == {"key": "kept"}


def test_an_undamaged_file_comes_back_as_the_same_object(png: Build, chunk: Build) -> None:
    data = png(chunk(b"tEXt", b"key\0text"))
    assert without_damaged_chunks(data) is data


def test_a_critical_chunk_is_never_dropped(png: Build) -> None:
    data = png()
    at = data.index(b"IDAT") + 5
    broken = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
    assert without_damaged_chunks(broken) is broken


@pytest.mark.parametrize("data", [b"", b"\x89PNG", b"GIF89a" + bytes(50), b"\x89PNG\r\n\x1a\n" + bytes(40)])
def test_what_is_no_png_gives_no_text_and_comes_back_unchanged(data: bytes) -> None:
    assert read_texts(data) == []
    assert without_damaged_chunks(data) is data
