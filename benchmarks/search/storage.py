"""Bytes an image with all five embeddings, with one image a prompt and with four, beside the guide's layout."""

from __future__ import annotations

from toolkit_core.database.segments import seal
from toolkit_core.library import Library
from toolkit_core.spaces import SPACES, IndexKind

from . import guide, synthetic
from .bench import Bench

ROWS = 30_000
COLUMNS = ("prompt_embedding", "negative_prompt_embedding", "image_embedding", "clip_l_embedding", "clip_g_embedding")


def run(bench: Bench, rows: int) -> None:
    """Of 30,000 images, whatever `rows` is: bytes an image do not depend on it."""
    kinds: tuple[IndexKind, ...] = ("hnsw", "hnsw_binary")
    lines = [
        (f"this library, {kind}, {images_a_prompt} a prompt", _ours(bench, images_a_prompt, kind))
        for images_a_prompt in (1, 4)
        for kind in kinds
    ]
    lines.append(("the guide's table with its indexes", _guide(bench)))
    bench.table(f"Storage, five embeddings, {ROWS:,} images", ("", "KB an image"), lines)


def _ours(bench: Bench, images_a_prompt: int, kind: IndexKind) -> str:
    name = f"storage_{images_a_prompt}_{kind}"
    with Library.open(bench.home, library=name) as library:
        if library.status().images == 0:
            made = bench.made(ROWS, tuple(SPACES), images_a_prompt)
            synthetic.write(library.database, made)
            seal(library.database, kind=kind, most_open_rows=0, rows_worth_an_index=5_000)
            with library.database.autocommit() as connection:
                connection.execute("VACUUM FULL image_file, prompt_text")
        return _kilobytes(bench, name)


def _guide(bench: Bench) -> str:
    schema = "storage_1_hnsw"
    with guide.session(bench, schema, tuple(SPACES)) as connection:
        for column in COLUMNS:
            guide.build_ivfflat(bench, connection, column, ROWS)
    return _kilobytes(bench, f"guide_{schema}")


def _kilobytes(bench: Bench, schema: str) -> str:
    with bench.user(schema) as connection:
        row = connection.execute(
            "SELECT sum(pg_total_relation_size(oid)) FROM pg_class"
            " WHERE relkind = 'r' AND relnamespace = %s::regnamespace",
            [schema],
        ).fetchone()
    assert row is not None
    return f"{row[0] / ROWS / 1024:.1f}"
