"""Bulk loading, and building an index with this library's settings beside PostgreSQL's defaults."""

from __future__ import annotations

import time

from psycopg import sql

from toolkit_core.database.segments import HNSW_OPTIONS, seal
from toolkit_core.database.vectors import names
from toolkit_core.library import Library
from toolkit_core.spaces import SPACES

from . import synthetic
from .bench import Bench

LARGEST_FOR_DEFAULTS = 200_000


def run(bench: Bench, rows: int) -> None:
    made = bench.made(rows, bench.spaces(rows))
    lines: list[tuple[str, ...]] = []
    with Library.open(bench.home, library=bench.name(rows)) as library:
        if library.status().images:
            bench.note("loading was measured when this database was made")
            return
        started = time.perf_counter()
        synthetic.write(library.database, made)
        lines.append(_line("load images, prompts and two vectors each, COPY", rows, time.perf_counter() - started))
        done = {space.space: space for space in seal(library.database, most_open_rows=0)}
        lines += [_line(f"build the HNSW index of {name}", space.rows, space.seconds) for name, space in done.items()]
        if rows <= LARGEST_FOR_DEFAULTS and done:
            lines.append(_line("the same with PostgreSQL's 64 MB", rows, _with_defaults(library)))
    bench.table(f"Loading, {rows:,} images", ("", "rows a second", "seconds"), lines)


def _line(what: str, rows: int, seconds: float) -> tuple[str, ...]:
    return (what, f"{rows / seconds:,.0f}", f"{seconds:.1f}")


def _with_defaults(library: Library) -> float:
    parts = names(SPACES["clip_h"])
    with library.database.autocommit() as connection:
        connection.execute("SET maintenance_work_mem = '64MB'")
        started = time.perf_counter()
        connection.execute(
            sql.SQL(
                "CREATE INDEX by_default ON {sealed} USING hnsw (embedding halfvec_cosine_ops) WITH ({options})"
            ).format(**parts, options=sql.SQL(HNSW_OPTIONS))
        )
        seconds = time.perf_counter() - started
        connection.execute("DROP INDEX by_default")
        connection.execute("RESET maintenance_work_mem")
    return seconds
