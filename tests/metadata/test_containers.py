"""Where a file keeps its metadata: JPEG, WebP, GIF, PNG, AVIF and HEIC, TIFF; EXIF, XMP and comments."""

from __future__ import annotations

import io
import json
import struct
import zlib
from collections.abc import Callable
from html import escape

import pytest
from PIL import Image

from toolkit_core.metadata import read_generation_parameters, read_parameters, read_texts
from toolkit_core.metadata.containers import blocks
from toolkit_core.metadata.xmp import MAX_PACKET, read_properties
from toolkit_core.records import GenerationParameters, MetadataText

Build = Callable[..., bytes]

A1111 = "a duck\nNegative prompt: fog\nSteps: 15, Sampler: Euler a, CFG scale: 5, Seed: 3, Size: 8x8, Model: base"
DRAW_THINGS = json.dumps({"c": "a duck", "uc": "fog", "sampler": "Euler A", "seed": 3, "steps": 15, "model": "base"})


def packet(name: str, text: str, *, as_attribute: bool = False) -> str:
    """An XMP packet as Apple's and Adobe's programs write it."""
    value = f"<rdf:Alt>\n<rdf:li xml:lang='x-default'>{escape(text)}</rdf:li>\n</rdf:Alt>"
    return (
        "<?xpacket begin='\ufeff' id='W5M0MpCehiHzreSzNTczkc9d'?><x:xmpmeta xmlns:x='adobe:ns:meta/'>"
        "<rdf:RDF xmlns:rdf='http://www.w3.org/1999/02/22-rdf-syntax-ns#'><rdf:Description rdf:about=''"
        " xmlns:exif='http://ns.adobe.com/exif/1.0/' xmlns:dc='http://purl.org/dc/elements/1.1/'"
        " xmlns:xmp='http://ns.adobe.com/xap/1.0/'"
        + (f" {name}='{escape(text)}'>" if as_attribute else f"><{name}>{value}</{name}>")
        + "<xmp:CreatorTool>Draw Things</xmp:CreatorTool></rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end='w'?>"
    )


def tiff(tag: int, text: bytes) -> bytes:
    """A big-endian EXIF block with one text."""
    return b"MM\0*\0\0\0\x08\0\x01" + struct.pack(">HHII", tag, 2, len(text), 26) + bytes(4) + text


def encoded(file_format: str, **options: object) -> bytes:
    target = io.BytesIO()
    Image.new("RGB", (16, 16)).save(target, file_format, **options)
    return target.getvalue()


def box(kind: bytes, *parts: bytes) -> bytes:
    content = b"".join(parts)
    return struct.pack(">I", 8 + len(content)) + kind + content


def heif(items: list[tuple[bytes, bytes]], *, in_idat: bool) -> bytes:
    """A HEIC file of metadata items alone, (type and its rest, content), inside the meta box or behind it."""
    infos = [
        box(b"infe", b"\2\0\0\0", struct.pack(">HH", number, 0), kind) for number, (kind, _) in enumerate(items, 1)
    ]
    iinf = box(b"iinf", bytes(4), struct.pack(">H", len(items)), *infos)
    contents = b"".join(content for _, content in items)

    def meta(base: int) -> bytes:
        entries, offset = b"", base
        for number, (_, content) in enumerate(items, 1):
            half = len(content) // 2  # in two extents
            entries += struct.pack(">HHHH", number, int(in_idat), 0, 2)
            entries += struct.pack(">IIII", offset, half, offset + half, len(content) - half)
            offset += len(content)
        iloc = box(b"iloc", b"\1\0\0\0\x44\0", struct.pack(">H", len(items)), entries)
        return box(b"meta", bytes(4), iinf, iloc, box(b"idat", contents) if in_idat else b"")

    head = box(b"ftyp", b"heic", bytes(4))
    if in_idat:
        return head + meta(0)
    return head + meta(len(head) + len(meta(0)) + 8) + box(b"mdat", contents)


XMP_CARRIERS = {
    "JPEG": lambda xml: encoded("JPEG", xmp=xml),
    "WEBP": lambda xml: encoded("WEBP", xmp=xml),
    "AVIF": lambda xml: encoded("AVIF", xmp=xml),
    "TIFF": lambda xml: encoded("TIFF", tiffinfo={700: xml}),
    "HEIC": lambda xml: heif([(b"mime\0application/rdf+xml\0", xml)], in_idat=True),
}


@pytest.mark.parametrize("carrier", XMP_CARRIERS.values(), ids=XMP_CARRIERS)
def test_xmp_is_read_from_every_kind_of_file(carrier: Callable[[bytes], bytes]) -> None:
    data = carrier(packet("exif:UserComment", DRAW_THINGS).encode())
    reading = read_parameters(read_texts(data))
    assert (reading.parameters.generator, reading.parameters.prompt) == ("Draw Things", "a duck")
    assert reading.found_by == "Draw Things' JSON in XMP 'exif:UserComment'"


@pytest.mark.parametrize("as_attribute", [False, True])
def test_xmp_is_read_from_a_png_text(as_attribute: bool, png: Build, chunk: Build) -> None:
    xml = packet(
        "dc:description", "a duck & <fox> --v 7 Job ID: b3ce08bd-5016-4c49-bbb5-de6857321513", as_attribute=as_attribute
    )
    data = png(chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xml.encode()))
    assert read_texts(data)[0].source == "xmp"
    assert read_generation_parameters(data).prompt == "a duck & <fox>"


