"""Rows of `image_file` and `prompt_text`."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, NamedTuple

import numpy as np
from psycopg import sql
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from ..errors import ImageNotFound
from ..records import GenerationParameters, ImageRecord, Lora
from ..spaces import EMBEDDINGS, SPACES
from . import raw_metadata, vectors
from .database import Connection
from .image_ids import checked_id
from .stored_text import disk_path, storable, stored_path, stored_range_below


class KnownFile(NamedTuple):
    """A row as the scanner compares it with the disk. `modified_at` is None where it could not be opened."""

    id: int
    path: str
    file_size: int | None
    modified_at: datetime | None
    sidecars: str | None
    missing_since: datetime | None = None


@dataclass(frozen=True)
class ImageRow:
    """A file that was read. `error` says why it has no pixels.

    metadata_id: its metadata as it is, in `raw_metadata`. reader_version: of the reader that made `parameters` of it.
    sidecars: which files beside it were read, in one text that another state of them changes.
    """

    path: str
    content_hash: bytes
    file_size: int
    modified_at: datetime
    width: int | None
    height: int | None
    parameters: GenerationParameters
    error: str | None
    metadata_id: int | None = None
    reader_version: int | None = None
    sidecars: str | None = None


def known_files(connection: Connection, folder: str, after: str | None, limit: int) -> list[KnownFile]:
    """The rows of the files below a folder, at any depth: a page of them, by path, and one a path.

    That is the file that is there, or the one that was there last and is missing.
    after: the path of the last row of the page before.
    """
    below, behind = stored_range_below(folder)
    rows = connection.execute(
        f"{ONE_A_PATH} WHERE path > %s AND path < %s {FOUND_FIRST} LIMIT %s".encode(),
        [below if after is None else stored_path(after), behind, limit],
        binary=True,
    )
    return [KnownFile(id, disk_path(path), *rest) for id, path, *rest in rows]


def known_since(connection: Connection, folder: str) -> datetime | None:
    """Since when the library has what comes below a folder; None where it has nothing there.

    That is when the first of its files there was indexed, or when the newest was modified, if that is earlier: then
    all of them are older than the library. Both stand while a run goes on, and whatever times the files have.
    """
    row = connection.execute(
        "SELECT least(min(indexed_at), max(least(modified_at, indexed_at))) FROM image_file"
        " WHERE path > %s AND path < %s AND modified_at IS NOT NULL",
        stored_range_below(folder),
    ).fetchone()
    assert row is not None
    return row[0]


def files_at(connection: Connection, paths: Sequence[str], *, or_missing: bool = False) -> dict[str, KnownFile]:
    """The rows of those of the paths that have one, by path, without those that are missing.

    or_missing: where a path has no other, the one that was there last and is missing.
    """
    but = "" if or_missing else "AND missing_since IS NULL"
    rows = connection.execute(
        f"{ONE_A_PATH} WHERE path = ANY(%s) {but} {FOUND_FIRST}".encode(), [[stored_path(path) for path in paths]]
    )
    known = (KnownFile(id, disk_path(path), *rest) for id, path, *rest in rows)
    return {file.path: file for file in known}


def write(connection: Connection, rows: Sequence[ImageRow]) -> list[int]:
    """Insert or update files and their texts; favourite, rating and tags stay. Returns ids in the rows' order.

    What is missing at a path is another image, and stays as it is. The picture's vector of a file with other content
    than before is removed, to be made again.
    """
    if not rows:
        return []
    columns = parameter_columns(connection, [row.parameters for row in rows])
    kept = raw_metadata.present(connection, {row.metadata_id for row in rows})
    order = sorted(range(len(rows)), key=lambda i: stored_path(rows[i].path))
    # Locked before their vectors are, as whoever writes a vector does it: `vectors.held`.
    replaced = connection.execute(
        "SELECT f.id FROM unnest(%s::text[], %s::bytea[]) AS new(path, content_hash) CROSS JOIN LATERAL"
        " (SELECT id, content_hash FROM image_file"
        "  WHERE path = new.path AND missing_since IS NULL LIMIT 1 FOR NO KEY UPDATE) f"
        " WHERE f.content_hash IS DISTINCT FROM new.content_hash ORDER BY f.id",
        [[stored_path(rows[i].path) for i in order], [rows[i].content_hash for i in order]],
    ).fetchall()
    if replaced:
        vectors.remove(connection, SPACES["clip_h"], [id for (id,) in replaced])
    ids = dict.fromkeys(order, 0)
    with connection.cursor() as cursor:
        # Sorted, so that two writers of the same files take their row locks in one order.
        cursor.executemany(
            UPSERT_IMAGE, [{**_file_columns(rows[i], kept), **columns[i]} for i in order], returning=True
        )
        for i in order:
            row = cursor.fetchone()
            assert row is not None
            ids[i] = row[0]
            cursor.nextset()
    return [ids[i] for i in range(len(rows))]


def mark_unopened(connection: Connection, path: str, error: str) -> bool:
    """Record a file whose bytes could not be read. What is known of it from before stays.

    Where an image is missing at the path, nobody knows whether this is its file, and nothing is recorded.
    Returns whether there is news: False also where the same was recorded before.
    """
    cursor = connection.execute(
        "WITH at_path AS (SELECT missing_since FROM image_file WHERE path = %(path)s)"
        " INSERT INTO image_file (path, error) SELECT %(path)s, %(error)s"
        " WHERE NOT EXISTS (SELECT FROM at_path) OR EXISTS (SELECT FROM at_path WHERE missing_since IS NULL)"
        " ON CONFLICT (path, missing_since) DO UPDATE"
        " SET error = excluded.error, modified_at = NULL, indexed_at = now()"
        " WHERE (image_file.error, image_file.modified_at) IS DISTINCT FROM (excluded.error, NULL)",
        {"path": stored_path(path), "error": storable(error)},
    )
    return cursor.rowcount == 1


def get(connection: Connection, id: int) -> ImageRecord:
    """One image. Raises ImageNotFound."""
    with connection.cursor(row_factory=dict_row) as cursor:
        row = cursor.execute(GET_IMAGE, [checked_id(id)]).fetchone()
    if row is None:
        raise _not_found(id)
    return record(row)


def embeddings(connection: Connection, id: int) -> dict[str, vectors.Vectors]:
    """An image's by name, each float32 of shape (width,); those it lacks are left out. Raises ImageNotFound."""
    row = connection.execute(GET_EMBEDDINGS, [checked_id(id)], binary=True).fetchone()
    if row is None:
        raise _not_found(id)
    found = zip(EMBEDDINGS, row, strict=True)
    return {name: half.to_numpy().astype(np.float32) for name, half in found if half is not None}


