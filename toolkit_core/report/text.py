"""Texts as a terminal can show them, whatever a file name or a prompt holds."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text


def printable(text: str) -> str:
    """A text on one line of a terminal, whatever a file name holds."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


def lines(text: str) -> str:
    """A text of several lines on a terminal: printable but for its line ends and tabs."""
    return "\n".join("\t".join(map(printable, line.split("\t"))) for line in text.splitlines())


def shortened(prompt: str | None, length: int = 120) -> Text:
    text = printable(prompt or "")
    return Text(text if len(text) <= length else text[: length - 1] + "…")


def print_rows(console: Console, title: str, rows: Sequence[tuple[str, object]]) -> None:
    """A table of names and values, without those that are missing."""
    table = Table(show_header=False, title=title, title_justify="left")
    for name, value in rows:
        if value not in (None, ""):
            table.add_row(name, Text(printable(str(value))))
    console.print(table)
