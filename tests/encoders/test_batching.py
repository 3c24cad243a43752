"""The size of a batch, on given timings and of real encoders; and what goes into one."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from toolkit_core.encoders.base import BATCHES_AHEAD, BATCHES_COMPARED
from toolkit_core.encoders.batching import BatchSize, fitting
from toolkit_core.encoders.clip import ClipTextEncoder, ClipVisionEncoder

Seconds = Callable[[int, int], float]
MinCosine = Callable[[np.ndarray, np.ndarray], float]


def limits(batch: BatchSize, seconds: Seconds, batches: int = 60) -> list[int]:
    """The limits of so many full batches. seconds: that each takes, by its number and its size."""
    given = []
    for number in range(batches):
        given.append(batch.limit(1000))
        batch.took(seconds(number, given[-1]), given[-1], given[-1])
    return given


def as_long_as_one(number: int, size: int) -> float:
    return 1.0


def as_long_as_each(number: int, size: int) -> float:
    return float(size)


def test_size_doubles_while_that_is_faster_and_no_further_than_it_may() -> None:
    batch = BatchSize(4, 20)
    given = limits(batch, as_long_as_one)
    assert (batch.size, batch.is_settled) == (16, True)
    # One comparison of each size to get warm, and five that count, each in the other order than the one before.
    assert given[:12] == [4, 8, 8, 4, 4, 8, 8, 4, 4, 8, 8, 4]
    assert given[12:24] == [8, 16, 16, 8, 8, 16, 16, 8, 8, 16, 16, 8]
    assert given[24:] == [16] * 36


def test_size_stays_where_twice_as_much_is_no_faster() -> None:
    batch = BatchSize(4, 64)
    assert limits(batch, as_long_as_each) == [4, 8, 8, 4, 4, 8] + [4] * 54
    assert batch.is_settled


def test_size_stops_where_more_is_slower() -> None:
    batch = BatchSize(4, 64)
    given = limits(batch, lambda number, size: 1.0 if size <= 16 else 1.3 * size / 16)
    assert (batch.size, batch.is_settled, max(given)) == (16, True, 32)


@pytest.mark.parametrize("slow", [0, 1], ids=["the first of all", "the first of twice as much"])
def test_first_batches_are_not_taken_for_the_pace(slow: int) -> None:
    for usual, size in ((as_long_as_each, 4), (as_long_as_one, 8)):
        batch = BatchSize(4, 8)
        limits(batch, lambda number, size, usual=usual: 100.0 if number == slow else usual(number, size))
        assert batch.size == size


@pytest.mark.parametrize("busy", range(12))
def test_one_disturbance_changes_nothing(busy: int) -> None:
    for usual, size in ((as_long_as_each, 4), (as_long_as_one, 8)):
        batch = BatchSize(4, 8)
        limits(batch, lambda number, size, usual=usual: usual(number, size) * (10 if number == busy else 1))
        assert batch.size == size


@pytest.mark.parametrize("period", range(5, 30))
def test_a_machine_that_is_slow_now_and_then_ends_at_the_same_size(period: int) -> None:
    """The size is found by comparing neighbours: neither takes what comes and goes for its own pace."""
    for usual, size in ((as_long_as_each, 4), (lambda number, size: float(size) if size > 8 else 1.0, 8)):
        batch = BatchSize(4, 64)
        limits(batch, lambda number, size, usual=usual: usual(number, size) * (3 if number // period % 2 else 1))
        assert batch.size == size


def test_noise_does_not_end_at_a_size_that_is_slower() -> None:
    """Each batch takes up to half as long again as it should, at random; twice as much is slower by a quarter."""
    for seed in range(200):
        random = np.random.default_rng(seed)
        batch = BatchSize(4, 1024)
        limits(batch, lambda number, size, random=random: random.uniform(1, 1.5) * size**1.32)
        assert batch.size == 4, seed


def test_what_would_not_be_full_is_not_tried() -> None:
    batch = BatchSize(4, 64)
    for left in (4, 7, 3):
        assert batch.limit(left) == 4
        batch.took(1.0, 4, 4)
    assert batch.limit(8) == 8


def test_where_memory_ran_out_is_a_ceiling() -> None:
    batch = BatchSize(4, 64)
    batch.took(1.0, 4, batch.limit(100))
    assert batch.limit(100) == 8
    batch.ran_out(4)
    assert limits(batch, as_long_as_one) == [4] * 60
    batch.ran_out(2)
    assert limits(batch, as_long_as_one) == [2] * 60


@pytest.mark.parametrize(
    ("lengths", "limit", "rows"),
    [
        ([], 8, 0),
        ([9], 8, 1),
        ([9, 9], 8, 1),
        ([2, 3, 3], 8, 2),
        ([2, 4, 4], 12, 3),
        ([1] * 9, 4, 4),
        ([1, 9], 8, 1),
    ],
)
def test_a_batch_holds_what_its_limit_allows_with_padding(lengths: list[int], limit: int, rows: int) -> None:
    assert fitting(lengths, limit) == rows


class _Watched(torch.nn.Module):
    """A model that notes how much it is given at once."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self.asked: list[int] = []

    @property
    def dtype(self) -> torch.dtype:
        return self.model.dtype

    def forward(self, **inputs: torch.Tensor) -> Any:
        self.asked += [len(value) for value in inputs.values()]
        return self.model(**inputs)


def test_encoder_of_pictures_settles_and_its_vectors_stay(
    tiny_weights: Path, pictures: np.ndarray, min_cosine: MinCosine
) -> None:
    encoder = ClipVisionEncoder(tiny_weights / "clip_h.safetensors", "cpu")
    alone = np.concatenate([encoder.encode(picture[None]) for picture in pictures])
    watched = encoder._model = _Watched(encoder._model)
    assert encoder.at_once == BATCHES_COMPARED * 4
    for number in count(1):
        assert number < 100, "it does not settle"
        watched.asked.clear()
        assert min_cosine(encoder.encode(np.tile(pictures, (6, 1, 1, 1))), np.tile(alone, (6, 1))) > 0.999999
        if number == 1:
            assert set(watched.asked) == {4, 8}
        elif encoder._batch.is_settled:
            break
    encoder.encode(np.tile(pictures, (8, 1, 1, 1)))
    assert len(set(watched.asked[-3:])) == 1
    assert encoder.at_once == BATCHES_AHEAD * encoder._batch.size <= BATCHES_AHEAD * 16


def test_encoder_of_texts_settles_and_its_vectors_stay(
    tiny_weights: Path, texts: tuple[str, ...], min_cosine: MinCosine
) -> None:
    encoder = ClipTextEncoder("clip_g", tiny_weights / "clip_g.safetensors", "cpu")
    alone = np.concatenate([encoder.encode([text]) for text in texts])
    for number in count(1):
        assert min_cosine(encoder.encode(texts * 20), np.tile(alone, (20, 1))) > 0.999999
        if encoder._batch.is_settled:
            break
        assert number < 100, "it does not settle"
    assert 512 <= encoder._batch.size <= 2048


def test_few_pictures_are_encoded_as_ever(tiny_weights: Path, pictures: np.ndarray) -> None:
    encoder = ClipVisionEncoder(tiny_weights / "clip_h.safetensors", "cpu")
    encoder.load()
    watched = encoder._model = _Watched(encoder._model)
    for _ in range(10):
        encoder.encode(pictures[:5])
    assert watched.asked == [4, 1] * 10
