"""The integration guide's layout: one wide table with five `vector` columns and an IVFFlat index on each."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from pgvector import Vector

from toolkit_core.spaces import EMBEDDINGS

from .bench import TOP_K, Bench, Measured, Session

TABLE = """
CREATE TABLE image (
    id SERIAL PRIMARY KEY,
    path TEXT NOT NULL UNIQUE,
    prompt TEXT,
    negative_prompt TEXT,
    prompt_embedding vector(1024),
    negative_prompt_embedding vector(1024),
    image_embedding vector(1024),
    clip_l_embedding vector(768),
    clip_g_embedding vector(1280)
)
"""
COLUMNS = {"bge": "prompt_embedding", "clip_h": "image_embedding"}
COMBINED = """
SELECT id, path, prompt,
    (0.5 * (1 - (prompt_embedding <=> %(bge)s)) + 0.5 * (1 - (image_embedding <=> %(clip_h)s))) AS combined_score
FROM image
WHERE prompt_embedding IS NOT NULL AND image_embedding IS NOT NULL
ORDER BY combined_score DESC
LIMIT 20
"""


# What stands in the columns whose space a library lacks: the guide's rows have all five, and are read past all five.
STANDING_IN = {
    "negative_prompt_embedding": "prompt_embedding::vector",
    "clip_l_embedding": "subvector(image_embedding::vector, 1, 768)",
    "clip_g_embedding": "image_embedding::vector || subvector(image_embedding::vector, 1, 256)",
}


def session(bench: Bench, library: str, spaces: Sequence[str]) -> Session:
    """The guide's table with the images of a library, in a schema of its own.

    spaces: those that the library has. With one alone, of a million images, only its column is filled.
    """
    schema = f"guide_{library}"
    connection = bench.user(schema)
    if connection.execute("SELECT to_regclass(%s)", [f"{schema}.image"]).fetchone() == (None,):
        bench.note("filling the guide's table")
        connection.execute(f"CREATE SCHEMA IF NOT EXISTS {schema}".encode())
        connection.execute(TABLE.encode())
        own = {EMBEDDINGS[name].view_column for name in spaces}
        filled = {column: f"{column}::vector" for column in own}
        if len(own) > 1:
            filled = {**STANDING_IN, **filled}
        connection.execute(
            f"INSERT INTO image (id, path, prompt, {', '.join(filled)})"
            f" SELECT id, path, prompt, {', '.join(filled.values())} FROM {library}.image".encode()
        )
        connection.execute(b"VACUUM ANALYZE image")
    return connection


def build_ivfflat(bench: Bench, connection: Session, column: str, rows: int) -> float:
    """Index a column as the guide says for its number of rows, with a gigabyte. Seconds."""
    started = time.perf_counter()
    if connection.execute("SELECT to_regclass(%s)", [f"idx_image_{column}"]).fetchone() == (None,):
        bench.note(f"building the guide's IVFFlat index on {column}")
        connection.execute("SET maintenance_work_mem = '1GB'")
        connection.execute(
            f"CREATE INDEX idx_image_{column} ON image USING ivfflat ({column} vector_cosine_ops)"
            f" WITH (lists = {int(rows**0.5)})".encode()
        )
    return time.perf_counter() - started


def nearest(connection: Session, name: str) -> Callable[[dict[str, NDArray[np.float32]]], list[int]]:
    """The guide's query of one embedding."""
    column = COLUMNS[name]
    statement = (
        f"SELECT id, path, 1 - ({column} <=> %(query)s) AS similarity FROM image WHERE {column} IS NOT NULL"
        f" ORDER BY {column} <=> %(query)s LIMIT {TOP_K}"
    ).encode()

    def find(query: dict[str, NDArray[np.float32]]) -> list[int]:
        return [row[0] for row in connection.execute(statement, {"query": Vector(query[name])}, binary=True)]

    return find


def combined(connection: Session) -> Callable[[dict[str, NDArray[np.float32]]], list[int]]:
    """The guide's query of prompt and picture, weighted equally."""

    def find(query: dict[str, NDArray[np.float32]]) -> list[int]:
        vectors = {name: Vector(query[name]) for name in COLUMNS}
        return [row[0] for row in connection.execute(COMBINED.encode(), vectors, binary=True)]

    return find


def tuned(connection: Session, recall: float, measured: Callable[[], Measured]) -> tuple[int, Measured]:
    """The fewest probes, to a tenth, that reach a recall, and what they measure."""
    probes = 1
    while True:
        connection.execute(f"SET ivfflat.probes = {probes}".encode())
        found = measured()
        if found.recall >= recall:
            return probes, found
        probes = max(probes + 1, int(probes * 1.3))
