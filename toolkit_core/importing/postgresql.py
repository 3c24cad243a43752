"""The PostgreSQL database of DiffusionToolkit's fork.

Its tables are those of LSDJesus/DiffusionToolkit, Diffusion.Database.PostgreSQL/PostgreSQLMigrations_V1_Schema.sql:
image, album, album_image and image_tags. They lie in the schema that a profile of the fork names, `public` by default.
The tags of an image are what taggers, two models that look at the picture, and imported sidecars say of it, with how
sure they are from 0 to 1; a tagger's source is named in PostgreSQLDataStore.Tags.cs and TaggingOrchestrator.cs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import sql

from ..database.database import UNREADABLE_URL, described, said
from ..errors import ImportSourceError
from .image import Page, by_image, images_of

SECONDS_TO_CONNECT = 15
TAGGERS = ["joytag", "wdv3large", "joytag+wdv3large"]

NEEDED = {"id", "path", "favorite"}
OPTIONAL = ("rating", "nsfw", "for_deletion", "custom_tags")
ALBUMS = {"album": {"id", "name"}, "album_image": {"album_id", "image_id"}}
TAGS = {"image_tags": {"image_id", "tag", "source", "confidence"}}


class PostgreSQLSource:
    """A `Source`. Each page is a short read-only transaction in a connection of its own: nothing is held meanwhile."""

    def __init__(self, url: str, schema: str | None = None, tagger_confidence: float | None = None) -> None:
        """schema, tagger_confidence: see `Library.import_toolkit`. Raises ImportSourceError."""
        self._url = url
        self._tagger_confidence = tagger_confidence
        try:
            self._described = described(url)
        except psycopg.ProgrammingError:
            raise ImportSourceError(UNREADABLE_URL) from None
        with self._connection() as connection:
            schemas = [name for (name,) in connection.execute(SCHEMAS, [sorted(NEEDED), len(NEEDED)])]
            self._schema = self._chosen(schemas, schema)
            has: dict[str, set[str]] = {}
            for table, column in connection.execute(COLUMNS, [self._schema]):
                has.setdefault(table, set()).add(column)
        self._has_albums, self._has_tags = (_has(has, tables) for tables in (ALBUMS, TAGS))
        self._optional = [
            sql.Identifier(name) if name in has["image"] else sql.SQL("NULL AS {}").format(sql.Identifier(name))
            for name in OPTIONAL
        ]

    def describe(self) -> str:
        return self._described

    def count(self) -> int:
        with self._connection() as connection:
            row = connection.execute(self._named(COUNT)).fetchone()
            assert row is not None
            return row[0]

    def page(self, after: int, size: int) -> Page:
        with self._connection() as connection:
            rows = connection.execute(self._named(IMAGES), {"after": after, "size": size}).fetchall()
            if not rows:
                return Page([])
            of_page = {
                "first": rows[0][0],
                "last": rows[-1][0],
                "taggers": TAGGERS,
                "confidence": self._tagger_confidence,
            }
            albums = by_image(connection.execute(self._named(ALBUM_NAMES), of_page)) if self._has_albums else {}
            tags: dict[int, list[str]] = {}
            left_out = 0
            if self._has_tags:
                tags = by_image(connection.execute(self._named(TAG_NAMES), of_page))
                ((left_out,),) = connection.execute(self._named(TAGS_LEFT_OUT), of_page).fetchall()
        return Page(list(images_of(rows, tags, albums)), left_out)

    def _chosen(self, schemas: list[str], named: str | None) -> str:
        if named in schemas or (named is None and len(schemas) == 1):
            return named or schemas[0]
        if not schemas:
            raise ImportSourceError(
                f"{self._described} is no database of DiffusionToolkit: no schema in it that may be read has a table "
                "image with the columns id, path and favorite."
            )
        there = ", ".join(schemas)
        if named is None:
            raise ImportSourceError(
                f"{self._described} has several schemas with images: {there}. Say which of them (--schema NAME), one "
                "after the other for more."
            )
        raise ImportSourceError(f"{self._described} has no images in a schema {named!r}, but in {there}.")

    def _named(self, statement: sql.SQL) -> sql.Composed:
        """A statement with the names of the tables and columns that there are."""
        names = ("image", "album", "album_image", "image_tags")
        return statement.format(
            optional=sql.SQL(", ").join(self._optional),
            **{name: sql.Identifier(self._schema, name) for name in names},
        )

    @contextmanager
    def _connection(self) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
        """A connection that cannot write, and sees the database as it is at one moment."""
        try:
            with psycopg.connect(self._url, connect_timeout=SECONDS_TO_CONNECT) as connection:
                connection.read_only = True
                connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
                yield connection
        except psycopg.Error as error:
            raise ImportSourceError(
                f"{self._described} cannot be read: {said(error)}. See that the server runs and lets you read it, and "
                "run again; what was imported is kept."
            ) from error


def _has(columns: Mapping[str, set[str]], needed: Mapping[str, set[str]]) -> bool:
    return all(columns.get(table, set()) >= names for table, names in needed.items())


# Only tables: our own libraries have a view of that name.
SCHEMAS = """
    SELECT table_schema FROM information_schema.columns JOIN information_schema.tables USING (table_schema, table_name)
    WHERE table_name = 'image' AND table_type = 'BASE TABLE' AND column_name = ANY(%s)
    GROUP BY table_schema HAVING count(*) = %s ORDER BY table_schema
"""
COLUMNS = "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = %s"

COUNT = sql.SQL("SELECT count(*) FROM {image}")
IMAGES = sql.SQL(
    "SELECT id, path, favorite, {optional} FROM {image} WHERE id > %(after)s AND path IS NOT NULL"
    " ORDER BY id LIMIT %(size)s"
)
ALBUM_NAMES = sql.SQL(
    "SELECT i.image_id, a.name FROM {album_image} i JOIN {album} a ON a.id = i.album_id"
    " WHERE i.image_id BETWEEN %(first)s AND %(last)s"
)
_IS_WANTED = "(source <> ALL(%(taggers)s) OR coalesce(confidence >= %(confidence)s::real, false))"
TAG_NAMES = sql.SQL(
    "SELECT image_id, tag FROM {image_tags} WHERE image_id BETWEEN %(first)s AND %(last)s AND " + _IS_WANTED
)
TAGS_LEFT_OUT = sql.SQL(
    "SELECT count(*) FROM {image_tags} WHERE image_id BETWEEN %(first)s AND %(last)s AND NOT " + _IS_WANTED
)
