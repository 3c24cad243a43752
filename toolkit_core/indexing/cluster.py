"""The indexer's run on a Ray cluster: the same steps, as a Ray Data pipeline.

This process looks for changed files and for what is pending, and claims it. Ray reads and decodes files on any CPU of
the cluster; processes with an encoder, one on a GPU, match, encode and write what was read, in this run's name.
"""

from __future__ import annotations

import logging
import math
import os
import socket
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from ..database import Database
from ..database.claims import Worker
from ..database.vectors import Picture
from ..errors import ClusterError
from ..records import FailedFile, IndexReport, Progress
from ..settings import Settings
from ..space_encoders import SpaceEncoders
from ..spaces import SPACES
from .embedder import PICTURES_A_BATCH, Embedder, Waiting, unclaimed, with_pixels
from .gone import note_undecodable
from .indexer import Indexer, ProgressCallback
from .read import ReadFile, read_file, read_pixels
from .scan import FoundFile, presence
from .stages import BATCHES_AHEAD, ahead, batches
from .steps import Job, Steps, Tally

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

logger = logging.getLogger(__name__)

OpenLibrary: TypeAlias = Callable[[Settings], tuple[Database, SpaceEncoders]]
NodeDefinitions: TypeAlias = Mapping[str, Any]
# A column of one batch of the pipeline, whose values are any objects.
Column: TypeAlias = "dict[str, NDArray[np.object_] | list[Any]]"

# Batches that go through the pipeline together: few enough that little is done again where a node is lost.
BATCHES_A_TASK = 4
# One waits for a file while the other decodes.
THREADS_A_READER = 2


@dataclass(frozen=True)
class _Found:
    """A batch that is to be read: changed files, or what waits for a vector."""

    work: Sequence[FoundFile] | Waiting


@dataclass(frozen=True)
class _Read:
    """A batch as it was read.

    undecodable: pictures without pixels, by owner. unseen: files that waited and are not there.
    """

    work: Sequence[ReadFile | FailedFile] | Waiting
    undecodable: Mapping[int, Picture] = field(default_factory=dict)
    unseen: Sequence[FailedFile] = ()


@dataclass(frozen=True)
class _Done:
    """What became of some batches.

    files: how many are dealt with. vectors: how many of those that waited are, by space. embedded, skipped, refused:
    see `IndexReport`.
    """

    tally: Tally
    files: int
    vectors: Mapping[str, int]
    embedded: Mapping[str, int]
    skipped: Mapping[str, str]
    refused: Mapping[str, str]


@contextmanager
def connected(address: str) -> Iterator[Any]:
    """Ray, connected to a cluster while the block runs; for longer where this program is connected already.

    Raises ClusterError where Ray is not installed, or has no cluster at the address.
    """
    try:
        import ray  # pyright: ignore[reportMissingImports]
        import ray.data  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ClusterError(
            f"Ray is needed for work on a cluster and cannot be imported ({error}). Run pip install "
            "'diffusion-toolkit[ray]' on each of its machines."
        ) from error
    if ray.is_initialized():
        yield ray
        return
    # A cluster that is started here tells nobody of its use.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.WARNING)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise ClusterError(
            f"There is no Ray cluster at {address!r}: {error}. Start one with `ray start --head`, join it with `ray "
            "start --address=HOST:6379`, and run this on one of its machines."
        ) from error
    try:
        yield ray
    finally:
        ray.shutdown()


