"""Conditions on images, as SQL."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from psycopg import sql


@dataclass(frozen=True)
class Condition:
    """A boolean expression over the alias `f` of `image_file`, and the values of its named placeholders."""

    sql: sql.Composed
    parameters: Mapping[str, object]
