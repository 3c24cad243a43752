"""How far a probe moves when the arithmetic changes, and when the weights change.

    python benchmarks/probe_threshold.py [--small] [--space clip_l …]

Prints, for each space, the lowest cosine similarity and the largest norm ratio between the probe of one set of weights
(stored as float16, computed in float32 on the CPU) and the probe of the same weights computed otherwise, or of changed
ones. `encoders/identity.py` takes its limits from this table. Full size needs 8 GB of memory and about a quarter of an
hour on two cores; `--space` runs one model at a time.

What this can't show: the weights are seeded noise, scaled as in CLIP's and BERT's own initialisation, with layer norm
gains spread around one. A trained network has outlier channels, which make float16 and bfloat16 err more, and a
fine-tune or LoRA moves weights along directions that matter, where noise of the same size mostly cancels out. So a
real change of weights moves a probe more than the rows below say, and a real change of precision somewhat more. Noise
BERT, normalised after each layer, is far more restless than a trained one. BGE's torch model stands in for its ONNX
graph, and seeded token ids for its vocabulary. No GPU is in it; tensor cores sum float16 products in float32.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from rich.table import Table

from toolkit_core.encoders.clip import IMAGE_MEAN, IMAGE_STD
from toolkit_core.encoders.clip_tokens import first_chunks
from toolkit_core.encoders.identity import MAX_NORM_RATIO, MIN_COSINE, PROBE_TEXTS, compare_probes, probe_images

SPACES = ("clip_l", "clip_g", "clip_h", "bge")
NOISE = (0.0025, 0.005, 0.01, 0.02, 0.05)
LORA = tuple(
    (rank, norm, targets) for rank in (4, 16) for targets in ("attention", "all") for norm in (0.01, 0.02, 0.05)
)

Probe = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Case:
    """One way to differ. `same_weights` says what the comparison ought to answer."""

    name: str
    same_weights: bool
    probe: Callable[[], Probe]


class Subject:
    """One architecture with seeded weights that can be changed and put back."""

    def __init__(self, space: str, small: bool) -> None:
        self.space = space
        self.model, self.inputs = _build(space, small)
        _initialise(self.model)
        self.originals = {name: tensor.clone() for name, tensor in self._weights()}
        self.stored = {name: tensor.half() for name, tensor in self.originals.items()}
        self.restore()

    def _weights(self) -> Iterator[tuple[str, torch.Tensor]]:
        yield from self.model.named_parameters()

    @torch.no_grad()
    def restore(self) -> None:
        for name, tensor in self._weights():
            tensor.copy_(self.stored[name])

    @torch.no_grad()
    def change(self, change: Callable[[str, torch.Tensor], torch.Tensor]) -> Probe:
        for name, tensor in self._weights():
            tensor.copy_(change(name, tensor))
        probe = self.probe(self.model)
        self.restore()
        return probe

    @torch.inference_mode()
    def probe(self, model: Any, batch: bool = True) -> Probe:
        """Vectors, float32, shape (n, width), the inputs in one batch or one at a time."""
        if batch:
            return self._vectors(model, self.inputs)
        return np.concatenate([self._vectors(model, [one]) for one in self.inputs])

    def _vectors(self, model: Any, inputs: Sequence[torch.Tensor]) -> Probe:
        if self.space == "clip_h":
            vectors = model(pixel_values=torch.stack(list(inputs)).to(model.dtype)).image_embeds
        else:
            padding = 0 if self.space == "bge" else 49407
            ids = torch.nn.utils.rnn.pad_sequence(list(inputs), batch_first=True, padding_value=padding)
            if self.space == "bge":
                hidden = model(input_ids=ids, attention_mask=(ids != 0).long()).last_hidden_state[:, 0]
                vectors = torch.nn.functional.normalize(hidden.float(), dim=1)
            else:
                output = model(input_ids=ids)
                vectors = output.pooler_output if self.space == "clip_l" else output.text_embeds
        return vectors.float().numpy()

    def probe_in(self, dtype: torch.dtype) -> Probe:
        model = copy.deepcopy(self.model).to(dtype)
        return self.probe(model)


def _build(space: str, small: bool) -> tuple[Any, list[torch.Tensor]]:
    from transformers import (
        BertConfig,
        BertModel,
        CLIPTextConfig,
        CLIPTextModel,
        CLIPTextModelWithProjection,
        CLIPVisionConfig,
        CLIPVisionModelWithProjection,
    )

    layers = 4 if small else {"clip_l": 12, "clip_g": 32, "clip_h": 32, "bge": 24}[space]
    if space == "bge":
        bert = BertConfig(
            vocab_size=30522, hidden_size=1024, num_hidden_layers=layers, num_attention_heads=16, intermediate_size=4096
        )
        generator = torch.Generator().manual_seed(1)
        ids = [torch.randint(1, 30522, (length,), generator=generator) for length in (12, 30, 60, 14)]
        return BertModel(bert, add_pooling_layer=False).eval(), ids
    if space == "clip_h":
        vision = CLIPVisionConfig(
            hidden_size=1280,
            intermediate_size=5120,
            num_hidden_layers=layers,
            num_attention_heads=16,
            projection_dim=1024,
            patch_size=14,
            hidden_act="gelu",
        )
        pixels = torch.from_numpy(probe_images()).float() / 255
        pixels = ((pixels - torch.tensor(IMAGE_MEAN)) / torch.tensor(IMAGE_STD)).movedim(-1, 1)
        return CLIPVisionModelWithProjection(vision).eval(), list(pixels)
    width = {"clip_l": 768, "clip_g": 1280}[space]
    text = CLIPTextConfig(
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=width // 64,
        projection_dim=width,
        hidden_act="quick_gelu" if space == "clip_l" else "gelu",
        eos_token_id=49407,
    )
    model = CLIPTextModel(text) if space == "clip_l" else CLIPTextModelWithProjection(text)
    return model.eval(), [torch.tensor(ids) for ids in first_chunks(PROBE_TEXTS)]


@torch.no_grad()
def _initialise(model: Any) -> None:
    """CLIP's published initialisation, for BERT 0.04 (about what its trained weights have); spread norm gains."""
    generator = torch.Generator().manual_seed(7)
    layers = model.config.num_hidden_layers
    bert = model.config.model_type == "bert"
    for name, tensor in model.named_parameters():
        normal = torch.randn(tensor.shape, generator=generator)
        if "norm" in name.lower() and name.endswith("weight"):
            tensor.copy_(1 + 0.2 * normal)
        elif tensor.dim() == 1:
            tensor.copy_(0.02 * normal)
        elif "embedding" in name:
            tensor.copy_((0.02 if tensor.dim() == 2 else tensor[0].numel() ** -0.5) * normal)
        elif bert:
            tensor.copy_(0.04 * normal)
        else:
            residual = (2 * layers) ** -0.5 if "out_proj" in name or "fc2" in name else 1.0
            gain = 2**-0.5 if "fc1" in name else 1.0
            tensor.copy_(residual * gain * tensor.shape[1] ** -0.5 * normal)


