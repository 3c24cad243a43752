"""One image as DiffusionToolkit has it, and what of that is said of ours."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..database.curation import LONGEST_TAG, Addition

NSFW_TAG = "nsfw"
FOR_DELETION_TAG = "for deletion"
ALBUM_PREFIX = "album: "

RATINGS = range(1, 11)


@dataclass(frozen=True)
class ImportedImage:
    """One image of a DiffusionToolkit database.

    id: its id there. path: as that program wrote it, on Windows as a rule. rating: from 1 to 10.
    """

    id: int
    path: str
    favorite: bool = False
    rating: int | None = None
    nsfw: bool = False
    for_deletion: bool = False
    tags: tuple[str, ...] = ()
    albums: tuple[str, ...] = ()

    def addition(self) -> Addition:
        """What is said of it, as an image of ours has it: NSFW, for deletion and albums are tags."""
        albums = (name for album in self.albums if (name := fitting_tag(album)))
        tags = [*self.tags, *(f"{ALBUM_PREFIX}{name}" for name in albums)]
        tags += [tag for tag, is_so in ((NSFW_TAG, self.nsfw), (FOR_DELETION_TAG, self.for_deletion)) if is_so]
        return Addition(self.favorite, self.rating, tuple(filter(None, map(fitting_tag, tags))))


@dataclass(frozen=True)
class Page:
    """Some images of a database, by id. left_out: tags of theirs that taggers made, and that were not asked for."""

    images: Sequence[ImportedImage]
    left_out: int = 0


def images_of(
    rows: Iterable[Sequence[Any]], tags: Mapping[int, Sequence[str]], albums: Mapping[int, Sequence[str]]
) -> Iterator[ImportedImage]:
    """Rows of id, path, favourite, rating, NSFW, for deletion and custom tags, with what belongs to them by id."""
    for id, path, favorite, rating, nsfw, for_deletion, custom_tags in rows:
        yield ImportedImage(
            id=id,
            path=path,
            favorite=bool(favorite),
            rating=int(rating) if rating in RATINGS else None,
            nsfw=bool(nsfw),
            for_deletion=bool(for_deletion),
            tags=(*tags.get(id, ()), *filter(str.strip, str(custom_tags or "").split(","))),
            albums=tuple(albums.get(id, ())),
        )


def by_image(pairs: Iterable[tuple[int, str | None]]) -> dict[int, list[str]]:
    """The names of pairs of an image's id and a name, by id."""
    found: dict[int, list[str]] = {}
    for id, name in pairs:
        if name is not None:
            found.setdefault(id, []).append(str(name))
    return found


def fitting_tag(text: str) -> str | None:
    """The tag that a text of theirs becomes: without control characters, and cut where ours end; None if it is blank.

    Theirs may be of any length.
    """
    seen = "".join(" " if unicodedata.category(c) in ("Cc", "Cs") else c for c in unicodedata.normalize("NFC", text))
    return seen.strip()[:LONGEST_TAG].strip() or None
