"""Inputs read again without instrumentation: findings one by one, or a whole corpus for its coverage."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

# pyright: reportMissingImports=false
import coverage

from .trees import places_of


def replay(target: str, data: bytes) -> Any:
    """The outcome of one input; see `targets.run`."""
    from .targets import listening, run

    with listening() as swallowed:
        return run(target, data, swallowed)


def minimize(target: str, data: bytes) -> bytes:
    """A smaller tree with the same first finding: what can be taken out is taken out, one place after another."""
    from .targets import as_bytes

    wanted = replay(target, data).findings[0].name
    smaller = True
    while smaller:
        smaller = False
        number = 0
        while True:
            tree = json.loads(data)
            places = list(places_of(tree))
            if number >= len(places):
                break
            holder, key = places[number]
            del holder[key]
            if any(finding.name == wanted for finding in replay(target, as_bytes(tree)).findings):
                data, smaller = as_bytes(tree), True
            else:
                number += 1
    return data


def measure(corpora: dict[str, Path]) -> dict[str, Any]:
    """Lines and branches of the room that these corpora reach, and a digest of every reading."""
    measured = coverage.Coverage(source=["toolkit_core.metadata"], branch=True, data_file=None)
    measured.start()
    from .targets import listening, run

    digests: dict[str, str] = {}
    with listening() as swallowed:
        for target, corpus in corpora.items():
            for path in sorted(corpus.iterdir()):
                reading = run(target, path.read_bytes(), swallowed).reading
                shown = repr(reading).encode(errors="backslashreplace")
                digests[f"{target}/{path.name}"] = hashlib.sha256(shown).hexdigest()
    measured.stop()
    missing: dict[str, list[int]] = {}
    lines = 0
    for file in measured.get_data().measured_files():
        _, statements, _, missed, _ = measured.analysis2(file)
        lines += len(statements)
        missing[Path(file).name] = missed
    return {"lines": lines, "missing": missing, "digests": digests}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(measure({target: Path(one) for target, one in json.loads(sys.argv[1]).items()})))
