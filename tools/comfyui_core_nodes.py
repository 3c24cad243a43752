"""Makes the table of ComfyUI's own nodes anew, from a running ComfyUI without custom nodes.

Start ComfyUI of the wanted version:   python main.py --cpu --disable-all-custom-nodes
Then, from this repository:            python tools/comfyui_core_nodes.py http://127.0.0.1:8188

The table holds the names and types of sockets, and nothing else of what `/object_info` says.
"""

from __future__ import annotations

import json
import logging
import sys
import urllib.request
from pathlib import Path
from typing import Any

from toolkit_core.metadata.comfyui.types import CORE_NODES, Input, definitions_of

TABLE = Path(__file__).resolve().parents[1] / "toolkit_core" / "metadata" / CORE_NODES

_log = logging.getLogger(__name__)


def main(url: str) -> None:
    """Write the table of the ComfyUI at this address."""
    version = _get(f"{url}/system_stats")["system"]["comfyui_version"]
    nodes = definitions_of(_get(f"{url}/object_info"))
    types: dict[str, int] = {}
    packed = {
        name: [
            [_packed(found, types) for found in node.inputs.values()],
            [_number(kind, types) for kind in node.outputs],
        ]
        for name, node in sorted(nodes.items())
    }
    lines = ",\n".join(f"{_compact(name)}:{_compact(node)}" for name, node in packed.items())
    table = f'{{"comfyui":{_compact(version)},\n"types":{_compact(list(types))},\n"nodes":{{\n{lines}\n}}}}\n'
    TABLE.write_text(table, encoding="utf-8", newline="\n")
    _log.info("%d nodes of ComfyUI %s in %s", len(packed), version, TABLE)


def _packed(found: Input, types: dict[str, int]) -> list[Any]:
    packed: list[Any] = [found.name, _number(found.type, types), -1 if found.forced else found.values]
    if found.inner:
        return [*packed, {key: [_packed(inner, types) for inner in chosen] for key, chosen in found.inner.items()}]
    return packed if packed[2] else packed[:2]


def _number(kind: str, types: dict[str, int]) -> int:
    return types.setdefault(kind, len(types))


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=60) as response:
        return json.loads(response.read())


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    main(sys.argv[1].rstrip("/"))
