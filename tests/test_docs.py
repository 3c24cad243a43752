"""What the pages in docs/ show works as it is shown: their Python, their SQL, their settings and their commands.

Every page starts with an empty library of its own and a home folder with twelve made pictures in ~/ComfyUI/output, and
with a database of DiffusionToolkit that has some of them. A ```text block shows what the block before it prints. There,
a number with decimals may be off by one in the last of them, since CPUs differ in how they round, and … stands for any
characters.
"""

from __future__ import annotations

import contextlib
import inspect
import io
import json
import os
import re
import shlex
import shutil
import sqlite3
import textwrap
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
import typer
from PIL import Image, PngImagePlugin

from toolkit_core.cli import app
from toolkit_core.database import Database
from toolkit_core.library import Library
from toolkit_core.settings import load_settings

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGES = ("search.md", "from-csharp.md", "following.md", "importing.md")

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INLINE_COMMAND = re.compile(r"`(diffusion-toolkit [^`]+)`")
DECIMAL = re.compile(r"-?\d+\.\d+")

LIGHTHOUSE, MOUNTAINS, FOREST, FOX, PAPER = 85, 78, 33, 2, 92
# By name: what is in the picture, how far it is from the first one of it, its prompt and its negative prompt.
PICTURES: dict[str, tuple[int, float, str | None, str | None]] = {
    "forest-1.png": (FOREST, 0.0, "a quiet winter forest in the snow", "people"),
    "forest-2.png": (FOREST, 0.3, "winter forest, falling snow", "people"),
    "fox-1.png": (FOX, 0.0, "a red fox in fresh snow", "blurry, text"),
    "fox-2.png": (FOX, 0.2, "a red fox asleep in fresh snow", "blurry"),
    "lighthouse-1.png": (LIGHTHOUSE, 0.0, "a lighthouse in a storm, oil painting", "blurry, text"),
    "lighthouse-2.png": (LIGHTHOUSE, 0.1, "a lighthouse in a storm at night, oil painting", "blurry, text"),
    "lighthouse-3.png": (LIGHTHOUSE, 0.3, "a lighthouse at dawn, oil painting", "blurry, text"),
    "mountains-1.png": (MOUNTAINS, 0.0, "beautiful landscape with mountains", "people"),
    "mountains-2.png": (MOUNTAINS, 0.2, "beautiful landscape with mountains and a lake", "people"),
    "mountains-3.png": (MOUNTAINS, 0.3, "beautiful landscape with mountains at sunrise", None),
    "paper.png": (PAPER, 0.0, None, None),
}
# By its path in DiffusionToolkit: favourite, rating and album there.
TOOLKIT: dict[str, tuple[int, int | None, str | None]] = {
    "D:\\renders\\fox-1.png": (1, 10, "Best of"),
    "D:\\renders\\fox-2.png": (0, 3, "Best of"),
    "D:\\renders\\paper.png": (1, None, None),
    "E:\\old\\lost.png": (0, 8, None),
}
COPIES = {"fox-1-copy.png": "fox-1.png"}


@dataclass(frozen=True)
class Block:
    """A fenced block of a page. line: of the page, where its first line is."""

    language: str
    text: str
    line: int


def blocks(page: str) -> list[Block]:
    return [Block(found[1], found[2], page.count("\n", 0, found.start(2)) + 1) for found in BLOCK.finditer(page)]


