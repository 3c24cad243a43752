"""Indexes new outputs by itself: their metadata at once, their embeddings while ComfyUI has nothing to do.

What a person sets of it in ComfyUI's settings (web/auto_index.js) is read from ComfyUI's own settings files.
"""

from __future__ import annotations

import atexit
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from comfy import model_management
from server import PromptServer

from ..toolkit_core.encoders.base import Encoder, ImageEncoder, Images, TextEncoder, Vectors
from ..toolkit_core.errors import WeightsMissing
from ..toolkit_core.records import IndexReport, Progress
from ..toolkit_core.spaces import SPACES
from .library import is_opened, opened_library, output_folder, user_settings

if TYPE_CHECKING:
    from ..toolkit_core.library import Library
    from ..toolkit_core.space_encoders import EncoderSource

logger = logging.getLogger(__name__)

MODE, IDLE_SECONDS = "DiffusionToolkit.AutoIndex.Mode", "DiffusionToolkit.AutoIndex.IdleSeconds"
MODES = ("off", "metadata", "embeddings")
DEFAULT_IDLE_SECONDS = 30.0
# All four encoders in half precision, with what a batch takes. Where a GPU has less to spare, the CPU does it.
FREE_GPU_BYTES = 8 * 2**30
# So many at a time, between looks at ComfyUI's queue.
TEXTS_A_TURN = {"cpu": 4, "gpu": 64}
IMAGES_A_TURN = {"cpu": 1, "gpu": 32}
# The weights of these differ from checkpoint to checkpoint: whoever indexes says which a library belongs to.
CHOSEN_BY_A_PERSON = ("clip_l", "clip_g")
TICK_SECONDS = 0.25
RETRY_SECONDS = 60.0
# How long a space waits whose weights could not be used.
LEFT_OUT_SECONDS = 600.0


@dataclass(frozen=True)
class AutoIndexSettings:
    """mode: one of MODES. idle_seconds: how long ComfyUI has to have had nothing to do before images are embedded."""

    mode: str = MODES[-1]
    idle_seconds: float = DEFAULT_IDLE_SECONDS


def chosen_settings() -> AutoIndexSettings:
    """What is set. Where ComfyUI has several users, the one who wants the least has it, and the longest wait counts."""
    users = user_settings()
    modes = [mode for user in users if (mode := user.get(MODE)) in MODES]
    waits = [wait for user in users if isinstance(wait := user.get(IDLE_SECONDS), int | float) and wait >= 0]
    return AutoIndexSettings(
        min(modes, key=MODES.index, default=MODES[-1]), float(max(waits, default=DEFAULT_IDLE_SECONDS))
    )


class AutoIndexer:
    """Follows ComfyUI's output folder, as the settings say, from `start` until ComfyUI ends."""

    def __init__(self) -> None:
        self._settings: AutoIndexSettings | None = None
        self._loaded_at = datetime.now(timezone.utc)
        self._stop = threading.Event()
        self._follower: threading.Thread | None = None
        self._busy_at = time.monotonic()
        self._was_opened = False
        self._left_out: dict[str, str] = {}
        self._left_out_until = 0.0
        self._thread = threading.Thread(target=self._keep_to_settings, name="automatic indexing", daemon=True)

    def start(self) -> None:
        PromptServer.instance.add_on_prompt_handler(self._note_prompt)
        self._thread.start()

    def end(self) -> None:
        """Stop what is under way, before the library is closed."""
        self._stop.set()
        if self._follower is not None:
            self._follower.join()

    def _note_prompt(self, prompt: Any) -> Any:
        self._busy_at = time.monotonic()
        return prompt

    def _keep_to_settings(self) -> None:
        # Not before: the other packs are loaded meanwhile, and ComfyUI's start should not take longer.
        while not hasattr(PromptServer.instance, "port"):
            time.sleep(TICK_SECONDS)
        while threading.main_thread().is_alive():
            if _queued():
                self._busy_at = time.monotonic()
            settings = chosen_settings()
            if settings != self._settings:
                self.end()
                self._settings, self._left_out = settings, {}
                logger.info("Automatic indexing of %s (%s)", output_folder(), settings.mode)
                if settings.mode != "off":
                    self._stop = threading.Event()
                    self._follower = threading.Thread(target=self._follow, args=(settings, self._stop), daemon=True)
                    self._follower.start()
            time.sleep(TICK_SECONDS)
        self._stop.set()

    def _follow(self, settings: AutoIndexSettings, stop: threading.Event) -> None:
        from ..toolkit_core.indexing import Follower, FollowOptions

        options = FollowOptions(
            since=self._loaded_at,
            is_idle=partial(self._is_idle, settings.idle_seconds),
            embed=self._embed if settings.mode == "embeddings" else None,
            on_report=_log,
        )
        while not stop.is_set():
            try:
                Follower(self._opened, [output_folder()], options).run(stop)
            except Exception:
                if stop.is_set() or not threading.main_thread().is_alive():
                    return
                logger.exception("New images are not indexed for %d s.", RETRY_SECONDS)
                stop.wait(RETRY_SECONDS)

    @contextmanager
    def _opened(self) -> Iterator[Library]:
        with opened_library() as library:
            self._was_opened = True
            yield library

    def _is_idle(self, seconds: float) -> bool:
        """Whether ComfyUI has nothing to do, and the library is in use at all: nothing is opened for its own sake."""
        return (
            _queued() == 0
            and time.monotonic() - self._busy_at >= seconds
            and (self._was_opened or is_opened())
            and threading.main_thread().is_alive()
        )

    def _embed(self, library: Library, progress: Callable[[Progress], None]) -> IndexReport:
        """Fill what is pending with weights from ComfyUI's folders, until something is queued."""
        from ..toolkit_core.database import vectors

        if time.monotonic() > self._left_out_until:
            # It may have been for want of memory.
            self._left_out.clear()
        device = _device(library.settings.device)
        made: list[Encoder] = []
        with library.database.transaction() as connection:
            chosen = {space for space in CHOSEN_BY_A_PERSON if vectors.encoder(connection, SPACES[space])}

        def source(space: str) -> Encoder:
            progress(Progress(space, 0, None))
            if space in self._left_out:
                raise WeightsMissing(self._left_out[space])
            if space in CHOSEN_BY_A_PERSON and space not in chosen:
                raise WeightsMissing(f"Index once with the CLIP connected that {space} of this library is to be of.")
            encoder = _found_encoder(library, space, device)
            made.append(encoder)
            return _in_turns(encoder, progress)

        sources: dict[str, EncoderSource] = {space: partial(source, space) for space in SPACES}
        try:
            # In a thread that ends with it, and torch's own threads with that: while a second thread has some, OpenMP
            # lets all of them sleep sooner, and a generation on the CPU takes a third longer.
            with ThreadPoolExecutor(1) as passing:
                report = passing.submit(library.index, [], progress, encoders=sources).result()
        finally:
            for encoder in made:
                encoder.unload()
        for space, reason in report.refused.items():
            logger.warning("%s is left out for %d minutes: %s", space, LEFT_OUT_SECONDS / 60, reason)
        if report.refused:
            # They would be loaded, and refused, for every new image.
            self._left_out.update(report.refused)
            self._left_out_until = time.monotonic() + LEFT_OUT_SECONDS
        return report


