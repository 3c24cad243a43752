"""Rows of files that are not there any more, which are marked and stay until the file is back or they are pruned.

And of those that are there and cannot be read or embedded.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ..records import FailedImage, MissingImage, Pruned
from ..spaces import SPACES
from . import vectors
from .database import Connection
from .images import KnownFile
from .moved import locked
from .stored_text import disk_path, storable, stored_path, stored_ranges

if TYPE_CHECKING:
    from typing_extensions import LiteralString

IS_FOUND: LiteralString = "f.error IS NULL AND f.missing_since IS NULL"
"""Of a row `f` of `image_file`: its file is there and can be read. Searches give no others."""

# A join, and not EXISTS: of it PostgreSQL looks each path up in the index.
_ROOTS: LiteralString = (
    "unnest(%(itself)s::text[], %(below)s::text[], %(behind)s::text[]) AS root(itself, below, behind)"
)
_AT_OR_BELOW: LiteralString = "(f.path = root.itself OR (f.path >= root.below AND f.path < root.behind))"
# Locked in one order, here as by all others, for two processes often mark the same files at once.
_MARKED: LiteralString = (
    " AND f.missing_since IS NULL ORDER BY f.path FOR NO KEY UPDATE OF f)"
    " UPDATE image_file f SET missing_since = now() FROM gone WHERE f.id = gone.id"
)
_HAS_ITS_PATH: LiteralString = (
    "NOT EXISTS (SELECT FROM image_file other WHERE other.path = f.path AND other.missing_since IS NULL)"
)
_NO_IMAGE_HAS_TEXT: LiteralString = (
    "NOT EXISTS (SELECT FROM image_file f WHERE f.prompt_id = t.id)"
    " AND NOT EXISTS (SELECT FROM image_file f WHERE f.negative_prompt_id = t.id)"
)
_NOTHING_HAS_METADATA: LiteralString = (
    "NOT EXISTS (SELECT FROM image_file f WHERE f.metadata_id = m.id)"
    " AND NOT EXISTS (SELECT FROM raw_metadata packed WHERE packed.base_id = m.id)"
)

# A writer looks its texts up, or adds them, and then its metadata, before it refers to them: none may go in between.
_TEXTS_STAY: LiteralString = "LOCK TABLE prompt_text IN SHARE ROW EXCLUSIVE MODE"


def mark(connection: Connection, paths: Sequence[str]) -> int:
    """Mark the rows of files that are gone. Returns how many were not marked before."""
    return connection.execute(
        "WITH gone AS (SELECT f.id FROM image_file f WHERE f.path = ANY(%s)" + _MARKED,
        [[stored_path(path) for path in paths]],
    ).rowcount


def mark_below(connection: Connection, paths: Sequence[str]) -> int:
    """Mark the rows of some paths, and all rows below those that were folders. Returns how many were not marked."""
    return connection.execute(
        "WITH gone AS (SELECT f.id FROM image_file f, " + _ROOTS + " WHERE " + _AT_OR_BELOW + _MARKED,
        stored_ranges(paths),
    ).rowcount


def mark_found(connection: Connection, ids: Sequence[int]) -> int:
    """Take the mark away from files that are back. Returns how many had it.

    A path has one file: where another image has it by now, or is named as well, the one that was there last has it.
    """
    locked(connection, ids)
    return connection.execute(
        "UPDATE image_file f SET missing_since = NULL WHERE id IN ("
        "  SELECT DISTINCT ON (path) id FROM image_file WHERE id = ANY(%s) AND missing_since IS NOT NULL"
        "  ORDER BY path, missing_since DESC)"
        " AND " + _HAS_ITS_PATH,
        [list(ids)],
    ).rowcount


def count(connection: Connection) -> int:
    """How many images' files are missing."""
    row = connection.execute("SELECT count(*) FROM image_file WHERE missing_since IS NOT NULL").fetchone()
    assert row is not None
    return row[0]


def count_below(connection: Connection, paths: Sequence[str]) -> int:
    """How many images at or below some paths are missing."""
    row = connection.execute(
        "SELECT count(DISTINCT f.id) FROM image_file f, "
        + _ROOTS
        + " WHERE f.missing_since IS NOT NULL AND "
        + _AT_OR_BELOW,
        stored_ranges(paths),
    ).fetchone()
    assert row is not None
    return row[0]


