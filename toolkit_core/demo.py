"""`diffusion-toolkit demo`: the whole way from pictures to a search, with untrained weights."""

from __future__ import annotations

import io
import math
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from PIL import Image, ImageDraw, PngImagePlugin
from rich.console import Console

from .encoders.tiny import write_tiny_weights
from .library import Library
from .records import SearchHit
from .report import UNTRAINED, print_hits, print_index_report, progress_bars

SIZE = 512
COLORS = {"red": (200, 40, 40), "green": (40, 150, 70), "blue": (40, 70, 190), "yellow": (235, 200, 60)}
Paint = Callable[[ImageDraw.ImageDraw, tuple[int, int, int]], None]


def run_demo(console: Console, folder: Path | None) -> None:
    """Make pictures, index them, run a text and a picture search, and write a contact sheet into `folder`."""
    folder = folder or Path(tempfile.mkdtemp(prefix="diffusion-toolkit-demo-"))
    pictures = folder / "pictures"
    pictures.mkdir(parents=True, exist_ok=True)
    paths = [_write_picture(pictures, shape, color) for shape in SHAPES for color in COLORS]
    console.print(f"{len(paths)} pictures with prompts are in {pictures}", markup=False, soft_wrap=True)
    with tempfile.TemporaryDirectory() as home:
        console.print("Writing small untrained weights…")
        write_tiny_weights(Path(home) / "weights")
        with Library.open(home) as library:
            with progress_bars(console) as progress:
                report = library.index([pictures], progress)
            print_index_report(console, report)
            text = "a green spiral on a dark background"
            by_text = library.search(text, top_k=4)
            console.print(f"\nSearch by text: {text!r}")
            print_hits(console, by_text)
            picture = _cropped_jpeg(paths[0])
            by_picture = library.search(image=picture, top_k=4)
            console.print(f"\nSearch by picture: a cropped JPEG of {paths[0].name}")
            print_hits(console, by_picture)
    sheet = folder / "contact-sheet.png"
    _contact_sheet([("by text", None, by_text), ("by picture", picture, by_picture)]).save(sheet)
    console.print(f"\nThe contact sheet is {sheet}", markup=False, soft_wrap=True)
    console.print(UNTRAINED, style="yellow")


def _rings(draw: ImageDraw.ImageDraw, color: tuple[int, int, int]) -> None:
    for radius in range(230, 0, -46):
        fill = color if radius // 46 % 2 else (245, 245, 240)
        draw.ellipse((256 - radius, 256 - radius, 256 + radius, 256 + radius), fill=fill)


def _stripes(draw: ImageDraw.ImageDraw, color: tuple[int, int, int]) -> None:
    for left in range(-SIZE, SIZE, 96):
        draw.polygon([(left, SIZE), (left + 48, SIZE), (left + 48 + SIZE, 0), (left + SIZE, 0)], fill=color)


def _spiral(draw: ImageDraw.ImageDraw, color: tuple[int, int, int]) -> None:
    turns = [step / 12 for step in range(400)]
    points = [(256 + 7 * t * math.cos(t), 256 + 7 * t * math.sin(t)) for t in turns]
    draw.line(points, fill=color, width=14, joint="curve")


SHAPES: dict[str, tuple[str, tuple[int, int, int], Paint]] = {
    "rings": ("concentric {} rings on a white background, target", (245, 245, 240), _rings),
    "stripes": ("diagonal {} stripes on a grey background, pattern", (150, 150, 150), _stripes),
    "spiral": ("a {} spiral on a dark background, drawing", (25, 25, 30), _spiral),
}


def _write_picture(folder: Path, shape: str, color: str) -> Path:
    prompt, background, paint = SHAPES[shape]
    image = Image.new("RGB", (SIZE, SIZE), background)
    paint(ImageDraw.Draw(image), COLORS[color])
    metadata = PngImagePlugin.PngInfo()
    metadata.add_text(
        "parameters",
        f"{prompt.format(color)}\nNegative prompt: blurry, low quality\n"
        f"Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: {len(shape) * 1000 + len(color)}, "
        f"Size: {SIZE}x{SIZE}, Model: demo",
    )
    path = folder / f"{color}-{shape}.png"
    image.save(path, pnginfo=metadata)
    return path


def _cropped_jpeg(path: Path) -> bytes:
    buffer = io.BytesIO()
    with Image.open(path) as image:
        image.crop((16, 16, SIZE - 16, SIZE - 16)).convert("RGB").save(buffer, "JPEG", quality=60)
    return buffer.getvalue()


def _contact_sheet(rows: Sequence[tuple[str, bytes | None, Sequence[SearchHit]]], cell: int = 192) -> Image.Image:
    """A row a search: its name, or the picture it was by, then what was found with the scores."""
    columns = 1 + max(len(hits) for _, _, hits in rows)
    sheet = Image.new("RGB", (columns * cell, len(rows) * (cell + 20)), "white")
    draw = ImageDraw.Draw(sheet)
    for y, (name, picture, hits) in enumerate(rows):
        top = y * (cell + 20)
        draw.text((6, top + cell + 4), name, fill="black")
        if picture is not None:
            sheet.paste(Image.open(io.BytesIO(picture)).resize((cell - 8, cell - 8)), (4, top + 4))
        for x, hit in enumerate(hits, 1):
            with Image.open(hit.path) as image:
                sheet.paste(image.resize((cell - 8, cell - 8)), (x * cell + 4, top + 4))
            draw.text((x * cell + 6, top + cell + 4), f"{hit.score:.3f}  {Path(hit.path).stem}", fill="black")
    return sheet
