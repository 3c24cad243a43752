"""Databases of DiffusionToolkit, to be filled."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlencode

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from toolkit_core.database import Database

from .databases import FORK, NEWEST, Fork, Toolkit

MakeToolkit = Callable[..., Toolkit]


@pytest.fixture
def make_toolkit(tmp_path: Path) -> MakeToolkit:
    """Makes an empty SQLite database of DiffusionToolkit; tables: NEWEST or FIRST."""

    def make(name: str = "diffusion-toolkit.db", tables: str = NEWEST) -> Toolkit:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return Toolkit(path, tables)

    return make


@pytest.fixture
def server_database(database: Database, schema: str) -> Iterator[Fork]:
    """A database of the test server with nothing in it."""
    name = f"fork_of_{schema}"
    parts = {key: str(value) for key, value in conninfo_to_dict(database.conninfo).items() if value is not None}
    with psycopg.connect(database.conninfo, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        yield Fork(f"postgresql:///?{urlencode({**parts, 'dbname': name})}")
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def fork(server_database: Fork) -> Fork:
    """A database of the fork with no images."""
    server_database.run(FORK)
    return server_database
