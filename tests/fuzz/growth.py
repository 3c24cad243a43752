"""Whether the time for a graph grows with its size alone: shapes that make a careless walk look at everything again.

    python -m tests.fuzz.growth [--nodes 200]

Prints processor seconds at N, 2 N and 4 N. Linear work doubles with the size; where it grows fourfold, a file of some
megabytes takes hours. Shapes that take longer than three seconds are not made larger. atheris is not needed.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from tests.metadata.conftest import GraphBuilder
from toolkit_core.metadata import read_parameters
from toolkit_core.records import MetadataText

_ENOUGH_SECONDS = 3.0


def shape(number: int, part: str) -> dict[str, Any]:
    """A graph of about `number` nodes or inputs around the usual one."""
    graph = GraphBuilder()
    graph.wire("yes", text="")
    _SHAPES[part](graph, number)
    return graph.nodes


def _names_on_a_chain(graph: GraphBuilder, number: int) -> None:
    """Many widgets that all ask the same long chain of nodes, each under its own name."""
    graph.add("loras", "Stack", model=["checkpoint", 0], **{f"lora_name_{at}": ["0", 0] for at in range(number)})
    graph.wire("sampler", model=["loras", 0])
    _chain(graph, "X", number, "a")


def _names_on_a_wide_node(graph: GraphBuilder, number: int) -> None:
    graph.add("loras", "Stack", model=["checkpoint", 0], **{f"lora_name_{at}": ["0", 0] for at in range(number)})
    graph.wire("sampler", model=["loras", 0])
    graph.add("0", "X", **{f"value_{at}": "a" for at in range(number)})


def _slots_of_a_wide_conditioning(graph: GraphBuilder, number: int) -> None:
    """Every slot of a node is a link of its own, and each leads to all inputs of that node."""
    graph.add("wide", "Unseen", **{f"conditioning_{at}": ["yes", 0] for at in range(number)})
    _fan(graph, "wide", "conditioning", number)
    graph.wire("sampler", positive=["fan", 0])


def _slots_of_a_wide_text(graph: GraphBuilder, number: int) -> None:
    graph.add("wide", "Unseen", **{f"text_{at}": ["no", 0] for at in range(number)})
    _fan(graph, "wide", "text", number)
    graph.wire("yes", text=["fan", 0])


def _slots_of_a_wide_switch(graph: GraphBuilder, number: int) -> None:
    graph.add("wide", "Any Switch (rgthree)", **{f"any_{at}": ["yes", 0] for at in range(number)})
    _fan(graph, "wide", "conditioning", number)
    graph.wire("sampler", positive=["fan", 0])


def _slots_of_a_wide_number(graph: GraphBuilder, number: int) -> None:
    graph.add("wide", "X", **{f"value_{at}": "a" for at in range(number)})
    _fan(graph, "wide", "other", number)
    graph.wire("sampler", cfg=["fan", 0])


def _samplers_on_a_chain(graph: GraphBuilder, number: int) -> None:
    """Many passes, each with the same guider behind a long chain of reroutes."""
    _chain(graph, "Reroute", number, "")
    for at in range(number):
        graph.add(f"pass {at}", "SamplerCustomAdvanced", guider=["0", 0], noise=["0", 0], sigmas=["0", 0])
        graph.wire(f"pass {at}", latent_image=[f"pass {at + 1}" if at + 1 < number else "empty", 0])
    graph.wire("decode", samples=["pass 0", 0])


def _samplers_that_guide_each_other(graph: GraphBuilder, number: int) -> None:
    for at in range(number):
        before = [f"pass {at + 1}" if at + 1 < number else "empty", 0]
        graph.add(f"pass {at}", "SamplerCustomAdvanced", guider=before, noise=before, latent_image=before)
    graph.wire("decode", samples=["pass 0", 0])


def _passes(graph: GraphBuilder, number: int) -> None:
    for at in range(number):
        inputs = {"positive": ["yes", 0], "negative": ["no", 0], "model": ["checkpoint", 0]}
        graph.add(f"pass {at}", "KSampler", seed=1, steps=1, add_noise="disable", **inputs)
        graph.wire(f"pass {at}", latent_image=[f"pass {at + 1}" if at + 1 < number else "empty", 0])
    graph.wire("decode", samples=["pass 0", 0])


def _stacks(graph: GraphBuilder, number: int) -> None:
    """Many LoRA loaders that all take the same long stack."""
    for at in range(number):
        graph.add(f"load {at}", "Apply", lora_stack=["0", 0])
        graph.wire(f"load {at}", model=[f"load {at + 1}" if at + 1 < number else "checkpoint", 0])
    _chain(graph, "LoRA Stacker", number, "lora_stack", lora_name_1="a")
    graph.wire("sampler", model=["load 0", 0])


def _growing_text(graph: GraphBuilder, number: int) -> None:
    """A text that is joined to itself, again and again."""
    graph.add("0", "StringConcatenate", string_a="x" * 1000, string_b="y", delimiter="")
    for at in range(1, number):
        graph.add(f"{at}", "StringConcatenate", string_a=[f"{at - 1}", 0], string_b="y", delimiter="")
    graph.wire("yes", text=[f"{number - 1}", 0])


def _chain(graph: GraphBuilder, class_type: str, number: int, name: str, **more: Any) -> None:
    for at in range(number):
        graph.add(f"{at}", class_type, **{name: [f"{at + 1}", 0], **more})
    graph.add(f"{number}", "CFGGuider", positive=["yes", 0], negative=["no", 0], model=["checkpoint", 0], cfg=1.0)


def _fan(graph: GraphBuilder, source: str, name: str, number: int) -> None:
    graph.add("fan", "Unseen Fan", **{f"{name}_{at}": [source, at] for at in range(number)})


_SHAPES: dict[str, Callable[[GraphBuilder, int], None]] = {
    made.__name__.strip("_").replace("_", " "): made
    for made in (
        *(_names_on_a_chain, _names_on_a_wide_node, _slots_of_a_wide_conditioning, _slots_of_a_wide_text),
        *(_slots_of_a_wide_switch, _slots_of_a_wide_number, _samplers_on_a_chain, _samplers_that_guide_each_other),
        *(_passes, _stacks, _growing_text),
    )
}


def seconds_for(graph: dict[str, Any]) -> float:
    text = MetadataText("png", "prompt", json.dumps(graph))
    started = time.process_time()
    read_parameters([text])
    return time.process_time() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--nodes", type=int, default=200)
    given = parser.parse_args()
    sizes = (given.nodes, 2 * given.nodes, 4 * given.nodes)
    table = Table("shape", *(f"N = {size}" for size in sizes), "bytes", "last step", box=box.MARKDOWN)
    for part in _SHAPES:
        seconds: list[float] = []
        length = 0
        for size in sizes:
            if not seconds or seconds[-1] < _ENOUGH_SECONDS:
                graph = shape(size, part)
                length = len(json.dumps(graph))
                seconds.append(seconds_for(graph))
        growth = seconds[-1] / max(seconds[-2], 1e-3) if len(seconds) > 1 else float("nan")
        shown = [f"{value:.3f} s" for value in seconds] + [""] * (len(sizes) - len(seconds))
        table.add_row(part, *shown, str(length), f"x{growth:.1f}")
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
