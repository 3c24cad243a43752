"""Brings the library up to date with a folder, using the models that the graph has loaded."""

from __future__ import annotations

import logging
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from comfy import model_management
from comfy.utils import ProgressBar
from comfy_api.latest import io, ui
from PIL import Image, ImageOps
from server import PromptServer

from ..toolkit_core.records import IndexReport, Progress
from .encoders import ClipConditioning, connected_encoders, require_text_space
from .library import allowed_folder, opened_library

logger = logging.getLogger(__name__)

SECONDS_BETWEEN_PREVIEWS = SECONDS_BETWEEN_TEXTS = 1.0
PREVIEW_SIZE = 512
MOST_FAILURES_SHOWN = 20


class DiffusionToolkitIndexer(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DiffusionToolkitIndexer",
            display_name="Diffusion Toolkit Indexer",
            category="Diffusion Toolkit",
            description="Adds the images of a folder to the library: their prompts and settings, and five embeddings "
            "of each. What is unchanged is skipped, so queue it as often as you like.",
            search_aliases=[
                "index images",
                "embed images",
                "image library",
                "scan folder",
                "CLIP embeddings",
                "pgvector",
            ],
            is_output_node=True,
            inputs=[
                io.String.Input(
                    "folder",
                    default="output",
                    tooltip="output or input for ComfyUI's own folders, a folder inside them such as output/portraits, "
                    "or the full path of any folder below a root that the settings file allows.",
                ),
                io.Boolean.Input(
                    "recursive", optional=True, default=True, tooltip="Also index the folders inside it, at any depth."
                ),
                io.Clip.Input(
                    "clip",
                    optional=True,
                    tooltip="Embeds the prompts as CLIP-L and CLIP-G. SDXL and SD3 have both; what it lacks stays "
                    "pending. Without it, clip_l and clip_g files in the text_encoders folder are used.",
                ),
                io.ClipVision.Input(
                    "clip_vision",
                    optional=True,
                    tooltip="CLIP ViT-H/14: embeds the pictures. Without it, a ViT-H file in the clip_vision folder "
                    "is used.",
                ),
                io.Boolean.Input(
                    "keep_conditioning",
                    optional=True,
                    default=False,
                    tooltip="Also keep the whole conditioning of every prompt, so that the Loader needs no CLIP "
                    "(0.3 MB a prompt for SDXL, 4 MB for FLUX). Needs a CLIP.",
                ),
                io.Boolean.Input(
                    "reindex",
                    optional=True,
                    default=False,
                    tooltip="Read unchanged files again, too: their metadata, and their picture's embedding.",
                ),
            ],
            outputs=[
                io.String.Output("report", tooltip="What was done, what is pending and why."),
                io.Int.Output("new", tooltip="Images that the library did not have."),
                io.Int.Output("changed", tooltip="Images whose file was changed, or that were read again."),
                io.Int.Output("moved", tooltip="Images that were found again under another name."),
                io.Int.Output("unchanged", tooltip="Images that were skipped because nothing changed."),
                io.Int.Output("failed", tooltip="Files that could not be read; each is recorded with its error."),
                io.Int.Output("pending", tooltip="Embeddings that are still missing in the whole library."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def fingerprint_inputs(cls, **inputs: Any) -> int:
        # The folder may have changed, and a look at it is what a run without changes costs.
        return time.time_ns()

    @classmethod
    def execute(
        cls,
        folder: str,
        recursive: bool = True,
        clip: Any = None,
        clip_vision: Any = None,
        keep_conditioning: bool = False,
        reindex: bool = False,
    ) -> io.NodeOutput:
        if clip is not None and not keep_conditioning:
            require_text_space(clip)
        if keep_conditioning and clip is None:
            raise ValueError(
                "keep_conditioning is on, but no CLIP is connected to make conditionings with. Connect one."
            )
        path = allowed_folder(folder)
        with opened_library() as library:
            try:
                report = library.index(
                    [path],
                    _ProgressDisplay(cls.hidden.unique_id),
                    recursive=recursive,
                    reindex=reindex,
                    encoders=connected_encoders(clip, clip_vision),
                    keep=ClipConditioning(clip) if keep_conditioning else None,
                )
            finally:
                # Encoders of the library's own lie outside ComfyUI's memory management: give their memory back.
                library.unload()
        text = report_text(report)
        logger.info("Indexed %s: %s", path, text)
        return io.NodeOutput(
            text,
            report.new,
            report.changed,
            report.moved,
            report.unchanged,
            len(report.failed),
            sum(report.pending.values()),
            ui=ui.PreviewText(text),
        )


def report_text(report: IndexReport) -> str:
    lines = [report.summary(), *filter(None, [report.pace()])]
    for space, count in report.embedded.items():
        reason = report.refused.get(space) or report.skipped.get(space)
        lines.append(f"{space}: {count} embedded, {report.pending[space]} pending{f'. {reason}' if reason else ''}")
    if report.kept_conditionings:
        lines.append(f"{report.kept_conditionings} conditionings kept")
    if "conditioning" in report.refused:
        lines.append(f"No conditionings kept. {report.refused['conditioning']}")
    lines += [f"{failed.path}: {failed.error}" for failed in report.failed[:MOST_FAILURES_SHOWN]]
    if len(report.failed) > MOST_FAILURES_SHOWN:
        lines.append(f"… and {len(report.failed) - MOST_FAILURES_SHOWN} more failed")
    return "\n".join(lines)


def progress_text(progress: Progress, before: Progress, seconds: float) -> str:
    """How far a stage is, its rate, the time that is left, and how busy each part was.

    before: how far it was so many seconds ago.
    """
    of = "" if progress.total is None else f" of {progress.total:,}"
    parts = [f"{progress.stage} {progress.done:,}{of}"]
    rate = (progress.done - before.done) / seconds if seconds > 0 else 0.0
    if rate > 0:
        parts.append(f"{rate:,.1f}/s")
        if progress.total is not None:
            left = timedelta(seconds=round((progress.total - progress.done) / rate))
            parts.append(f"{left} left")
    return "\n".join(filter(None, [", ".join(parts), progress.busy()]))


class _ProgressDisplay:
    """Shows the library's progress on the node, now and then with the current picture, and lets a run be stopped."""

    def __init__(self, node_id: str) -> None:
        self._node_id = node_id
        self._last_preview = self._last_text = 0.0
        # The first progress of the present stage, and when it came.
        self._first: tuple[Progress, float] | None = None

    def __call__(self, progress: Progress) -> None:
        model_management.throw_exception_if_processing_interrupted()
        total = progress.total or progress.done
        ProgressBar(total).update_absolute(progress.done, total, self._preview(progress))
        self._show_text(progress)

    def _show_text(self, progress: Progress) -> None:
        now = time.monotonic()
        if self._first is None or self._first[0].stage != progress.stage:
            self._first = progress, now
        elif now - self._last_text < SECONDS_BETWEEN_TEXTS:
            return
        self._last_text = now
        first, since = self._first
        PromptServer.instance.send_progress_text(progress_text(progress, first, now - since), self._node_id)

    def _preview(self, progress: Progress) -> tuple[str, Image.Image, int] | None:
        now = time.monotonic()
        if progress.stage != "read" or progress.item is None or now - self._last_preview < SECONDS_BETWEEN_PREVIEWS:
            return None
        self._last_preview = now
        try:
            with Image.open(Path(progress.item)) as image:
                image.draft("RGB", (PREVIEW_SIZE, PREVIEW_SIZE))
                small = ImageOps.contain(image.convert("RGB"), (PREVIEW_SIZE, PREVIEW_SIZE))
        except Exception as error:  # A damaged file is in the report; here it only has no preview.
            logger.debug("No preview of %s: %s", progress.item, error)
            return None
        return ("JPEG", small, PREVIEW_SIZE)
