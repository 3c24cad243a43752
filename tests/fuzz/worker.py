"""One process that fuzzes one target: libFuzzer's loop around instrumented code. Started by `fuzz_metadata`."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from random import Random
from typing import Any

# pyright: reportMissingImports=false, reportMissingModuleSource=false, reportAttributeAccessIssue=false
import atheris

with atheris.instrument_imports(include=["toolkit_core.metadata"]):
    import toolkit_core.metadata  # noqa: F401

from .containers import FileMutator
from .seeds import seeds_of
from .targets import MAX_BYTES, MAX_SEED_BYTES, Swallowed, as_bytes, listening, run, words
from .trees import TreeMutator

_FLUSH_SECONDS = 0.5
_HANG_SECONDS = 30


def mutate_bytes(data: bytes, max_size: int) -> bytes:
    """libFuzzer's own change. Looked up at each call: `atheris.Setup` puts another function there."""
    return atheris.Mutate(data, max_size)


class Worker:
    def __init__(
        self, target: str, folder: Path, statistics: Path, seed_folders: list[Path], swallowed: Swallowed
    ) -> None:
        self._target = target
        self._findings = folder / "findings"
        self._statistics = statistics
        self._swallowed = swallowed
        self._runs = 0
        self._slowest = (0.0, 0)
        self._flushed = 0.0
        seeds = list(seeds_of(target, seed_folders, MAX_SEED_BYTES))
        self._trees = TreeMutator(words(), [], mutate_bytes)
        self._files = FileMutator([], words(), mutate_bytes)
        if target == "file":
            self._files = FileMutator(seeds, words(), mutate_bytes)
        else:
            self._trees = TreeMutator(words(), [json.loads(seed) for seed in seeds], mutate_bytes)

    def fuzz(self, corpus: Path, seconds: int, seed: int) -> None:
        """Run until the time is up. Does not return."""
        options = {
            "max_total_time": seconds,
            "max_len": MAX_BYTES,
            "timeout": _HANG_SECONDS,
            "rss_limit_mb": 4096,
            "artifact_prefix": f"{self._findings}/{self._target}-",
            "seed": seed,
            "reload": 10,
        }
        arguments = [sys.argv[0], *(f"-{name}={value}" for name, value in options.items()), str(corpus)]
        mutators: dict[str, Any] = {"custom_mutator": self._mutate}
        if self._target != "file":
            mutators["custom_crossover"] = self._cross
        atheris.Setup(arguments, self._run, **mutators)
        atheris.Fuzz()

    def _run(self, data: bytes) -> None:
        outcome = run(self._target, data, self._swallowed)
        self._runs += 1
        self._slowest = max(self._slowest, (outcome.seconds, len(data)))
        for finding in outcome.findings:
            self._keep(finding.name, finding.details, data)
        if time.monotonic() - self._flushed > _FLUSH_SECONDS:
            self._flushed = time.monotonic()
            self._statistics.write_text(json.dumps({"runs": self._runs, "slowest": self._slowest}))

    def _keep(self, name: str, details: str, data: bytes) -> None:
        """Of several inputs that lead to the same finding, the smallest."""
        path = self._findings / f"{self._target}-{name}.input"
        if not path.exists() or path.stat().st_size > len(data):
            path.write_bytes(data)
            path.with_suffix(".txt").write_text(details, encoding="utf-8", errors="backslashreplace")

    def _mutate(self, data: bytes, max_size: int, seed: int) -> bytes:
        random = Random(seed)
        if self._target == "file":
            return self._files.mutate(data, max_size, random)
        try:
            changed = as_bytes(self._trees.mutate(json.loads(data), random))
        except (ValueError, RecursionError):
            return mutate_bytes(data, max_size)
        return changed if len(changed) <= max_size else data

    def _cross(self, data: bytes, other: bytes, max_size: int, seed: int) -> bytes:
        try:
            changed = as_bytes(self._trees.cross(json.loads(data), json.loads(other), Random(seed)))
        except (ValueError, RecursionError):
            return data[:max_size]
        return changed if len(changed) <= max_size else data[:max_size]


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    folders = [Path(one) for one in given["seed_folders"]]
    with listening() as swallowed:
        worker = Worker(given["target"], Path(given["folder"]), Path(given["statistics"]), folders, swallowed)
        worker.fuzz(Path(given["corpus"]), given["seconds"], given["seed"])
