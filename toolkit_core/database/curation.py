"""What a person says of images: favourite, rating and tags."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from psycopg.types.json import Jsonb

from ..errors import CurationError, ImageNotFound
from .database import Connection
from .image_ids import checked_id
from .moved import locked
from .stored_text import stored_path

HIGHEST_RATING = 10
LONGEST_TAG = 100
LARGEST_ID = 2**63 - 1
IDS_NAMED = 10


@dataclass(frozen=True)
class Curation:
    """A change to make. None, and no tags, leave a thing as it is.

    Raises CurationError for what no image can have, with the value.
    """

    favorite: bool | None = None
    rating: int | None = None
    clear_rating: bool = False
    add_tags: Sequence[str] = ()
    remove_tags: Sequence[str] = ()

    def __post_init__(self) -> None:
        rating = self.rating
        if rating is not None and (type(rating) is not int or not 0 <= rating <= HIGHEST_RATING):
            raise CurationError(f"The rating is {rating!r}; it is a whole number from 0 to {HIGHEST_RATING}.")
        if rating is not None and self.clear_rating:
            raise CurationError(f"A rating of {rating} is to be set and cleared at once; choose one.")
        object.__setattr__(self, "add_tags", normal_tags(self.add_tags))
        object.__setattr__(self, "remove_tags", normal_tags(self.remove_tags))
        both = set(self.add_tags) & set(self.remove_tags)
        if both:
            raise CurationError(f"The tag {min(both)!r} is to be added and removed at once; choose one.")


@dataclass(frozen=True)
class Addition:
    """What is to be added to what is said of an image: nothing is taken away by it, and no rating is replaced.

    Raises CurationError for what no image can have, with the value.
    """

    favorite: bool = False
    rating: int | None = None
    tags: Sequence[str] = ()

    def __post_init__(self) -> None:
        checked = Curation(rating=self.rating, add_tags=self.tags)
        object.__setattr__(self, "tags", checked.add_tags)

    def __bool__(self) -> bool:
        """Whether it says anything."""
        return self.favorite or self.rating is not None or bool(self.tags)

    def joined(self, other: Addition) -> Addition:
        """What both say; of two ratings this one."""
        rating = other.rating if self.rating is None else self.rating
        return Addition(self.favorite or other.favorite, rating, (*self.tags, *other.tags))


@dataclass(frozen=True)
class Added:
    """How many images were changed, and how many became favourites, came to a rating, and to tags."""

    images: int
    favorites: int
    rated: int
    tagged: int


def normal_tag(tag: str) -> str:
    """A tag as it is stored: trimmed, and in Unicode's composed form (NFC), so that any keyboard's "é" is one.

    Otherwise tags are compared as they are: "Fox" and "fox" are two. Only to be found or removed, case makes no
    difference. Raises CurationError.
    """
    if not isinstance(tag, str):
        raise CurationError(f"{tag!r} is no tag: tags are texts.")
    normal = unicodedata.normalize("NFC", tag).strip()
    if not normal:
        raise CurationError(f"{tag!r} is no tag: there is nothing in it.")
    if len(normal) > LONGEST_TAG:
        raise CurationError(f"The tag {normal[:20]!r}… has {len(normal)} characters; {LONGEST_TAG} are the most.")
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in normal):
        raise CurationError(f"The tag {normal!r} has a control character in it, which cannot be stored. Leave it out.")
    return normal


def normal_tags(tags: Iterable[str]) -> tuple[str, ...]:
    """Tags as they are stored, sorted, each once. Raises CurationError."""
    if isinstance(tags, str):
        raise CurationError(f"Tags are given as a list, not as the one text {tags!r}.")
    return tuple(sorted({normal_tag(tag) for tag in tags}))


def curate(connection: Connection, ids: Sequence[int], change: Curation) -> int:
    """Make a change to images. Returns how many of them were not like that before.

    Raises ImageNotFound where there is no image with one of the ids, and changes nothing then.
    """
    named = {checked_id(id) for id in ids}
    possible = [id for id in named if 0 < id <= LARGEST_ID]
    unknown = sorted(named - locked(connection, possible).keys())
    if unknown:
        first = ", ".join(map(str, unknown[:IDS_NAMED]))
        more = f" and {len(unknown) - IDS_NAMED} more" if len(unknown) > IDS_NAMED else ""
        raise ImageNotFound(f"The library has no image with id {first}{more}. Nothing was changed.")
    return connection.execute(
        UPDATE_CURATED,
        {
            "ids": possible,
            "favorite": change.favorite,
            "rating": change.rating,
            "clear_rating": change.clear_rating,
            "add_tags": list(change.add_tags),
            "remove_tags": list(change.remove_tags),
        },
    ).rowcount


def add(connection: Connection, additions: Mapping[str, Addition]) -> Added:
    """Add what is said of images, by path. Paths that no image has, or one that is missing, are left out."""
    said = {stored_path(path): addition for path, addition in additions.items() if addition}
    # In the order in which the indexer takes its row locks.
    connection.execute(
        "SELECT FROM image_file WHERE path = ANY(%s) AND missing_since IS NULL ORDER BY path FOR NO KEY UPDATE",
        [list(said)],
    )
    row = connection.execute(
        ADD_CURATED,
        {
            "paths": list(said),
            "favorites": [addition.favorite for addition in said.values()],
            "ratings": [addition.rating for addition in said.values()],
            "tags": [Jsonb(list(addition.tags)) for addition in said.values()],
        },
    ).fetchone()
    assert row is not None
    return Added(*row)


def hand_on(connection: Connection, since: datetime) -> int:
    """Say of copies what was said of images that went missing since a moment. Returns of how many.

    So it stays with a folder that is copied to another drive and then removed, file by file. A copy of which anything
    is said keeps that; of several, the one that came last gets it.
    """
    rows = connection.execute(COPIES, [since]).fetchall()
    locked(connection, [copy for copy, _ in rows])
    return connection.execute(HAND_ON, [[copy for copy, _ in rows], [image for _, image in rows]]).rowcount


def tag_counts(connection: Connection) -> dict[str, int]:
    """How many images have each tag, the most used first."""
    rows = connection.execute(
        'SELECT tag, count(*) FROM image_file, unnest(tags) AS tag GROUP BY tag ORDER BY count(*) DESC, tag COLLATE "C"'
    )
    return dict(rows.fetchall())


UPDATE_CURATED = """
    UPDATE image_file f
    SET favorite = new.favorite, rating = new.rating, tags = new.tags
    FROM (
        SELECT
            id,
            coalesce(%(favorite)s::boolean, favorite) AS favorite,
            CASE WHEN %(clear_rating)s THEN NULL ELSE coalesce(%(rating)s::smallint, rating) END AS rating,
            ARRAY(
                SELECT tag COLLATE "C" FROM unnest(tags) AS tag
                WHERE lower(tag) <> ALL (lower_tags(%(remove_tags)s::text[]))
                UNION SELECT tag COLLATE "C" FROM unnest(%(add_tags)s::text[]) AS tag
                ORDER BY 1
            ) AS tags
        FROM image_file
        WHERE id = ANY(%(ids)s::bigint[])
    ) new
    WHERE f.id = new.id AND (f.favorite, f.rating, f.tags) IS DISTINCT FROM (new.favorite, new.rating, new.tags)
