"""The SQLite database of DiffusionToolkit.

Its tables are made by sqlite-net of the classes in RupertAvery/DiffusionToolkit, Diffusion.Database/Models: Image.cs,
Album.cs, AlbumImage.cs, Tag.cs and ImageTag.cs. A column has the name of its property; a boolean is an integer. Which
of them there are depends on the version that last opened the database: Image.Path and Image.Favorite were there from
the first one on (November 2022), albums came in April 2023, tags in January 2026.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import quote

from ..errors import ImportSourceError
from .image import Page, by_image, images_of

SECONDS_TO_WAIT = 30.0
"""For a program that writes to the database."""

NEEDED = {"id", "path", "favorite"}
OPTIONAL = ("Rating", "NSFW", "ForDeletion", "CustomTags")
ALBUMS = {"album": {"id", "name"}, "albumimage": {"albumid", "imageid"}}
TAGS = {"tag": {"id", "name"}, "imagetag": {"imageid", "tagid"}}

_HEADER_BYTES, _READ_VERSION, _WRITE_AHEAD_LOG = 20, 19, 2
_TABLES_NAMED = 10


@contextmanager
def opened_sqlite(path: Path) -> Iterator[SQLiteSource]:
    """The database in a file. Nothing is written beside it. Raises ImportSourceError."""
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "is not there"
        raise ImportSourceError(
            f"{str(path)!r} {what}. Name DiffusionToolkit's database file, diffusion-toolkit.db, or the postgresql:// "
            "URL of its server."
        )
    log = _beside(path, "-wal")
    if not log.exists() or _beside(path, "-shm").exists():
        yield SQLiteSource(path, path)
        return
    # SQLite would make the missing index of the log beside it, so both are read as a copy.
    with TemporaryDirectory(prefix="diffusion-toolkit-") as folder:
        copy = Path(folder, path.name)
        try:
            for original in (path, log):
                shutil.copyfile(original, copy.with_name(original.name))
        except OSError as error:
            raise ImportSourceError(f"{str(path)!r} cannot be copied to {folder}, to be read: {error}") from error
        yield SQLiteSource(copy, path)


class SQLiteSource:
    """A `Source`. Each page is read in a connection of its own, so that DiffusionToolkit can go on meanwhile."""

    def __init__(self, path: Path, original: Path) -> None:
        """path: of the file to read. original: of the one that the user named. Raises ImportSourceError."""
        self._path = path
        self._original = original
        with self._connection() as connection:
            tables = {
                str(name): {column.lower() for (column,) in connection.execute(COLUMNS, [name])}
                for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
            }
        has = {name.lower(): columns for name, columns in tables.items()}
        if not has.get("image", set()) >= NEEDED:
            named = ", ".join(sorted(tables)[:_TABLES_NAMED]) or "none"
            raise ImportSourceError(
                f"{self.describe()} is no database of DiffusionToolkit: it has no table Image with the columns Id, "
                f"Path and Favorite. Its tables: {named}."
            )
        optional = [f'"{name}"' if name.lower() in has["image"] else f"NULL AS {name}" for name in OPTIONAL]
        self._images = IMAGES.format(", ".join(optional))
        self._has_albums, self._has_tags = (
            all(has.get(table, set()) >= columns for table, columns in tables.items()) for tables in (ALBUMS, TAGS)
        )

    def describe(self) -> str:
        return str(self._original)

    def count(self) -> int:
        with self._connection() as connection:
            return connection.execute('SELECT count(*) FROM "Image" WHERE "Path" IS NOT NULL').fetchone()[0]

    def page(self, after: int, size: int) -> Page:
        with self._connection() as connection:
            rows = connection.execute(self._images, [after, size]).fetchall()
            if not rows:
                return Page([])
            ids = [rows[0][0], rows[-1][0]]
            albums = by_image(connection.execute(ALBUM_NAMES, ids)) if self._has_albums else {}
            tags = by_image(connection.execute(TAG_NAMES, ids)) if self._has_tags else {}
        return Page(list(images_of(rows, tags, albums)))

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        """A connection that sees the database as it is at one moment."""
        try:
            with closing(
                sqlite3.connect(self._uri(), uri=True, timeout=SECONDS_TO_WAIT, isolation_level=None)
            ) as connection:
                # A name on disk may be no UTF-8.
                connection.text_factory = lambda text: text.decode("utf-8", "surrogateescape")
                connection.execute("BEGIN")
                yield connection
        except (sqlite3.Error, OSError) as error:
            raise ImportSourceError(
                f"{self.describe()} cannot be read as an SQLite database: {error}. See that it is DiffusionToolkit's "
                "database, whole, and not open in that program, and run again; what was imported is kept."
            ) from error

    def _uri(self) -> str:
        path = self._path.absolute().as_posix()
        root = "" if path.startswith("/") else "/"  # before a drive's letter
        # Without its log nobody has such a database open, and any other way of opening it would make the log's files.
        is_closed = self._is_logged_ahead() and not _beside(self._path, "-wal").exists()
        return f"file://{root}{quote(path, errors='surrogateescape')}?{'immutable=1' if is_closed else 'mode=ro'}"

    def _is_logged_ahead(self) -> bool:
        with self._path.open("rb") as file:
            header = file.read(_HEADER_BYTES)
        return header[_READ_VERSION:] == bytes([_WRITE_AHEAD_LOG])


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


COLUMNS = "SELECT name FROM pragma_table_info(?)"

IMAGES = (
    'SELECT "Id", CAST("Path" AS TEXT), "Favorite", {} FROM "Image" WHERE "Id" > ? AND "Path" IS NOT NULL'
    ' ORDER BY "Id" LIMIT ?'
)

ALBUM_NAMES = (
    'SELECT i."ImageId", a."Name" FROM "AlbumImage" i JOIN "Album" a ON a."Id" = i."AlbumId"'
    ' WHERE i."ImageId" BETWEEN ? AND ?'
)

TAG_NAMES = (
    'SELECT i."ImageId", t."Name" FROM "ImageTag" i JOIN "Tag" t ON t."Id" = i."TagId"'
    ' WHERE i."ImageId" BETWEEN ? AND ?'
)
