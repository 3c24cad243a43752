"""What one input of the fuzzer is, and what has to hold when it is read."""

from __future__ import annotations

import ast
import hashlib
import json
import logging
import resource
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import toolkit_core.metadata
from tests.metadata.checks import check_types
from toolkit_core.metadata import read_parameters, read_texts
from toolkit_core.records import GenerationParameters, MetadataReading, MetadataText, to_json

TARGETS = ("file", "graph", "workflow", "parameters", "generators")
"""`file` reads whole files; the others read texts, and differ in their seeds."""

MAX_SECONDS = 1.0
"""Processor time for one input of at most `MAX_BYTES`, with instrumented code."""

MAX_BYTES = 2**18
MAX_SEED_BYTES = 2**15
"""Larger seeds would only be slower: what they lead to, smaller ones do as well."""

MAX_GROWTH = 512 * 2**20
"""Bytes by which one input may raise the process's peak. Packed texts alone may take 16 MiB, and several copies."""

_FIELDS = {field.name for field in fields(GenerationParameters)}
_ROOM = Path(toolkit_core.metadata.__file__).parent
_PEAK_UNIT = 1 if sys.platform == "darwin" else 1024


@dataclass(frozen=True)
class Finding:
    """Something that must not happen: of which kind, where (the same place is the same finding), and in full."""

    kind: str
    place: str
    details: str

    @property
    def name(self) -> str:
        return f"{self.kind}-{hashlib.sha256(self.place.encode()).hexdigest()[:8]}"


@dataclass(frozen=True)
class Outcome:
    """What reading one input came to. `reading` is None where it could not be read, or where it is no input."""

    reading: MetadataReading | None
    seconds: float
    findings: tuple[Finding, ...]


class Swallowed(logging.Handler):
    """Keeps the exceptions that the reader logs and goes on from."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.errors: list[BaseException] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.exc_info[1]:
            self.errors.append(record.exc_info[1])


@contextmanager
def listening() -> Iterator[Swallowed]:
    """Hear of every exception that is caught inside the room."""
    handler = Swallowed()
    log = logging.getLogger("toolkit_core.metadata")
    level, propagates = log.level, log.propagate
    log.addHandler(handler)
    log.setLevel(logging.DEBUG)
    log.propagate = False
    try:
        yield handler
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
        log.propagate = propagates


def run(target: str, data: bytes, swallowed: Swallowed) -> Outcome:
    """Read one input, twice, and check all that has to hold."""
    texts = None if target == "file" else texts_of(data)
    if target != "file" and texts is None:
        return Outcome(None, 0.0, ())
    swallowed.errors.clear()
    peak = _peak()
    started = time.process_time()
    try:
        reading = _read(data, texts)
        seconds = time.process_time() - started
        findings = list(_checked(reading, _read(data, texts)))
    except Exception as error:
        return Outcome(None, time.process_time() - started, (_from_error("exception", error),))
    findings += [_from_error("swallowed", error) for error in swallowed.errors if not _is_of_pillow(error)]
    kind = f"{target}, {reading.found_by}"
    if seconds > MAX_SECONDS:
        findings.append(Finding("slow", kind, f"{seconds:.1f} s for {len(data)} bytes, {kind}"))
    growth = _peak() - peak
    if growth > MAX_GROWTH:
        findings.append(Finding("memory", kind, f"{growth / 2**20:.0f} MiB for {len(data)} bytes, {kind}"))
    return Outcome(reading, seconds, tuple(findings))


def texts_of(data: bytes) -> list[MetadataText] | None:
    """The texts that a JSON tree stands for; None where it is none."""
    try:
        tree = json.loads(data)
        if not isinstance(tree, list):
            return None
        return [
            MetadataText(entry[0], entry[1], entry[2] if isinstance(entry[2], str) else json.dumps(entry[2]))
            for entry in tree
            if isinstance(entry, list) and len(entry) == 3 and isinstance(entry[0], str) and isinstance(entry[1], str)
        ]
    except (ValueError, RecursionError):
        return None


def words() -> list[str]:
    """Every short text in the room's own code: names of nodes, sockets, keywords, tags."""
    found: dict[str, None] = {}
    for path in sorted(_ROOM.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and 0 < len(node.value) <= 48:
                found[node.value] = None
    return list(found)


def _read(data: bytes, texts: Sequence[MetadataText] | None) -> MetadataReading:
    if texts is None:
        texts = read_texts(data)
        assert type(texts) is tuple
        for text in texts:
            assert type(text) is MetadataText
            assert all(type(value) is str for value in (text.source, text.name, text.text)), f"{text}"
    return read_parameters(texts)


def _checked(reading: MetadataReading, again: MetadataReading) -> Iterator[Finding]:
    try:
        check_types(reading.parameters)
        assert reading.found_by is None or type(reading.found_by) is str
        assert set(reading.rules) <= _FIELDS, f"rules of {set(reading.rules) - _FIELDS}"
        assert all(type(rule) is str for rule in reading.rules.values())
        json.dumps(to_json(reading.parameters), allow_nan=False)
    except Exception as error:
        yield _from_error("wrong", error)
    if reading != again:
        yield Finding("unstable", f"{reading.found_by}", f"{reading}\n{again}")


def _from_error(kind: str, error: BaseException) -> Finding:
    frames = traceback.extract_tb(error.__traceback__)
    frame = next((frame for frame in reversed(frames) if "toolkit_core" in frame.filename), frames[-1])
    place = f"{type(error).__name__} at {Path(frame.filename).name}, {frame.name}: {frame.line}"
    return Finding(kind, place, place + "\n" + "".join(traceback.format_exception(error)))


def _is_of_pillow(error: BaseException) -> bool:
    """Whether Pillow raised it, which is how it refuses a damaged picture."""
    frames = traceback.extract_tb(error.__traceback__)
    return Path(frames[-1].filename).parent.name == "PIL" and not isinstance(error, MemoryError)


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _PEAK_UNIT


def as_bytes(tree: Any) -> bytes:
    return json.dumps(tree).encode()
