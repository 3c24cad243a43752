"""Conditionings as bytes, pooled vectors in them, and what is kept of them in a library."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from toolkit_core import conditioning as c
from toolkit_core.errors import ConditioningError
from toolkit_core.library import Library


def made(width: int | None, tokens: int = 77, channels: int = 32, batch: int = 1) -> c.Conditioning:
    pooled = {} if width is None else {"pooled_output": torch.randn(batch, width)}
    return [[torch.randn(batch, tokens, channels), pooled]]


class WidthsOnly:
    """Makes a conditioning out of a text's length: an encoder of its own kind, as a connected CLIP is one."""

    spaces: tuple[str, ...] = ()

    def __init__(self, name: str, width: int) -> None:
        self.name = name
        self.width = width

    def encode(self, text: str) -> c.Conditioning:
        generator = torch.Generator().manual_seed(len(text) + self.width)
        return [
            [
                torch.randn(1, 77, 8, generator=generator).to(torch.bfloat16),
                {"pooled_output": torch.randn(1, self.width, generator=generator)},
            ]
        ]

    def probe(self) -> Any:
        return c.conditioning_probe(self.encode)


def same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return type(a) is type(b) and a == b


def test_bytes_give_every_tensor_back_bit_for_bit() -> None:
    shared = torch.randn(1, 12, 8)
    conditioning = [
        [shared.half(), {"pooled_output": torch.tensor([[float("nan"), -0.0]]).bfloat16(), "guidance": 3.5}],
        [
            shared[:, ::2],  # not contiguous, and shares memory with the next
            {"mask": shared, "nested": {"list": [1, None, True, "x", torch.arange(3)]}, "pooled_output": None},
        ],
    ]
    back = c.from_bytes(c.to_bytes(conditioning))
    nan = back[0][1]["pooled_output"]
    assert nan.view(torch.int16).tolist() == conditioning[0][1]["pooled_output"].view(torch.int16).tolist()
    conditioning[0][1]["pooled_output"] = back[0][1]["pooled_output"] = None
    assert same(back, conditioning)


def test_what_cannot_be_kept_is_named() -> None:
    with pytest.raises(ConditioningError, match="puts a set into its conditioning"):
        c.to_bytes([[torch.zeros(1), {"hooks": {1, 2}}]])


def test_damaged_bytes_are_an_error() -> None:
    data = c.to_bytes(made(768))
    with pytest.raises(ConditioningError, match="damaged"):
        c.from_bytes(data[: len(data) // 2])


@pytest.mark.parametrize(
    ("width", "embedding_type", "spaces"),
    [
        (768, "auto", ("clip_l",)),
        (1280, "auto", ("clip_g",)),
        (2048, "auto", ("clip_l", "clip_g")),
        (1024, "auto", ()),
        (None, "auto", ()),
        (768, "clip_l", ("clip_l",)),
        (1280, "clip_g", ("clip_g",)),
        (1280, "image", ()),
    ],
)
def test_pooled_output_is_replaced_in_every_entry(
    width: int | None, embedding_type: str, spaces: tuple[str, ...]
) -> None:
    conditioning = [*made(width), *made(width, batch=2)]
    stored = {space: np.random.default_rng(1).normal(size=w).astype(np.float32) for space, w in SPACE_WIDTHS.items()}
    assert c.needed_spaces(conditioning, embedding_type) == spaces
    result = c.with_pooled(conditioning, embedding_type, stored)
    for (tensor, values), (before, values_before) in zip(result, conditioning, strict=True):
        assert tensor is before
        if not spaces:
            assert same(values, values_before)
            continue
        assert values["pooled_output"].shape == values_before["pooled_output"].shape
        joined = np.concatenate([stored[space] for space in spaces])
        assert np.array_equal(values["pooled_output"].numpy(), np.stack([joined] * len(tensor)))
        assert not torch.equal(values_before["pooled_output"], values["pooled_output"])


SPACE_WIDTHS = {"clip_l": 768, "clip_g": 1280}


@pytest.mark.parametrize(
    ("width", "embedding_type", "words"),
    [
        (1280, "clip_l", "clip_l is 768 wide .*1280 wide .SDXL.: clip_g fits"),
        (768, "clip_g", "clip_g is 1280 wide .*768 wide .FLUX.1 and SD1.: clip_l fits"),
        (2048, "clip_g", "clip_l and clip_g fits. Choose auto"),
        (None, "clip_g", "has no pooled output"),
        (1280, "bge", "'bge' is no embedding type"),
    ],
)
def test_vector_that_does_not_fit_is_refused(width: int | None, embedding_type: str, words: str) -> None:
    with pytest.raises(ConditioningError, match=words):
        c.needed_spaces(made(width), embedding_type)


def test_kept_conditionings_of_two_model_families(library: Library, make_picture: Callable[..., Path]) -> None:
    path = make_picture("a.png", "a fox", "blurry")
    outside = make_picture("other/b.png", "not in the folder")
    sdxl, flux = WidthsOnly("sdxl", 1280), WidthsOnly("flux", 768)
    assert library.index([path], keep=sdxl).kept_conditionings == 2
    assert library.index([path], keep=sdxl).kept_conditionings == 0
    assert library.index([path], keep=WidthsOnly("sdxl again", 1280)).kept_conditionings == 0
    assert library.index([path], keep=flux).kept_conditionings == 2
    for embedding_type, encoder in (("clip_g", sdxl), ("clip_l", flux), ("auto", flux)):
        for result, text in zip(library.conditioning(1, embedding_type), ("a fox", "blurry"), strict=True):
            assert same(result[0][0], encoder.encode(text)[0][0])
    stored = library.embeddings(1)
    positive, _ = library.conditioning(1, "clip_g")
    assert np.array_equal(positive[0][1]["pooled_output"][0].numpy(), stored["clip_g"])
    library.index([outside])
    with pytest.raises(
        ConditioningError, match=r"Connect a CLIP; or .*keep_conditioning on; or connect a conditioning"
    ):
        library.conditioning(2)


def test_revision_changes_with_the_library_and_only_then(library: Library, make_picture: Callable[..., Path]) -> None:
    path = make_picture("a.png", "a fox")
    seen = [library.revision()]

    def changed() -> bool:
        seen.append(library.revision())
        return seen[-1] != seen[-2]

    library.index([path.parent])
    assert changed()
    library.index([path.parent])
    assert not changed()
    path.rename(path.with_name("b.png"))
    library.index([path.parent])
    assert changed()
    path.with_name("c.png").symlink_to("nowhere")
    library.index([path.parent])
    changed()
    library.index([path.parent])
    assert not changed()
    library.index([path.parent], reindex=True)
    assert changed()


def test_reindex_reads_again_and_keeps_what_a_person_set(library: Library, make_picture: Callable[..., Path]) -> None:
    path = make_picture("a.png", "a fox")
    make_picture("deep/b.png", "a badger")
    assert library.index([path.parent], recursive=False).new == 1
    with library.database.transaction() as connection:
        connection.execute("UPDATE image_file SET rating = 9, model = 'read wrongly by an older version'")
    report = library.index([path.parent], recursive=False, reindex=True)
    assert (report.changed, report.unchanged, report.embedded["clip_h"]) == (1, 0, 1)
    record = library.image(1)
    assert (record.rating, record.parameters.model) == (9, "test")
    assert "clip_h" in record.embeddings
