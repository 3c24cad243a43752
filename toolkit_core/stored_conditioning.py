"""An image's positive and negative conditioning, from what is stored of it and what is connected."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .conditioning import (
    POOLED_WIDTHS,
    Conditioning,
    ConditioningEncoder,
    copy,
    from_bytes,
    needed_spaces,
    with_image,
    with_pooled,
)
from .database import Database, conditionings, images, vectors
from .errors import ConditioningError
from .records import ImageRecord
from .space_encoders import SpaceEncoders
from .spaces import SPACES

TEXT_SPACES = ("clip_l", "clip_g")


def load(
    database: Database,
    encoders: SpaceEncoders,
    image: ImageRecord,
    embedding_type: str,
    clip: ConditioningEncoder | None,
    conditioning: Conditioning | None,
) -> tuple[Conditioning, Conditioning]:
    """The positive and negative conditioning of an image. See `Library.conditioning`."""
    with database.transaction() as connection:
        prompt_id, negative_id = images.prompt_ids(connection, image.id)
        prompts = [id for id in (prompt_id, negative_id) if id is not None]
        kept = conditionings.read(connection, prompts) if clip is None and len(prompts) == 2 else []
        stored = {space: vectors.read_of(connection, SPACES[space], prompts) for space in TEXT_SPACES}
        picture = vectors.read_of(connection, SPACES["clip_h"], [image.id]).get(image.id)
    positive, negative = _made(image, embedding_type, prompts, clip, kept, conditioning)
    if embedding_type == "image":
        if picture is None:
            raise ConditioningError(
                f"The clip_h vector of image {image.id} is pending. Index its folder with CLIP ViT-H connected."
            )
        return with_image(positive, picture), copy(negative)
    results = []
    for made, prompt, what in ((positive, prompt_id, "prompt"), (negative, negative_id, "negative prompt")):
        own: dict[str, NDArray[np.float32]] = {}
        for space in needed_spaces(made, embedding_type):
            if prompt is None:
                raise ConditioningError(
                    f"Image {image.id} has no {what}, so no {space} vector. Choose image as the embedding type."
                )
            if prompt not in stored[space]:
                raise ConditioningError(
                    f"The {space} vector of the {what} of image {image.id} is pending. Index its folder with a CLIP "
                    f"connected that has {space}."
                )
            if clip is not None and space in clip.spaces:
                encoders.text(space)
            own[space] = stored[space][prompt]
        results.append(with_pooled(made, embedding_type, own))
    return results[0], results[1]


def _made(
    image: ImageRecord,
    embedding_type: str,
    prompts: list[int],
    clip: ConditioningEncoder | None,
    kept: list[dict[int, bytes]],
    conditioning: Conditioning | None,
) -> tuple[Conditioning, Conditioning]:
    prompt, negative = image.parameters.prompt, image.parameters.negative_prompt
    if clip is not None and prompt is not None:
        return clip.encode(prompt), clip.encode(negative or "")
    if kept:
        candidates = [(from_bytes(k[prompts[0]]), from_bytes(k[prompts[1]])) for k in kept]
        return next((pair for pair in candidates if _fits(pair[0], embedding_type)), candidates[0])
    if conditioning is not None:
        return copy(conditioning), copy(conditioning)
    if prompt is None:
        raise ConditioningError(
            f"Image {image.id} has no prompt to make a conditioning of. Connect a conditioning and choose image as "
            "the embedding type, or use its EMBEDS."
        )
    raise ConditioningError(
        f"Nothing is there to make the conditioning of image {image.id} with. Connect a CLIP; or index its folder "
        "once with a CLIP and keep_conditioning on; or connect a conditioning to take the rest from."
    )


def _fits(conditioning: Conditioning, embedding_type: str) -> bool:
    pooled = conditioning[0][1].get("pooled_output")
    spaces = POOLED_WIDTHS.get(0 if pooled is None else pooled.shape[-1])
    return embedding_type in ("auto", "image") or spaces == (embedding_type,)