class ClusterIndexer(Indexer):
    """An `Indexer` whose files are read, and whose vectors are made, on a Ray cluster."""

    def __init__(
        self,
        ray: Any,
        open_library: OpenLibrary,
        settings: Settings,
        database: Database,
        encoders: SpaceEncoders,
        progress: ProgressCallback | None = None,
        *,
        recursive: bool = True,
        reindex: bool = False,
        definitions: NodeDefinitions | None = None,
    ) -> None:
        """See `Library.index_on_ray`. ray: as `connected` gives it. open_library: opens the library on a node."""
        super().__init__(
            database,
            encoders,
            progress,
            recursive=recursive,
            reindex=reindex,
            index=settings.index,
            pair_index=settings.pair_index,
        )
        self._ray = ray
        self._open = open_library
        self._definitions = definitions
        self._nodes = [node for node in ray.nodes() if node["Alive"]]
        gpus = sum(int(node["Resources"].get("GPU", 0)) for node in self._nodes)
        self._gpus = 0 if settings.device == "cpu" else gpus
        self._settings = replace(
            settings,
            database_url=settings.database_url or self._embedded_url(),
            # Ray shows an encoder the GPU that it has for it.
            device=None if self._gpus else settings.device,
        )

    def run(self, paths: Sequence[Path | str]) -> IndexReport:
        """See `Indexer.run`. Raises ClusterError where a part of the work fails for good."""
        # How busy a stage is on many machines is for Ray's own statistics to say.
        return replace(super().run(paths), stages={})

    def _embedded_url(self) -> str:
        machines = sorted({node["NodeManagerAddress"] for node in self._nodes})
        if len(machines) > 1:
            raise ClusterError(
                f"The cluster has {len(machines)} machines ({', '.join(machines)}), and {self._database.describe()} "
                "serves this one alone. Name a PostgreSQL server that all of them reach, by --database-url or "
                "`database_url` in settings.toml."
            )
        return self._database.conninfo

    def _read(self, changed: Sequence[FoundFile]) -> None:
        claimed = batches(self._claimed(changed), PICTURES_A_BATCH)
        files = 0
        for done in self._pipeline([_Found(batch) for batch in claimed]):
            files += done.files
            self._progress(Progress("read", files, len(changed)))

    def _embed_all_pending(self) -> dict[str, int]:
        total = {space.name: self._count_pending(space) for space in SPACES.values()}
        while any(total.values()):
            waiting = [
                batch
                for space in SPACES.values()
                if total[space.name]
                for batch in unclaimed(self._database, self._worker, space)
            ]
            made: Counter[str] = Counter()
            for done in self._pipeline([_Found(batch) for batch in waiting if batch.claimed]):
                made.update(done.vectors)
                for name in done.vectors:
                    self._progress(Progress(name, made[name], total[name]))
            unusable = self._embedder.skipped.keys() | self._embedder.refused.keys()
            elsewhere = sum(batch.elsewhere for batch in waiting if batch.space.name not in unusable)
            total = {space.name: self._count_pending(space) for space in SPACES.values()}
            if elsewhere == 0:
                break
            if any(total.values()):
                self._wait(sum(total.values()))
        return total

    def _pipeline(self, found: Sequence[_Found]) -> Iterator[_Done]:
        """What becomes of the batches, in any order."""
        if not found:
            return
        data = self._ray.data
        # It warns of objects in columns, and of progress bars that are off.
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        tasks = math.ceil(len(found) / BATCHES_A_TASK)
        dataset = (
            data.from_items([{"found": batch} for batch in found], override_num_blocks=tasks)
            .map_batches(_read, batch_size=BATCHES_A_TASK, fn_kwargs={"definitions": self._definitions})
            .map_batches(
                _Encoding,
                batch_size=BATCHES_A_TASK,
                fn_constructor_args=(self._open, self._settings, self._worker.id, self._reindex, self._steps.overwrite),
                **self._encoding_resources(tasks),
            )
        )
        dataset.context.enable_progress_bars = False
        try:
            for row in dataset.iter_rows():
                self._add(row["done"])
                yield row["done"]
        except self._ray.exceptions.RayError as error:
            raise ClusterError(
                f"The cluster did not finish the run: {str(error).strip().splitlines()[-1]}. What was written is kept; "
                "run again for the rest."
            ) from error
        logger.info("%s", dataset.stats())

    def _encoding_resources(self, tasks: int) -> dict[str, Any]:
        """An encoder a GPU; without GPUs one a node, with so few of its CPUs that another can restart beside it.

        Never the one CPU that a reader has: of stages that need the same, Ray makes one.
        """
        if self._gpus:
            wanted, resources = self._gpus, {"num_gpus": 1}
        else:
            cpus = [int(node["Resources"].get("CPU", 0)) for node in self._nodes]
            share = (min(cpus) - 1) // 2
            wanted, resources = len(cpus), {"num_cpus": share if share > 1 else 0.5}
        return {"compute": self._ray.data.ActorPoolStrategy(size=min(wanted, tasks)), **resources}

    def _add(self, done: _Done) -> None:
        with self._database.transaction() as connection:
            self._worker.heard(connection)
        self._tally.counts.update(done.tally.counts)
        self._tally.failed += done.tally.failed
        self._tally.again += done.tally.again
        self._tally.put_off |= done.tally.put_off
        self._embedder.embedded.update(done.embedded)
        self._embedder.skipped.update(done.skipped)
        self._embedder.refused.update(done.refused)


