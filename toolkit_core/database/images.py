"""Rows of `image_file` and `prompt_text`."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from psycopg import sql
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from ..errors import ImageNotFound
from ..records import GenerationParameters, ImageRecord, Lora
from ..spaces import EMBEDDINGS, SPACES
from . import vectors
from .database import Connection
from .image_ids import checked_id
from .stored_text import disk_path, storable, stored_path, stored_range_below

if TYPE_CHECKING:
    from typing_extensions import LiteralString


class KnownFile(NamedTuple):
    """A row as the scanner compares it with the disk. `modified_at` is None where it could not be opened."""

    id: int
    path: str
    file_size: int | None
    modified_at: datetime | None
    sidecars: str | None


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
    """The rows of the files below a folder, at any depth: a page of them, by path.

    after: the path of the last row of the page before.
    """
    below, behind = stored_range_below(folder)
    rows = connection.execute(
        "SELECT id, path, file_size, modified_at, sidecars FROM image_file"
        " WHERE path > %s AND path < %s ORDER BY path LIMIT %s",
        [below if after is None else stored_path(after), behind, limit],
        binary=True,
    )
    return [KnownFile(id, disk_path(path), *rest) for id, path, *rest in rows]


def latest_below(connection: Connection, folder: str) -> datetime | None:
    """When the newest file below a folder that the library has was modified; None where it has none."""
    row = connection.execute(
        "SELECT max(modified_at) FROM image_file WHERE path > %s AND path < %s", stored_range_below(folder)
    ).fetchone()
    assert row is not None
    return row[0]


def content_hashes(connection: Connection, ids: Sequence[int]) -> dict[int, bytes]:
    """What was the content of some images' files when they were last read, by id."""
    rows = connection.execute("SELECT id, content_hash FROM image_file WHERE id = ANY(%s)", [list(ids)])
    return dict(rows.fetchall())


def missing_with_content(
    connection: Connection, behind: Mapping[bytes, str], but: Collection[int], limit: int
) -> dict[bytes, list[KnownFile]]:
    """The rows of missing files that had one of some contents, by path; at most `limit` of each.

    behind: a path for each content, and only rows behind it are looked for; "" for all.
    but: the ids of rows that are left out.
    """
    # PostgreSQL expects that hardly any file is missing, and would rather sort what other indexes have of a content, or
    # all that is missing: for each batch anew. In this order, without a sort, the rows come from one index alone.
    connection.execute(
        "SELECT set_config('enable_sort', 'off', true), set_config('enable_incremental_sort', 'off', true)"
    )
    return _with_content(
        connection,
        "(f.content_hash, f.path) > (wanted.content_hash, wanted.behind) AND f.content_hash <= wanted.content_hash"
        " AND f.missing_since IS NOT NULL ORDER BY f.content_hash, f.path",
        behind,
        but,
        limit,
    )


def others_with_content(
    connection: Connection, hashes: Collection[bytes], but: Collection[int], limit: int
) -> dict[bytes, list[KnownFile]]:
    """The rows of files with one of these contents that are not marked as missing; at most `limit` of each."""
    condition: LiteralString = "f.content_hash = wanted.content_hash AND f.missing_since IS NULL"
    return _with_content(connection, condition, dict.fromkeys(hashes, ""), but, limit)


def _with_content(
    connection: Connection, condition: LiteralString, behind: Mapping[bytes, str], but: Collection[int], limit: int
) -> dict[bytes, list[KnownFile]]:
    found: dict[bytes, list[KnownFile]] = {}
    statement = (
        "SELECT wanted.content_hash, f.id, f.path, f.file_size, f.modified_at, f.sidecars"
        " FROM unnest(%(hashes)s::bytea[], %(behind)s::text[]) AS wanted(content_hash, behind) CROSS JOIN LATERAL ("
        "  SELECT * FROM image_file f WHERE f.id <> ALL(%(but)s::bigint[])"
        "  AND " + condition + " LIMIT %(limit)s) f"
    )
    paths = [stored_path(path) for path in behind.values()]
    rows = connection.execute(statement, {"hashes": list(behind), "behind": paths, "but": list(but), "limit": limit})
    for content_hash, id, path, *rest in rows:
        found.setdefault(content_hash, []).append(KnownFile(id, disk_path(path), *rest))
    return found


