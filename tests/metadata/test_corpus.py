"""Every label of the corpus of real files, field by field."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from toolkit_core.metadata import read_generation_parameters
from toolkit_core.records import GenerationParameters

CORPUS = (Path(__file__).resolve().parents[2] / "../shared/corpus").resolve()
LABELS = CORPUS / "labels.json"

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


def normalised(text: str | None) -> str:
    return " ".join((text or "").split())


def is_right(field: str, label: dict[str, Any], found: GenerationParameters) -> bool:
    """Whether one field of one label, or of one of its alternatives, is met."""
    if field == "positive_texts":
        return normalised("\n".join(label[field])) == normalised(found.prompt)
    if field == "prompt":
        return normalised(label[field]) == normalised(found.prompt)
    if field == "negative_texts":
        return normalised("\n".join(label[field])) == normalised(found.negative_prompt)
    if field == "negative":
        return normalised(label[field]) == normalised(found.negative_prompt)
    if field == "negative_kind":
        kinds = {"text": bool(found.negative_prompt), "empty": found.negative_prompt == ""}
        return kinds.get(label[field], found.negative_prompt is None)
    if field == "loras":
        return [tuple(lora) for lora in label[field]] == [(lora.name, lora.strength_model) for lora in found.loras]
    if field == "tool":
        return label[field] == found.generator
    value = getattr(found, PLAIN_FIELDS[field])
    return value == label[field] and (value is None or isinstance(value, type(label[field])) or field == "cfg")


CHECKED = ("positive_texts", "prompt", "negative_texts", "negative", "negative_kind", "loras", "tool", *PLAIN_FIELDS)


@pytest.mark.skipif(not LABELS.is_file(), reason=f"the labelled corpus is not at {LABELS}")
def test_every_label_of_the_corpus_is_met() -> None:
    misses: list[str] = []
    right: Counter[str] = Counter()
    for name, label in json.loads(LABELS.read_text(encoding="utf-8")).items():
        found = read_generation_parameters((CORPUS / name).read_bytes())
        if label.get("no_generation_metadata"):
            if found != GenerationParameters():
                misses.append(f"{name}: nothing may be read, found {found}")
            continue
        readings = [label, *label.get("alternatives", ())]
        for field in CHECKED:
            if field not in label:
                continue
            if any(is_right(field, reading, found) for reading in readings if field in reading):
                right[field] += 1
            else:
                misses.append(f"{name}: {field} should be {label[field]!r}, found {found}")
    assert not misses, f"right: {dict(right)}\n" + "\n".join(misses)
