"""What the tests of survival share: what a library has, compared, and the processes of an embedded server."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from toolkit_core.library import Library
from toolkit_core.spaces import EMBEDDINGS

COLUMNS = "path, prompt, negative_prompt, seed, width, error, content_hash, missing_since IS NULL"


def rows(library: Library, query: str, *values: object) -> list[tuple[Any, ...]]:
    with library.database.transaction() as connection:
        return connection.execute(query.encode(), values).fetchall()


def assert_same(library: Library, undisturbed: Library) -> None:
    """Everything that is stored is the same, but for ids, times and a half-precision digit of the vectors."""
    query = f"SELECT {COLUMNS} FROM image ORDER BY path"
    assert rows(library, query) == rows(undisturbed, query)
    for embedding in EMBEDDINGS.values():
        query = f"SELECT {embedding.view_column} FROM image ORDER BY path"
        (ours, theirs) = (
            np.array([half.to_numpy() for (half,) in rows(each, query)], np.float32) for each in (library, undisturbed)
        )
        assert np.allclose(ours, theirs, rtol=2e-3, atol=2e-3), embedding.name
    assert rows(library, "SELECT text FROM prompt_text ORDER BY text") == rows(
        undisturbed, "SELECT text FROM prompt_text ORDER BY text"
    )
    assert rows(library, "SELECT count(*) FROM indexing_claim") == [(0,)]


def postmaster(home: Path) -> psutil.Process:
    return psutil.Process(int((home / "postgres" / "postmaster.pid").read_text().splitlines()[0]))


def server_processes(home: Path) -> Sequence[psutil.Process]:
    server = postmaster(home)
    return [server, *server.children(recursive=True)]


def kill_server(home: Path) -> None:
    """Kill the postmaster and all that it started, as a power failure would."""
    processes = server_processes(home)
    for process in processes:
        process.send_signal(signal.SIGKILL)
    psutil.wait_procs(processes, timeout=30)
