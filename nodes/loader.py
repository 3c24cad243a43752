"""Gives an image of the library back as conditioning, embeds, prompt and size."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from comfy_api.latest import io
from comfy_execution.graph_utils import ExecutionBlocker, is_link

from ..toolkit_core import conditioning as conditionings
from ..toolkit_core.conditioning import EMBEDDING_TYPES, Conditioning
from ..toolkit_core.errors import ConditioningError, DatabaseError, ToolkitError
from .encoders import ClipConditioning, connected_encoders
from .library import library_revision, opened_library

if TYPE_CHECKING:
    from ..toolkit_core.library import Library

Embeds = io.Custom("EMBEDS")

CONDITIONING_OUTPUTS = (0, 1)
EMBEDS_OUTPUTS = (2, 3)


class DiffusionToolkitLoader(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DiffusionToolkitLoader",
            display_name="Diffusion Toolkit Loader",
            category="Diffusion Toolkit",
            description="Loads an image's stored embeddings as conditioning for a sampler and as embeds for IPAdapter. "
            "The conditioning is made by a connected CLIP, or taken from a kept one, or from the conditioning input.",
            search_aliases=["load embedding", "stored conditioning", "pooled output", "prompt of an image"],
            inputs=[
                io.Int.Input(
                    "image_id",
                    default=0,
                    min=0,
                    max=2**53 - 1,
                    tooltip="The image's id in the library, as the Search node gives it.",
                ),
                io.Combo.Input(
                    "embedding_type",
                    options=list(EMBEDDING_TYPES),
                    default="auto",
                    tooltip="Which stored vector becomes the pooled output: clip_g for SDXL, clip_l for FLUX.1, both "
                    "for SD3; auto picks what fits. image leaves it alone and adds the picture for an unCLIP model.",
                ),
                io.Clip.Input(
                    "clip", optional=True, tooltip="Encodes the stored prompts, exactly as CLIP Text Encode would."
                ),
                io.Conditioning.Input(
                    "conditioning",
                    optional=True,
                    tooltip="Copied where there is neither a CLIP nor a kept conditioning; only its pooled output is "
                    "replaced.",
                ),
            ],
            outputs=[
                io.Conditioning.Output("positive", tooltip="The conditioning of the image's prompt."),
                io.Conditioning.Output("negative", tooltip="The conditioning of its negative prompt."),
                Embeds.Output("embeds", tooltip="Its CLIP-H embedding, for IPAdapter Embeds with a base ViT-H model."),
                Embeds.Output("negative_embeds", tooltip="Zeros, the negative that those models are used with."),
                io.String.Output("prompt", tooltip="The image's prompt."),
                io.String.Output("negative_prompt", tooltip="Its negative prompt."),
                io.Int.Output("width", tooltip="Its width in pixels."),
                io.Int.Output("height", tooltip="Its height in pixels."),
            ],
            hidden=[io.Hidden.dynprompt, io.Hidden.unique_id],
        )

    @classmethod
    def fingerprint_inputs(cls, **inputs: Any) -> str:
        return library_revision()

    @classmethod
    def execute(
        cls, image_id: int, embedding_type: str, clip: Any = None, conditioning: Conditioning | None = None
    ) -> io.NodeOutput:
        linked = _linked_outputs(cls.hidden.dynprompt, cls.hidden.unique_id)
        with opened_library() as library:
            image = library.image(image_id)
            pair = _or_blocked(
                linked.isdisjoint(CONDITIONING_OUTPUTS),
                lambda: library.conditioning(
                    image_id,
                    embedding_type,
                    clip=None if clip is None else ClipConditioning(clip),
                    conditioning=conditioning,
                    encoders=connected_encoders(clip),
                ),
            )
            embeds = _or_blocked(linked.isdisjoint(EMBEDS_OUTPUTS), lambda: _embeds(library, image_id))
        made = image.parameters
        return io.NodeOutput(
            *pair, *embeds, made.prompt or "", made.negative_prompt or "", image.width or 0, image.height or 0
        )


def _embeds(library: Library, image_id: int) -> tuple[Any, Any]:
    vectors = library.image_vectors([image_id])
    if image_id not in vectors:
        raise ConditioningError(
            f"The clip_h vector of image {image_id} is pending. Index its folder with CLIP ViT-H connected."
        )
    return conditionings.embeds([vectors[image_id]])


def _or_blocked(unused: bool, make: Callable[[], tuple[Any, Any]]) -> tuple[Any, Any]:
    """Two outputs. Where they can't be made and nothing is linked to them, that must not stop the other outputs."""
    try:
        return make()
    except DatabaseError:
        raise
    except ToolkitError as error:
        if not unused:
            raise
        return ExecutionBlocker(str(error)), ExecutionBlocker(str(error))


def _linked_outputs(dynprompt: Any, unique_id: str) -> set[int]:
    """Which of this node's outputs another node of the graph takes."""
    linked: set[int] = set()
    for id in dynprompt.all_node_ids():
        for value in dynprompt.get_node(id)["inputs"].values():
            if is_link(value) and value[0] == unique_id:
                linked.add(value[1])
    return linked
