"""What the commands have in common: their options, how a library is opened for them, and where they print."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import is_dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console

from ..errors import SearchError
from ..library import Library
from ..records import IndexReport, to_json
from ..settings import load_settings
from ..spaces import EMBEDDINGS

Result = TypeVar("Result")

# Without emoji, which rich would make of :fire: in a path or a filter.
out = Console(emoji=False)
err = Console(stderr=True, emoji=False)

PARTS = ", ".join([*EMBEDDINGS, "clip_h_text (the text, in the pictures themselves)"])


def typed_path(text: str) -> Path:
    """A folder or file as it was typed. "" is left of a variable that is not set; it is not the current folder."""
    if not text:
        raise typer.BadParameter("It is empty. Write . for the folder that you are in.")
    return Path(text)


Home = Annotated[
    Path | None,
    typer.Option(
        help="Folder of the embedded database, downloaded weights and settings.toml.",
        envvar="DIFFUSION_TOOLKIT_HOME",
        parser=typed_path,
        metavar="PATH",
    ),
]
DatabaseUrl = Annotated[
    str | None,
    typer.Option(
        help="A PostgreSQL server in place of the embedded one.",
        envvar="DIFFUSION_TOOLKIT_DATABASE_URL",
        show_envvar=True,
    ),
]
LibraryName = Annotated[str | None, typer.Option("--library", help="Which library on that server (a schema).")]
Weights = Annotated[
    list[Path] | None, typer.Option(help="A folder to look for weights in; may be given again.", show_default=False)
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
ComfyUI = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="A running ComfyUI, as http://127.0.0.1:8188, whose own word on its nodes helps to read their graphs.",
    ),
]
Device = Annotated[str | None, typer.Option(help="Of the encoders: cpu, mps, cuda:0, or several: cuda:0,cuda:1.")]
Dtype = Annotated[str | None, typer.Option(help="float32, float16 or bfloat16; by the device if not given.")]
Embed = Annotated[bool, typer.Option("--embed/--no-embed", help="Embed them, or read their metadata alone.")]
ImageId = Annotated[int, typer.Argument(metavar="ID")]
TopK = Annotated[int, typer.Option(help="How many images.")]
Picture = Annotated[Path | None, typer.Option("--image", help="A picture to find similar ones to.")]
Filter = Annotated[
    str | None,
    typer.Option(
        "--filter",
        metavar="FILTER",
        help='Only images that meet it: "favorite:true rating:>=4 (fox or owl) -negative:blurry". See docs/filters.md.',
    ),
]
Weight = Annotated[
    list[str] | None,
    typer.Option(
        metavar="SPACE=W",
        help=f"How much a space counts; below 0, unlike is better. May be given again. Spaces: {PARTS}.",
        show_default=False,
    ),
]
Threshold = Annotated[
    list[str] | None,
    typer.Option(
        metavar="T|SPACE=T",
        help="The lowest score, or the lowest similarity of a space, as 0.5 or clip_h=0.7; may be given again.",
        show_default=False,
    ),
]


@contextmanager
def opened(
    home: Path | None,
    database_url: str | None,
    library: str | None,
    weights: Sequence[Path] | None = None,
    device: str | None = None,
    dtype: str | None = None,
    comfyui: str | None = None,
) -> Iterator[Library]:
    """The library that a command's options name, while the block runs."""
    settings = load_settings(
        home, weights=weights or (), database_url=database_url, library=library, device=device, dtype=dtype
    )
    # Asked before anything else is done, so that a wrong address is told at once.
    definitions = node_definitions(comfyui) if comfyui else None
    with Library(
        settings,
        node_definitions=None if definitions is None else lambda: definitions,
        on_wait=lambda message: err.print(message, markup=False),
    ) as images:
        yield images


def node_definitions(comfyui: str) -> Mapping[str, Any]:
    """What a running ComfyUI says of its nodes. Raises ComfyUIError."""
    from ..comfyui_server import fetch_node_definitions

    return fetch_node_definitions(comfyui)


def weights_by_space(items: Sequence[str] | None) -> dict[str, float]:
    """The values of --weight. Raises SearchError for what is not SPACE=W."""
    try:
        return dict(map(_named_number, items or ()))
    except ValueError as error:
        raise SearchError(f"--weight {str(error)!r} is not SPACE=W, like bge=0.5.") from None


def thresholds_by_space(items: Sequence[str] | None) -> tuple[float | None, dict[str, float]]:
    """The values of --threshold: the one for the whole score, and those by space. Raises SearchError."""
    try:
        named = dict(_named_number(item if "=" in item else f"={item}") for item in items or ())
    except ValueError as error:
        given = str(error).removeprefix("=")
        raise SearchError(f"--threshold {given!r} is not T or SPACE=T, like 0.5 or clip_h=0.7.") from None
    return named.pop("", None), named


def page_or_number(page: str | None) -> str | int | None:
    """The value of --page: a number where it is one."""
    try:
        return None if page is None else int(page)
    except ValueError:
        return page


def print_result(result: Result, as_json: bool, in_words: Callable[[Console, Result], None]) -> None:
    """Print what a command did or found, for programs or for people."""
    if as_json:
        print_json(result)
    else:
        in_words(out, result)


def print_json(value: Any, indent: int | None = 2) -> None:
    """Print records, or plain values with records in them."""
    # Not through rich, which would fold long lines; ASCII, so that any name survives any console.
    out.file.write(json.dumps(value, default=_plain, indent=indent) + "\n")


def exit_if_refused(report: IndexReport) -> None:
    """A space whose weights cannot be used makes it exit code 1; one without weights is only pending."""
    if report.refused:
        raise typer.Exit(1)


def _plain(value: Any) -> Any:
    return to_json(value) if is_dataclass(value) else str(value)


def _named_number(item: str) -> tuple[str, float]:
    """Raises ValueError with the item."""
    name, _, value = item.partition("=")
    try:
        return name, float(value)
    except ValueError:
        raise ValueError(item) from None