class Reader:
    """A person who follows a page: runs its blocks in order, in one Python session, on one library."""

    def __init__(self, home: Path, database: Database) -> None:
        self._home = home
        self._database = database
        self._page = home
        self._names: dict[str, Any] = {}

    def follow(self, page: Path) -> None:
        """Fails with the page and the line of the first block that does not do what is shown."""
        self._page = page
        shown = blocks(page.read_text(encoding="utf-8"))
        try:
            for block, following in zip(shown, [*shown[1:], None], strict=True):
                printed = self._run(block)
                if block.language != "text" and following is not None and following.language == "text":
                    self._compare(printed, following)
                elif printed:
                    self._fail(block.line, f"prints what is not shown in a ```text block below it:\n{printed}")
        finally:
            for value in self._names.values():
                if isinstance(value, Library):
                    value.close()

    def _run(self, block: Block) -> str:
        """What a block prints, with ~ for the home folder."""
        printed = ""
        try:
            if block.language == "python":
                printed = self._python(block)
            elif block.language == "sql":
                printed = self._sql(block)
            elif block.language == "toml":
                self._settings(block)
        except Exception as error:
            self._fail(self._line(block, error), "".join(traceback.format_exception(error)))
        return self._tidy(printed)

    def _python(self, block: Block) -> str:
        # Empty lines before it, so that tracebacks name the page's own lines.
        code = compile("\n" * (block.line - 1) + block.text, str(self._page), "exec")
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(code, self._names)  # noqa: S102
        return printed.getvalue()

    def _sql(self, block: Block) -> str:
        with psycopg.connect(self._database.conninfo) as connection:
            connection.execute(f'SET search_path TO "{self._database.schema}", public'.encode())
            cursor = connection.execute(block.text.encode())
            assert cursor.description is not None
            rows = [[self._tidy(value) if isinstance(value, str) else value for value in row] for row in cursor]
            return table([column.name for column in cursor.description], rows)

    def _settings(self, block: Block) -> None:
        folder = self._home / "settings of the page"
        folder.mkdir(exist_ok=True)
        (folder / "settings.toml").write_text(block.text, encoding="utf-8")
        load_settings(folder)

    def _tidy(self, text: str) -> str:
        return text.replace(str(self._home), "~").replace(os.sep, "/")

    def _line(self, block: Block, error: Exception) -> int:
        """Where on the page an error comes from: its last line that ran, or that could not be read."""
        if isinstance(error, SyntaxError):
            return error.lineno or block.line
        frames = traceback.extract_tb(error.__traceback__)
        ran = [frame.lineno for frame in frames if frame.filename == str(self._page) and frame.lineno]
        return ran[-1] if ran else block.line

    def _compare(self, printed: str, shown: Block) -> None:
        got, wanted = printed.splitlines(), shown.text.splitlines()
        for number, line in enumerate(wanted):
            if number >= len(got) or not is_as_shown(got[number], line):
                found = repr(got[number]) if number < len(got) else "nothing"
                self._fail(shown.line + number, f"shows {line!r}, but {found} is printed. All of it:\n{printed}")
        if len(got) > len(wanted):
            self._fail(shown.line + len(wanted), f"shows nothing more, but {got[len(wanted)]!r} is printed")

    def _fail(self, line: int, what: str) -> None:
        pytest.fail(f"{self._page.parent.name}/{self._page.name}:{line}: {what}", pytrace=False)


def is_as_shown(printed: str, shown: str) -> bool:
    """Whether two lines are equal but for what this file's first lines allow."""
    pattern = "".join(
        ".*" if part == "…" else f"({DECIMAL.pattern})" if DECIMAL.fullmatch(part) else re.escape(part)
        for part in re.split(rf"(…|{DECIMAL.pattern})", shown.rstrip())
    )
    found = re.fullmatch(pattern, printed.rstrip())
    if found is None:
        return False
    pairs = zip(found.groups(), DECIMAL.findall(shown), strict=True)
    return all(abs(float(one) - float(other)) < 1.5 * 10 ** -len(other.split(".")[1]) for one, other in pairs)


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Rows as psql shows them, with numbers to two decimals."""
    cells = [[f"{value:.2f}" if isinstance(value, float) else str(value) for value in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    lines = [
        " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in [columns, *cells]
    ]
    lines.insert(1, "-+-".join("-" * width for width in widths))
    return "".join(f" {line.rstrip()}\n" for line in lines)


@pytest.fixture
def reader(tmp_path: Path, database: Database, tiny_weights: Path, monkeypatch: pytest.MonkeyPatch) -> Reader:
    """One with pictures in ComfyUI's output folder, and settings that lead to a library of the test server."""
    folder = Path(os.path.realpath(tmp_path)) / "reader"
    paint(folder / "ComfyUI" / "output")
    write_toolkit(folder / "diffusion-toolkit.db")
    settings = {"database_url": database.conninfo, "library": database.schema}
    lines = [f"{name} = {json.dumps(value)}" for name, value in settings.items()]
    lines += ["[weights]", f"folders = [{json.dumps(str(tiny_weights))}]"]
    (folder / "settings.toml").write_text("\n".join(lines), encoding="utf-8")
    for name in ("HOME", "USERPROFILE", "DIFFUSION_TOOLKIT_HOME"):
        monkeypatch.setenv(name, str(folder))
    monkeypatch.chdir(folder)
    return Reader(folder, database)


def paint(folder: Path) -> None:
    """Write the pictures: each a few colours, the same in every run, a day later than the one before."""
    folder.mkdir(parents=True)
    for name, (subject, distance, prompt, negative) in PICTURES.items():
        colors = (1 - distance) * _colors(subject) + distance * _colors(sum(name.encode()))
        metadata = PngImagePlugin.PngInfo()
        if prompt is not None:
            lines = [prompt, *([f"Negative prompt: {negative}"] if negative is not None else [])]
            lines.append("Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 7, Size: 320x240, Model: juggernautXL")
            metadata.add_text("parameters", "\n".join(lines))
        picture = Image.fromarray(colors.astype(np.uint8)).resize((320, 240), Image.Resampling.BICUBIC)
        picture.save(folder / name, pnginfo=metadata)
    for copy, name in COPIES.items():
        shutil.copy(folder / name, folder / copy)
    for day, path in enumerate(sorted(folder.iterdir()), 1):
        noon = datetime(2026, 3, day, 12).astimezone().timestamp()
        os.utime(path, (noon, noon))


