"""The library: the one object that everything else talks to."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeAlias

from .database import Database, curation, images, missing, reembedding, rereading, revision, vectors
from .database.segments import index_of, seal
from .encoders.base import ImageEncoder, TextEncoder
from .encoders.weights import WeightsLocation, find_weights, make_encoder
from .errors import DatabaseError, ImageNotFound, PathNotFound, SearchError
from .metadata import READER_VERSION
from .records import (
    DuplicateGroup,
    ExportReport,
    FailedImage,
    ImageRecord,
    ImportReport,
    IndexReport,
    LibraryStatus,
    MissingImage,
    Progress,
    Pruned,
    RereadReport,
    SealedSpace,
    SearchHit,
    SearchResults,
)
from .settings import Settings, load_settings
from .space_encoders import EncoderSource, SpaceEncoders
from .spaces import EMBEDDINGS, SPACES, Space

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from typing_extensions import Self

    from .conditioning import Conditioning, ConditioningEncoder
    from .metadata.comfyui.types import NodeTypes
    from .search import Sort

logger = logging.getLogger(__name__)

NodeDefinitions: TypeAlias = Callable[[], Mapping[str, Any]]


class Library:
    """Images, their generation parameters and their embeddings.

        with Library.open(weights=["~/ComfyUI/models"]) as library:
            library.index(["~/ComfyUI/output"])
            for hit in library.search("a lighthouse in a storm", top_k=10):
                print(hit.score, hit.path, hit.prompt)

    Safe to use from several threads; several processes may open the same library.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        encoders: Mapping[str, EncoderSource] | None = None,
        node_definitions: NodeDefinitions | None = None,
        on_wait: Callable[[str], None] | None = None,
    ) -> None:
        """Open the library that the settings name.

        encoders: stand in for those made of found weights, by space. node_definitions: see `open`.
        """
        self.settings = settings
        self._node_definitions = node_definitions
        self._node_types: NodeTypes | None = None
        if settings.database_url:
            self.database = Database.external(settings.database_url, settings.library)
        else:
            self.database = Database.embedded(settings.home, settings.library, on_wait)
        self._locations: dict[str, WeightsLocation] | None = None
        from_weights = {name: partial(self._make_encoder, name) for name in SPACES}
        self._encoders = SpaceEncoders(self.database, {**from_weights, **(encoders or {})})

    @classmethod
    def open(
        cls,
        home: Path | str | None = None,
        *,
        database_url: str | None = None,
        library: str | None = None,
        weights: Sequence[Path | str] = (),
        device: str | None = None,
        dtype: str | None = None,
        node_definitions: NodeDefinitions | None = None,
        on_wait: Callable[[str], None] | None = None,
    ) -> Self:
        """Open a library, making it where there is none yet.

        home: folder of the embedded database and `settings.toml`; the platform's data folder by default.
        database_url: a PostgreSQL server (libpq URL) in place of the embedded one.
        library: the schema's name. weights: folders to look for weights in, before those of the settings.
        node_definitions: gives what a ComfyUI's `/object_info` says, for reading graphs of its nodes better; called
        once, when a file is first read.
        on_wait: told, in words, when the server takes long to start.
        Raises SettingsError, DatabaseError.
        """
        settings = load_settings(
            home, weights=weights, database_url=database_url, library=library, device=device, dtype=dtype
        )
        return cls(settings, node_definitions=node_definitions, on_wait=on_wait)

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
    ) -> IndexReport:
        """Bring the library up to date with folders and files, and fill every space that is pending.

        What the library has in the folders and is not there any more is marked as missing: a search leaves it out, and
        nothing of it is lost; it is as before when the file is back, or is found in another folder.
        recursive: with the folders below them, at any depth. reindex: read unchanged files again, too.
        encoders: used in this call in place of the library's own, by space, after the same check of their probe.
        keep: makes whole conditionings, which are kept for the prompts of these folders.
        embed: without, files are read for their metadata alone; what is pending then is not counted.
        An exception out of `progress` stops the run; what is done stays. Raises PathNotFound, DatabaseError.
        """
        from .indexing import Indexer

        own = self._encoders.connected(encoders or {})
        indexer = Indexer(
            self.database,
            own,
            progress,
            recursive=recursive,
            reindex=reindex,
            keep=keep,
            embed=embed,
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
        DatabaseError. What was written is kept, and the next run goes on.
        """
        from .indexing.cluster import ClusterIndexer, connected

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
        PathNotFound for a file that is named as a folder.
        """
        from .indexing import Follower, FollowOptions

        for folder in folders:
            if Path(folder).expanduser().is_file():
                raise PathNotFound(f"{os.fspath(folder)!r} is a file. Name the folder that it lies in.")
        options = FollowOptions(
            poll=poll,
            embed=(lambda _, progress: self.index([], progress)) if embed else None,
            on_report=on_report or (lambda _: None),
            progress=progress or (lambda _: None),
        )
        Follower(self._revived, folders, options).run(stop or threading.Event())

    def failures(self, folders: Sequence[Path | str] | None = None) -> list[FailedImage]:
        """The images that could not be read, by path, and why. What is missing by now is not among them.

        folders: only those in or below them. Raises DatabaseError.
        """
        with self.database.transaction() as connection:
            return missing.failed(connection, _real_paths(folders))

    def retry(
        self,
        folders: Sequence[Path | str] | None = None,
        progress: Callable[[Progress], None] | None = None,
    ) -> IndexReport:
        """Read again what could not be read, though it has not changed: a drive that had failed, a newer decoder.

        folders: see `failures`. See `index` for the rest.
        """
        from .indexing.scan import presence

        failed = [image.path for image in self.failures(folders) if presence(image.path) != "gone"]
        return self.index(failed, progress, reindex=True)

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

        ids: as `missing` gives them. What is not missing, or is back by now, is left alone. An exception out of
        `progress` stops it; what is done stays. Raises DatabaseError.
        """
        from .indexing.gone import prune

        return prune(self.database, ids, progress or (lambda _: None))

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

    def reread(self, progress: Callable[[Progress], None] | None = None, *, everything: bool = False) -> RereadReport:
        """Make sense of the images' metadata again, after the readers became better, and embed prompts that are new.

        The metadata that the library keeps is read; files are opened for those images alone that have none kept.
        everything: also the images that this version's readers have read before.
        An exception out of `progress` stops the run; what is done stays, and the next run goes on. Raises
        DatabaseError.
        """
        from .indexing import Rereader

        started = time.monotonic()
        rereader = Rereader(self.database, progress, everything=everything, node_types=self._types_of_nodes())
        rereader.run()
        return RereadReport(
            from_kept=rereader.from_kept,
            from_files=rereader.from_files,
            changed=rereader.changed,
            current=rereader.current,
            unread=tuple(rereader.unread),
            embedding=self.index([], progress),
            seconds=time.monotonic() - started,
        )

    def reindex(self, space: str, progress: Callable[[Progress], None] | None = None) -> IndexReport:
        """Make a space's vectors anew with the weights that are found now, which become the library's own.

        The old vectors and their weights serve until the new ones are complete; then these take their place, in one
        transaction. A run that ends early is taken up by the next one with the same weights. Images whose files are
        gone, and what was written meanwhile, are pending then, and filled as by `index`.
        Raises SearchError for a name that is no space, EncoderError, DatabaseError.
        """
        from .indexing import reembed_space

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
        Raises ImportSourceError, SettingsError for a folder that is none, DatabaseError.
        """
        from .importing import Importer, PathMap, opened_source

        paths = PathMap(folders or {})
        with opened_source(database, schema, tagger_confidence) as source:
            return Importer(
                self.database,
                source,
                paths,
                lambda files: self.index(files, progress, embed=embed),
                progress or (lambda _: None),
            ).run()

    def search(
        self,
        text: str | None = None,
        *,
        image: Path | str | bytes | NDArray[np.uint8] | None = None,
        image_id: int | None = None,
        vectors: Mapping[str, NDArray[np.float32]] | None = None,
        weights: Mapping[str, float] | None = None,
        top_k: int = 20,
        threshold: float | None = None,
        thresholds: Mapping[str, float] | None = None,
        filter: str | None = None,
        diversity: float = 0.0,
        sort: Sort = "relevance",
        page: str | None = None,
        encoders: Mapping[str, EncoderSource] | None = None,
    ) -> SearchResults:
        """The images most like what is given, best first; with nothing but a filter, the newest of its images first.

        text: searched in the prompts by meaning (BGE), or by CLIP where a weight says so. image: a file, its bytes, or
        RGB pixels of shape (height, width, 3); of several pictures, (n, height, width, 3), the mean vector is searched.
        image_id: an image of this library, which is among its own results. vectors: ready ones by embedding name.
        weights: how much each embedding counts, by its name in `toolkit_core.spaces.EMBEDDINGS`; `clip_h_text` looks
        for the text in the pictures themselves, if CLIP-H's weights have a text tower. They are scaled so that they sum
        to 1 without their signs; a negative one asks for images unlike. Only images that have every weighted embedding
        are ranked.
        threshold: the lowest score, which is the weighted mean of cosine similarities. thresholds: the lowest
        similarity by embedding. filter: see docs/filters.md.
        diversity: from 0 to 1, how much the images should differ from each other instead of being like what is given.
        sort: the found images by "relevance", "date" or "rating". page: `next_page` of the results to go on behind;
        images that are added meanwhile neither move nor repeat what comes.
        encoders: used in this call in place of the library's own, as in `index`.
        Raises SearchError (FilterError), ImageNotFound, ImageError, EncoderError (WeightsMissing, EncoderMismatch,
        TextTowerMissing), DatabaseError.
        """
        from .search import Query, search

        query = Query(
            text,
            image,
            image_id,
            vectors or {},
            weights or {},
            top_k,
            threshold,
            thresholds or {},
            filter,
            diversity,
            sort,
            page,
        )
        return search(self.database, self._encoders.connected(encoders or {}), query)

    def find(self, filter: str) -> list[int]:
        """The ids of all images that meet a filter (see docs/filters.md), in order; of every image, if it is blank.

        Raises FilterError, DatabaseError.
        """
        from .database import listing
        from .search import condition_of

        condition = condition_of(filter)
        with self.database.transaction() as connection:
            return listing.ids(connection, condition).tolist()

    def neighbours(self, id: int, top_k: int = 20) -> list[SearchHit]:
        """The images most like one by picture, best first, without itself.

        Raises SearchError where it has no picture embedding, ImageNotFound, DatabaseError.
        """
        if top_k < 1:
            raise SearchError(f"top_k is {top_k}; ask for 1 image or more.")
        hits = self.search(image_id=id, weights={"clip_h": 1}, top_k=top_k + 1)
        return [hit for hit in hits if hit.id != id][:top_k]

    def duplicates(
        self, threshold: float = 0.98, progress: Callable[[Progress], None] | None = None
    ) -> list[DuplicateGroup]:
        """The groups of identical files, then those of pictures that are as good as the same.

        threshold: the lowest CLIP-H cosine similarity of a picture to the one that stands for its group, above 0 and
        up to 1. See `search.duplicates` for how groups are made, and how long that takes.
        An exception out of `progress` stops it. Raises SearchError, DatabaseError.
        """
        from .search.duplicates import find_duplicates

        return find_duplicates(self.database, threshold, progress or (lambda _: None))

    def curate(
        self,
        ids: Sequence[int],
        *,
        favorite: bool | None = None,
        rating: int | None = None,
        clear_rating: bool = False,
        add_tags: Sequence[str] = (),
        remove_tags: Sequence[str] = (),
    ) -> int:
        """Say of images that they are favourites, how good they are, and what they are about.

        rating: from 0 to 10; clear_rating takes it away. What is not given stays as it is. An image's tags are sorted,
        each once; they are trimmed, up to 100 characters long, and case matters.
        Returns how many images were changed. Raises CurationError, ImageNotFound (nothing is changed then),
        DatabaseError.
        """
        change = curation.Curation(favorite, rating, clear_rating, add_tags, remove_tags)
        with self.database.transaction() as connection:
            changed = curation.curate(connection, ids, change)
            if changed:
                revision.bump(connection)
        return changed

    def tags(self) -> dict[str, int]:
        """How many images have each tag, the most used first."""
        with self.database.transaction() as connection:
            return curation.tag_counts(connection)

    def revision(self) -> str:
        """A text that is another one after every change to what can be found. One query of one row."""
        with self.database.transaction() as connection:
            return revision.read(connection)

    def conditioning(
        self,
        image_id: int,
        embedding_type: str = "auto",
        *,
        clip: ConditioningEncoder | None = None,
        conditioning: Conditioning | None = None,
        encoders: Mapping[str, EncoderSource] | None = None,
    ) -> tuple[Conditioning, Conditioning]:
        """The positive and the negative conditioning of an image, with its stored pooled vectors in them.

        embedding_type: "clip_l", "clip_g" or "auto", the vector that becomes `pooled_output`; "image" leaves that
        alone and adds the picture's CLIP-H vector as `unclip_conditioning`.
        Made from the first there is of: the stored prompts by `clip`; a kept conditioning; copies of `conditioning`.
        encoders: those of `clip` by space, so that vectors of other weights than its own are refused.
        Raises ImageNotFound, ConditioningError, EncoderMismatch, DatabaseError.
        """
        from .stored_conditioning import load

        own = self._encoders.connected(encoders or {})
        return load(self.database, own, self.image(image_id), embedding_type, clip, conditioning)

    def image_vectors(self, ids: Sequence[int]) -> dict[int, NDArray[np.float32]]:
        """The stored CLIP-H vectors of some images by id, each of shape (1024,); those without one are left out."""
        with self.database.transaction() as connection:
            return vectors.read_of(connection, SPACES["clip_h"], ids)

    def image(self, id: int) -> ImageRecord:
        """Everything stored about an image but its vectors. Raises ImageNotFound."""
        with self.database.transaction() as connection:
            record = images.get(connection, id)
        if record is None:
            raise ImageNotFound(f"The library has no image with id {id}.")
        return record

    def embeddings(self, id: int) -> dict[str, NDArray[np.float32]]:
        """The stored embeddings of an image by name, each of shape (width,). Raises ImageNotFound."""
        self.image(id)
        with self.database.transaction() as connection:
            return vectors.read(connection, id, list(EMBEDDINGS))

    def export(
        self,
        target: Path | str,
        *,
        ids: Iterable[int] | None = None,
        filter: str | None = None,
        format: str | None = None,
        embeddings: Sequence[str] = tuple(EMBEDDINGS),
        roots: Sequence[Path] | None = None,
        progress: Callable[[Progress], None] | None = None,
    ) -> ExportReport:
        """Write images and their embeddings to files that other programs read, all as they are at one moment.

        target: a file that ends in .safetensors or .parquet; a file that ends in .json, for one image; or a folder, for
        one JSON file an image. It is replaced when the export is whole, and left as it was by one that fails.
        ids: these images in this order; None: all of them by id. filter: only those that meet it; see docs/filters.md.
        format: "json", "safetensors" or "parquet", where the target's name does not say it.
        embeddings: names out of `toolkit_core.spaces.EMBEDDINGS`. roots: folders; the target must lie below one.
        An exception out of `progress` stops the export. What the files hold is said in `toolkit_core.export`.
        Raises ExportError, FilterError, ImageNotFound, FolderNotAllowed, DatabaseError.
        """
        from .export import Selection, allowed_target, export
        from .search import condition_of

        real = allowed_target(target, roots, self.settings.home / "settings.toml")
        return export(self.database, real, Selection(ids, condition_of(filter)), format, embeddings, progress)

    def status(self) -> LibraryStatus:
        """Counts, what is pending, and whose vectors each space holds."""
        with self.database.transaction() as connection:
            total, failed, prompts = images.counts(connection)
            gone = missing.count(connection)
            read_by_older = rereading.count(connection, READER_VERSION)
            pending = {space.name: vectors.count_pending(connection, space) for space in SPACES.values()}
            encoders = {space.name: vectors.encoder(connection, space) for space in SPACES.values()}
            indexes = {space.name: index_of(connection, space) for space in SPACES.values()}
            under_way = reembedding.under_way(connection)
        return LibraryStatus(
            images=total,
            failed=failed,
            missing=gone,
            prompts=prompts,
            read_by_older=read_by_older,
            pending=pending,
            encoders=encoders,
            indexes=indexes,
            reembedding=under_way,
            database={
                "server": self.database.describe(),
                "connection": self.database.connection_string(),
                "library": self.database.schema,
            },
        )

    def weights(self) -> dict[str, WeightsLocation]:
        """Where the weights of each space were found, or looked for."""
        if self._locations is None:
            self._locations = locate_weights(self.settings)
        return self._locations

    def weights_for(self, space: str) -> WeightsLocation:
        """Where a space's weights are, looked for anew where they were not there before: they may have come since."""
        path = self.weights()[space].path
        if path is None or not path.exists():
            self._locations = None
        return self.weights()[space]

    def unload(self) -> None:
        """Drop the encoders' weights. The next use loads them again."""
        self._encoders.unload()

    def close(self) -> None:
        """Drop the encoders' weights and close the database; the last user of an embedded server stops it."""
        self._encoders.unload()
        self.database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextmanager
    def _revived(self) -> Iterator[Self]:
        """For a piece of work that is tried again after a DatabaseError, with the embedded server running again."""
        try:
            yield self
        except DatabaseError:
            self.database.revive()
            raise

    def _types_of_nodes(self) -> NodeTypes | None:
        if self._node_types is None and self._node_definitions is not None:
            from .metadata.comfyui.types import NodeTypes

            self._node_types = NodeTypes.from_object_info(self._node_definitions())
        return self._node_types

    def _make_encoder(self, space: str) -> TextEncoder | ImageEncoder:
        return make_encoder(self.weights_for(space), self.settings.device, self.settings.dtype)


def _real_paths(folders: Sequence[Path | str] | None) -> list[str] | None:
    from .indexing.scan import real_path

    return None if folders is None else [str(real_path(folder)) for folder in folders]


def _opened_on_node(settings: Settings) -> tuple[Database, SpaceEncoders]:
    library = Library(settings)
    return library.database, library._encoders


def _space(name: str) -> Space:
    if name not in SPACES:
        raise SearchError(f"{name!r} is no space. There are {', '.join(SPACES)}.")
    return SPACES[name]


def locate_weights(settings: Settings) -> dict[str, WeightsLocation]:
    """Where the weights of each space are: the files that the settings name, their folders, then the downloads."""
    return find_weights([*settings.weights_folders, settings.downloads], settings.weights_files)
