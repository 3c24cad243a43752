"""One encoder on several devices."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from toolkit_core.encoders.base import Images, TextEncoder, Vectors
from toolkit_core.encoders.clip import ClipVisionEncoder
from toolkit_core.encoders.replicas import ImageReplicas, TextReplicas


class Meeting(ClipVisionEncoder):
    """Encodes only once as many calls are under way as the barrier waits for."""

    def __init__(self, path: Path, barrier: threading.Barrier) -> None:
        super().__init__(path, "cpu")
        self._barrier = barrier

    def encode(self, images: Images) -> Vectors:
        self._barrier.wait()
        return super().encode(images)


def test_replicas_encode_at_the_same_time_and_alike(tiny_weights: Path) -> None:
    path = tiny_weights / "clip_h.safetensors"
    barrier = threading.Barrier(2, timeout=60)
    replicas = ImageReplicas([Meeting(path, barrier), Meeting(path, barrier)])
    pictures = np.random.default_rng(0).integers(0, 256, (3, 224, 224, 3), np.uint8)
    made: list[Vectors] = []
    threads = [threading.Thread(target=lambda: made.append(replicas.encode(pictures))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    alone = ClipVisionEncoder(path, "cpu").encode(pictures)
    assert len(made) == 2
    assert all(np.array_equal(vectors, alone) for vectors in made)
    assert replicas.device == "cpu float32, cpu float32"
    replicas.unload()
    assert replicas.device == "not loaded, not loaded"


class Slow(TextEncoder):
    """Waits before its first vector until the other has made all of its own."""

    def __init__(self, name: str, wait_for: threading.Event | None, calls: Counter[str]) -> None:
        super().__init__("bge", name)
        self._wait_for = wait_for
        self._calls = calls

    @property
    def device(self) -> str:
        return self.name

    def encode(self, texts: Sequence[str]) -> Vectors:
        if self._wait_for is not None:
            assert self._wait_for.wait(60)
        self._calls[self.name] += 1
        return np.ones((len(texts), 1024), np.float32)

    def _load(self) -> None: ...

    def _unload(self) -> None: ...


def test_faster_device_does_more() -> None:
    calls: Counter[str] = Counter()
    done = threading.Event()
    replicas = TextReplicas([Slow("slow", done, calls), Slow("fast", None, calls)])
    slow = threading.Thread(target=lambda: replicas.encode(["first"]))
    slow.start()
    while replicas._free.qsize() > 1:
        pass
    for n in range(5):
        replicas.encode([str(n)])
    done.set()
    slow.join()
    assert calls == {"slow": 1, "fast": 5}
