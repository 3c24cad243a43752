"""What may be the id of an image."""

from __future__ import annotations

from operator import index

from ..errors import ImageNotFound


def checked_id(id: object) -> int:
    """An id as PostgreSQL compares it with others. Raises ImageNotFound for what is no whole number."""
    try:
        if not isinstance(id, bool):
            return index(id)  # pyright: ignore[reportArgumentType]
    except TypeError:
        pass
    raise ImageNotFound(f"{id!r} is no image's id: those are whole numbers.")