def test_of_several_languages_each_is_a_text_of_its_own() -> None:
    xml = packet("dc:description", "one").replace("</rdf:li>", "</rdf:li><rdf:li xml:lang='de'>eins</rdf:li>")
    assert read_properties(xml) == [("dc:description", "one"), ("dc:description", "eins")]


BOMB = "<!DOCTYPE x [<!ENTITY a 'ha'>" + "".join(
    f"<!ENTITY {chr(98 + level)} '{f'&{chr(97 + level)};' * 10}'>" for level in range(9)
)


@pytest.mark.parametrize(
    "xml",
    [
        BOMB + "]>" + packet("dc:description", "x").replace(">x<", ">&j;<").partition("?>")[2],
        "<!DOCTYPE x SYSTEM 'file:///etc/passwd'><x/>",
        packet("dc:description", "cut off")[:-40],
        packet("dc:description", "x" * MAX_PACKET),
        "<a>" * 100_000,
        "",
        "\ud800",
    ],
    ids=["entity bomb", "external", "damaged", "too big", "deep", "empty", "surrogate"],
)
def test_a_packet_that_is_not_plain_xmp_gives_nothing_or_its_beginning(xml: str) -> None:
    assert all(text == "cut off" for _, text in read_properties(xml))


def test_photoshops_xmp_and_a_camera_s_are_left_alone() -> None:
    xml = packet("dc:description", "A fox in the snow. Steps: 20").encode()
    assert read_generation_parameters(encoded("JPEG", xmp=xml)) == GenerationParameters()


def test_a_jpeg_comment_is_read() -> None:
    reading = read_parameters(read_texts(encoded("JPEG", comment=A1111.encode())))
    assert (reading.parameters.prompt, reading.parameters.seed) == ("a duck", 3)
    assert reading.found_by == "AUTOMATIC1111's settings line in comment 'comment'"


def test_a_gif_comment_is_read_behind_frames_and_colour_tables() -> None:
    target = io.BytesIO()
    frames = [Image.new("P", (16, 16), colour) for colour in (1, 2, 3)]
    frames[0].save(target, "GIF", save_all=True, append_images=frames[1:], comment=A1111.encode())
    data = target.getvalue()
    assert read_generation_parameters(data).prompt == "a duck"
    comment = data[data.index(b"!\xfe") :]
    end = comment.index(A1111.encode()[-20:]) + 21
    moved = data.replace(comment[:end], b"")[:-1] + comment[:end] + b";"
    assert read_generation_parameters(moved).prompt == "a duck"


def test_a_comment_of_a_paint_program_is_left_alone() -> None:
    data = encoded("JPEG", comment=b"Created with GIMP")
    assert read_texts(data) == (MetadataText("comment", "comment", "Created with GIMP"),)
    assert read_generation_parameters(data) == GenerationParameters()


@pytest.mark.parametrize("in_idat", [False, True])
def test_exif_of_heic_is_read_from_mdat_and_idat_in_pieces(in_idat: bool) -> None:
    block = struct.pack(">I", 6) + b"Exif\0\0" + tiff(0x010E, A1111.encode())
    data = heif([(b"hvc1\0", b"pixels"), (b"Exif\0", block)], in_idat=in_idat)
    assert read_generation_parameters(data).prompt == "a duck"


@pytest.mark.parametrize("kind", [b"tEXt", b"zTXt"])
@pytest.mark.parametrize("profile", ["exif", "APP1"])
def test_exif_that_imagemagick_wrote_in_hexadecimal_is_read(
    kind: bytes, profile: str, png: Build, chunk: Build
) -> None:
    block = b"Exif\0\0" + tiff(0x010E, A1111.encode())
    lines = "\n".join(block.hex()[at : at + 72] for at in range(0, 2 * len(block), 72))
    text = f"\n{profile}\n{len(block):8}\n{lines}\n".encode()
    packed = text if kind == b"tEXt" else b"\0" + zlib.compress(text)
    data = png(chunk(kind, f"Raw profile type {profile}".encode() + b"\0" + packed))
    assert [text.source for text in read_texts(data)] == ["exif"]
    assert read_generation_parameters(data).prompt == "a duck"


@pytest.mark.parametrize("text", ["", "\nexif\n 4\nzz", "\nexif\n", "\niptc\n 1\n00"])
def test_a_raw_profile_that_is_none_stays_a_text(text: str, png: Build, chunk: Build) -> None:
    data = png(chunk(b"tEXt", b"Raw profile type exif\0" + text.encode()))
    assert read_generation_parameters(data) == GenerationParameters()


def test_an_animated_webp_has_its_exif_behind_the_frames() -> None:
    exif = Image.Exif()
    exif[0x0110] = "prompt:" + json.dumps({"1": {"class_type": "KSampler", "inputs": {}}})
    target = io.BytesIO()
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue")]
    frames[0].save(target, "WEBP", save_all=True, append_images=frames[1:], exif=exif)
    assert read_generation_parameters(target.getvalue()).generator == "ComfyUI"


@pytest.mark.parametrize("cut", range(0, 200, 7))
def test_a_file_cut_off_anywhere_gives_what_is_left(cut: int) -> None:
    for data in (heif([(b"Exif\0", bytes(40))], in_idat=True), encoded("JPEG", comment=A1111.encode()), encoded("GIF")):
        assert all(len(block.data) <= len(data) for block in blocks(data[:cut]))