def _queued() -> int:
    """How many graphs run or wait in ComfyUI."""
    return PromptServer.instance.prompt_queue.get_tasks_remaining()


def _device(set_by_user: str | None) -> str | None:
    """Where to embed; None for the encoders' own choice. Never where the user's models need the room."""
    device = model_management.get_torch_device()
    if set_by_user is not None:
        return set_by_user
    return None if device.type != "cpu" and model_management.get_free_memory(device) >= FREE_GPU_BYTES else "cpu"


def _found_encoder(library: Library, space: str, device: str | None) -> Encoder:
    from ..toolkit_core.encoders.weights import make_encoder

    return make_encoder(library.weights_for(space), device, library.settings.dtype)


def _in_turns(encoder: Encoder, progress: Callable[[Progress], None]) -> Encoder:
    if isinstance(encoder, TextEncoder):
        return _TextsInTurns(encoder, progress)
    assert isinstance(encoder, ImageEncoder)
    return _ImagesInTurns(encoder, progress)


class _TextsInTurns(TextEncoder):
    """An encoder that asks between a few texts and the next whether it may go on: `progress` raises if not."""

    def __init__(self, encoder: TextEncoder, progress: Callable[[Progress], None]) -> None:
        super().__init__(encoder.space, encoder.name)
        self._encoder = encoder
        self._progress = progress

    @property
    def device(self) -> str:
        return self._encoder.device

    def encode(self, texts: Sequence[str]) -> Vectors:
        # Of like length together, as the encoder itself would have them.
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        vectors = np.empty((len(texts), SPACES[self.space].width), np.float32)
        turn = TEXTS_A_TURN[_kind(self.device)]
        for start in range(0, len(texts), turn):
            self._progress(Progress(self.space, start, len(texts)))
            rows = order[start : start + turn]
            vectors[rows] = self._encoder.encode([texts[i] for i in rows])
        return vectors

    def _load(self) -> None:
        self._encoder.load()

    def _unload(self) -> None:
        self._encoder.unload()


class _ImagesInTurns(ImageEncoder):
    """As `_TextsInTurns`, of pictures."""

    def __init__(self, encoder: ImageEncoder, progress: Callable[[Progress], None]) -> None:
        super().__init__(encoder.space, encoder.name)
        self._encoder = encoder
        self._progress = progress

    @property
    def device(self) -> str:
        return self._encoder.device

    def encode(self, images: Images) -> Vectors:
        vectors: list[Vectors] = []
        turn = IMAGES_A_TURN[_kind(self.device)]
        for start in range(0, len(images), turn):
            self._progress(Progress(self.space, start, len(images)))
            vectors.append(self._encoder.encode(images[start : start + turn]))
        return np.concatenate(vectors)

    def _load(self) -> None:
        self._encoder.load()

    def _unload(self) -> None:
        self._encoder.unload()


def _kind(device: str) -> str:
    return "cpu" if device.lower().startswith("cpu") else "gpu"


def _log(report: IndexReport) -> None:
    vectors = ", ".join(f"{count} {space}" for space, count in report.embedded.items() if count)
    if vectors:
        logger.info("Embedded: %s", vectors)
    elif report.new or report.changed or report.moved or report.failed or report.missing:
        logger.info("Outputs: %s", report.summary())


auto_indexer = AutoIndexer()
atexit.register(auto_indexer.end)