def _not_found(id: int) -> ImageNotFound:
    return ImageNotFound(f"The library has no image with id {id}.")


def record(row: Mapping[str, Any]) -> ImageRecord:
    """A row of RECORD_COLUMNS as a record."""
    return ImageRecord(
        id=row["id"],
        path=disk_path(row["path"]),
        file_size=row["file_size"],
        modified_at=row["modified_at"],
        width=row["width"],
        height=row["height"],
        parameters=GenerationParameters(
            generator=row["generator"],
            prompt=row["prompt"],
            negative_prompt=row["negative_prompt"],
            model=row["model"],
            vae=row["vae"],
            loras=tuple(Lora(**lora) for lora in row["loras"]),
            sampler=row["sampler"],
            scheduler=row["scheduler"],
            steps=row["steps"],
            cfg_scale=row["cfg_scale"],
            guidance=row["guidance"],
            seed=None if row["seed"] is None else int(row["seed"]),
            denoise=row["denoise"],
        ),
        favorite=row["favorite"],
        rating=row["rating"],
        tags=tuple(row["tags"]),
        error=row["error"],
        indexed_at=row["indexed_at"],
        embeddings=tuple(name for name in EMBEDDINGS if row[name]),
        missing_since=row["missing_since"],
    )


def prompt_ids(connection: Connection, id: int) -> tuple[int | None, int | None]:
    """The ids of an image's prompt and negative prompt."""
    row = connection.execute("SELECT prompt_id, negative_prompt_id FROM image_file WHERE id = %s", [id]).fetchone()
    return (None, None) if row is None else (row[0], row[1])


def counts(connection: Connection) -> tuple[int, int, int]:
    """How many images, how many of them with an error, and how many distinct prompts they have."""
    row = connection.execute("SELECT count(*), count(error), count(DISTINCT prompt_id) FROM image_file").fetchone()
    assert row is not None
    return row[0], row[1], row[2]


def parameter_columns(connection: Connection, made: Sequence[GenerationParameters]) -> list[dict[str, Any]]:
    """The columns that hold generation parameters, by name; texts that are new get their row in `prompt_text`."""
    prompts = [_prompts(parameters) for parameters in made]
    text_ids = _text_ids(connection, {text for pair in prompts for text in pair if text is not None})
    return [
        {"prompt_id": text_ids.get(prompt), "negative_prompt_id": text_ids.get(negative), **_own_columns(parameters)}
        for (prompt, negative), parameters in zip(prompts, made, strict=True)
    ]


