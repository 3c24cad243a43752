"""Which images a library says are missing, and which a search finds."""

from __future__ import annotations

from pathlib import Path

from toolkit_core.library import Library


def missing(library: Library) -> list[str]:
    return [Path(image.path).name for image in library.missing()]


def found(library: Library) -> set[str]:
    return {Path(hit.path).name for hit in library.search(filter="id:>0", top_k=100)}
