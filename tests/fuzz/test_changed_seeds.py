"""A few seeded rounds of what the fuzzer does for hours: its seeds, changed, and everything that has to hold."""

from __future__ import annotations

import json
from random import Random

import pytest

pytest.importorskip("resource", reason="peak memory is read as POSIX systems tell it")

from .containers import FileMutator
from .seeds import seeds_of
from .targets import MAX_BYTES, TARGETS, as_bytes, listening, run, words
from .trees import TreeMutator

ROUNDS = 20
_OF_THIS_MACHINE = {"slow", "memory"}


def flip_bits(data: bytes, max_size: int) -> bytes:
    """A plain change to bytes, in place of libFuzzer's."""
    random = Random(data)
    changed = bytearray(data)
    for _ in range(random.choice((1, 2, 8)) if changed else 0):
        changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
    return bytes(changed)[:max_size]


@pytest.mark.parametrize("target", TARGETS)
def test_changed_metadata_is_read_without_an_error(target: str) -> None:
    seeds = list(seeds_of(target, [], MAX_BYTES))
    trees = [json.loads(seed) for seed in seeds] if target != "file" else []
    of_trees = TreeMutator(words(), trees, flip_bits)
    of_files = FileMutator(seeds if target == "file" else [], words(), flip_bits)
    wrong: dict[str, str] = {}
    read = 0
    with listening() as swallowed:
        for number in range(ROUNDS):
            for at, seed in enumerate(seeds):
                random = Random(f"{target} {number} {at}")
                if number == 0:
                    data = seed
                elif target == "file":
                    data = of_files.mutate(seed, MAX_BYTES, random)
                else:
                    data = as_bytes(of_trees.mutate(json.loads(seed), random))
                outcome = run(target, data, swallowed)
                read += outcome.reading is not None
                wrong.update({one.name: one.details for one in outcome.findings if one.kind not in _OF_THIS_MACHINE})
    assert not wrong, "\n".join(wrong.values())
    assert read > len(seeds)
