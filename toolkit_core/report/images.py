"""What is known of one image or file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from ..records import ImageRecord, Lora
from .text import lines, print_rows, printable

if TYPE_CHECKING:
    from ..inspection import Inspection


def print_inspection(console: Console, found: Inspection) -> None:
    """What a file says of how its picture was made, by which rule each value was found, and what texts it has."""
    console.print(Text(printable(found.path), "bold"))
    if found.error is not None:
        console.print(Text(found.error, "red"))
    if found.reading is None:
        return
    made, rules = found.reading.parameters, found.reading.rules
    console.print(Text(f"Found by: {printable(found.reading.found_by or 'nothing that is known here')}"))
    table = Table("field", Column("value", ratio=3), Column("rule", ratio=2))
    values = {field.name: getattr(made, field.name) for field in fields(made)}
    for name, value in {**values, "size": f"{found.width} x {found.height}" if found.width else None}.items():
        if value is not None and value != ():
            shown = _loras(value) if name == "loras" else str(value)
            table.add_row(name.replace("_", " "), Text(lines(shown)), Text(lines(rules.get(name, ""))))
    if table.row_count:
        console.print(table)
    for text in found.texts:
        console.print(Text(f"{text.source} {printable(text.name)!r}: {len(text.text)} characters"))
    if not found.texts:
        console.print("It has no texts.")


def print_texts(console: Console, found: Inspection) -> None:
    """The texts of a file as they are, each under a line that says where it lies."""
    console.print(Text(printable(found.path), "bold"), soft_wrap=True)
    if found.error is not None:
        console.print(Text(found.error, "red"))
    for text in found.texts:
        console.print(Text(f"--- {text.source} {printable(text.name)!r}", "bold"), soft_wrap=True)
        console.print(Text(lines(text.text)), soft_wrap=True)


def print_record(console: Console, record: ImageRecord) -> None:
    made = record.parameters
    size = f"{record.width} x {record.height}" if record.width else None
    rows: list[tuple[str, object]] = [
        ("path", record.path),
        ("prompt", made.prompt),
        ("negative prompt", made.negative_prompt),
        ("generator", made.generator),
        ("model", made.model),
        ("VAE", made.vae),
        ("LoRAs", _loras(made.loras)),
        ("sampler", made.sampler),
        ("scheduler", made.scheduler),
        ("steps", made.steps),
        ("CFG scale", made.cfg_scale),
        ("guidance", made.guidance),
        ("seed", made.seed),
        ("denoise", made.denoise),
        ("size", size),
        ("favorite", record.favorite),
        ("rating", record.rating),
        ("tags", ", ".join(record.tags)),
        ("embeddings", ", ".join(record.embeddings) or "none yet"),
        ("indexed", f"{record.indexed_at:%Y-%m-%d %H:%M}"),
        ("error", record.error),
        ("missing since", f"{record.missing_since:%Y-%m-%d %H:%M}" if record.missing_since else None),
    ]
    print_rows(console, f"Image {record.id}", rows)


def _loras(loras: Sequence[Lora]) -> str:
    return ", ".join(
        lora.name if lora.strength_model is None else f"{lora.name} ({lora.strength_model})" for lora in loras
    )