def may_be_back(connection: Connection, paths: Sequence[str]) -> list[KnownFile]:
    """The missing files at or below some paths whose own paths no other image has."""
    columns = "f.id, f.path, f.file_size, f.modified_at, f.sidecars, f.missing_since"
    rows = _select(connection, columns, "f.missing_since IS NOT NULL AND " + _HAS_ITS_PATH, paths)
    return [KnownFile(id, disk_path(path), *rest) for id, path, *rest in rows]


def below(
    connection: Connection, paths: Sequence[str] | None = None, at_least: timedelta = timedelta()
) -> list[MissingImage]:
    """The images whose files are missing, by path: at or below some paths, or all; for at least some time."""
    columns = "f.id, f.path, f.file_size, f.missing_since, f.favorite OR f.rating IS NOT NULL OR f.tags <> '{}'"
    marked = "f.missing_since IS NOT NULL AND f.missing_since <= now() - %(at_least)s"
    rows = _select(connection, columns, marked, paths, {"at_least": at_least})
    return [MissingImage(id, disk_path(path), *rest) for id, path, *rest in rows]


def failed(connection: Connection, paths: Sequence[str] | None = None) -> list[FailedImage]:
    """The images that are there and could not be read, by path: at or below some paths, or all."""
    rows = _select(
        connection,
        "f.id, f.path, f.error, f.indexed_at",
        "f.error IS NOT NULL AND f.missing_since IS NULL",
        paths,
    )
    return [FailedImage(id, disk_path(path), *rest) for id, path, *rest in rows]


def mark_damaged(connection: Connection, errors: Mapping[int, str], contents: Mapping[int, bytes]) -> None:
    """Record why the pictures of some images cannot be decoded; the size that they claim is not known to be theirs.

    contents: what it was that cannot be decoded. A row that has other content by now is left as it is.
    """
    locked(connection, list(errors))
    connection.execute(
        "UPDATE image_file f SET error = new.error, width = NULL, height = NULL"
        " FROM unnest(%s::bigint[], %s::text[], %s::bytea[]) AS new(id, error, content_hash)"
        " WHERE f.id = new.id AND f.content_hash = new.content_hash AND f.error IS NULL",
        [list(errors), [storable(error) for error in errors.values()], [contents[id] for id in errors]],
    )


def mark_unembeddable(connection: Connection, errors: Mapping[int, str]) -> dict[int, str]:
    """Record why no vectors can be made of the pictures of some images. Returns their paths, by id."""
    locked(connection, list(errors))
    rows = connection.execute(
        "UPDATE image_file f SET error = new.error FROM unnest(%s::bigint[], %s::text[]) AS new(id, error)"
        " WHERE f.id = new.id RETURNING f.id, f.path",
        [list(errors), [storable(error) for error in errors.values()]],
    )
    return {id: disk_path(path) for id, path in rows}


def with_text(connection: Connection, texts: Collection[int]) -> dict[int, str]:
    """The path of an image that has a text as its prompt or negative prompt, by the text's id."""
    rows = connection.execute(
        "SELECT id, path FROM (SELECT t.id, coalesce("
        "  (SELECT path FROM image_file WHERE prompt_id = t.id LIMIT 1),"
        "  (SELECT path FROM image_file WHERE negative_prompt_id = t.id LIMIT 1)) AS path"
        " FROM unnest(%s::bigint[]) AS t(id)) found WHERE path IS NOT NULL",
        [list(texts)],
    )
    return {id: disk_path(path) for id, path in rows}


def mark_replaced(connection: Connection, contents: Mapping[int, bytes]) -> None:
    """Have the next run that comes by read some files again, whatever their time and size: they are not those any more.

    contents: what the rows say that the files hold.
    """
    locked(connection, list(contents))
    connection.execute(
        "UPDATE image_file f SET modified_at = NULL FROM unnest(%s::bigint[], %s::bytea[]) AS old(id, content_hash)"
        " WHERE f.id = old.id AND f.content_hash = old.content_hash",
        [list(contents), list(contents.values())],
    )


def files(connection: Connection, ids: Sequence[int]) -> list[tuple[KnownFile, bytes | None]]:
    """Those of some images that are missing, with the hash of their content."""
    rows = connection.execute(
        "SELECT id, path, file_size, modified_at, sidecars, missing_since, content_hash FROM image_file"
        " WHERE id = ANY(%s) AND missing_since IS NOT NULL",
        [list(ids)],
    )
    return [(KnownFile(id, disk_path(path), *rest), content_hash) for id, path, *rest, content_hash in rows]


