"""Rows that files go on under another path: looked for by content, and given the path."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from .database import Connection
from .images import ImageRow, KnownFile
from .stored_text import disk_path, stored_path

if TYPE_CHECKING:
    from typing_extensions import LiteralString

PRUNING = "pruning"
"""The purpose for which a process is alone in a library that removes images for good (`Database.alone`).

Whoever marks images as missing, and may find their files under another name next, keeps it out (`Database.among`).
"""


def content_hashes(connection: Connection, ids: Sequence[int]) -> dict[int, bytes | None]:
    """What was the content of some images' files when they were last read, by id; None where it was never read."""
    rows = connection.execute("SELECT id, content_hash FROM image_file WHERE id = ANY(%s)", [list(ids)])
    return dict(rows.fetchall())


def missing_at(connection: Connection, contents: Mapping[str, bytes]) -> dict[str, KnownFile]:
    """The rows of missing files that had, at some paths, a content each, by path."""
    rows = connection.execute(
        "SELECT f.id, f.path, f.file_size, f.modified_at, f.sidecars, f.missing_since"
        " FROM unnest(%s::text[], %s::bytea[]) AS wanted(path, content_hash)"
        " JOIN image_file f USING (path, content_hash)"
        " WHERE f.missing_since IS NOT NULL ORDER BY f.missing_since",
        [[stored_path(path) for path in contents], list(contents.values())],
    )
    return {disk_path(path): KnownFile(id, disk_path(path), *rest) for id, path, *rest in rows}


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
        "SELECT wanted.content_hash, f.id, f.path, f.file_size, f.modified_at, f.sidecars, f.missing_since"
        " FROM unnest(%(hashes)s::bytea[], %(behind)s::text[]) AS wanted(content_hash, behind) CROSS JOIN LATERAL ("
        "  SELECT * FROM image_file f WHERE f.id <> ALL(%(but)s::bigint[])"
        "  AND " + condition + " LIMIT %(limit)s) f"
    )
    paths = [stored_path(path) for path in behind.values()]
    rows = connection.execute(statement, {"hashes": list(behind), "behind": paths, "but": list(but), "limit": limit})
    for content_hash, id, path, *rest in rows:
        found.setdefault(content_hash, []).append(KnownFile(id, disk_path(path), *rest))
    return found


def locked(
    connection: Connection, ids: Collection[int], paths: Collection[str] = ()
) -> dict[int, tuple[str, bytes | None]]:
    """Lock some images, and those at some paths, against other writers. Returns the path and content of each, by id.

    All at once and by path, so that of two processes that write the same images one waits for the other.
    """
    rows = connection.execute(
        "SELECT id, path, content_hash FROM image_file WHERE id = ANY(%s::bigint[]) OR path = ANY(%s)"
        " ORDER BY path FOR NO KEY UPDATE",
        [list(ids), [stored_path(path) for path in paths]],
    )
    return {id: (disk_path(path), content_hash) for id, path, content_hash in rows}


def continue_rows(connection: Connection, files: Mapping[int, ImageRow]) -> set[bytes]:
    """Give images, by id, the paths and times that their files have now. They are not missing then, and open.

    All else about them stays. An image that has such a path now, and does not move itself, is missing: other content
    has taken the place of its file. One of which nothing was ever known is removed. Returns the contents of the others.
    """
    ids, paths = list(files), [stored_path(row.path) for row in files.values()]
    connection.execute(
        "DELETE FROM image_file f USING unnest(%s::text[], %s::bigint[]) AS new(path, id)"
        " WHERE f.path = new.path AND f.missing_since IS NULL AND f.id <> new.id"
        " AND f.content_hash IS NULL AND NOT f.favorite AND f.rating IS NULL AND f.tags = '{}'",
        [paths, ids],
    )
    displaced = connection.execute(
        "UPDATE image_file f SET missing_since = now() FROM unnest(%s::text[], %s::bigint[]) AS new(path, id)"
        " WHERE f.path = new.path AND f.missing_since IS NULL AND f.id <> new.id RETURNING f.id, f.content_hash",
        [paths, ids],
    ).fetchall()
    connection.execute(
        "UPDATE image_file f SET path = new.path, modified_at = new.modified_at, missing_since = NULL,"
        " error = CASE WHEN f.modified_at IS NULL THEN NULL ELSE f.error END"
        " FROM unnest(%s::bigint[], %s::text[], %s::timestamptz[]) AS new(id, path, modified_at) WHERE f.id = new.id",
        [ids, paths, [row.modified_at for row in files.values()]],
    )
    return {content_hash for id, content_hash in displaced if id not in files and content_hash is not None}
