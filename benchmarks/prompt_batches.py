"""What batching prompts through ComfyUI's own CLIP saves: `python benchmarks/prompt_batches.py CLIP_L CLIP_G`.

Takes two safetensors files of SDXL's text encoders (those that tests/nodes makes will do: only the time is measured)
and a ComfyUI, by COMFYUI_PATH or at ~/ComfyUI. Prints, for each encoder, the time a prompt when the prompts are
embedded one at a time and when the encoder of the pack is given all at once, both in one run on the device of ComfyUI.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

PACK = Path(__file__).resolve().parents[1]
COMFYUI = Path(os.environ.get("COMFYUI_PATH") or Path.home() / "ComfyUI")
WORDS = "a photo of an old lighthouse in a storm at night with waves and gulls, detailed, sharp focus"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("clip_l", type=Path)
    parser.add_argument("clip_g", type=Path)
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3, help="the best of so many is printed")
    parser.add_argument("--cpu", action="store_true")
    chosen = parser.parse_args()
    clip, encoders = _load(chosen.clip_l, chosen.clip_g, chosen.cpu)
    # Lengths as prompts have them, from a few words to more than one chunk of 77 tokens.
    prompts = [" ".join((WORDS.split() * 6)[: 4 + 7 * (n % 14)]) for n in range(chosen.prompts)]
    table = Table("encoder", "device", "one at a time, ms a prompt", f"{len(prompts)} at once, ms a prompt", "ratio")
    for space in encoders.text_spaces(clip):
        encoder = encoders.ClipInput(clip, space)
        encoder.encode(prompts[:1])
        singly = _best(chosen.rounds, lambda encoder=encoder: [encoder.encode([prompt]) for prompt in prompts])
        at_once = _best(chosen.rounds, lambda encoder=encoder: encoder.encode(prompts))
        each = (1000 * singly / len(prompts), 1000 * at_once / len(prompts))
        table.add_row(space, encoder.device, f"{each[0]:.1f}", f"{each[1]:.1f}", f"{each[0] / each[1]:.2f}")
    Console().print(table)


def _load(clip_l: Path, clip_g: Path, cpu: bool) -> tuple[Any, Any]:
    """SDXL's CLIP as ComfyUI's DualCLIPLoader loads it, and the pack's nodes.encoders."""
    sys.argv = [sys.argv[0], *(["--cpu"] if cpu else [])]
    sys.path.insert(0, str(COMFYUI))
    importlib.import_module("comfy.options").enable_args_parsing()
    sd = importlib.import_module("comfy.sd")
    paths = [str(clip_l.resolve()), str(clip_g.resolve())]
    clip = sd.load_clip(ckpt_paths=paths, clip_type=sd.CLIPType.STABLE_DIFFUSION)
    spec = importlib.util.spec_from_file_location("pack", PACK / "__init__.py", submodule_search_locations=[str(PACK)])
    assert spec is not None
    sys.modules["pack"] = importlib.util.module_from_spec(spec)
    return clip, importlib.import_module("pack.nodes.encoders")


def _best(rounds: int, work: Any) -> float:
    seconds = []
    for _ in range(rounds):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return min(seconds)


if __name__ == "__main__":
    main()
