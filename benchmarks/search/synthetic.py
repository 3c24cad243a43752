"""A library of synthetic images for benchmarks: clustered vectors, and metadata that filters can choose by.

A vector is a random linear picture of a few latent numbers, as the vectors of real encoders nearly are: images of one
cluster share a place in the latent space and differ by a smaller step in it. A prompt's vector and its picture's share
half of their latent numbers, so that two spaces agree in part. How far clusters reach into each other was chosen by
what the guide's IVFFlat finds on such sizes: with one probe about half of the true top 20.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from psycopg import sql

from toolkit_core.database import Connection, Database
from toolkit_core.database.vectors import names
from toolkit_core.spaces import SPACES, Space

Halves = NDArray[np.float16]

LATENT, IMAGES_A_CLUSTER, ROWS_A_BLOCK = 24, 250, 20_000
SHARES = {"001": 0.0001, "1": 0.01, "10": 0.1, "50": 0.5}
COPY_SIGNATURE = b"PGCOPY\n\xff\r\n\0" + struct.pack("!ii", 0, 0)


@dataclass(frozen=True)
class Synthetic:
    """What was written: each space's vectors, float16, shape (owners, width), whose owners are 1, 2, 3, …

    cluster: of each image. prompt: the id of each image's prompt. chance: numbers from 0 to 1, shape (rows, 5).
    """

    vectors: dict[str, Halves]
    cluster: NDArray[np.int64]
    prompt: NDArray[np.int64]
    chance: NDArray[np.float64]


def make(rows: int, spaces: tuple[str, ...], images_a_prompt: int = 1, seed: int = 0) -> Synthetic:
    """The vectors of `rows` images, the same ones for the same arguments."""
    random = np.random.default_rng(seed)
    clusters = max(rows // IMAGES_A_CLUSTER, 1)
    centres = random.standard_normal((clusters, LATENT)).astype(np.float32)
    prompts = -(-rows // images_a_prompt)
    prompt = np.arange(rows) // images_a_prompt
    prompt_cluster = random.integers(0, clusters, prompts)
    shared = centres[prompt_cluster] + 0.8 * random.standard_normal((prompts, LATENT)).astype(np.float32)
    vectors = {}
    for name in spaces:
        space = SPACES[name]
        directions = random.standard_normal((LATENT, space.width)).astype(np.float32) / LATENT**0.5
        count = rows if space.of == "image" else prompts
        made = np.empty((count, space.width), np.float16)
        for start in range(0, count, ROWS_A_BLOCK):
            block = np.arange(start, min(start + ROWS_A_BLOCK, count))
            latent = shared[prompt[block] if space.of == "image" else block].copy()
            latent[:, : LATENT // 2] += 1.2 * random.standard_normal((len(block), LATENT // 2)).astype(np.float32)
            noise = 0.1 * random.standard_normal((len(block), space.width)).astype(np.float32)
            made[block] = latent @ directions + noise
        vectors[name] = made
    return Synthetic(vectors, prompt_cluster[prompt], prompt + 1, random.random((rows, len(SHARES) + 1)))


def write(database: Database, made: Synthetic, first: int = 0, rows: int | None = None) -> None:
    """Write images `first` to `first + rows` with their prompts and vectors, as rows that are not sealed yet.

    Tags choose by share: `any-1` are 1% of the images at random, `cluster-1` the images of 1% of the clusters.
    """
    last = len(made.cluster) if rows is None else first + rows
    prompts = range(int(made.prompt[first]), int(made.prompt[last - 1]) + 1)
    with database.transaction() as connection:
        _copy_text(connection, "prompt_text (id, sha256, text)", (_prompt(id) for id in prompts))
        _copy_text(connection, f"image_file ({COLUMNS})", (_image(made, i) for i in range(first, last)))
        for table in ("prompt_text", "image_file"):
            connection.execute(
                f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), (SELECT max(id) FROM {table}))".encode()
            )
    for name, vectors in made.vectors.items():
        space = SPACES[name]
        owners = np.arange(first + 1, last + 1) if space.of == "image" else np.asarray(prompts)
        copy_vectors(database, space, owners, vectors[owners - 1])
    with database.autocommit() as connection:
        connection.execute("ANALYZE image_file, prompt_text")


def copy_vectors(database: Database, space: Space, owners: NDArray[np.int64], vectors: Halves) -> None:
    """Write vectors by binary COPY into the open part of a space, with their sketches."""
    parts = names(space)
    with database.transaction() as connection, connection.cursor() as cursor:
        copy = sql.SQL("COPY {open} ({owner}, embedding) FROM STDIN (FORMAT BINARY)").format(**parts)
        with cursor.copy(copy) as stream:
            stream.write(COPY_SIGNATURE)
            for start in range(0, len(owners), ROWS_A_BLOCK):
                block = slice(start, start + ROWS_A_BLOCK)
                stream.write(_copied(owners[block], vectors[block]))
            stream.write(b"\xff\xff")
        connection.execute(
            sql.SQL(
                "INSERT INTO {sketch} SELECT {owner}, binary_quantize(embedding)::bit({width}) FROM {open}"
                " WHERE {owner} BETWEEN %s AND %s"
            ).format(**parts),
            [int(owners[0]), int(owners[-1])],
        )


COLUMNS = "id, path, content_hash, file_size, modified_at, width, height, prompt_id, generator, model, sampler, steps,"
COLUMNS += " cfg_scale, seed, favorite, rating, tags"


def _prompt(id: int) -> tuple[str, ...]:
    return (
        str(id),
        f"\\\\x{id:064x}",
        f"a picture of subject{id} in style{id % 97}, place{id % 1009}, detailed, sharp",
    )


def _image(made: Synthetic, i: int) -> tuple[str, ...]:
    chance, clusters = made.chance[i], len(made.cluster) // IMAGES_A_CLUSTER
    tags = [f"any-{name}" for (name, share), drawn in zip(SHARES.items(), chance, strict=False) if drawn < share]
    tags += [f"cluster-{name}" for name, share in SHARES.items() if made.cluster[i] < max(share * clusters, 1)]
    return (
        str(i + 1),
        f"/renders/2026-{i % 12 + 1:02}/image_{i:07}.png",
        f"\\\\x{i:064x}",
        "1500000",
        f"2026-01-01 00:00:{i % 60:02}+00",
        "1024",
        "1024",
        str(made.prompt[i]),
        "ComfyUI",
        f"model-{i % 20:02}.safetensors",
        ("euler", "dpmpp_2m", "ddim")[i % 3],
        str(20 + i % 20),
        str(5 + i % 4),
        str(i),
        "t" if chance[-1] < 0.05 else "f",
        str(i % 11) if i % 10 == 0 else "\\N",
        "{" + ",".join(tags) + "}",
    )


def _copy_text(connection: Connection, into: str, rows: Iterator[tuple[str, ...]]) -> None:
    with connection.cursor() as cursor, cursor.copy(f"COPY {into} FROM STDIN".encode()) as stream:
        buffer = io.StringIO()
        for number, row in enumerate(rows, 1):
            buffer.write("\t".join(row) + "\n")
            if number % 10_000 == 0:
                stream.write(buffer.getvalue())
                buffer = io.StringIO()
        stream.write(buffer.getvalue())


def _copied(owners: NDArray[np.int64], vectors: Halves) -> bytes:
    """Rows in the form of a binary COPY: an owner and a vector each."""
    width = vectors.shape[1]
    row = np.dtype(
        [
            *(("columns", ">i2"), ("size", ">i4"), ("owner", ">i8")),
            *(("length", ">i4"), ("width", ">i2"), ("unused", ">i2"), ("vector", ">f2", (width,))),
        ]
    )
    rows = np.zeros(len(owners), row)
    rows["columns"], rows["size"], rows["owner"] = 2, 8, owners
    rows["length"], rows["width"], rows["vector"] = 4 + 2 * width, width, vectors
    return rows.tobytes()
