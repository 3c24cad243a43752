"""Where a library lives and what it is made with: the settings file, the environment, and explicit arguments."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import platformdirs

from .errors import SettingsError
from .named_paths import named_path
from .spaces import DTYPES, INDEX_KINDS, SPACES, IndexKind

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

HOME_VARIABLE = "DIFFUSION_TOOLKIT_HOME"
DATABASE_VARIABLE = "DIFFUSION_TOOLKIT_DATABASE_URL"
DEFAULT_LIBRARY = "diffusion_toolkit"


@dataclass(frozen=True)
class Settings:
    """Everything a library is opened with.

    home: the folder of the embedded database, downloaded weights and `settings.toml`.
    database_url: a PostgreSQL server of the user's own; None for the embedded one.
    library: the schema that holds the library; one server holds many.
    weights_folders: searched for weights, in this order. weights_files: a file or folder for a space, by name.
    roots: folders outside ComfyUI's own that nodes may read.
    index: of the vectors: "hnsw"; "hnsw_binary", which takes a sixth of the memory; or "ivfflat".
    pair_index: one more index, over prompt and picture at once, for searches that weigh both; 8 KB an image.
    device, dtype: of the encoders ("cuda:0", "cpu"; "float16", "bfloat16", "float32"); None to choose by the machine.
    Of several devices, with commas between them, each encodes a share.
    """

    home: Path
    database_url: str | None = None
    library: str = DEFAULT_LIBRARY
    weights_folders: tuple[Path, ...] = ()
    weights_files: Mapping[str, Path] = field(default_factory=dict)
    roots: tuple[Path, ...] = ()
    index: IndexKind = "hnsw"
    pair_index: bool = False
    device: str | None = None
    dtype: str | None = None

    @property
    def downloads(self) -> Path:
        """Where downloaded weights are put, and looked for after `weights_folders`."""
        return self.home / "weights"

    @property
    def device_count(self) -> int:
        """How many devices encode side by side."""
        return 1 + (self.device or "").count(",")


def load_settings(home: Path | str | None = None, *, weights: Sequence[Path | str] = (), **overrides: Any) -> Settings:
    """Settings from `home`/settings.toml, the environment, and the overrides that are not None, the last one winning.

    `weights` are folders that are searched before those of the file. Raises SettingsError for a file that cannot be
    read, or holds an unknown or wrong value, and for a dtype that there is not; PathNotFound for what no path can be.
    """
    named = home or os.environ.get(HOME_VARIABLE) or platformdirs.user_data_dir("diffusion-toolkit", False)
    folder = named_path(named).absolute()
    values = _read_file(folder / "settings.toml")
    if url := os.environ.get(DATABASE_VARIABLE):
        values["database_url"] = url
    values.update((name, value) for name, value in overrides.items() if value is not None)
    if (dtype := values.get("dtype")) not in (None, *DTYPES):
        raise SettingsError(f"There is no dtype {dtype!r} for encoders; there are {', '.join(DTYPES)}.")
    values["weights_folders"] = (
        *map(named_path, weights),
        *values.get("weights_folders", ()),
    )
    return replace(Settings(folder), **values)


def _read_file(path: Path) -> dict[str, Any]:
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise SettingsError(
            f"{path} cannot be read: {error}. Write Windows paths in single quotes, or with forward slashes."
        ) from error
    weights = content.pop("weights", {})
    readers = {
        "database_url": _text,
        "library": _text,
        "roots": _folders,
        "index": _index_kind,
        "pair_index": _yes_or_no,
        "device": _text,
        "dtype": _dtype,
    }
    if not isinstance(weights, dict):
        raise SettingsError(f"{path}: [weights] is a table with `folders` and one path a space.")
    values: dict[str, Any] = {}
    for name, value in content.items():
        if name not in readers:
            raise SettingsError(f"{path}: unknown setting {name!r}. Known: {', '.join(readers)}, [weights].")
        values[name] = readers[name](path, name, value)
    files: dict[str, Path] = {}
    for name, value in weights.items():
        if name == "folders":
            values["weights_folders"] = _folders(path, "weights.folders", value)
        elif name in SPACES:
            files[name] = named_path(_text(path, f"weights.{name}", value))
        else:
            raise SettingsError(f"{path}: unknown setting weights.{name}. Known: folders, {', '.join(SPACES)}.")
    if files:
        values["weights_files"] = files
    return values


def _text(path: Path, name: str, value: object) -> str:
    if not isinstance(value, str) or not value:
        raise SettingsError(f"{path}: {name} is {value!r}, but has to be a text.")
    return value


def _index_kind(path: Path, name: str, value: object) -> str:
    if value not in INDEX_KINDS:
        raise SettingsError(f"{path}: {name} is {value!r}; there are {', '.join(INDEX_KINDS)}.")
    return value


def _dtype(path: Path, name: str, value: object) -> str:
    if value not in DTYPES:
        raise SettingsError(f"{path}: {name} is {value!r}; there are {', '.join(DTYPES)}.")
    return str(value)


def _yes_or_no(path: Path, name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise SettingsError(f"{path}: {name} is {value!r}, but has to be true or false.")
    return value


def _folders(path: Path, name: str, value: object) -> tuple[Path, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise SettingsError(f"{path}: {name} is {value!r}, but has to be a list of folders.")
    return tuple(map(named_path, value))
