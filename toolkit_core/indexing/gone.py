"""What a run finds that is not on disk as the library has it: files that are gone, back, or not to be decoded."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import zip_longest

from ..database import Database, curation, missing, revision
from ..database.moved import PRUNING
from ..database.vectors import Picture
from ..encoders.pixels import decode
from ..errors import ImageError
from ..records import Progress, Pruned
from .read import LARGEST_FILE
from .regular import read_regular
from .scan import presence
from .stages import batches
from .whereabouts import is_as_it_was, whereabouts

PATHS_A_BATCH = 10_000
IMAGES_A_BATCH = 1_000


def note_unseen(database: Database, roots: Sequence[str], unseen: Collection[str]) -> set[str]:
    """Mark what a walk of the roots did not come by and is gone; unmark what is back. Returns the paths that are gone.

    Where it is not known whether a file is gone, its row stays as it is. What has another time or size than before may
    be another file; what it is shows when it is read.
    roots: real paths. unseen: the paths of the rows at or below them that the walk did not come by, or could not look
    at.
    """
    if not roots:
        return set()
    gone = {path for path in unseen if presence(path) == "gone"}
    with database.transaction() as connection:
        marked = missing.may_be_back(connection, roots)
    # Whatever the walk came by may be gone since.
    back = [file for file in marked if file.path not in gone and is_as_it_was(file)]
    _mark(database, gone - {file.path for file in marked}, [file.id for file in back])
    # What went before the mark was taken away was marked already, for whoever heard of it; what goes now is not.
    _mark(database, [file.path for file in back if presence(file.path) == "gone"], [])
    return gone


def note_gone(database: Database, paths: Iterable[str]) -> int:
    """Mark the rows at or below paths that are not there any more. Returns how many were not marked before."""
    marked = 0
    for batch in batches(paths, PATHS_A_BATCH):
        with database.transaction() as connection:
            now = missing.mark_below(connection, [path for path in batch if presence(path, of="anything") == "gone"])
            if now:
                revision.bump(connection)
            marked += now
    return marked


def hand_on(database: Database, since: datetime) -> None:
    """Say of copies what was said of images that went missing since a moment. See `curation.hand_on`."""
    with database.transaction() as connection:
        if curation.hand_on(connection, since):
            revision.bump(connection)


def note_undecodable(database: Database, pictures: Mapping[int, Picture]) -> None:
    """Record of images, by id, why they cannot be decoded, so that no later run tries again in vain.

    A file that is another one by now is to be read again by the run that comes by it.
    """
    errors: dict[int, str] = {}
    replaced: dict[int, bytes] = {}
    for id, picture in pictures.items():
        try:
            data = read_regular(picture.path, LARGEST_FILE)
            if hashlib.sha256(data).digest() == picture.content_hash:
                decode(data)
            else:
                replaced[id] = picture.content_hash
        except ImageError as error:
            errors[id] = str(error)
        except OSError:
            continue
    if errors:
        with database.transaction() as connection:
            missing.mark_damaged(connection, errors, {id: pictures[id].content_hash for id in errors})
            revision.bump(connection)
    if replaced:
        with database.transaction() as connection:
            missing.mark_replaced(connection, replaced)
            revision.bump(connection)


def prune(database: Database, ids: Sequence[int], progress: Callable[[Progress], None]) -> Pruned:
    """Delete images whose files are gone. Those whose files are back are unmarked instead.

    It ends where another process begins to mark what is gone and to look for it under other names.
    """
    total = Pruned()
    for done, batch in enumerate(batches(ids, IMAGES_A_BATCH)):
        progress(Progress("prune", done * IMAGES_A_BATCH, len(ids)))
        with database.alone(PRUNING) as is_alone:
            if not is_alone:
                with database.transaction() as connection:
                    left = len(missing.files(connection, ids))
                return replace(total, left=left)
            pruned = _prune(database, batch)
        total = Pruned(total.images + pruned.images, total.texts + pruned.texts)
    return total


def prune_unused(database: Database) -> int:
    """Delete prompts and kept metadata that no image has: those of pictures that were replaced.

    Returns how many prompts. What is written meanwhile waits for a batch of them at most.
    """
    with database.transaction() as connection:
        texts, metadata = missing.unused(connection)
    deleted = 0
    for ids in zip_longest(batches(texts, IMAGES_A_BATCH), batches(metadata, IMAGES_A_BATCH), fillvalue=[]):
        with database.transaction() as connection:
            deleted += missing.delete_unused(connection, *ids)
    return deleted


def _prune(database: Database, ids: Sequence[int]) -> Pruned:
    with database.transaction() as connection:
        marked = missing.files(connection, ids)
    found = {file.id: whereabouts(file, content_hash) for file, content_hash in marked}
    _mark(database, [], [id for id, state in found.items() if state == "there"])
    with database.transaction() as connection:
        pruned = missing.delete(connection, [id for id, state in found.items() if state == "gone"])
        if pruned.images:
            revision.bump(connection)
    return pruned


def _mark(database: Database, gone: Iterable[str], back: Iterable[int]) -> None:
    for paths in batches(gone, PATHS_A_BATCH):
        with database.transaction() as connection:
            if missing.mark(connection, paths):
                revision.bump(connection)
    for ids in batches(back, PATHS_A_BATCH):
        with database.transaction() as connection:
            if missing.mark_found(connection, ids):
                revision.bump(connection)
