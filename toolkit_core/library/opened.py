"""An open library: its settings, its database, its encoders and their weights, and how it stands."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeAlias

from ..database import Database, images, missing, reembedding, rereading, vectors
from ..database.segments import index_of
from ..encoders.base import ImageEncoder, TextEncoder
from ..encoders.weights import WeightsLocation, find_weights, make_encoder
from ..metadata import READER_VERSION
from ..records import LibraryStatus
from ..settings import Settings, load_settings
from ..space_encoders import EncoderSource, SpaceEncoders
from ..spaces import SPACES

if TYPE_CHECKING:
    from typing_extensions import Self

    from ..metadata.comfyui.types import NodeTypes

NodeDefinitions: TypeAlias = Callable[[], Mapping[str, Any]]


class OpenedLibrary:
    """What both halves of `Library` stand on."""

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
        Raises SettingsError, PathNotFound, DatabaseError.
        """
        settings = load_settings(
            home, weights=weights, database_url=database_url, library=library, device=device, dtype=dtype
        )
        return cls(settings, node_definitions=node_definitions, on_wait=on_wait)

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

    def _types_of_nodes(self) -> NodeTypes | None:
        if self._node_types is None and self._node_definitions is not None:
            from ..metadata.comfyui.types import NodeTypes

            self._node_types = NodeTypes.from_object_info(self._node_definitions())
        return self._node_types

    def _make_encoder(self, space: str) -> TextEncoder | ImageEncoder:
        return make_encoder(self.weights_for(space), self.settings.device, self.settings.dtype)


def locate_weights(settings: Settings) -> dict[str, WeightsLocation]:
    """Where the weights of each space are: the files that the settings name, their folders, then the downloads."""
    return find_weights([*settings.weights_folders, settings.downloads], settings.weights_files)
