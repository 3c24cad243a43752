"""What the README shows works as it is shown."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
from typer.main import get_command

from toolkit_core.cli import app
from toolkit_core.library import Library
from toolkit_core.search import parse_filter

MakePicture = Callable[..., Path]

README = Path(__file__).resolve().parents[1] / "README.md"


def block(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    return found[1]


def test_python_example_runs(home: Path, tiny_weights: Path, make_picture: MakePicture) -> None:
    picture = make_picture("reference.png", "a lighthouse in a storm")
    code = block("python")
    for shown, real in (
        ("~/ComfyUI/models", tiny_weights),
        ("~/ComfyUI/output", picture.parent),
        ("reference.png", picture),
    ):
        assert f'"{shown}"' in code
        code = code.replace(f'"{shown}"', repr(str(real)))
    environment = {**os.environ, "DIFFUSION_TOOLKIT_HOME": str(home)}
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            f"{code}\nassert sorted(vectors) == ['bge', 'bge_negative', 'clip_g', 'clip_h', 'clip_l']",
        ],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    assert "a lighthouse in a storm" in done.stdout


def test_sql_example_runs(library: Library, make_picture: MakePicture) -> None:
    library.index([make_picture(f"{n}.png", f"prompt {n}") for n in range(3)])
    [first, *_] = library.search("prompt")
    with psycopg.connect(library.status().database["connection"]) as connection:
        connection.execute(f"SET search_path TO {library.database.schema}, public".encode())
        rows = connection.execute(block("sql").replace("123", str(first.id)).encode()).fetchall()
    assert rows[0][0] == first.id
    assert len(rows) == 3


def test_command_lines_are_understood() -> None:
    text = README.read_text(encoding="utf-8")
    lines = [
        shlex.split(line, comments=True) for line in re.findall(r"^    (diffusion-toolkit .*)", text, re.MULTILINE)
    ]
    assert len(lines) > 15
    program: Any = get_command(app)
    for _, name, *arguments in lines:
        # Parsed and not run. A command or an option that is not there is an error.
        given = program.commands[name].make_context(name, arguments).params
        parse_filter(given.get("filter") or "")


def test_settings_example_is_valid(tmp_path: Path) -> None:
    from toolkit_core.settings import load_settings

    (tmp_path / "settings.toml").write_text(block("toml"), encoding="utf-8")
    assert load_settings(tmp_path).library == "landscapes"
