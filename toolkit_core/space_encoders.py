"""The encoders of one library: made on first use, and admitted to a space only with the weights it belongs to."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import partial

from .database import Connection, Database, vectors
from .encoders.base import Encoder, ImageEncoder, Images, TextEncoder, Vectors
from .encoders.identity import compare_probes
from .errors import EncoderError, EncoderMismatch, TextTowerMissing, WeightsMissing
from .spaces import SPACES

logger = logging.getLogger(__name__)

EncoderSource = Callable[[], Encoder]


class SpaceEncoders:
    """`sources` makes the encoder of a space; a source raises WeightsMissing where it has none.

    `otherwise` serves the spaces that have no source.
    """

    def __init__(
        self, database: Database, sources: Mapping[str, EncoderSource], otherwise: SpaceEncoders | None = None
    ) -> None:
        self._database = database
        self._sources = sources
        self._otherwise = otherwise
        self._encoders: dict[str, Encoder] = {}
        # When the record was made that an encoder was last compared with: another process may give a space to other
        # weights at any time.
        self._compared_with: dict[str, datetime] = {}

    def connected(self, sources: Mapping[str, EncoderSource]) -> SpaceEncoders:
        """These encoders with others in their place for some spaces. Each of those is checked anew."""
        return SpaceEncoders(self._database, sources, self) if sources else self

    def text(self, space: str) -> TextEncoder:
        encoder = self._get(space)
        assert isinstance(encoder, TextEncoder)
        return encoder

    def image(self, space: str) -> ImageEncoder:
        """The pictures' encoder. Where one in its place embeds no text, `otherwise` does that: both were compared."""
        encoder = self._get(space)
        assert isinstance(encoder, ImageEncoder)
        if self._otherwise is None or space not in self._sources:
            return encoder
        return _WithTextTower(encoder, partial(self._otherwise.image, space))

    def at_once(self, space: str) -> int:
        """See `Encoder.at_once`; 0 also as long as the encoder of a space is not made."""
        if space not in self._sources and self._otherwise is not None:
            return self._otherwise.at_once(space)
        return self._encoders[space].at_once if space in self._encoders else 0

    def adopt(self, space: str) -> None:
        """Make the encoder of a space that is still empty the library's own. Raises EncoderMismatch.

        Called before the first vector is written; where two processes race, both then hold the same record.
        """
        encoder = self._get(space)
        with self._database.transaction() as connection:
            if vectors.encoder(connection, SPACES[space]) is None:
                vectors.adopt_encoder(connection, SPACES[space], encoder.name, encoder.probe())
        self._compare(encoder)

    def is_current(self, connection: Connection, space: str) -> bool:
        """Whether the space still belongs to the weights that were last compared with it, until the transaction's end.

        False where another process gave it to other weights since then: what these have made may not be written.
        """
        if space not in self._sources and self._otherwise is not None:
            return self._otherwise.is_current(connection, space)
        return vectors.is_current(connection, SPACES[space], self._compared_with.get(space))

    def forget(self, space: str) -> None:
        """Make the encoder of a space anew on its next use."""
        if space in self._encoders:
            self._encoders.pop(space).unload()

    def unload(self) -> None:
        """Drop the weights of every encoder."""
        for encoder in self._encoders.values():
            encoder.unload()

    def _get(self, space: str) -> Encoder:
        if space not in self._encoders:
            if space not in self._sources and self._otherwise is not None:
                return self._otherwise._get(space)
            if space not in self._sources:
                raise WeightsMissing(f"No encoder is connected for {space}.")
            encoder = self._sources[space]()
            encoder.load()
            logger.info("%s: %s on %s", space, encoder.name, encoder.device)
            self._encoders[space] = encoder
        self._compare(self._encoders[space])
        return self._encoders[space]

    def _compare(self, encoder: Encoder) -> None:
        space = SPACES[encoder.space]
        with self._database.transaction() as connection:
            record = vectors.encoder(connection, space)
            # Asked for every batch, so the probe itself is read only where the record is another one.
            if record is None or self._compared_with.get(encoder.space) == record.created_at:
                return
            probe = vectors.probe(connection, space)
        fresh = encoder.probe()
        if fresh.shape != probe.shape:
            raise EncoderError(
                f"The library's {encoder.space} probe has shape {probe.shape}, this program's {fresh.shape}; "
                "the library was made by another version of it."
            )
        agreement = compare_probes(probe, fresh)
        if not agreement.same:
            raise EncoderMismatch(
                f"The {encoder.space} vectors of this library were made by {record.name!r}; {encoder.name!r} gives "
                f"others (cosine {agreement.cosine:.5f}, norms up to {agreement.norm_ratio:.3f} times apart, for the "
                f"same inputs). Use {record.name!r}; or re-embed that space with `diffusion-toolkit reindex "
                f"{encoder.space}`; or use another library (`library` in settings.toml, or --library NAME)."
            )
        self._compared_with[encoder.space] = record.created_at


class _WithTextTower(ImageEncoder):
    """An encoder of pictures, whose texts another one of the same weights embeds where it has no text tower."""

    def __init__(self, encoder: ImageEncoder, other: Callable[[], ImageEncoder]) -> None:
        super().__init__(encoder.space, encoder.name)
        self._encoder = encoder
        self._other = other

    @property
    def device(self) -> str:
        return self._encoder.device

    @property
    def at_once(self) -> int:
        return self._encoder.at_once

    def encode(self, images: Images) -> Vectors:
        return self._encoder.encode(images)

    def encode_query(self, text: str) -> Vectors:
        try:
            return self._encoder.encode_query(text)
        except TextTowerMissing as missing:
            try:
                return self._other().encode_query(text)
            except WeightsMissing:
                raise missing from None

    def _load(self) -> None:
        self._encoder.load()

    def _unload(self) -> None:
        self._encoder.unload()
