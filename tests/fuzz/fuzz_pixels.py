"""Changed pictures against the decoders: nothing may crash, and libvips must show what Pillow shows.

    python -m tests.fuzz.fuzz_pixels --seconds 300 [--seed 1] [--keep FOLDER]

Run in the repository's folder, in an environment that has the tests' requirements; pytest does not collect this folder.
Seeds are small PNG and JPEG files made in code. PNG chunks get right checksums after a change, and rows are changed
before they are packed, so that changes reach the decoder.

Each input has to decode to 224 x 224 pixels or raise ImageError, within SLOW seconds of processor time and with at most
MAX_GROWTH bytes more memory at the peak; where libvips decodes it, Pillow has to decode it too, to nearly the same
pixels. (Of a PNG, Pillow gets only the chunks with the picture, and it is told to go on after errors: it refuses files
for what lies beside or behind the picture, too.) Inputs run in a process of their own; one that ends it is a finding as
well. Findings are kept in FOLDER.
"""

from __future__ import annotations

import argparse
import io
import multiprocessing
import random
import resource
import struct
import sys
import time
import zlib
from collections import Counter
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path

import numpy as np
from PIL import Image, ImageFile
from rich.console import Console

from toolkit_core.encoders.libvips import decode_common
from toolkit_core.encoders.pixels import MOST_PIXELS, clip_pixels, decode, open_rgb
from toolkit_core.errors import ImageError
from toolkit_core.metadata.png import SIGNATURE, chunks, is_png

SLOW = 10.0
MAX_GROWTH = 3 * 2**30
"""200 million pixels, which are not refused, take 800 MB in Pillow, and as much again when they are converted."""
MAX_DIFFERENCE = 3.0
_PEAK_UNIT = 1 if sys.platform == "darwin" else 1024
_CHUNKS = (b"tRNS", b"PLTE", b"iCCP", b"gAMA", b"cHRM", b"sRGB", b"sBIT", b"bKGD", b"hIST", b"pHYs", b"eXIf", b"acTL")
_CHUNKS += (b"fcTL", b"fdAT", b"zTXt", b"iTXt", b"tEXt", b"cICP", b"mDCV", b"sPLT", b"IDAT", b"IEND", b"IHDR", b"ABCD")

Named = tuple[bytes, bytes]
"""A chunk's kind and data."""


def seeds() -> list[bytes]:
    coarse = np.random.default_rng(1).integers(0, 256, (9, 12, 4), dtype=np.uint8)
    rgba = Image.fromarray(coarse).resize((300, 240), Image.Resampling.BICUBIC)
    rgb = rgba.convert("RGB")
    kinds: list[tuple[Image.Image, str, dict[str, object]]] = [
        (rgb, "PNG", {"compress_level": 4}),
        (rgba, "PNG", {}),
        (rgb, "PNG", {"compress_level": 0}),
        (rgb, "JPEG", {"quality": 95}),
        (rgb, "JPEG", {"quality": 80, "progressive": True}),
        (rgb, "JPEG", {"quality": 90, "subsampling": 0, "restart_marker_rows": 2}),
        (rgb.resize((1500, 1400)), "JPEG", {"quality": 50}),
    ]
    return [_encoded(*kind) for kind in kinds]


def _encoded(image: Image.Image, format: str, options: dict[str, object]) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def changed(data: bytes, rng: random.Random) -> bytes:
    for _ in range(rng.choice((1, 1, 2, 4))):
        data = _changed_png(data, rng) if is_png(data) and rng.random() < 0.8 else _changed_bytes(data, rng)
    return data