def write_toolkit(path: Path) -> None:
    """Write the database of DiffusionToolkit, without what is not read of it."""
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute('CREATE TABLE "Image" ("Id" integer primary key, "Path", "Favorite", "Rating")')
        connection.execute('CREATE TABLE "Album" ("Id" integer primary key, "Name")')
        connection.execute('CREATE TABLE "AlbumImage" ("AlbumId", "ImageId")')
        connection.execute('INSERT INTO "Album" VALUES (1, ?)', ["Best of"])
        for id, (picture, (favorite, rating, album)) in enumerate(TOOLKIT.items()):
            connection.execute('INSERT INTO "Image" VALUES (?, ?, ?, ?)', [id, picture, favorite, rating])
            if album is not None:
                connection.execute('INSERT INTO "AlbumImage" VALUES (1, ?)', [id])


def _colors(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (6, 8, 3)).astype(np.float64)


@pytest.mark.parametrize("page", PAGES)
def test_page_does_what_it_shows(page: str, reader: Reader) -> None:
    reader.follow(DOCS / page)


def test_example_of_the_library_does_what_it_shows(reader: Reader, tmp_path: Path) -> None:
    described = inspect.getdoc(Library)
    assert described is not None
    example = textwrap.dedent("\n".join(line for line in described.splitlines() if line.startswith("    ")))
    imported = "from toolkit_core.library import Library"
    shown = "\n".join(["…"] * 10)  # its ten hits
    page = tmp_path / "Library.md"
    page.write_text(f"```python\n{imported}\n{example}\n```\n\n```text\n{shown}\n```\n", encoding="utf-8")
    reader.follow(page)


@pytest.mark.parametrize("page", PAGES)
def test_commands_and_their_options_exist(page: str) -> None:
    text = (DOCS / page).read_text(encoding="utf-8")
    lines = [line for block in blocks(text) if block.language == "sh" for line in block.text.splitlines()]
    commands = [line for line in lines if line.startswith("diffusion-toolkit ")] + INLINE_COMMAND.findall(text)
    assert commands
    for command in commands:
        check_command(command)


def check_command(line: str) -> None:
    """Has the command line read a command, and not run it. Raises a usage error that says what is wrong with it."""
    command: Any = typer.main.get_command(app)
    name, arguments = "diffusion-toolkit", shlex.split(line, comments=True)[1:]
    context = command.make_context(name, list(arguments))
    while arguments and hasattr(command, "resolve_command"):
        name, command, arguments = command.resolve_command(context, arguments)
        context = command.make_context(name, list(arguments), parent=context)


@pytest.mark.parametrize(
    "command", ["diffusion-toolkit find fox", "diffusion-toolkit search fox --top 3", "diffusion-toolkit models fetch"]
)
def test_command_that_does_not_exist_is_noticed(command: str) -> None:
    with pytest.raises(Exception, match=r"No such (command|option)"):
        check_command(command)


def test_block_that_fails_is_named_with_its_line(database: Database, tmp_path: Path) -> None:
    for page, said in {
        "# Page\n\n```python\nx = 1\nprint(x)\n```\n": r"page\.md:4: prints what is not shown",
        "# Page\n\n```python\nprint(1)\n```\n\n```text\n2\n```\n": r"page\.md:8: shows '2', but '1' is printed",
        "```python\nprint(1)\n```\n\n```text\n```\n": r"page\.md:6: shows nothing more, but '1' is printed",
        "```python\nx = 1\n\nassert x == 2\n```\n": r"page\.md:4: .*AssertionError",
        "```python\nx = (1\n```\n": r"page\.md:2: .*SyntaxError",
        "```sql\nSELECT id FROM picture\n```\n": r'page\.md:2: .*relation "picture" does not exist',
        "```toml\nindex = 'best'\n```\n": r"page\.md:2: .*index is 'best'",
    }.items():
        (tmp_path / "page.md").write_text(page)
        with pytest.raises(pytest.fail.Exception, match=f"(?s){said}"):
            Reader(tmp_path, database).follow(tmp_path / "page.md")


@pytest.mark.parametrize(
    ("printed", "shown", "same"),
    [
        ("0.75  fox-1.png", "0.75  fox-1.png", True),
        ("0.74  fox-1.png", "0.75  fox-1.png", True),
        ("0.73  fox-1.png", "0.75  fox-1.png", False),
        ("0.75  fox-2.png", "0.75  fox-1.png", False),
        ("page WzUsMTJd of 3", "page … of 3", True),
        ("12 images", "13 images", False),
    ],
)
def test_shown_line_is_met_up_to_the_last_decimal(printed: str, shown: str, same: bool) -> None:
    assert is_as_shown(printed, shown) == same
