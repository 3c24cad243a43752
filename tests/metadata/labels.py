"""What the labels of the corpus of real files mean: which fields of a reading meet them."""

from __future__ import annotations

from typing import Any

from toolkit_core.records import GenerationParameters

PLAIN_FIELDS = {
    "model": "model",
    "seed": "seed",
    "steps": "steps",
    "cfg": "cfg_scale",
    "guidance": "guidance",
    "sampler_name": "sampler",
    "scheduler": "scheduler",
    "denoise": "denoise",
}
CHECKED = ("positive_texts", "prompt", "negative_texts", "negative", "negative_kind", "loras", "tool", *PLAIN_FIELDS)


def met_fields(label: dict[str, Any], found: GenerationParameters) -> dict[str, bool]:
    """Whether each checked field of a label, or of one of its alternatives, is met."""
    readings = [label, *label.get("alternatives", ())]
    return {
        field: any(_is_met(field, reading[field], found) for reading in readings if field in reading)
        for field in CHECKED
        if field in label
    }


def normalised(text: str | None) -> str:
    """The text with each run of white space as one space."""
    return " ".join((text or "").split())


def _is_met(field: str, wanted: Any, found: GenerationParameters) -> bool:
    if field == "positive_texts":
        return normalised("\n".join(wanted)) == normalised(found.prompt)
    if field == "prompt":
        return normalised(wanted) == normalised(found.prompt)
    if field == "negative_texts":
        return normalised("\n".join(wanted)) == normalised(found.negative_prompt)
    if field == "negative":
        return normalised(wanted) == normalised(found.negative_prompt)
    if field == "negative_kind":
        kinds = {"text": bool(found.negative_prompt), "empty": found.negative_prompt == ""}
        return kinds.get(wanted, found.negative_prompt is None)
    if field == "loras":
        return [tuple(lora) for lora in wanted] == [(lora.name, lora.strength_model) for lora in found.loras]
    if field == "tool":
        return wanted == found.generator
    value = getattr(found, PLAIN_FIELDS[field])
    return value == wanted and (value is None or isinstance(value, type(wanted)) or field == "cfg")
