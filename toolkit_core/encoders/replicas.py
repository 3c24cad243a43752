"""One encoder on several devices: whoever calls is served by a device that is free, so faster ones do more."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from queue import Queue
from typing import Generic, TypeVar

from .base import Encoder, ImageEncoder, Images, TextEncoder, Vectors

E = TypeVar("E", bound=Encoder)


class _Replicas(Encoder, Generic[E]):
    """Calls from several threads run side by side, as many as there are replicas."""

    def __init__(self, replicas: Sequence[E]) -> None:
        super().__init__(replicas[0].space, replicas[0].name)
        self._replicas = tuple(replicas)
        self._free: Queue[E] = Queue()
        for replica in replicas:
            self._free.put(replica)

    @property
    def device(self) -> str:
        return ", ".join(replica.device for replica in self._replicas)

    @property
    def at_once(self) -> int:
        return max(replica.at_once for replica in self._replicas)

    def _load(self) -> None:
        for replica in self._replicas:
            replica.load()

    def _unload(self) -> None:
        for replica in self._replicas:
            replica.unload()

    @contextmanager
    def _borrowed(self) -> Iterator[E]:
        self.load()
        replica = self._free.get()
        try:
            yield replica
        finally:
            self._free.put(replica)


class TextReplicas(_Replicas[TextEncoder], TextEncoder):
    def encode(self, texts: Sequence[str]) -> Vectors:
        with self._borrowed() as replica:
            return replica.encode(texts)

    def encode_query(self, text: str) -> Vectors:
        with self._borrowed() as replica:
            return replica.encode_query(text)


class ImageReplicas(_Replicas[ImageEncoder], ImageEncoder):
    def encode(self, images: Images) -> Vectors:
        with self._borrowed() as replica:
            return replica.encode(images)

    def encode_query(self, text: str) -> Vectors:
        with self._borrowed() as replica:
            return replica.encode_query(text)