def delete(connection: Connection, ids: Sequence[int]) -> Pruned:
    """Delete images that are still marked, their picture's vectors, and the texts that no other image has.

    Call it first in its transaction: writers of images wait for the end of that.
    """
    connection.execute(_TEXTS_STAY)
    rows = connection.execute(
        "SELECT id, prompt_id, negative_prompt_id, metadata_id FROM image_file"
        " WHERE id = ANY(%s) AND missing_since IS NOT NULL ORDER BY path FOR UPDATE",
        [list(ids)],
    ).fetchall()
    images = [id for id, *_ in rows]
    for statement in (
        "DELETE FROM image_pair WHERE image_id = ANY(%s)",
        "DELETE FROM image_unpaired WHERE image_id = ANY(%s)",
        "DELETE FROM image_file WHERE id = ANY(%s)",
    ):
        connection.execute(statement, [images])
    for space in SPACES.values():
        if space.of == "image":
            vectors.remove(connection, space, images)
    texts = _delete_unused_texts(connection, _distinct(rows, 1, 2))
    _delete_unused_metadata(connection, _distinct(rows, 3))
    return Pruned(images=len(images), texts=texts)


def unused(connection: Connection) -> tuple[list[int], list[int]]:
    """The ids of texts, and of kept metadata, that no image has: as a rule those of pictures that were replaced."""
    texts = connection.execute("SELECT id FROM prompt_text t WHERE " + _NO_IMAGE_HAS_TEXT + " ORDER BY id").fetchall()
    metadata = connection.execute(
        "SELECT id FROM raw_metadata m WHERE " + _NOTHING_HAS_METADATA + " ORDER BY id"
    ).fetchall()
    return _distinct(texts, 0), _distinct(metadata, 0)


def delete_unused(connection: Connection, texts: Sequence[int], metadata: Sequence[int]) -> int:
    """Delete those of some texts, with their vectors, and of some metadata, that no image has. Returns how many texts.

    Call it as `delete`.
    """
    connection.execute(_TEXTS_STAY)
    _delete_unused_metadata(connection, metadata)
    return _delete_unused_texts(connection, texts)


def _delete_unused_texts(connection: Connection, ids: Sequence[int]) -> int:
    unused = [
        id
        for (id,) in connection.execute(
            # Locked, so that none gets a vector once its vectors are removed: `vectors.held`.
            "SELECT id FROM prompt_text t WHERE id = ANY(%s) AND " + _NO_IMAGE_HAS_TEXT + " ORDER BY id FOR UPDATE",
            [ids],
        )
    ]
    for space in SPACES.values():
        if space.of == "text":
            vectors.remove(connection, space, unused)
    connection.execute("DELETE FROM conditioning WHERE prompt_id = ANY(%s)", [unused])
    connection.execute("DELETE FROM prompt_text WHERE id = ANY(%s)", [unused])
    return len(unused)


def _delete_unused_metadata(connection: Connection, ids: Sequence[int]) -> None:
    """A row that others are packed against stays as long as they do."""
    while ids:
        deleted = connection.execute(
            "DELETE FROM raw_metadata m WHERE id = ANY(%s) AND " + _NOTHING_HAS_METADATA + " RETURNING base_id",
            [ids],
        ).fetchall()
        ids = _distinct(deleted, 0)


def _distinct(rows: Sequence[tuple[Any, ...]], *columns: int) -> list[int]:
    return sorted({row[column] for row in rows for column in columns if row[column] is not None})


def _select(
    connection: Connection,
    columns: LiteralString,
    condition: LiteralString,
    paths: Sequence[str] | None,
    parameters: Mapping[str, object] = MappingProxyType({}),
) -> list[tuple[Any, ...]]:
    """Of images at or below some paths, or of all, by path."""
    if paths is None:
        statement = "SELECT " + columns + " FROM image_file f WHERE " + condition
    else:
        statement = "SELECT DISTINCT " + columns + " FROM image_file f, " + _ROOTS
        statement += " WHERE " + condition + " AND " + _AT_OR_BELOW
    return connection.execute(statement + " ORDER BY f.path", {**parameters, **stored_ranges(paths or ())}).fetchall()
