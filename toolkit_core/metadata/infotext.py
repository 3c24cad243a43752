"""The text of AUTOMATIC1111's web UI, its forks and those that copy it: prompt, negative prompt, a line of settings.

Read as the web UI itself reads it (`parse_generation_parameters`), with what its readers meet besides: SD.Next's and
Dynamic Prompts' templates, settings in any order or behind the prompt on one line, and JSON among them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from .values import PADDING

_SETTING = re.compile(r'(?<![\w \-/]) *(\w[\w \-/]{0,60}): ?("(?:\\.|[^\\"])*"|[^,]*)(?:,|$)')
_FIRST_SETTING = re.compile(r"(?:^|[\s.,])(Steps: ?\d{1,6},)")
_JSON_SETTING = re.compile(r"(Civitai resources|Civitai metadata|Hashes): ?(?=[\[{])")
_TEMPLATE = re.compile(r"(?:Negative )?Template: ", re.IGNORECASE)
_NEGATIVE = "Negative prompt:"
_KNOWN = ("Steps", "Sampler", "CFG scale", "Seed", "Size", "Model", "Model hash", "Schedule type", "Scheduler")
_ENOUGH = 3
"""Known settings that make a line one of settings; the web UI asks for three of any name."""
_MAX_TEXT = 4 * 2**20
_MAX_LINE = 2**20
_MAX_JSON = 10
_DECODER = json.JSONDecoder()


class Infotext(NamedTuple):
    """settings: by name, unquoted. resources: the values of those that hold JSON."""

    prompt: str
    negative_prompt: str
    settings: Mapping[str, str]
    resources: Mapping[str, Any]


def parse_infotext(text: str) -> Infotext | None:
    """The parts of such a text. None where it has no line of settings, or is longer than any program writes it."""
    if len(text) > _MAX_TEXT:
        return None
    lines = text.replace("\r\n", "\n").strip(PADDING).split("\n")
    for index in range(len(lines) - 1, -1, -1):
        if not _may_be_settings(lines[index]):
            continue
        before, line = _split_from_prompt(lines[index])
        settings, resources = _settings_of(line)
        if sum(name in settings for name in _KNOWN) >= _ENOUGH:
            prompt, negative = _prompts_of([*lines[:index], *before])
            return Infotext(prompt, negative, settings, resources)
    return None


def _may_be_settings(line: str) -> bool:
    return len(line) <= _MAX_LINE and sum(f"{name}:" in line for name in _KNOWN) >= _ENOUGH


def _split_from_prompt(line: str) -> tuple[list[str], str]:
    """The prompts that stand on the line of settings before "Steps: 20,", as lines of their own; and the settings."""
    first = _SETTING.match(line.lstrip())
    steps = _FIRST_SETTING.search(line)
    if steps is None or steps.start(1) == 0 or (first and first[1].strip() in _KNOWN):
        return [], line
    before = line[: steps.start(1)].rstrip(" .,\t")
    prompt, separator, negative = before.partition(_NEGATIVE)
    lines = [prompt.rstrip(" .,\t"), _NEGATIVE + negative] if separator else [before]
    return lines, line[steps.start(1) :]


def _settings_of(line: str) -> tuple[dict[str, str], dict[str, Any]]:
    resources: dict[str, Any] = {}
    for named in list(_JSON_SETTING.finditer(line))[::-1][:_MAX_JSON]:
        try:
            resources[named[1]], end = _DECODER.raw_decode(line, named.end())
        except (ValueError, RecursionError):
            continue
        line = line[: named.start()].rstrip(", ") + line[end:]
    settings: dict[str, str] = {}
    for name, value in _SETTING.findall(line):
        settings.setdefault(name.strip(), _unquoted(value.strip()))
    return settings, resources


def _unquoted(value: str) -> str:
    if not (len(value) > 1 and value[0] == value[-1] == '"'):
        return value
    try:
        return str(json.loads(value))
    except ValueError:
        return value[1:-1]


def _prompts_of(lines: list[str]) -> tuple[str, str]:
    """Prompt and negative prompt; a template behind the negative prompt is what they were made from."""
    start = next((index for index, line in enumerate(lines) if line.lstrip().startswith(_NEGATIVE)), len(lines))
    end = next((index for index in range(start + 1, len(lines)) if _TEMPLATE.match(lines[index])), len(lines))
    prompt = "\n".join(lines[:start]).strip()
    return prompt, "\n".join(lines[start:end]).strip().removeprefix(_NEGATIVE).strip()