def _prompts(parameters: GenerationParameters) -> tuple[str | None, str | None]:
    """The two texts that are stored. An image with a prompt and no negative one was made against the empty text."""
    prompt, negative = _text(parameters.prompt), _text(parameters.negative_prompt)
    return prompt, "" if negative is None and prompt is not None else negative


def _text_ids(connection: Connection, texts: Iterable[str]) -> dict[str | None, int]:
    by_hash = {hashlib.sha256(text.encode()).digest(): text for text in texts}
    hashes = sorted(by_hash)
    connection.execute(
        "INSERT INTO prompt_text (sha256, text) SELECT * FROM unnest(%s::bytea[], %s::text[])"
        " ON CONFLICT (sha256) DO NOTHING",
        [hashes, [by_hash[h] for h in hashes]],
    )
    rows = connection.execute(
        # One look into the index a text, also by a plan that was made when the table was small.
        "SELECT t.sha256, t.id FROM unnest(%s::bytea[]) AS wanted(sha256)"
        " CROSS JOIN LATERAL (SELECT sha256, id FROM prompt_text WHERE sha256 = wanted.sha256 LIMIT 1) t",
        [hashes],
    )
    return {by_hash[sha256]: id for sha256, id in rows}


def _file_columns(row: ImageRow, kept: Collection[int | None]) -> dict[str, Any]:
    return {
        "path": stored_path(row.path),
        "content_hash": row.content_hash,
        "file_size": row.file_size,
        "modified_at": row.modified_at,
        "width": row.width,
        "height": row.height,
        "error": _text(row.error),
        "sidecars": row.sidecars,
        "metadata_id": row.metadata_id if row.metadata_id in kept else None,
        "reader_version": row.reader_version,
    }


def _own_columns(made: GenerationParameters) -> dict[str, Any]:
    return {
        "generator": _text(made.generator),
        "model": _text(made.model),
        "vae": _text(made.vae),
        "loras": Jsonb([{**asdict(lora), "name": storable(lora.name)} for lora in made.loras]),
        "sampler": _text(made.sampler),
        "scheduler": _text(made.scheduler),
        "steps": made.steps if made.steps is None or abs(made.steps) < 2**31 else None,
        "cfg_scale": made.cfg_scale,
        "guidance": made.guidance,
        "seed": made.seed if made.seed is None or abs(made.seed) < 10**20 else None,
        "denoise": made.denoise,
    }


def _text(value: str | None) -> str | None:
    return None if value is None else storable(value)


PARAMETER_COLUMNS = (
    *("prompt_id", "negative_prompt_id", "generator", "model", "vae", "loras", "sampler", "scheduler", "steps"),
    *("cfg_scale", "guidance", "seed", "denoise"),
)
COLUMNS = (
    *("path", "content_hash", "file_size", "modified_at", "width", "height", "error", "sidecars"),
    *("metadata_id", "reader_version", *PARAMETER_COLUMNS),
)

# In the order of the index.
ONE_A_PATH = "SELECT DISTINCT ON (path) id, path, file_size, modified_at, sidecars, missing_since FROM image_file"
FOUND_FIRST = "ORDER BY path, missing_since DESC"

UPSERT_IMAGE = sql.SQL(
    "INSERT INTO image_file ({columns}) VALUES ({values})"
    " ON CONFLICT (path, missing_since) DO UPDATE SET indexed_at = now(), {updates} RETURNING id"
).format(
    columns=sql.SQL(", ").join(map(sql.Identifier, COLUMNS)),
    values=sql.SQL(", ").join(map(sql.Placeholder, COLUMNS)),
    updates=sql.SQL(", ").join(sql.SQL("{0} = excluded.{0}").format(sql.Identifier(name)) for name in COLUMNS[1:]),
)

RECORD_COLUMNS = sql.SQL(", ").join(
    [
        *map(
            sql.Identifier,
            (
                *("id", "path", "file_size", "modified_at", "width", "height", "prompt", "negative_prompt"),
                *("generator", "model", "vae", "loras", "sampler", "scheduler", "steps", "cfg_scale", "guidance"),
                *("seed", "denoise", "favorite", "rating", "tags", "error", "indexed_at", "missing_since"),
            ),
        ),
        *(
            sql.SQL("{} IS NOT NULL AS {}").format(sql.Identifier(e.view_column), sql.Identifier(e.name))
            for e in EMBEDDINGS.values()
        ),
    ]
)
"""Of the view `image`; each embedding's name says whether it is there."""

GET_IMAGE = sql.SQL("SELECT {} FROM image WHERE id = %s").format(RECORD_COLUMNS)

GET_EMBEDDINGS = sql.SQL("SELECT {} FROM image WHERE id = %s").format(
    sql.SQL(", ").join(sql.Identifier(embedding.view_column) for embedding in EMBEDDINGS.values())
)