"""

COPIES = """
    WITH gone AS (
        SELECT id, content_hash, row_number() OVER (PARTITION BY content_hash ORDER BY id DESC) AS n
        FROM image_file
        WHERE missing_since >= %s AND file_size > 0 AND (favorite OR rating IS NOT NULL OR tags <> '{}')
    ),
    copies AS (
        SELECT id, content_hash, row_number() OVER (PARTITION BY content_hash ORDER BY id DESC) AS n
        FROM image_file
        WHERE missing_since IS NULL AND content_hash IN (SELECT content_hash FROM gone)
            AND NOT favorite AND rating IS NULL AND tags = '{}'
    )
    SELECT copies.id, gone.id FROM copies JOIN gone USING (content_hash, n)
"""

HAND_ON = """
    UPDATE image_file copy
    SET favorite = image.favorite, rating = image.rating, tags = image.tags
    FROM unnest(%s::bigint[], %s::bigint[]) AS pair(copy_id, image_id) JOIN image_file image ON image.id = image_id
    WHERE copy.id = copy_id AND copy.missing_since IS NULL AND copy.content_hash = image.content_hash
        AND image.missing_since IS NOT NULL
        AND NOT copy.favorite AND copy.rating IS NULL AND copy.tags = '{}'
"""

ADD_CURATED = """
    WITH new AS (
        SELECT
            f.id,
            f.favorite OR said.favorite AS favorite,
            coalesce(f.rating, said.rating) AS rating,
            ARRAY(
                SELECT tag COLLATE "C" FROM unnest(f.tags) AS tag
                UNION SELECT tag COLLATE "C" FROM jsonb_array_elements_text(said.tags) AS tag
                ORDER BY 1
            ) AS tags,
            said.favorite AND NOT f.favorite AS is_favorite_now,
            said.rating IS NOT NULL AND f.rating IS NULL AS is_rated_now
        FROM image_file f
        JOIN unnest(%(paths)s::text[], %(favorites)s::boolean[], %(ratings)s::smallint[], %(tags)s::jsonb[])
            AS said(path, favorite, rating, tags) USING (path)
        WHERE f.missing_since IS NULL
    ),
    changed AS (
        UPDATE image_file f
        SET favorite = new.favorite, rating = new.rating, tags = new.tags
        FROM new
        WHERE f.id = new.id AND (f.favorite, f.rating, f.tags) IS DISTINCT FROM (new.favorite, new.rating, new.tags)
        RETURNING new.id
    )
    SELECT
        count(changed.id),
        count(*) FILTER (WHERE new.is_favorite_now),
        count(*) FILTER (WHERE new.is_rated_now),
        count(*) FILTER (WHERE new.tags <> f.tags)
    FROM new
    JOIN image_file f USING (id)  -- as it was before the update
    LEFT JOIN changed USING (id)
"""
