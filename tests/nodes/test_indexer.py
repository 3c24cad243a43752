"""The indexer node in a real ComfyUI."""

from __future__ import annotations

from typing import Any

Indexed = Any


def test_indexer_embeds_with_the_connected_models(indexed: Indexed, library: Any) -> None:
    assert indexed.job.error is None
    text = indexed.job.texts["DiffusionToolkitIndexer"]
    assert text.startswith("6 new, 0 changed, 0 moved, 0 unchanged, 0 failed"), text
    status = library.status()
    assert status.pending == {"bge": 0, "clip_h": 0, "clip_l": 0, "clip_g": 0}, text
    assert status.encoders["clip_g"].name == "clip_l, clip_g"
