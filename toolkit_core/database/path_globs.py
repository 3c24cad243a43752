"""Patterns of paths, as PostgreSQL compares them with the stored ones."""

from __future__ import annotations

import re

from .stored_text import storable, stored_path

ABSOLUTE = re.compile(r"[/\\]|[A-Za-z]:[/\\]")
WINDOWS = re.compile(r"[/\\]{2}|[A-Za-z]:[/\\]")
WILDCARDS = re.compile(r"[*?]")
# At the start two separators are a server's; anywhere else they are one.
PARTS = re.compile(
    r"(?P<server>\A[/\\]{2,})|(?P<folders>(?:(?<=[/\\])|\A)(?:\*\*+[/\\]+)+)|(?P<separator>[/\\]+)|\*\*+|\*|\?|.", re.S
)
SEPARATOR = r"[/\\]"
WITHIN_A_NAME = r"[^/\\]"
LAST_CHARACTER = 0x10FFFF


def as_regex(pattern: str) -> str:
    """A regular expression that matches the stored paths a glob means. See `filters.PathGlob`."""
    pattern = _stored(pattern)
    start = "^" if ABSOLUTE.match(pattern) else f"(?:^|{SEPARATOR})"
    return start + "".join(map(_part, PARTS.finditer(pattern))) + _end(pattern)


def as_range(pattern: str) -> tuple[str, str] | None:
    """The range of stored paths in which all that an absolute glob means lie, for the index; None where that is any.

    The first text is in it, the second one is not.
    """
    pattern = _stored(pattern)
    if not ABSOLUTE.match(pattern):
        return None
    literal = WILDCARDS.split(pattern, maxsplit=1)[0]
    if WINDOWS.match(pattern):
        server, rest = ("\\\\", literal.lstrip("/\\")) if literal[0] in "/\\" else ("", literal)
        literal = server + re.sub(SEPARATOR + "+", r"\\", rest)
    else:
        # A path of another system: / is what it has stored, and \ may be a separator or not.
        literal = re.sub("/+", "/", literal.partition("\\")[0])
    return _range_of(literal) if literal else None


def _stored(pattern: str) -> str:
    return storable(stored_path(pattern))


def _end(pattern: str) -> str:
    if pattern.endswith(("/", "\\")):
        return ""
    return "$" if WILDCARDS.search(pattern) else f"(?:$|{SEPARATOR})"


def _part(match: re.Match[str]) -> str:
    if match["server"]:
        return SEPARATOR * 2
    if match["folders"]:
        return f"(?:.*{SEPARATOR})?"
    if match["separator"]:
        return SEPARATOR
    text = match[0]
    if text in ("*", "?"):
        return WITHIN_A_NAME + text.replace("?", "")
    if text.startswith("**"):
        return ".*"
    return text if text.isalnum() or ord(text) > 127 else "\\" + text


def _range_of(prefix: str) -> tuple[str, str] | None:
    """The texts that begin with a prefix, in "C" order: those from it up to its successor."""
    kept = prefix.rstrip(chr(LAST_CHARACTER))
    if not kept:
        return None
    following = ord(kept[-1]) + 1
    return prefix, kept[:-1] + chr(0xE000 if 0xD800 <= following <= 0xDFFF else following)
