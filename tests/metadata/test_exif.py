from __future__ import annotations

import io
import json
from typing import Any

import pytest
from PIL import Image, features

from toolkit_core.metadata import read_generation_parameters, read_texts
from toolkit_core.metadata.exif import decode_user_comment, read_exif_texts
from toolkit_core.records import GenerationParameters, MetadataText

IMAGE_DESCRIPTION, MAKE, MODEL, EXIF_IFD, USER_COMMENT = 0x010E, 0x010F, 0x0110, 0x8769, 0x9286
FORMATS = ["WEBP", "JPEG", "PNG", "TIFF", *(["AVIF"] if features.check("avif") else [])]
PARAMETERS = "a duck\nNegative prompt: fog\nSteps: 15, Sampler: Euler a, CFG scale: 5, Seed: 3, Model: base"


def image_with(tags: dict[int, Any], file_format: str = "WEBP", comment: bytes | None = None) -> bytes:
    exif = Image.Exif()
    exif.update({MAKE: "test", **tags})  # Pillow writes no EXIF that has no tag of its own
    if comment is not None:
        exif.get_ifd(EXIF_IFD)[USER_COMMENT] = comment
    target = io.BytesIO()
    Image.new("RGB", (16, 16)).save(target, file_format, exif=exif)
    return target.getvalue()


@pytest.mark.parametrize("file_format", FORMATS)
def test_a_comfyui_graph_is_read_from_exif(file_format: str, graph: Any) -> None:
    data = image_with({MAKE: 'workflow:{"nodes": []}', MODEL: "prompt:" + json.dumps(graph.nodes)}, file_format)
    found = read_generation_parameters(data)
    assert (found.generator, found.prompt, found.seed) == ("ComfyUI", "a red fox", 7)


def test_a_graph_in_the_image_description_is_read(graph: Any) -> None:
    data = image_with({IMAGE_DESCRIPTION: "Prompt: " + json.dumps(graph.nodes)}, "JPEG")
    assert read_generation_parameters(data).prompt == "a red fox"


@pytest.mark.parametrize("file_format", [name for name in FORMATS if name != "TIFF"])
@pytest.mark.parametrize(
    "comment",
    [
        b"UNICODE\0" + PARAMETERS.encode("utf-16-be"),
        b"UNICODE\0" + PARAMETERS.encode("utf-16-le"),
        b"UNICODE\0" + PARAMETERS.encode("utf-16"),
        b"ASCII\0\0\0" + PARAMETERS.encode(),
        bytes(8) + PARAMETERS.encode(),
        PARAMETERS.encode(),
        PARAMETERS.encode("utf-16-le"),
    ],
    ids=["utf-16-be", "utf-16-le", "utf-16-bom", "ascii", "undefined", "no prefix", "utf-16 without prefix"],
)
def test_a_user_comment_is_read_in_every_encoding(file_format: str, comment: bytes) -> None:
    found = read_generation_parameters(image_with({}, file_format, comment))
    assert (found.prompt, found.negative_prompt, found.steps, found.seed) == ("a duck", "fog", 15, 3)


def test_the_text_decides_the_byte_order_whatever_the_file_says() -> None:
    assert decode_user_comment(b"UNICODE\0" + "duck".encode("utf-16-be"), "little") == "duck"
    assert decode_user_comment(b"UNICODE\0" + "duck".encode("utf-16-le"), "big") == "duck"


def test_without_zero_bytes_the_order_of_the_file_decides() -> None:
    assert decode_user_comment(b"UNICODE\0" + "彩虹".encode("utf-16-le"), "little") == "彩虹"


@pytest.mark.parametrize("file_format", FORMATS)
def test_camera_exif_is_not_taken_for_generation_metadata(file_format: str) -> None:
    tags = {MAKE: "Canon", MODEL: "Canon EOS R5", IMAGE_DESCRIPTION: "A fox. Steps: up, Model: none"}
    data = image_with(tags, file_format, b"ASCII\0\0\0shot at prompt: noon")
    assert MetadataText("exif", "Make", "Canon") in read_texts(data)
    assert read_generation_parameters(data) == GenerationParameters()


def test_a_camera_comment_that_is_other_json_is_left_alone() -> None:
    data = image_with({IMAGE_DESCRIPTION: '{"lens": {"name": "50mm"}, "iso": 100}'}, "JPEG")
    assert read_generation_parameters(data) == GenerationParameters()


def test_a_directory_that_points_to_itself_ends() -> None:
    looped = b"MM\0*\0\0\0\x08\0\x01\x87\x69\0\x04\0\0\0\x01\0\0\0\x08\0\0\0\0"
    assert read_exif_texts(looped) == []
