"""What fills a library from folders and other libraries, keeps it equal to the disk, and its vectors in order."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from ..database import Database, missing, reembedding
from ..database.moved import PRUNING
from ..database.segments import seal
from ..errors import DatabaseError, PathNotFound, SearchError
from ..named_paths import named_path
from ..records import (
    FailedImage,
    ImportReport,
    IndexReport,
    MissingImage,
    Progress,
    Pruned,
    RereadReport,
    SealedSpace,
)
from ..settings import Settings
from ..space_encoders import EncoderSource, SpaceEncoders
from ..spaces import EMBEDDINGS, SPACES, Space
from .opened import OpenedLibrary

if TYPE_CHECKING:
    from typing_extensions import Self

    from ..conditioning import ConditioningEncoder


class Filling(OpenedLibrary):
    """The half of `Library` that reads image files, and makes vectors."""

    def index(
        self,
        paths: Sequence[Path | str],
        progress: Callable[[Progress], None] | None = None,
        *,
        recursive: bool = True,
        reindex: bool = False,
        encoders: Mapping[str, EncoderSource] | None = None,
        keep: ConditioningEncoder | None = None,
        embed: bool = True,
        overwrite: bool = True,
    ) -> IndexReport:
        """Bring the library up to date with folders and files, and fill every space that is pending.

        What the library has in the folders and is not there any more is marked as missing: a search leaves it out, and
        nothing of it is lost; it is as before when the file is back, or is found in another folder. A file that was
        moved or renamed, also over another one, stays the image that it was, because it is known by its content.
        recursive: with the folders below them, at any depth. reindex: read unchanged files again, too.
        encoders: used in this call in place of the library's own, by space, after the same check of their probe.
        keep: makes whole conditionings, which are kept for the prompts of these folders.
        embed: without, files are read for their metadata alone; what is pending then is not counted.
        overwrite: a file with new content in the place of another is the same image, edited, where the old content is
        found nowhere in this call. Without, such files are left for a later call, and named in the report.
        An exception out of `progress` stops the run; what is done stays.
        Raises PathNotFound, ImageError for a file that is no picture by its name, DatabaseError.
        """
        from ..indexing import Indexer

        own = self._encoders.connected(encoders or {})
        indexer = Indexer(
            self.database,
            own,
            progress,
            recursive=recursive,
            reindex=reindex,
            keep=keep,
            embed=embed,
            overwrite=overwrite,
            index=self.settings.index,
            pair_index=self.settings.pair_index,
            node_types=self._types_of_nodes,
            devices=self.settings.device_count,
        )
        return indexer.run(paths)

    def index_on_ray(
        self,
        paths: Sequence[Path | str],
        progress: Callable[[Progress], None] | None = None,
        *,
        address: str = "auto",
        recursive: bool = True,
        reindex: bool = False,
    ) -> IndexReport:
        """`index` on a Ray cluster: files are read on its CPUs, and encoded on its GPUs, where it has some.

        address: "auto" for the cluster that this machine is part of, or its HOST:PORT. Files and weights have to be at
        the same paths on each of its machines, and the database within their reach; see docs/clusters.md.
        Raises ClusterError where Ray or the cluster is not there, or a part of the work fails, PathNotFound,
        ImageError, DatabaseError. What was written is kept, and the next run goes on.
        """
        from ..indexing.cluster import ClusterIndexer, connected

        with connected(address) as ray:
            indexer = ClusterIndexer(
                ray,
                _opened_on_node,
                self.settings,
                self.database,
                self._encoders,
                progress,
                recursive=recursive,
                reindex=reindex,
                definitions=None if self._node_definitions is None else self._node_definitions(),
            )
            return indexer.run(paths)

    def watch(
        self,
        folders: Sequence[Path | str],
        on_report: Callable[[IndexReport], None] | None = None,
        progress: Callable[[Progress], None] | None = None,
        *,
        poll: float | None = None,
        embed: bool = True,
        stop: threading.Event | None = None,
    ) -> None:
        """Keep the library equal to folders while they change, at any depth, until `stop` is set.

        A new or changed file is read as soon as it is written, and embedded when nothing else is to be done. What is
        deleted, or lies on a drive that is not there, is marked as missing, as by `index`. A folder may come later.
        on_report: told what was done, each time. poll: seconds between looks at the folders, for network shares, where
        the operating system does not tell of changes. embed: also fill what is pending, in the whole library.
        Waits for a database that is not there. An exception out of `on_report` or `progress` ends it. Raises
        PathNotFound for a file that is named as a folder, and for what no path can be.
        """
        from ..indexing import Follower, FollowOptions

        for folder in folders:
            if named_path(folder).is_file():
                raise PathNotFound(f"{os.fspath(folder)!r} is a file. Name the folder that it lies in.")
        options = FollowOptions(
            poll=poll,
            embed=(lambda _, progress: self.index([], progress)) if embed else None,
            on_report=on_report or (lambda _: None),
            progress=progress or (lambda _: None),
        )
        Follower(self._revived, folders, options).run(stop or threading.Event())

    def import_toolkit(
        self,
        database: Path | str,
        progress: Callable[[Progress], None] | None = None,
        *,
        folders: Mapping[str, Path | str] | None = None,
        schema: str | None = None,
        tagger_confidence: float | None = None,
        embed: bool = True,
    ) -> ImportReport:
        """Bring the images of a DiffusionToolkit database along: index their files, and add what is said of them there.

        database: the path of its SQLite file, or the postgresql:// URL of the fork's server; it is only read. Its
        favourites, ratings and tags are added to what is said of the images here, of which nothing is taken away; NSFW,
        for deletion and albums become the tags `nsfw`, `for deletion` and `album: NAME`. Its prompts and vectors are
        not taken over: files are read and embedded as by `index`.
        folders: where a folder in its paths is on this machine, as {"D:\\renders": "/mnt/renders"}.
        schema: of a PostgreSQL database that has several. tagger_confidence: with the tags that the fork's taggers were
        as sure of, from 0 to 1; without, those are left out. embed: see `index`.
        An exception out of `progress` stops it; what is done stays, and a later call brings the rest along.
        Raises ImportSourceError, SettingsError for a folder that is none, PathNotFound, DatabaseError.
        """
        from ..importing import Importer, PathMap, opened_source

        paths = PathMap(folders or {})
        with opened_source(database, schema, tagger_confidence) as source:
            return Importer(
                self.database,
                source,
                paths,
                lambda files, overwrite: self.index(files, progress, embed=embed, overwrite=overwrite),
                progress or (lambda _: None),
            ).run()

    def failures(self, folders: Sequence[Path | str] | None = None) -> list[FailedImage]:
        """The images that could not be read, by path, and why. What is missing by now is not among them.

        folders: only those in or below them. Raises PathNotFound, DatabaseError.
        """
        with self.database.transaction() as connection:
            return missing.failed(connection, _real_paths(folders))

    def retry(
        self,
        folders: Sequence[Path | str] | None = None,
        progress: Callable[[Progress], None] | None = None,
    ) -> IndexReport:
        """Read again what could not be read, though it has not changed: a drive that had failed, a newer decoder.

        What is gone by now is marked as missing in place of that.
        folders: see `failures`. See `index` for the rest.
        """
        from ..indexing.gone import note_unseen

        failed = [image.path for image in self.failures(folders)]
        with self.database.among(PRUNING):
            gone = note_unseen(self.database, failed, failed)
            return self.index([path for path in failed if path not in gone], progress, reindex=True)

    def missing(
        self, folders: Sequence[Path | str] | None = None, at_least: timedelta = timedelta()
    ) -> list[MissingImage]:
        """The images whose files are not there any more, by path.

        folders: only those in or below them, which need not be there either. at_least: only those that have been
        missing for so long. What is back by now, but was not indexed since, is among them. Raises DatabaseError.
        """
        with self.database.transaction() as connection:
            return missing.below(connection, _real_paths(folders), at_least)

    def prune(self, ids: Sequence[int], progress: Callable[[Progress], None] | None = None) -> Pruned:
        """Remove images for good that are missing: their rows, vectors and tags, and prompts that no other image has.

        With them go the prompts and the kept metadata of pictures that were replaced since.
        ids: as `missing` gives them. What is not missing, or is back by now, is left alone; so is all that remains
        when another process begins to index, which may find the files under another name. An exception out of
        `progress` stops it; what is done stays. Raises DatabaseError.
        """
        from ..indexing.gone import prune, prune_unused

        pruned = prune(self.database, ids, progress or (lambda _: None))
        return replace(pruned, texts=pruned.texts + prune_unused(self.database))

    def reread(self, progress: Callable[[Progress], None] | None = None, *, everything: bool = False) -> RereadReport:
        """Make sense of the images' metadata again, after the readers became better, and embed prompts that are new.

        The metadata that the library keeps is read; files are opened for those images alone that have none kept.
        everything: also the images that this version's readers have read before.
        An exception out of `progress` stops the run; what is done stays, and the next run goes on. Raises
        DatabaseError.
        """
        from ..indexing import Rereader

        return Rereader(
            self.database,
            lambda: self.index([], progress),
            progress,
            everything=everything,
            node_types=self._types_of_nodes(),
        ).run()

    def reindex(self, space: str, progress: Callable[[Progress], None] | None = None) -> IndexReport:
        """Make a space's vectors anew with the weights that are found now, which become the library's own.

        The old vectors and their weights serve until the new ones are complete; then these take their place, in one
        transaction. A run that ends early is taken up by the next one with the same weights. Images whose files are
        gone, and what was written meanwhile, are pending then, and filled as by `index`.
        Raises SearchError for a name that is no space, EncoderError, DatabaseError.
        """
        from ..indexing import reembed_space

        chosen = _space(space)
        encoder = self._make_encoder(space)
        encoder.load()
        try:
            made = reembed_space(
                self.database,
                chosen,
                encoder,
                self.settings.index,
                progress or (lambda _: None),
                self.settings.device_count,
            )
        finally:
            encoder.unload()
        self._encoders.forget(space)
        report = self.index([], progress)
        # How busy the stages of that were says nothing of making the vectors.
        return replace(report, embedded={**report.embedded, space: report.embedded[space] + made}, stages={})

    def abandon_reindex(self, space: str) -> bool:
        """Forget the vectors that an unfinished `reindex` has made. Returns whether there was one.

        Raises SearchError for a name that is no space, DatabaseError.
        """
        chosen = _space(space)
        with reembedding.alone(self.database, chosen), self.database.transaction() as connection:
            return reembedding.abandon(connection, chosen)

    def optimize(
        self, progress: Callable[[Progress], None] | None = None, *, rebuild: bool = False
    ) -> list[SealedSpace]:
        """Bring every vector of a space that is worth an index into it, which `index` does once many are not.

        rebuild: build the indexes anew. Searches and indexing go on meanwhile, also when this ends early. Where another
        process is at it, this does nothing. Returns what was done, by space. Raises DatabaseError.
        """
        return seal(
            self.database,
            kind=self.settings.index,
            progress=progress,
            most_open_rows=0,
            pair_index=self.settings.pair_index,
            rebuild=rebuild,
        )

    @contextmanager
    def _revived(self) -> Iterator[Self]:
        """For a piece of work that is tried again after a DatabaseError, with the embedded server running again."""
        try:
            yield self
        except DatabaseError:
            self.database.revive()
            raise


def _opened_on_node(settings: Settings) -> tuple[Database, SpaceEncoders]:
    library = OpenedLibrary(settings)
    return library.database, library._encoders


def _real_paths(folders: Sequence[Path | str] | None) -> list[str] | None:
    from ..indexing.scan import real_path

    return None if folders is None else [str(real_path(folder)) for folder in folders]


def _space(name: str) -> Space:
    if name not in SPACES and name in EMBEDDINGS:
        space = EMBEDDINGS[name].space
        raise SearchError(f"{name!r} is an embedding of the space {space}, which has its vectors. Name {space}.")
    if name not in SPACES:
        raise SearchError(f"{name!r} is no space. There are {', '.join(SPACES)}.")
    return SPACES[name]
