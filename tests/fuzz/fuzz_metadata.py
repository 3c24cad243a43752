"""Coverage-guided fuzzing of the metadata readers.

    python -m tests.fuzz.fuzz_metadata --seconds 600 [--target graph …] [--jobs 2] [--seeds FOLDER …]
    python -m tests.fuzz.fuzz_metadata --replay FILE … [--minimize]

Run in the repository's folder, in an environment that has the tests' requirements and `pip install atheris coverage`.
atheris has wheels for Linux and macOS and for Python 3.11 to 3.13 only, so it is in no list of requirements; pytest
does not collect this folder.

Targets: `file` (bytes of a picture of any kind), and texts as they come out of one: `graph` (ComfyUI's API format),
`workflow` (its UI format), `parameters` (AUTOMATIC1111's text), `generators` (everybody else's). Without `--target`,
all of them in turn, each for `--seconds`. Seeds are built in code; `--seeds` adds the real pictures and JSON files of a
folder.

Each input has to be read without an exception, also none that the room catches itself, with exact types, with the same
result twice and, afterwards, under two hash seeds, as plain JSON, in bounded time and memory. What is not so is kept as
`FOLDER/findings/TARGET-KIND-….input`, the smallest input of each place, with a text that says what happened.
The corpus of inputs that reached something new is kept in FOLDER, and the next run starts from there.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich import box
from rich.console import Console
from rich.table import Table

REPOSITORY = Path(__file__).resolve().parents[2]
TARGETS = ("file", "graph", "workflow", "parameters", "generators")  # as in `targets`, which imports the room
_EDGES = re.compile(r"cov: (\d+) ft: (\d+)")
_GRACE_SECONDS = 90

console = Console(width=140)


class Job(NamedTuple):
    """One worker process, where it counts its runs, and what it said."""

    process: subprocess.Popen[bytes]
    statistics: Path
    log: Path


def fuzz(target: str, folder: Path, seconds: int, jobs: int, seed_folders: list[Path]) -> dict[str, Any]:
    """Fuzz one target and say what came of it. A worker that a hang or the memory limit ended is started again."""
    corpus = folder / target
    corpus.mkdir(parents=True, exist_ok=True)
    (folder / "findings").mkdir(exist_ok=True)
    _write_seeds(target, corpus, seed_folders)
    deadline = time.monotonic() + seconds
    started: list[Job] = []
    running: list[Job] = []
    while time.monotonic() < deadline + _GRACE_SECONDS:
        running = [job for job in running if job.process.poll() is None]
        left = int(deadline - time.monotonic())
        while left > 0 and len(running) < jobs:
            job = _start(target, folder, corpus, left, len(started), seed_folders)
            started.append(job)
            running.append(job)
        if left <= 0 and not running:
            break
        time.sleep(0.5)
    for job in running:
        job.process.kill()
    counts = [json.loads(job.statistics.read_text()) for job in started if job.statistics.exists()]
    reached = [_EDGES.findall(job.log.read_text(errors="replace")) for job in started]
    runs = sum(count["runs"] for count in counts)
    slowest = max((count["slowest"] for count in counts), default=[0.0, 0])
    return {
        "target": target,
        "runs": runs,
        "runs a second": f"{runs / seconds:.0f}",
        "edges": max((int(found[-1][0]) for found in reached if found), default=0),
        "features": max((int(found[-1][1]) for found in reached if found), default=0),
        "inputs kept": sum(1 for _ in corpus.iterdir()),
        "slowest": f"{slowest[0]:.2f} s, {slowest[1]} bytes",
        "workers ended early": len(started) - jobs,
    }


def _start(target: str, folder: Path, corpus: Path, seconds: int, number: int, seed_folders: list[Path]) -> Job:
    base = folder / f"{target}-{os.getpid()}-{number}"
    statistics, log = base.with_suffix(".json"), base.with_suffix(".log")
    given = {
        "target": target,
        "folder": str(folder),
        "corpus": str(corpus),
        "statistics": str(statistics),
        "seconds": seconds,
        "seed": int(time.time()) % 10**6 * 100 + number + 1,
        "seed_folders": [str(one) for one in seed_folders],
    }
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.fuzz.worker", json.dumps(given)],
            cwd=REPOSITORY,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    return Job(process, statistics, log)


def _write_seeds(target: str, corpus: Path, seed_folders: list[Path]) -> None:
    from .seeds import seeds_of
    from .targets import MAX_SEED_BYTES

    for number, seed in enumerate(seeds_of(target, seed_folders, MAX_SEED_BYTES)):
        (corpus / f"seed-{number:03}").write_bytes(seed)


def report_coverage(folder: Path, targets: Sequence[str]) -> None:
    """Print which lines the kept inputs reach together, and what reads otherwise under another hash seed."""
    corpora = json.dumps({target: str(folder / target) for target in targets})
    readings: list[dict[str, Any]] = []
    for hash_seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-m", "tests.fuzz.replay", corpora],
            cwd=REPOSITORY,
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            stdout=subprocess.PIPE,
            check=True,
        )
        readings.append(json.loads(done.stdout))
    first, second = readings
    missed = {name: lines for name, lines in sorted(first["missing"].items()) if lines}
    reached = first["lines"] - sum(len(lines) for lines in missed.values())
    console.print(f"Lines of toolkit_core/metadata reached: {reached} of {first['lines']}.")
    for name, lines in missed.items():
        console.print(f"  not reached in {name}: {', '.join(map(str, lines))}")
    unstable = [name for name, digest in first["digests"].items() if second["digests"][name] != digest]
    console.print(f"Read otherwise under another hash seed: {', '.join(unstable) or 'none'}.")


def replay_files(paths: list[Path], target: str | None, *, smaller: bool) -> bool:
    """Read inputs again and say what is wrong with them. Returns whether anything is."""
    from .replay import minimize, replay

    is_wrong = False
    for path in paths:
        its_target = target or path.name.split("-", 1)[0]
        data = path.read_bytes()
        outcome = replay(its_target, data)
        console.print(f"[bold]{path}[/] ({len(data)} bytes, {outcome.seconds:.2f} s)", highlight=False)
        for finding in outcome.findings:
            is_wrong = True
            console.print(f"{finding.kind}: {finding.details}", markup=False, highlight=False)
        if smaller and outcome.findings and its_target != "file":
            console.print(minimize(its_target, data).decode(), markup=False, highlight=False, soft_wrap=True)
    return is_wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--target", action="append", choices=TARGETS)
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--jobs", type=int, default=1, help="processes at a time")
    parser.add_argument(
        "--seeds", action="append", type=Path, default=[], help="a folder of real pictures or JSON files"
    )
    parser.add_argument("--folder", type=Path, default=REPOSITORY / "build" / "fuzz", help="where inputs are kept")
    parser.add_argument("--replay", nargs="+", type=Path, metavar="FILE")
    parser.add_argument("--minimize", action="store_true", help="of replayed texts, print the smallest that still fail")
    given = parser.parse_args()
    if given.replay:
        return int(replay_files(given.replay, given.target[0] if given.target else None, smaller=given.minimize))
    folder = given.folder.resolve()
    targets = given.target or list(TARGETS)
    seed_folders = [one.resolve() for one in given.seeds]
    before = {path.name for path in (folder / "findings").glob("*")}
    rows = [fuzz(target, folder, given.seconds, given.jobs, seed_folders) for target in targets]
    table = Table(*rows[0], box=box.MARKDOWN)
    for row in rows:
        table.add_row(*map(str, row.values()))
    console.print(table)
    report_coverage(folder, targets)
    findings = [path for path in sorted((folder / "findings").glob("*")) if path.suffix != ".txt"]
    new = sum(path.name not in before for path in findings)
    console.print(f"Findings: {len(findings)}, of which {new} new.")
    for path in findings:
        console.print(f"  {path}", highlight=False, soft_wrap=True)
    return int(bool(findings))


if __name__ == "__main__":
    sys.exit(main())