def files_at(connection: Connection, paths: Sequence[str]) -> dict[str, KnownFile]:
    """The rows of those of the paths that have one, by path."""
    rows = connection.execute(
        "SELECT id, path, file_size, modified_at, sidecars FROM image_file WHERE path = ANY(%s)",
        [[stored_path(path) for path in paths]],
    )
    known = (KnownFile(id, disk_path(path), *rest) for id, path, *rest in rows)
    return {file.path: file for file in known}


def continue_row(connection: Connection, before: KnownFile, path: str, modified_at: datetime) -> bool:
    """Note a file's present path and time. Everything else about its row stays, but that it could not be opened.

    Returns whether the row was still there as it was before: another process may have pruned it, or found its file at
    another path.
    """
    cursor = connection.execute(
        "UPDATE image_file SET path = %s, modified_at = %s, missing_since = NULL,"
        " error = CASE WHEN modified_at IS NULL THEN NULL ELSE error END WHERE id = %s AND path = %s",
        [stored_path(path), modified_at, before.id, stored_path(before.path)],
    )
    return cursor.rowcount == 1


def mark_damaged(connection: Connection, errors: Mapping[int, str]) -> None:
    """Record why the pictures of some images cannot be decoded; the size that they claim is not known to be theirs."""
    connection.execute(
        "UPDATE image_file f SET error = new.error, width = NULL, height = NULL"
        " FROM unnest(%s::bigint[], %s::text[]) AS new(id, error)"
        " WHERE f.id = new.id AND f.error IS NULL",
        [list(errors), [storable(error) for error in errors.values()]],
    )


def write(connection: Connection, rows: Sequence[ImageRow]) -> list[int]:
    """Insert or update files and their texts; favourite, rating and tags stay. Returns ids in the rows' order.

    The picture's vector of a file with other content than before is removed, to be made again.
    """
    if not rows:
        return []
    columns = parameter_columns(connection, [row.parameters for row in rows])
    order = sorted(range(len(rows)), key=lambda i: stored_path(rows[i].path))
    replaced = connection.execute(
        "SELECT f.id FROM unnest(%s::text[], %s::bytea[]) AS new(path, content_hash)"
        " CROSS JOIN LATERAL (SELECT id, content_hash FROM image_file WHERE path = new.path LIMIT 1) f"
        " WHERE f.content_hash IS DISTINCT FROM new.content_hash ORDER BY f.id",
        [[stored_path(row.path) for row in rows], [row.content_hash for row in rows]],
    ).fetchall()
    if replaced:
        vectors.remove(connection, SPACES["clip_h"], [id for (id,) in replaced])
    ids = dict.fromkeys(order, 0)
    with connection.cursor() as cursor:
        # Sorted, so that two writers of the same files take their row locks in one order.
        cursor.executemany(UPSERT_IMAGE, [{**_file_columns(rows[i]), **columns[i]} for i in order], returning=True)
        for i in order:
            row = cursor.fetchone()
            assert row is not None
            ids[i] = row[0]
            cursor.nextset()
    return [ids[i] for i in range(len(rows))]


def mark_unopened(connection: Connection, path: str, error: str) -> bool:
    """Record a file whose bytes could not be read. What is known of it from before stays.

    Returns whether that is news: False where the same was recorded before.
    """
    cursor = connection.execute(
        "INSERT INTO image_file (path, error) VALUES (%s, %s)"
        " ON CONFLICT (path) DO UPDATE"
        " SET error = excluded.error, modified_at = NULL, missing_since = NULL, indexed_at = now()"
        " WHERE (image_file.error, image_file.modified_at, image_file.missing_since)"
        " IS DISTINCT FROM (excluded.error, NULL, NULL)",
        [stored_path(path), storable(error)],
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


def _file_columns(row: ImageRow) -> dict[str, Any]:
    return {
        "path": stored_path(row.path),
        "content_hash": row.content_hash,
        "file_size": row.file_size,
        "modified_at": row.modified_at,
        "width": row.width,
        "height": row.height,
        "error": _text(row.error),
        "sidecars": row.sidecars,
        "metadata_id": row.metadata_id,
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

UPSERT_IMAGE = sql.SQL(
    "INSERT INTO image_file ({columns}) VALUES ({values})"
    " ON CONFLICT (path) DO UPDATE SET indexed_at = now(), missing_since = NULL, {updates} RETURNING id"
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
