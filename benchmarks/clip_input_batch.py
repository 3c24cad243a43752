"""How much a batch helps the nodes' text encoders: seconds a prompt for an SDXL CLIP input, one at a time and batched.

python benchmarks/clip_input_batch.py COMFYUI [--cpu] [--prompts 64]

COMFYUI is a ComfyUI folder, run with its own Python. The CLIP is full size with seeded random weights, in the dtype and
on the device that ComfyUI chooses.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# pyright: reportMissingImports=false

PACK = Path(__file__).resolve().parents[1]


def load_pack() -> Any:
    """The pack's encoders, imported as ComfyUI imports a pack."""
    spec = importlib.util.spec_from_file_location(
        "the_pack", PACK / "__init__.py", submodule_search_locations=[str(PACK)]
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["the_pack"] = module
    spec.loader.exec_module(module)
    return importlib.import_module("the_pack.nodes.encoders")


def sdxl_clip() -> Any:
    import comfy.sd
    import comfy.sdxl_clip
    import torch

    class Target:
        params: dict[str, Any] = {}  # noqa: RUF012
        clip = comfy.sdxl_clip.SDXLClipModel
        tokenizer = comfy.sdxl_clip.SDXLTokenizer

    clip = comfy.sd.CLIP(Target)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in clip.cond_stage_model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.02)
    return clip


def best_seconds(work: Callable[[], object], rounds: int = 3) -> float:
    seconds = []
    for _ in range(rounds):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("comfyui", type=Path)
    parser.add_argument("--cpu", action="store_true")
    parser.add_argument("--prompts", type=int, default=64)
    given = parser.parse_args()
    # ComfyUI reads the command line while it is imported.
    sys.argv = [sys.argv[0], *(["--cpu"] if given.cpu else [])]
    sys.path.insert(0, str(given.comfyui))
    import comfy.options

    comfy.options.enable_args_parsing()
    encoders = load_pack()
    clip = sdxl_clip()
    prompts = [f"a fox in the snow, picture number {number}, oil painting" for number in range(given.prompts)]
    lines = [f"{given.prompts} prompts on {clip.patcher.load_device}", "space    one at a time    batched    factor"]
    for space in encoders.TOKENS:
        encoder = encoders.ClipInput(clip, space)
        encoder.encode(prompts)
        singly = best_seconds(lambda e=encoder: [e.encode([prompt]) for prompt in prompts]) / given.prompts
        batched = best_seconds(lambda e=encoder: e.encode(prompts)) / given.prompts
        lines.append(f"{space}   {singly * 1000:10.1f} ms {batched * 1000:7.1f} ms {singly / batched:9.1f}")
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