class _Encoding:
    """The second stage, in a process of its own: brings what was read into the library, with its vectors."""

    def __init__(
        self, open_library: OpenLibrary, settings: Settings, worker_id: int, reindex: bool, overwrite: bool
    ) -> None:
        self._database, encoders = open_library(settings)
        self._worker = Worker(worker_id)
        self._embedder = Embedder(self._database, encoders, self._worker)
        self._reindex = reindex
        self._overwrite = overwrite
        self._matcher = ThreadPoolExecutor(1, thread_name_prefix="match")
        self._encoder = ThreadPoolExecutor(1, thread_name_prefix="encode")

    def __call__(self, column: Column) -> Column:
        tally = Tally()
        steps = Steps(
            self._database,
            self._embedder,
            self._worker,
            tally,
            reindex=self._reindex,
            overwrite=self._overwrite,
        )
        self._embedder.embedded = Counter()
        files = 0
        vectors: Counter[str] = Counter()
        matched = ahead(self._matcher, partial(self._matched, steps, tally), column["read"], BATCHES_AHEAD)
        for job, made in ahead(self._encoder, steps.encoded, matched, BATCHES_AHEAD):
            if isinstance(job, Waiting):
                self._embedder.finish(job, made)
                vectors[job.space.name] += len(job.owners)
            else:
                steps.write((job, made))
                files += job.files
        tally.failed += self._embedder.failed.values()
        self._embedder.failed.clear()
        done = _Done(
            tally,
            files,
            vectors,
            self._embedder.embedded,
            _on_this_node(self._embedder.skipped),
            _on_this_node(self._embedder.refused),
        )
        return {"done": [done]}

    def _matched(self, steps: Steps, tally: Tally, read: _Read) -> Job:
        note_undecodable(self._database, read.undecodable)
        tally.failed += read.unseen
        if isinstance(read.work, Waiting):
            return read.work
        # Whether another file is gone, or only not to be seen from here, would not be known either.
        return steps.matched([item if presence(item.path) == "there" else _unseen(item.path) for item in read.work])


def _read(column: Column, definitions: NodeDefinitions | None) -> Column:
    """The first stage: files as they are read, pictures that wait with their pixels, and texts as they are."""
    node_types = None
    if definitions is not None:
        from ..metadata.comfyui.types import NodeTypes

        node_types = NodeTypes.from_object_info(definitions)
    with ThreadPoolExecutor(THREADS_A_READER, thread_name_prefix="read") as readers:
        return {"read": [_read_batch(readers, found, node_types) for found in column["found"]]}


def _read_batch(readers: ThreadPoolExecutor, found: _Found, node_types: Any) -> _Read:
    if not isinstance(found.work, Waiting):
        read = list(readers.map(partial(read_file, node_types=node_types), found.work))
        return _Read([item if presence(item.path) == "there" else _unseen(item.path) for item in read])
    if found.work.space.of == "text":
        return _Read(found.work)
    waiting, lost = with_pixels(readers, found.work, read_pixels)
    there = {owner: picture for owner, picture in lost.items() if presence(picture.path) == "there"}
    return _Read(waiting, there, [_unseen(picture.path) for owner, picture in lost.items() if owner not in there])


def _unseen(path: str) -> FailedFile:
    return FailedFile(
        path,
        f"{socket.gethostname()} does not see it. Where it is not gone, its folder has to be at this path on each "
        "machine of the cluster.",
    )


def _on_this_node(reasons: Mapping[str, str]) -> dict[str, str]:
    return {space: f"On {socket.gethostname()}: {reason}" for space, reason in reasons.items()}
