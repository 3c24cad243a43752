"""Every label of the corpus of real files, field by field."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from toolkit_core.metadata import read_generation_parameters
from toolkit_core.records import GenerationParameters

from .labels import met_fields

CORPUS = (Path(__file__).resolve().parents[2] / "../shared/corpus").resolve()
LABELS = CORPUS / "labels.json"


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
        for field, is_met in met_fields(label, found).items():
            if is_met:
                right[field] += 1
            else:
                misses.append(f"{name}: {field} should be {label[field]!r}, found {found}")
    assert not misses, f"right: {dict(right)}\n" + "\n".join(misses)
