"""NovelAI's texts: the prompt in `Description`, the model in `Source`, all else as JSON in `Comment`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..records import GenerationParameters, MetadataReading
from .values import MAX_SEED, MAX_STEPS, as_integer, as_name, as_number, as_text, objects_in

if TYPE_CHECKING:
    from .carriers import Keywords


def read_novelai(texts: Keywords) -> MetadataReading | None:
    """What NovelAI's JSON says, of all versions. None where it is not NovelAI's."""
    comment = texts.json("Comment")
    if not isinstance(comment, dict) or not is_novelai(comment):
        return None
    described = as_text(texts.get("Description")) or as_text(comment.get("prompt")) or ""
    captions = _captions(comment.get("v4_prompt"))
    avoided = _captions(comment.get("v4_negative_prompt"))
    strength = None if comment.get("request_type") == "PromptGenerateRequest" else comment.get("strength")
    parameters = GenerationParameters(
        generator="NovelAI",
        prompt=(captions or described).strip(),
        negative_prompt=avoided or as_text(comment.get("uc")),
        model=as_name(texts.get("Source")),
        sampler=as_name(comment.get("sampler")),
        scheduler=as_name(comment.get("noise_schedule")),
        steps=as_integer(comment.get("steps"), MAX_STEPS),
        cfg_scale=as_number(comment.get("scale")),
        seed=as_integer(comment.get("seed"), MAX_SEED),
        denoise=as_number(strength),
    )
    return MetadataReading(parameters, f"NovelAI's JSON in {texts.where('Comment')}")


def is_novelai(comment: Mapping[str, Any]) -> bool:
    """Whether a JSON object is NovelAI's comment. Draw Things' has an "uc" and a "scale", too, and a "c"."""
    own = {"sampler", "scale"} <= comment.keys() and "c" not in comment
    return own and ("uc" in comment or "v4_prompt" in comment)


def _captions(prompt: Any) -> str:
    """The base caption and those of the characters, since version 4, joined by newlines."""
    caption = prompt.get("caption") if isinstance(prompt, dict) else None
    if not isinstance(caption, dict):
        return ""
    characters = [as_text(character.get("char_caption")) for character in objects_in(caption.get("char_captions"))]
    texts = [as_text(caption.get("base_caption")), *characters]
    return "\n".join(dict.fromkeys(text for text in texts if text and text.strip()))
