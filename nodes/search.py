"""Finds images of the library by a picture, a text, an image, several of these with weights, or by a filter."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from comfy import model_management
from comfy_api.latest import io, ui
from comfy_execution.graph_utils import ExecutionBlocker
from PIL import Image

from ..toolkit_core import conditioning
from ..toolkit_core.errors import FilterError, ImageError, SearchError
from ..toolkit_core.records import SearchHit, SearchResults
from .encoders import connected_encoders
from .library import library_revision, opened_library
from .pages import PageEnds, identity
from .pictures import RESIZE_RULES, read_rgb, resized

if TYPE_CHECKING:
    from ..toolkit_core.library import Library
    from ..toolkit_core.search import Sort

logger = logging.getLogger(__name__)

Embeds = io.Custom("EMBEDS")

WEIGHTS = {
    "bge": "the meaning of the prompt",
    "bge_negative": "the meaning of the negative prompt",
    "clip_h": "the look of the picture",
    "clip_l": "the prompt as CLIP-L reads it",
    "clip_g": "the prompt as CLIP-G reads it",
    "clip_h_text": "the text, looked for in the pictures themselves,",
}
# Those of `toolkit_core.search`, which is not imported before the library is opened.
SORTS = ("relevance", "date", "rating")

# That of a threshold that keeps every image.
NONE = -1.0

# As far as pages are counted, with one image each.
MOST_PAGES = 10_000

# How much of a long filter is shown on each side of its mistake.
MARKED = 60

_page_ends = PageEnds()


class DiffusionToolkitSearch(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DiffusionToolkitSearch",
            display_name="Diffusion Toolkit Search",
            category="Diffusion Toolkit",
            description="Finds the images of the library most like a picture, a text, an image of the library, or all "
            "of them with weights; and only those that a filter lets through. The embeds feed IPAdapter Embeds; the "
            "images feed IPAdapter or anything else.",
            search_aliases=[
                "similar images",
                "find images",
                "semantic search",
                "image similarity",
                "reverse image search",
                "filter images",
                "favorite images",
                "newest images",
            ],
            # Of others, ComfyUI does not show again what they said when their outputs are in its cache.
            is_output_node=True,
            inputs=[
                io.Image.Input(
                    "image", optional=True, tooltip="A picture to search by. Of a batch, the mean is searched by."
                ),
                io.String.Input(
                    "text",
                    optional=True,
                    multiline=True,
                    default="",
                    tooltip="What to search for in the prompts, or with weight_clip_h_text in the pictures.",
                ),
                io.Int.Input(
                    "image_id",
                    optional=True,
                    default=0,
                    min=0,
                    max=2**53 - 1,
                    tooltip="An image of the library to search by, which is among its own results (the filter -id:7 "
                    "leaves image 7 out); 0 for none.",
                ),
                io.ClipVision.Input(
                    "clip_vision",
                    optional=True,
                    tooltip="CLIP ViT-H/14, for the picture. Without it, one in the clip_vision folder is used.",
                ),
                io.Clip.Input("clip", optional=True, tooltip="For a text that is searched by CLIP-L or CLIP-G."),
                *(_weight(name) for name in WEIGHTS if name != "clip_h_text"),
                io.Int.Input("top_k", optional=True, default=8, min=1, max=1000, tooltip="The most images to find."),
                io.Float.Input(
                    "threshold",
                    optional=True,
                    default=NONE,
                    min=NONE,
                    max=1.0,
                    step=0.01,
                    tooltip="The lowest score, a cosine similarity; -1 keeps every image.",
                ),
                io.Combo.Input(
                    "resize",
                    optional=True,
                    options=list(RESIZE_RULES),
                    default="crop",
                    tooltip="How the images get the size of the first one, to be one batch: crop the rest away, pad "
                    "with black, or stretch.",
                ),
                # From here on in the order in which they came to be: saved workflows have values by position.
                io.String.Input(
                    "filter",
                    optional=True,
                    default="",
                    tooltip='Only images that fulfil it: favorite:true rating:>=4 model:juggernaut (fox or "snow owl") '
                    "-negative:blurry date:2026-01..2026-03. With nothing else it gives the newest of them.",
                ),
                _weight("clip_h_text"),
                io.Float.Input(
                    "diversity",
                    optional=True,
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    tooltip="How much the pictures should differ from each other instead of being like what is given; "
                    "at 0 the most alike are found.",
                ),
                io.Combo.Input(
                    "sort",
                    optional=True,
                    options=list(SORTS),
                    default="relevance",
                    tooltip="The order of what is found: the most alike, the newest, or the best rated first.",
                ),
                *(_threshold(name) for name in WEIGHTS),
                io.Int.Input(
                    "page",
                    optional=True,
                    default=1,
                    min=1,
                    max=MOST_PAGES,
                    # With True the editor would choose pages at random.
                    control_after_generate=io.ControlAfterGenerate.fixed,
                    tooltip="Which top_k images: 1 for the best ones, 2 for those that come behind them. From page to "
                    "page, images that are added meanwhile neither move nor repeat what comes.",
                ),
            ],
            outputs=[
                io.Image.Output("images", tooltip="The found images as one batch, best first or as sorted."),
                Embeds.Output(
                    "embeds", tooltip="Their CLIP-H embeddings, for IPAdapter Embeds with a base ViT-H model."
                ),
                Embeds.Output("negative_embeds", tooltip="Zeros, the negative that those models are used with."),
                io.Int.Output("ids", is_output_list=True, tooltip="Their ids in the library."),
                io.Float.Output(
                    "scores", is_output_list=True, tooltip="Their scores, cosine similarities; 0 for a filter alone."
                ),
                io.String.Output("paths", is_output_list=True, tooltip="Their files."),
                io.String.Output("prompts", is_output_list=True, tooltip="Their prompts; empty where there is none."),
                io.String.Output(
                    "scores_by_space",
                    is_output_list=True,
                    tooltip="How alike each of them is in every space that counts, as bge 0.690, clip_h 0.930.",
                ),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, page: int | None = 1, **inputs: Any) -> str:
        # None out of another node. The first page is the same wherever others end.
        return library_revision() if page == 1 else f"{library_revision()}, {_page_ends.changes} ends changed"

    @classmethod
    def execute(
        cls,
        image: torch.Tensor | None = None,
        text: str = "",
        image_id: int = 0,
        clip_vision: Any = None,
        clip: Any = None,
        top_k: int = 8,
        threshold: float = -1.0,
        resize: str = "crop",
        filter: str = "",
        diversity: float = 0.0,
        sort: Sort = "relevance",
        page: int = 1,
        **by_space: float,
    ) -> io.NodeOutput:
        search = {
            "text": text if text.strip() else None,
            "image": None if image is None else _pixels(image),
            "image_id": image_id or None,
            "weights": _set_values(by_space, "weight", 0.0),
            "top_k": top_k,
            "threshold": threshold if threshold > NONE else None,
            "thresholds": _set_values(by_space, "threshold", NONE),
            "filter": filter,
            "diversity": diversity,
            "sort": sort,
        }
        name = identity(search)
        with opened_library() as library:
            try:
                hits = library.search(
                    **search, page=_page_ends.begin(name, page), encoders=connected_encoders(clip, clip_vision)
                )
            except FilterError as error:
                raise _marked(error) from error
            _page_ends.note(name, page, hits.end)
            if not hits:
                return _nothing(_why_nothing(library, search, page, hits.passed))
            vectors = library.image_vectors([hit.id for hit in hits])
        found, pictures = _read(hits)
        if not found:
            return _nothing(
                f"{len(hits)} images were found, but none of their files can be read, such as {hits[0].path}. See that "
                "their drive is connected."
            )
        embeds: tuple[Any, Any]
        if missing := [hit.id for hit in found if hit.id not in vectors]:
            pending = (
                f"The clip_h vectors of {len(missing)} found images are pending, such as image {missing[0]}. Index "
            )
            pending += "their folder with CLIP ViT-H connected."
            embeds = (ExecutionBlocker(pending), ExecutionBlocker(pending))
        else:
            embeds = conditioning.embeds([vectors[hit.id] for hit in found])
        return io.NodeOutput(
            resized(pictures, resize),
            *embeds,
            [hit.id for hit in found],
            [hit.score for hit in found],
            [hit.path for hit in found],
            [hit.prompt or "" for hit in found],
            [_by_space(hit) for hit in found],
            ui=ui.PreviewText(_shown(hits, found, page)),
        )


def _set_values(by_space: Mapping[str, float], kind: str, unset: float) -> dict[str, float]:
    """The weights or the thresholds that are set, by the name of a space."""
    values = {name: by_space.get(f"{kind}_{name}", unset) for name in WEIGHTS}
    return {name: value for name, value in values.items() if value != unset}


def _weight(name: str) -> io.Float.Input:
    return io.Float.Input(
        f"weight_{name}",
        optional=True,
        default=0.0,
        min=-10.0,
        max=10.0,
        step=0.05,
        tooltip=f"How much {WEIGHTS[name]} counts; 0 leaves it out, below 0 finds what is unlike. With all at 0 "
        "a text counts by its meaning and a picture by its look.",
    )


def _threshold(name: str) -> io.Float.Input:
    return io.Float.Input(
        f"threshold_{name}",
        optional=True,
        default=NONE,
        min=NONE,
        max=1.0,
        step=0.01,
        advanced=True,
        tooltip=f"The lowest similarity in {name}, which has to count for this; -1 keeps every image.",
    )


def _pixels(image: torch.Tensor) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """An IMAGE as RGB pixels, uint8, shape (n, height, width, 3)."""
    return (image[..., :3].float().cpu().numpy() * 255).round().clip(0, 255).astype(np.uint8)


def _marked(error: FilterError) -> SearchError:
    """The same with the mark inside of the filter: below it a caret points nowhere in ComfyUI, which wraps lines."""
    before, behind = error.text[: error.position][-MARKED:], error.text[error.position :][:MARKED]
    return SearchError(
        f"The filter cannot be read at character {error.position + 1}, behind the ▶ in\n{before}▶{behind}\n"
        f"{error.mistake}"
    )


def _why_nothing(library: Library, search: Mapping[str, Any], page: int, passed: int) -> str:
    """In words why a search found nothing. Raises SearchError for a library that has nothing to find."""
    from ..toolkit_core.search import no_such_page

    if passed:
        return no_such_page(page, search["top_k"], passed)
    status = library.status()
    if status.images == 0:
        raise SearchError(
            "The library is empty. Index a folder with the Diffusion Toolkit Indexer first, for example output."
        )
    one, all_of_them = "image", f"{status.images} images"
    if filter := search["filter"].strip():
        if not library.search(filter=filter, top_k=1):
            return f"No image fulfils the filter {filter}\nTake a part of it away."
        one, all_of_them = "image that fulfils the filter", "images that fulfil the filter"
    asked = [] if search["threshold"] is None else [f"a score of {search['threshold']:g} or more"]
    asked += [f"a similarity of {value:g} or more in {name}" for name, value in search["thresholds"].items()]
    if asked:
        which = "the threshold" if len(asked) == 1 else "one of the thresholds"
        return f"No {one} has {' and '.join(asked)}. Lower {which}."
    pending = [f"{count} in {space}" for space, count in status.pending.items() if count]
    raise SearchError(
        f"None of the {all_of_them} has all the embeddings that this search weighs. Pending are "
        f"{', '.join(pending) or 'none'}: index with the models connected that make them, or set other weights."
    )


def _shown(hits: SearchResults, found: list[SearchHit], page: int) -> str:
    """What the node shows: a line for each image that it gives, how its score comes about, and how sure that is."""
    lines = []
    if hits.certainty == "budget":
        lines.append("There may be better ones: the search ended before that was ruled out.")
    if page > 1:
        lines.append(f"Page {page}: images {hits.passed + 1} to {hits.passed + len(hits)}")
    of_several = len(hits.weights) > 1
    if of_several:
        terms = " + ".join(f"{weight:.3g} {name}" for name, weight in hits.weights.items())
        lines.append(f"score = {terms.replace('+ -', '- ')}")
    for hit in found:
        score = f"{hit.score:.3f}  " if hit.scores else ""
        parts = f"  ({_by_space(hit)})" if of_several else ""
        lines.append(f"{score}{hit.id}  {Path(hit.path).name}{parts}")
    return "\n".join(lines)


def _by_space(hit: SearchHit) -> str:
    return ", ".join(f"{name} {similarity:.3f}" for name, similarity in hit.scores.items())


def _nothing(message: str) -> io.NodeOutput:
    return io.NodeOutput(
        *[ExecutionBlocker(message)] * 3, *[[ExecutionBlocker(message)]] * 5, ui=ui.PreviewText(message)
    )


def _read(hits: list[SearchHit]) -> tuple[list[SearchHit], list[Image.Image]]:
    """The hits whose files can be read, and their pictures."""
    found: list[SearchHit] = []
    pictures: list[Image.Image] = []
    for hit in hits:
        model_management.throw_exception_if_processing_interrupted()
        try:
            pictures.append(read_rgb(hit.path))
        except ImageError as error:
            logger.warning("Left out of the search: %s: %s", hit.path, error)
        else:
            found.append(hit)
    return found, pictures
