"""Libraries of synthetic vectors, without files, and the exact answer to a search in them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
from numpy.typing import NDArray
from psycopg import sql

from toolkit_core.database import Connection, Database, images, vectors
from toolkit_core.database.images import ImageRow
from toolkit_core.indexing.scan import EPOCH
from toolkit_core.records import GenerationParameters
from toolkit_core.spaces import EMBEDDINGS, SPACES, Space


@dataclass
class Filled:
    """What a library holds: the ids of its images, and by embedding their vectors, one row an image."""

    database: Database
    ids: NDArray[np.int64]
    vectors: dict[str, NDArray[np.float32]]

    def scores(self, query: Mapping[str, NDArray[np.float32]], weights: Mapping[str, float]) -> NDArray[np.float64]:
        """The weighted mean of cosine similarities of every image, in float64."""
        total = sum(abs(weight) for weight in weights.values())
        return sum(
            (weight / total * cosines(self.vectors[name], query[name]) for name, weight in weights.items()),
            start=np.zeros(len(self.ids)),
        )


def cosines(rows: NDArray[np.float32], vector: NDArray[np.float32]) -> NDArray[np.float64]:
    units = rows.astype(np.float64) / np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
    return units @ (vector.astype(np.float64) / np.linalg.norm(vector.astype(np.float64)))


def clustered(random: np.random.Generator, rows: int, width: int) -> NDArray[np.float32]:
    """Vectors in clusters of thirty, as exact as they are stored."""
    centres = random.standard_normal((rows // 30 + 1, 16))
    latent = centres[random.integers(0, len(centres), rows)] + 0.4 * random.standard_normal((rows, 16))
    made = latent @ random.standard_normal((16, width)) / 4 + 0.05 * random.standard_normal((rows, width))
    return made.astype(np.float16).astype(np.float32)


def image_row(number: int, prompt: str | None, model: str = "m") -> ImageRow:
    made = GenerationParameters(prompt=prompt, model=model, seed=number, steps=number % 40)
    modified_at = EPOCH + timedelta(minutes=number)
    return ImageRow(f"/renders/{number:05}.png", f"{number}".encode(), 1, modified_at, 64, 64, made, None)


def fill(database: Database, rows: int, images_a_prompt: int = 2, seed: int = 3) -> Filled:
    """Fill every space of a library. An image's model is `model-N` by its number modulo 10."""
    random = np.random.default_rng(seed)
    with database.transaction() as connection:
        made = [image_row(n, f"prompt {n // images_a_prompt}", f"model-{n % 10}") for n in range(rows)]
        ids = np.array(images.write(connection, made))
        prompt_of = dict(connection.execute("SELECT id, prompt_id FROM image_file").fetchall())
        stored: dict[str, dict[int, NDArray[np.float32]]] = {}
        for space in SPACES.values():
            owners = [id for id, _ in vectors.pending(connection, space, 0, 2 * rows)]
            values = clustered(random, len(owners), space.width)
            for start in range(0, len(owners), 1000):
                vectors.write(connection, space, owners[start : start + 1000], values[start : start + 1000])
            stored[space.name] = dict(zip(owners, values, strict=True))
    with database.autocommit() as connection:
        connection.execute("ANALYZE")
    of_images = {
        name: np.stack([stored[embedding.space][int(id) if embedding.of == "image" else prompt_of[id]] for id in ids])
        for name, embedding in EMBEDDINGS.items()
        if embedding.of != "negative_prompt"
    }
    return Filled(database, ids, of_images)


def forget(connection: Connection, space: Space) -> None:
    """Remove all vectors of a space."""
    rows = connection.execute(sql.SQL("SELECT {owner} FROM {whole}").format(**vectors.names(space))).fetchall()
    vectors.remove(connection, space, [owner for (owner,) in rows])
