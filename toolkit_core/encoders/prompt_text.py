"""What BGE sees of a prompt: its words, without the syntax that is meant for a sampler."""

from __future__ import annotations

import re

_NETWORK = re.compile(r"<(?:lora|lyco|hypernet|hypernetwork|lycoris)\s*:[^<>]*>", re.IGNORECASE)
_EMBEDDING = re.compile(r"(?<![^\s,(\[{])embedding:([^\s,()\[\]{}<>:]*)")
_TOKEN = re.compile(r"\\[()\[\]{}\\]|:\s*[-+]?(?:\d+(?:\.\d*)?|\.\d+)\s*(?=[)\]])|[()\[\]{}:|]|\bBREAK\b|\bAND\b")
_WEIGHT = re.compile(r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)")
_FILE_SUFFIXES = (".safetensors", ".pt", ".bin")


def plain_prompt(text: str) -> str:
    """The prompt as plain words, one line. Linear in its length, whatever it holds.

    Removed: attention brackets `(x)`, `(x:1.2)`, `[x]`, `{x}` and their weights, `<lora:…>` and its like, BREAK, AND
    with its weights, the separators of prompt editing in `[a:b:0.5]` and `[a|b]`. Of `embedding:folder/name.pt` the
    name stays, because two prompts with one embedding are alike in that. Escaped brackets stay as the characters that
    they are. An open bracket that is never closed is syntax too (A1111 reads it so); a closing one without its opening
    is text.
    """
    text = _NETWORK.sub(" ", text)
    text = _EMBEDDING.sub(_embedding_name, text)
    return _tidy(" ".join(_without_brackets(text)))


def _embedding_name(found: re.Match[str]) -> str:
    name = re.split(r"[/\\]", found[1])[-1]
    for suffix in _FILE_SUFFIXES:
        name = name.removesuffix(suffix)
    return name


def _without_brackets(text: str) -> list[str]:
    """The text without brackets and weights, cut at each AND."""
    parts: list[list[str]] = [[]]
    open_brackets: list[str] = []
    position = 0
    for found in _TOKEN.finditer(text):
        token = found[0]
        parts[-1].append(text[position : found.start()])
        position = found.end()
        if token[0] == "\\":
            parts[-1].append(token[1])
        elif token in "([{":
            open_brackets.append(token)
        elif token in ")]}":
            if open_brackets and open_brackets[-1] + token in ("()", "[]", "{}"):
                open_brackets.pop()
            else:
                parts[-1].append(token)
        elif token == "BREAK":
            parts[-1].append(" ")
        elif token == "AND":
            parts.append([])
        elif token in ":|":
            parts[-1].append(" " if open_brackets and open_brackets[-1] != "(" else token)
        elif not open_brackets:
            parts[-1].append(token)
    parts[-1].append(text[position:])
    if len(parts) == 1:
        return ["".join(parts[0])]
    return [_without_trailing_weight("".join(part)) for part in parts]


def _without_trailing_weight(part: str) -> str:
    head, colon, tail = part.rpartition(":")
    return head if colon and _WEIGHT.fullmatch(tail.strip()) else part


def _tidy(text: str) -> str:
    text = " ".join(text.split())
    text = re.sub(r" ?,(?: ?,)*", ",", text)
    return text.strip(" ,")
