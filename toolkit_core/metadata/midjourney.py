"""Midjourney's Description: the prompt, its flags, and the id of the job."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ..records import GenerationParameters, MetadataReading
from .values import MAX_SEED, as_integer

if TYPE_CHECKING:
    from .carriers import Keywords

_JOB = re.compile(r"Job ID:\s{0,9}[0-9a-f-]{36}\s{0,9}$")
_FLAG = re.compile(r"\s(?:--|—)([a-z]{1,20})\b")
_MAX_TEXT = 100_000


def read_midjourney(texts: Keywords) -> MetadataReading | None:
    """What the command in `Description` says. None where there is no job id behind it."""
    description = texts.get("Description", "")
    if not is_job(description):
        return None
    command = description[: description.rindex("Job ID:")]
    prompt, *rest = _FLAG.split(command)
    flags = dict(zip(rest[::2], (value.strip() for value in rest[1::2]), strict=True))
    niji = flags.get("niji")
    parameters = GenerationParameters(
        generator="Midjourney",
        prompt=prompt.strip(),
        negative_prompt=flags.get("no"),
        model=f"niji {niji}".strip() if niji is not None else flags.get("v", flags.get("version")),
        seed=as_integer(flags.get("seed"), MAX_SEED),
    )
    return MetadataReading(parameters, f"Midjourney's job in {texts.where('Description')}")


def is_job(text: str) -> bool:
    """Whether a text ends with the id of a job."""
    return len(text) <= _MAX_TEXT and bool(_JOB.search(text, max(len(text) - 80, 0)))
