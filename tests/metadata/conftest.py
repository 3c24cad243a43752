"""PNG files, TIFF blocks and ComfyUI graphs built in code."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable
from typing import Any

import pytest

from toolkit_core.metadata import read_generation_parameters, read_parameters, read_texts
from toolkit_core.records import GenerationParameters, MetadataReading

SIGNATURE = b"\x89PNG\r\n\x1a\n"


def png_chunk(kind: bytes, data: bytes, *, damaged: bool = False) -> bytes:
    crc = zlib.crc32(kind + data) ^ (1 if damaged else 0)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc)


def make_png(*extra: bytes, after_idat: bool = False) -> bytes:
    """A 1x1 grey PNG with more chunks before or after its pixels."""
    head = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0))
    pixels = png_chunk(b"IDAT", zlib.compress(b"\0\0"))
    middle = (pixels, *extra) if after_idat else (*extra, pixels)
    return b"".join((SIGNATURE, head, *middle, png_chunk(b"IEND", b"")))


def text_png(**texts: str) -> bytes:
    chunks = [png_chunk(b"tEXt", key.encode() + b"\0" + text.encode("utf-8")) for key, text in texts.items()]
    return make_png(*chunks)


@pytest.fixture
def chunk() -> Callable[..., bytes]:
    return png_chunk


@pytest.fixture
def png() -> Callable[..., bytes]:
    return make_png


@pytest.fixture
def png_with_texts() -> Callable[..., bytes]:
    return text_png


@pytest.fixture
def read_graph() -> Callable[[Any], GenerationParameters]:
    """Save a graph as ComfyUI does, in a PNG text chunk, and read it back."""

    def read(graph: Any) -> GenerationParameters:
        return read_generation_parameters(text_png(prompt=json.dumps(graph)))

    return read


@pytest.fixture
def read_file() -> Callable[..., MetadataReading]:
    """Save texts in a PNG, JSON where they are none, and read them back with the rules that found each value."""

    def read(**texts: Any) -> MetadataReading:
        written = {key: text if isinstance(text, str) else json.dumps(text) for key, text in texts.items()}
        return read_parameters(read_texts(text_png(**written)))

    return read


class GraphBuilder:
    """A text-to-image graph: checkpoint, two encoders, KSampler, decoder, saver; and room for more nodes."""

    def __init__(self) -> None:
        self.nodes: dict[str, dict[str, Any]] = {}
        self.add("checkpoint", "CheckpointLoaderSimple", ckpt_name="base.safetensors")
        self.add("yes", "CLIPTextEncode", text="a red fox", clip=["checkpoint", 1])
        self.add("no", "CLIPTextEncode", text="blurry", clip=["checkpoint", 1])
        self.add("empty", "EmptyLatentImage", width=512, height=512, batch_size=1)
        self.add(
            "sampler",
            "KSampler",
            seed=7,
            steps=20,
            cfg=6.5,
            sampler_name="euler",
            scheduler="normal",
            denoise=1.0,
            model=["checkpoint", 0],
            positive=["yes", 0],
            negative=["no", 0],
            latent_image=["empty", 0],
        )
        self.add("decode", "VAEDecode", samples=["sampler", 0], vae=["checkpoint", 2])
        self.add("save", "SaveImage", images=["decode", 0], filename_prefix="ComfyUI")

    def add(self, node_id: str, class_type: str, **inputs: Any) -> None:
        self.nodes[node_id] = {"class_type": class_type, "inputs": inputs}

    def wire(self, node_id: str, **inputs: Any) -> None:
        self.nodes[node_id]["inputs"].update(inputs)


@pytest.fixture
def graph() -> GraphBuilder:
    return GraphBuilder()