def _changed_bytes(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    at = rng.randrange(min(len(data), 700) if rng.random() < 0.5 else len(data)) if data else 0
    match rng.randrange(5):
        case 0:
            return data[:at]
        case 1:
            del changed[at : at + rng.randrange(1, 64)]
        case 2:
            changed[at:at] = rng.randbytes(rng.randrange(1, 64))
        case 3:
            changed[at:at] = data[at : at + rng.randrange(1, 2000)]
        case _:
            for _ in range(rng.choice((1, 1, 4, 32))):
                if changed:
                    place = rng.randrange(min(len(changed), 700) if rng.random() < 0.5 else len(changed))
                    changed[place] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
    return bytes(changed)


def _changed_png(data: bytes, rng: random.Random) -> bytes:
    parts: list[Named] = [(chunk.kind, bytes(chunk.data)) for chunk in chunks(data)]
    if not parts:
        return data
    at = rng.randrange(len(parts))
    match rng.randrange(6):
        case 0:
            parts = [(kind, _changed_header(body, rng) if kind == b"IHDR" else body) for kind, body in parts]
        case 1:
            parts = _changed_rows(parts, rng)
        case 2:
            parts.insert(at, (rng.choice(_CHUNKS), rng.randbytes(rng.choice((0, 1, 2, 6, 13, 26, 300, 769)))))
        case 3:
            parts.insert(at, rng.choice(parts))
        case 4:
            del parts[at]
        case _:
            parts[at] = (parts[at][0], _changed_bytes(parts[at][1], rng))
    return SIGNATURE + b"".join(_chunk(*part) for part in parts)


def _changed_header(body: bytes, rng: random.Random) -> bytes:
    if len(body) != 13:
        return body
    fields = list(struct.unpack(">IIBBBBB", body))
    place = rng.randrange(7)
    sizes = (0, 1, 225, fields[0] + 1, fields[0] - 1, 2 * fields[0], 14_000, 2**31 - 1)
    fields[place] = rng.choice(sizes) if place < 2 else rng.choice((0, 1, 2, 3, 4, 6, 8, 16))
    return struct.pack(">IIBBBBB", *(max(0, min(field, 2**32 - 1)) for field in fields))


def _changed_rows(parts: list[Named], rng: random.Random) -> list[Named]:
    try:
        rows = zlib.decompress(b"".join(body for kind, body in parts if kind == b"IDAT"))
    except zlib.error:
        return parts
    packed = zlib.compress(_changed_bytes(rows, rng), rng.choice((0, 1, 6)))
    cut = rng.randrange(1, len(packed))
    others = [part for part in parts if part[0] not in (b"IDAT", b"IEND")]
    return [*others, (b"IDAT", packed[:cut]), (b"IDAT", packed[cut:]), (b"IEND", b"")]


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def problem(data: bytes) -> str | None:
    """What is wrong with how this input is read, or None."""
    before, started = _peak(), time.process_time()
    try:
        pixels = decode(data).pixels
        if pixels.shape != (224, 224, 3) or pixels.dtype != np.uint8:
            return "shape"
    except ImageError:
        pass
    except Exception as error:
        return f"raises {type(error).__name__}"
    if time.process_time() - started > SLOW:
        return "slow"
    if _peak() - before > MAX_GROWTH:
        return "memory"
    common = decode_common(data, MOST_PIXELS)
    if common is None:
        return None
    try:
        ImageFile.LOAD_TRUNCATED_IMAGES = True
        rgb = open_rgb(_picture_alone(data))
    except ImageError as error:
        return f"only libvips decodes it; {error}"
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = False
    if rgb.size != tuple(common[0]):
        return "another size than in Pillow"
    difference = np.abs(common[1].astype(np.int16) - clip_pixels(rgb)).mean()
    return "other pixels than in Pillow" if difference > MAX_DIFFERENCE else None


def _picture_alone(data: bytes) -> bytes:
    kept = [chunk for chunk in chunks(data) if chunk.kind in (b"IHDR", b"IDAT", b"IEND")]
    return SIGNATURE + b"".join(data[chunk.start : chunk.end] for chunk in kept) if is_png(data) else data


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _PEAK_UNIT


def work(seed: int, until: float, current: Path, keep: Path, runs: Synchronized[int], shown: Synchronized[int]) -> None:
    rng = random.Random(seed)
    originals = seeds()
    while time.time() < until:
        data = changed(rng.choice(originals), rng)
        current.write_bytes(data)
        if found := problem(data):
            _keep(keep, found, data)
        runs.value += 1
        shown.value += decode_common(data, MOST_PIXELS) is not None


def _keep(folder: Path, found: str, data: bytes) -> None:
    name = "".join(letter if letter.isalnum() else "-" for letter in found)[:80]
    (folder / f"{name}_{zlib.crc32(data):08x}.input").write_bytes(data)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, default=Path("fuzz-pixels"))
    given = parser.parse_args()
    given.keep.mkdir(parents=True, exist_ok=True)
    current = given.keep / "current"
    spawning = multiprocessing.get_context("spawn")
    runs, shown = spawning.Value("l", 0), spawning.Value("l", 0)
    seed, until = given.seed, time.time() + given.seconds
    while time.time() < until:
        worker = spawning.Process(target=work, args=(seed, until, current, given.keep, runs, shown))
        worker.start()
        worker.join(until - time.time() + 60)
        if worker.exitcode != 0:
            _keep(
                given.keep, "hangs" if worker.exitcode is None else f"ends with {worker.exitcode}", current.read_bytes()
            )
            worker.kill()
            worker.join()
        seed += 1
    kinds = Counter(path.name.rsplit("_", 1)[0] for path in given.keep.glob("*.input"))
    console = Console()
    console.print(f"{runs.value} inputs, {shown.value} of them decoded by libvips; kept in {given.keep}: {dict(kinds)}")


if __name__ == "__main__":
    main()
