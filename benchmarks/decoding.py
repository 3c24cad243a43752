"""How fast picture files become the 224 x 224 pixels that CLIP sees, by decoder; and what reading a file is made of.

    python benchmarks/decoding.py [PICTURES] [--pictures 12] [--rounds 5] [--threads 2]

PICTURES is a folder of pictures (default: ../shared/corpus beside the repository); its first RGB PNG files of 1024 x
1024 pixels are used, written anew as ComfyUI writes them (PNG, compress_level 4, with their own metadata), as JPEG
(quality 95, also enlarged to 4096 x 4096) and as WebP (quality 90). Prints Markdown tables.

"Pillow" is the plain way: open, convert to RGB, resize (bicubic) to a shortest side of 224, crop. The others decode
into an array that Pillow resizes the same way; "toolkit" is `toolkit_core.encoders.pixels.decode`. What is not
installed is left out: opencv-python-headless, imagecodecs, av and kornia-rs are no requirements of the project. In each
round every decoder has its turn, on files in memory; figures are medians over the rounds. The deviation is the mean
difference of 8-bit pixels from Pillow's.

The second table is of one thread and files that lie in the page cache. The last compares the indexer's `read_file`
(hash, metadata and pixels) in threads with a Pillow loop that does no more than decode, and with the same loop in as
many threads.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngImageFile, PngInfo
from rich import box
from rich.console import Console
from rich.table import Table

from toolkit_core.encoders.clip_crop import CLIP_SIZE, Pixels
from toolkit_core.encoders.pixels import decode
from toolkit_core.indexing.read import read_file
from toolkit_core.indexing.scan import EPOCH, FoundFile
from toolkit_core.metadata import read_parameters, read_texts

REPOSITORY = Path(__file__).resolve().parents[1]
SIDE = 1024
LARGE_SIDE = 4096
LARGE_PICTURES = 4

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false

T = TypeVar("T")
Decoder = Callable[[bytes], Pixels]


def with_pillow(data: bytes) -> Pixels:
    with Image.open(io.BytesIO(data)) as image:
        return resized(image.convert("RGB"))


def resized(image: Image.Image) -> Pixels:
    scale = CLIP_SIZE / min(image.size)
    width, height = round(scale * image.width), round(scale * image.height)
    left, top = (width - CLIP_SIZE) // 2, (height - CLIP_SIZE) // 2
    whole = image.resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(whole.crop((left, top, left + CLIP_SIZE, top + CLIP_SIZE)))


def with_toolkit(data: bytes) -> Pixels:
    return decode(data).pixels


def decoders(format: str) -> dict[str, Decoder]:
    """Those that are installed and have this format, Pillow first."""
    found: dict[str, Callable[[bytes], Pixels]] = {}
    with suppress(ImportError):
        import cv2

        cv2.setNumThreads(1)
        found["OpenCV"] = lambda data: cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    with suppress(ImportError):
        import imagecodecs

        of = {"PNG": imagecodecs.spng_decode, "JPEG": imagecodecs.jpeg8_decode, "WEBP": imagecodecs.webp_decode}
        found["imagecodecs"] = of[format]
    with suppress(ImportError):
        import pyvips

        found["pyvips"] = lambda data: pyvips.Image.new_from_buffer(data, "", access="sequential").numpy()
    with suppress(ImportError):
        import av

        codec = {"PNG": "png", "JPEG": "mjpeg", "WEBP": "webp"}[format]

        def with_av(data: bytes) -> Pixels:
            context = av.CodecContext.create(codec, "r")
            context.thread_count = 1
            return [*context.decode(av.Packet(data)), *context.decode(None)][0].to_ndarray(format="rgb24")

        found["av (FFmpeg)"] = with_av
    with suppress(ImportError):
        import kornia_rs

        if format == "PNG":
            found["kornia-rs"] = lambda data: kornia_rs.io.decode_image_png_u8(data, (SIDE, SIDE), "rgb")
        elif format == "JPEG":
            found["kornia-rs"] = lambda data: kornia_rs.io.decode_image_jpeg(data)
    whole = {name: _then_resized(decoder) for name, decoder in found.items()}
    return {"Pillow": with_pillow, **whole, "toolkit": with_toolkit}


def _then_resized(decoder: Callable[[bytes], Pixels]) -> Decoder:
    return lambda data: resized(Image.fromarray(np.asarray(decoder(data))))


def find_pictures(folder: Path, count: int) -> list[tuple[Image.Image, PngInfo]]:
    found: list[tuple[Image.Image, PngInfo]] = []
    for path in sorted(folder.rglob("*.png")):
        with suppress(OSError), Image.open(path) as image:
            if image.mode == "RGB" and image.size == (SIDE, SIDE) and isinstance(image, PngImageFile):
                texts = PngInfo()
                for keyword, text in image.text.items():
                    texts.add_text(keyword, text)
                found.append((image.copy(), texts))
        if len(found) == count:
            break
    return found


def encoded(image: Image.Image, format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def files_of(pictures: Sequence[tuple[Image.Image, PngInfo]]) -> dict[tuple[str, str], list[bytes]]:
    """The files by (what they are, format)."""
    large = [image.resize((LARGE_SIDE, LARGE_SIDE), Image.Resampling.BICUBIC) for image, _ in pictures[:LARGE_PICTURES]]
    return {
        (f"PNG {SIDE}²", "PNG"): [encoded(image, "PNG", pnginfo=texts, compress_level=4) for image, texts in pictures],
        (f"JPEG {SIDE}²", "JPEG"): [encoded(image, "JPEG", quality=95) for image, _ in pictures],
        (f"JPEG {LARGE_SIDE}²", "JPEG"): [encoded(image, "JPEG", quality=95) for image in large],
        (f"WebP {SIDE}²", "WEBP"): [encoded(image, "WEBP", quality=90) for image, _ in pictures],
    }


def rate(work: Callable[[T], object], files: Sequence[T], threads: int) -> float:
    """Images a second."""
    started = time.perf_counter()
    if threads == 1:
        for data in files:
            work(data)
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(work, files))
    return len(files) / (time.perf_counter() - started)


def decoder_table(files: dict[tuple[str, str], list[bytes]], threads: Sequence[int], rounds: int) -> Table:
    table = Table("files", "decoder", box=box.MARKDOWN)
    for count in threads:
        table.add_column(f"images/s, {count} thread{'s' * (count > 1)}", justify="right")
        table.add_column("times Pillow", justify="right")
    table.add_column("deviation", justify="right")
    for (name, format), data in files.items():
        ways = decoders(format)
        expected = with_pillow(data[0])
        rates: dict[tuple[str, int], list[float]] = {(way, count): [] for way in ways for count in threads}
        deviations = {
            way: float(np.abs(decoder(data[0]) - expected.astype(float)).mean()) for way, decoder in ways.items()
        }
        for _ in range(rounds):
            for way, decoder in ways.items():
                for count in threads:
                    rates[way, count].append(rate(decoder, data, count))
        median = {key: statistics.median(values) for key, values in rates.items()}
        for way in ways:
            cells = [
                cell
                for count in threads
                for cell in (f"{median[way, count]:.1f}", f"{median[way, count] / median['Pillow', count]:.2f}")
            ]
            table.add_row(name, way, *cells, f"{deviations[way]:.2f}")
    return table


def share_table(folders: dict[str, Path], rounds: int) -> Table:
    """Milliseconds a file of each step of `read_file`, one thread."""
    table = Table("files", "read", "hash", "texts", "parameters", "pixels", "all but pixels", box=box.MARKDOWN)
    for name, folder in folders.items():
        milliseconds: dict[str, list[float]] = {step: [] for step in ("read", "hash", "texts", "parameters", "pixels")}
        for path in sorted(folder.iterdir()) * rounds:
            times = [time.perf_counter()]
            data = path.read_bytes()
            times.append(time.perf_counter())
            hashlib.sha256(data).digest()
            times.append(time.perf_counter())
            texts = read_texts(data)
            times.append(time.perf_counter())
            read_parameters(texts)
            times.append(time.perf_counter())
            decode(data)
            times.append(time.perf_counter())
            for step, start, end in zip(milliseconds, times, times[1:], strict=False):
                milliseconds[step].append(1000 * (end - start))
        median = {step: statistics.median(values) for step, values in milliseconds.items()}
        others = 1 - median["pixels"] / sum(median.values())
        table.add_row(name, *(f"{value:.2f} ms" for value in median.values()), f"{others:.0%}")
    return table


def reading_table(folders: dict[str, Path], threads: int, rounds: int) -> Table:
    table = Table("files", "way", "images/s", "times the loop", box=box.MARKDOWN)
    for name, folder in folders.items():
        found = [FoundFile(str(path), path.stat().st_size, EPOCH) for path in sorted(folder.iterdir())]
        ways: dict[str, tuple[Callable[[FoundFile], object], int]] = {
            "Pillow loop": (_decode_file, 1),
            f"Pillow in {threads} threads": (_decode_file, threads),
            f"read_file in {threads} threads": (read_file, threads),
        }
        rates: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(rounds):
            for way, (work, count) in ways.items():
                rates[way].append(rate(work, found, count))
        median = {way: statistics.median(values) for way, values in rates.items()}
        for way, value in median.items():
            table.add_row(name, way, f"{value:.1f}", f"{value / median['Pillow loop']:.2f}")
    return table


def _decode_file(found: FoundFile) -> Pixels:
    return with_pillow(Path(found.path).read_bytes())


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("folder", nargs="?", type=Path, default=REPOSITORY.parent / "shared" / "corpus")
    parser.add_argument("--pictures", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    given = parser.parse_args()
    pictures = find_pictures(given.folder, given.pictures)
    if not pictures:
        parser.error(f"There is no RGB PNG of {SIDE} x {SIDE} pixels in {given.folder}.")
    warnings.simplefilter("ignore")  # Pillow's, about big pictures
    files = files_of(pictures)
    with tempfile.TemporaryDirectory() as temporary:
        folders: dict[str, Path] = {}
        for (name, format), data in files.items():
            folder = folders[name] = Path(temporary, name)
            folder.mkdir()
            for number, one in enumerate(data):
                (folder / f"{number:03}.{format.lower()}").write_bytes(one)
        console = Console(width=160)  # a cell that wraps is no Markdown
        console.print(
            decoder_table(files, sorted({1, given.threads}), given.rounds),
            share_table(folders, given.rounds),
            reading_table(folders, given.threads, given.rounds),
        )


if __name__ == "__main__":
    main()