def _cases(subject: Subject) -> Iterator[Case]:
    stored, originals = subject.stored, subject.originals
    yield Case("one input at a time", True, lambda: subject.probe(subject.model, batch=False))
    yield Case("a float32 file of them", True, lambda: subject.change(lambda name, _: originals[name]))
    yield Case("computed in float16", True, lambda: subject.probe_in(torch.float16))
    yield Case("computed in bfloat16", True, lambda: subject.probe_in(torch.bfloat16))
    yield Case("a bfloat16 file of them", True, lambda: subject.change(lambda name, _: stored[name].bfloat16()))
    yield Case("a float8_e4m3 file of them", False, lambda: subject.change(_as_float8))
    for size in NOISE:
        yield Case(f"all weights, noise of {size:.2%}", False, lambda size=size: subject.change(_noise(size)))
    for rank, norm, targets in LORA:
        yield Case(
            f"LoRA, rank {rank}, {targets}, {norm:.0%}",
            False,
            lambda rank=rank, norm=norm, targets=targets: subject.change(_lora(rank, norm, targets)),
        )


def _as_float8(name: str, tensor: torch.Tensor) -> torch.Tensor:
    return tensor.to(torch.float8_e4m3fn).float() if tensor.dim() > 1 else tensor


def _noise(size: float) -> Callable[[str, torch.Tensor], torch.Tensor]:
    generator = torch.Generator().manual_seed(11)

    def change(name: str, tensor: torch.Tensor) -> torch.Tensor:
        noise = torch.randn(tensor.shape, generator=generator)
        return tensor + noise * (size * tensor.norm() / noise.norm())

    return change


def _lora(rank: int, norm: float, targets: str) -> Callable[[str, torch.Tensor], torch.Tensor]:
    generator = torch.Generator().manual_seed(13)

    def change(name: str, tensor: torch.Tensor) -> torch.Tensor:
        in_attention = "attn" in name or "attention" in name
        in_layer = ".layers." in name or ".layer." in name
        if tensor.dim() != 2 or not in_layer or (targets == "attention" and not in_attention):
            return tensor
        up = torch.randn(tensor.shape[0], rank, generator=generator)
        down = torch.randn(rank, tensor.shape[1], generator=generator)
        delta = up @ down
        return tensor + delta * (norm * tensor.norm() / delta.norm())

    return change


def _table(space: str, small: bool, console: Console) -> Table:
    table = Table("probe of the same inputs", "weights", "1 - min cosine", "norm ratio", "accepted", title=space)
    subject = Subject(space, small)
    reference = subject.probe(subject.model)
    for case in _cases(subject):
        with console.status(f"{space}: {case.name}"):
            agreement = compare_probes(reference, case.probe())
        table.add_row(
            case.name,
            "same" if case.same_weights else "changed",
            f"{1 - agreement.cosine:.1e}",
            f"{agreement.norm_ratio:.5f}",
            "yes" if agreement.same else "no",
        )
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--small", action="store_true", help="four layers instead of the real depth")
    parser.add_argument("--space", action="append", choices=SPACES, help="only this space; may be repeated")
    given = parser.parse_args()
    console = Console()
    for space in given.space or SPACES:
        console.print(_table(space, given.small, console))
    console.print(f"Limits: cosine at least {MIN_COSINE}, norm ratio at most {MAX_NORM_RATIO}.")


if __name__ == "__main__":
    main()
