"""How many labels of the corpus of real files are met, and how fast, by the toolkit and by sd-parsers.

    python benchmarks/metadata.py [CORPUS] [--passes 7]

CORPUS is a folder with `labels.json` (default: ../shared/corpus beside the repository). Prints Markdown tables.

sd-parsers is read through `ParserManager().parse(path)`, and gets every benefit of the doubt. It does not say which
sampler is the last, so a field counts as met where any of its samplers meets it, or all of its prompts together do, in
their order. Its texts of digits are taken as numbers. A LoRA, a guidance or a denoise that it kept as metadata of a
model, of a prompt or of the file is taken from there. A file that it refuses counts as one in which it found nothing.
The toolkit has one answer a file. A label that says there is no such value is met by finding none.
"No prompt found" counts files whose label has one; "sides mixed" those where a text of one side only was found on the
other; "invented" those without metadata where something was read.

Times are of metadata alone, from a path to a reading, of files that lie in the page cache; each file's is the median of
all passes, in which both readers take turns.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from sd_parsers import ParserManager
from sd_parsers.data import PromptInfo, Sampler

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))

from tests.metadata.labels import CHECKED, met_fields, normalised  # noqa: E402
from toolkit_core.metadata import read_generation_parameters  # noqa: E402
from toolkit_core.records import GenerationParameters, Lora  # noqa: E402

Reader = Callable[[Path], list[GenerationParameters]]
"""From a file to its readings: one, none, or several of which the best counts."""

_manager = ParserManager()


def read_with_toolkit(path: Path) -> list[GenerationParameters]:
    return [read_generation_parameters(path.read_bytes())]


def read_with_sd_parsers(path: Path) -> list[GenerationParameters]:
    try:
        info = _manager.parse(path)
    except Exception:  # it hands on whatever Pillow or its own parsers raise
        return []
    return list(_readings(info)) if info else []


def _readings(info: PromptInfo) -> Iterator[GenerationParameters]:
    """One of each sampler, and each again with the prompts of all samplers."""
    for sampler in info.samplers:
        own = _reading(info, sampler)
        yield own
        yield GenerationParameters(
            **{
                **vars(own),
                "prompt": _joined(prompt.value for prompt in info.prompts),
                "negative_prompt": _joined(prompt.value for prompt in info.negative_prompts),
            }
        )
    if not info.samplers:
        yield GenerationParameters(generator=info.generator.value)


def _reading(info: PromptInfo, sampler: Sampler) -> GenerationParameters:
    values = {**info.metadata, **sampler.parameters}
    guidances = [value["guidance"] for prompt in sampler.prompts for value in _entries(prompt.metadata, "guidance")]
    loras = [
        Lora(entry["lora_name"], _number(entry.get("strength_model")))
        for entry in _entries(sampler.model.metadata if sampler.model else {}, "lora_name")
    ]
    denoise = next((values[name] for name in ("denoise", "strength", "Denoising strength") if name in values), None)
    return GenerationParameters(
        generator=info.generator.value,
        prompt=_joined(prompt.value for prompt in sampler.prompts),
        negative_prompt=_joined(prompt.value for prompt in sampler.negative_prompts),
        model=sampler.model.name if sampler.model else None,
        loras=tuple(reversed(loras)),  # it walks from the sampler to the checkpoint
        sampler=sampler.name,
        scheduler=values.get("scheduler"),
        steps=_integer(values.get("steps")),
        cfg_scale=_number(values.get("cfg_scale")),
        guidance=_number(guidances[0]) if guidances else None,
        seed=_integer(values.get("seed", values.get("noise_seed"))),
        denoise=_number(denoise),
    )


def _entries(metadata: dict[Any, Any], key: str) -> Iterator[dict[str, Any]]:
    """The nodes with this widget among those that it kept by class, singly or in lists."""
    for value in metadata.values():
        for entry in value if isinstance(value, list) else [value]:
            if isinstance(entry, dict) and key in entry:
                yield entry


def _joined(texts: Iterator[str]) -> str | None:
    distinct = list(dict.fromkeys(texts))
    return "\n".join(distinct) if distinct else None


def _integer(value: Any) -> int | None:
    return int(value) if isinstance(value, int) or (isinstance(value, str) and value.isdecimal()) else None


def _number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


@dataclass(frozen=True)
class Outcome:
    """What became of one file in one reader. The rest is empty where the file may give nothing."""

    group: str
    milliseconds: float
    met: dict[str, bool]
    prompt_is_missing: bool
    sides_are_mixed: bool
    invents: bool


def group_of(label: dict[str, Any]) -> str:
    if label.get("no_generation_metadata"):
        return "no metadata"
    if label.get("tool", "ComfyUI") != "ComfyUI":
        return "other generators"
    return f"ComfyUI {label['carrier'].split()[0]}"


def judge(label: dict[str, Any], found: Sequence[GenerationParameters], milliseconds: float) -> Outcome:
    group = group_of(label)
    if label.get("no_generation_metadata"):
        return Outcome(group, milliseconds, {}, False, False, any(one != GenerationParameters() for one in found))
    by_reading = [met_fields(label, one) for one in found or [GenerationParameters()]]
    met = {field: any(one[field] for one in by_reading) for field in by_reading[0]}
    wants_prompt = any(text.strip() for text in label["positive_texts"])
    return Outcome(
        group=group,
        milliseconds=milliseconds,
        met=met,
        prompt_is_missing=wants_prompt and not any(normalised(one.prompt) for one in found),
        sides_are_mixed=bool(found)
        and not (met["positive_texts"] and met["negative_texts"])
        and all(_mixes(label, one) for one in found),
        invents=False,
    )


def _mixes(label: dict[str, Any], found: GenerationParameters) -> bool:
    """Whether a text of one side only is found on the other side."""
    positive, negative = ([normalised(text) for text in label[side]] for side in ("positive_texts", "negative_texts"))
    prompt, negative_prompt = normalised(found.prompt), normalised(found.negative_prompt)
    return any(text and text in prompt for text in negative if text not in " ".join(positive)) or any(
        text and text in negative_prompt for text in positive if text not in " ".join(negative)
    )


def measure(corpus: Path, labels: dict[str, Any], readers: dict[str, Reader], passes: int) -> dict[str, list[Outcome]]:
    """The outcome of each file, by reader."""
    milliseconds: dict[tuple[str, str], list[float]] = defaultdict(list)
    found: dict[tuple[str, str], list[GenerationParameters]] = {}
    for number in range(passes):
        for name in labels:
            for reader in sorted(readers, reverse=bool(number % 2)):
                started = time.perf_counter()
                found[reader, name] = readers[reader](corpus / name)
                milliseconds[reader, name].append(1000 * (time.perf_counter() - started))
    return {
        reader: [
            judge(label, found[reader, name], statistics.median(milliseconds[reader, name]))
            for name, label in labels.items()
        ]
        for reader in readers
    }


def field_table(outcomes: dict[str, list[Outcome]]) -> Table:
    table = Table("field", "labels", *outcomes, box=box.MARKDOWN)
    for field in CHECKED:
        met = {reader: [one.met[field] for one in of if field in one.met] for reader, of in outcomes.items()}
        labels = len(next(iter(met.values())))
        if labels:
            table.add_row(field, str(labels), *(str(sum(ones)) for ones in met.values()))
    return table


def group_table(outcomes: dict[str, list[Outcome]]) -> Table:
    table = Table(
        *("files", "reader", "number", "labels met", "all of a file", "no prompt found", "sides mixed", "invented"),
        *("median ms", "mean ms"),
        box=box.MARKDOWN,
    )
    groups = Counter(one.group for one in next(iter(outcomes.values())))
    for group in (*sorted(groups), "all"):
        for reader, of in outcomes.items():
            ones = [one for one in of if group in (one.group, "all")]
            met = [is_met for one in ones for is_met in one.met.values()]
            table.add_row(
                *(group, reader, str(len(ones)), f"{sum(met)} of {len(met)}"),
                str(sum(bool(one.met) and all(one.met.values()) for one in ones)),
                str(sum(one.prompt_is_missing for one in ones)),
                str(sum(one.sides_are_mixed for one in ones)),
                str(sum(one.invents for one in ones)),
                f"{statistics.median(one.milliseconds for one in ones):.2f}",
                f"{statistics.fmean(one.milliseconds for one in ones):.2f}",
            )
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("corpus", nargs="?", type=Path, default=REPOSITORY.parent / "shared" / "corpus")
    parser.add_argument("--passes", type=int, default=7)
    given = parser.parse_args()
    labels_file = given.corpus / "labels.json"
    if not labels_file.is_file():
        parser.error(f"There is no {labels_file}.")
    labels = json.loads(labels_file.read_text(encoding="utf-8"))
    warnings.simplefilter("ignore")  # Pillow's, about damaged EXIF
    outcomes = measure(
        given.corpus, labels, {"toolkit": read_with_toolkit, "sd-parsers": read_with_sd_parsers}, given.passes
    )
    console = Console(width=160)  # a cell that wraps is no Markdown
    console.print(field_table(outcomes), group_table(outcomes))


if __name__ == "__main__":
    main()
