"""Opening a DiffusionToolkit database of either kind."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from ..errors import ImportSourceError
from ..named_paths import named_path
from .image import Page
from .postgresql import PostgreSQLSource
from .sqlite import opened_sqlite

BEFORE_ALL_IDS = -(2**63)

_URL = re.compile(r"postgres(ql)?://", re.IGNORECASE)
_NPGSQL = re.compile(r"\s*(host|server)\s*=.*;", re.IGNORECASE)


class Source(Protocol):
    """A DiffusionToolkit database, which is read and never written. Its methods raise ImportSourceError."""

    def describe(self) -> str:
        """Which one it is, in words, without a password."""
        ...

    def count(self) -> int:
        """How many images it has."""
        ...

    def page(self, after: int, size: int) -> Page:
        """Its images behind an id, by id, `size` at most; none behind the last."""
        ...


@contextmanager
def opened_source(
    database: Path | str, schema: str | None = None, tagger_confidence: float | None = None
) -> Iterator[Source]:
    """A database by the path of its SQLite file, or by its postgresql:// URL.

    schema, tagger_confidence: of a PostgreSQL one, see `Library.import_toolkit`.
    Raises ImportSourceError where there is none, or where it is none of DiffusionToolkit.
    """
    named = os.fspath(database)
    if _URL.match(named):
        yield PostgreSQLSource(named, schema, tagger_confidence)
    elif _NPGSQL.match(named):
        raise ImportSourceError(
            "The database is named by a connection string as .NET has it. Write it as "
            "postgresql://USER:PASSWORD@HOST:PORT/DATABASE"
        )
    elif schema is not None:
        raise ImportSourceError(f"{named!r} is a file, which has no schema {schema!r}. Leave the schema out.")
    else:
        with opened_sqlite(named_path(named)) as source:
            yield source
