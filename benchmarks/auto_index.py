"""How much automatic indexing slows a ComfyUI's generations: the same graph, with it off and on in turns.

python benchmarks/auto_index.py http://127.0.0.1:8188 GRAPH.json [--rounds 20]

GRAPH.json is a graph in API form (File → Export (API) in the editor) that saves images. Each `seed` and `noise_seed` in
it is another one for each run, so that nothing comes from ComfyUI's cache. The setting is as it was in the end. What is
timed is the execution, by ComfyUI's own clock; the first run of each kind is not counted.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
import urllib.request
from pathlib import Path
from typing import Any

MODE = "DiffusionToolkit.AutoIndex.Mode"


def ask(url: str, body: Any = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as response:
        return json.loads(response.read() or b"null")


def seconds_of(url: str, graph: dict[str, Any]) -> float:
    """Run a graph once, with new seeds. Returns the seconds of its execution."""
    for node in graph.values():
        for name in {"seed", "noise_seed"} & node["inputs"].keys():
            node["inputs"][name] = random.getrandbits(48)
    id = ask(f"{url}/prompt", {"prompt": graph})["prompt_id"]
    while not (entry := ask(f"{url}/history/{id}")):
        time.sleep(0.1)
    messages = dict(entry[id]["status"]["messages"])
    if "execution_success" not in messages:
        raise SystemExit(f"The graph failed: {messages.get('execution_error', messages)}")
    return (messages["execution_success"]["timestamp"] - messages["execution_start"]["timestamp"]) / 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("graph", type=Path)
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    graph = json.loads(options.graph.read_text(encoding="utf-8"))
    before = ask(f"{options.url}/settings/{MODE}")
    taken: dict[str, list[float]] = {"off": [], "embeddings": []}
    try:
        for _ in range(options.rounds + 1):
            for mode, seconds in taken.items():
                ask(f"{options.url}/settings/{MODE}", mode)
                time.sleep(2)  # it is noticed meanwhile
                seconds.append(seconds_of(options.url, graph))
    finally:
        ask(f"{options.url}/settings/{MODE}", before or "embeddings")
    off, on = (seconds[1:] for seconds in taken.values())
    pairs = [one / other for one, other in zip(on, off, strict=True)]
    for name, seconds in (("off", off), ("on", on)):
        spread = statistics.quantiles(seconds, n=10)
        print(f"{name:>4}: median {statistics.median(seconds):.3f} s, 10% to 90% {spread[0]:.3f} to {spread[-1]:.3f} s")  # noqa: T201
    print(f"on / off: median of {len(pairs)} pairs {statistics.median(pairs):.4f}")  # noqa: T201


if __name__ == "__main__":
    main()
