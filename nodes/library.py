"""The one library of this ComfyUI: opened on first use, from ComfyUI's folders and the settings file.

The only file of the pack that knows `folder_paths`.
"""

from __future__ import annotations

import atexit
import json
import logging
import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import folder_paths

from ..toolkit_core.errors import DatabaseError, FolderNotAllowed, ToolkitError
from ..toolkit_core.settings import HOME_VARIABLE

if TYPE_CHECKING:
    from ..toolkit_core.library import Library

logger = logging.getLogger(__name__)

_lock = threading.Lock()
_library: Library | None = None


@contextmanager
def opened_library() -> Iterator[Library]:
    """The library, opened where it is not open yet. Raises SettingsError, DatabaseError.

    After a DatabaseError it is opened anew by the next use, which also starts a stopped embedded server again.
    """
    library = _open()
    try:
        yield library
    except DatabaseError:
        _close(library)
        raise


def library_revision() -> str:
    """What `fingerprint_inputs` returns: another text after every change of the library.

    Where it can't be had, a text that never comes again: the node runs and shows its error.
    """
    try:
        with opened_library() as library:
            return library.revision()
    except ToolkitError as error:
        logger.warning("The library's revision is not known: %s", error)
        return f"unknown at {time.time_ns()}"


def is_opened() -> bool:
    """Whether something uses the library already."""
    return _library is not None


def output_folder() -> Path:
    return Path(folder_paths.get_output_directory())


def user_settings() -> list[Mapping[str, Any]]:
    """What each of ComfyUI's users has set in its editor, by the setting's id. Mostly there is one user."""
    folders = list(Path(folder_paths.get_user_directory()).glob("*/comfy.settings.json"))
    return [
        settings for path in folders if not path.parent.name.startswith("__") and (settings := _read_settings(path))
    ]


def _read_settings(path: Path) -> Mapping[str, Any]:
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # it is being written
        return {}
    return settings if isinstance(settings, dict) else {}


def home_folder() -> Path:
    return Path(os.environ.get(HOME_VARIABLE) or folder_paths.get_system_user_directory("diffusion_toolkit"))


def allowed_folder(folder: str) -> Path:
    """The real path of a folder that a node may read.

    folder: "output", "input", a path below one of these, or a full path. Raises FolderNotAllowed where it does not lie
    in ComfyUI's output or input folder or a root of the settings file, with how to allow it.
    """
    comfyui = {"output": folder_paths.get_output_directory(), "input": folder_paths.get_input_directory()}
    given = Path(folder.strip() or "output")
    if not given.is_absolute():
        first, *rest = given.parts
        if first not in comfyui:
            raise FolderNotAllowed(
                f"The folder {folder!r} is neither a full path nor one that begins with output or input, such as "
                "output/portraits."
            )
        given = Path(comfyui[first], *rest)
    with opened_library() as library:
        roots = [*comfyui.values(), *map(str, library.settings.roots)]
        settings_file = library.settings.home / "settings.toml"
    real = Path(os.path.realpath(given))
    if not any(real.is_relative_to(os.path.realpath(root)) for root in roots):
        raise FolderNotAllowed(
            f"The folder {folder!r} lies outside ComfyUI's output and input folders. To allow it, add the line "
            f"roots = ['{given}'] to {settings_file} and restart ComfyUI."
        )
    return real


def node_definitions() -> Mapping[str, Any]:
    """What `/object_info` says of this ComfyUI's nodes, as far as types go; a node that cannot tell is left out."""
    import nodes  # ComfyUI's own; only here is every pack loaded

    definitions: dict[str, Any] = {}
    for name, node in list(nodes.NODE_CLASS_MAPPINGS.items()):
        try:
            # Through JSON as the server sends it, which makes lists of tuples and texts of texts' subclasses.
            definitions[name] = json.loads(json.dumps(_definition(node), default=str))
        except Exception:  # It may be any pack's.
            logger.debug("The node %s does not say what its inputs are.", name, exc_info=True)
    return definitions


def _definition(node: Any) -> Mapping[str, Any]:
    if hasattr(node, "GET_NODE_INFO_V1"):
        return node.GET_NODE_INFO_V1()
    inputs = node.INPUT_TYPES()
    return {
        "input": inputs,
        "input_order": {kind: list(named) for kind, named in inputs.items()},
        "output": node.RETURN_TYPES,
    }


def _open() -> Library:
    global _library
    with _lock:
        if _library is None:
            # Not before: ComfyUI prints each pack's import time, and most of ours would be the database driver's.
            from ..toolkit_core.library import Library

            weights = [*folder_paths.get_folder_paths("text_encoders"), *folder_paths.get_folder_paths("clip_vision")]
            _library = Library.open(
                home_folder(), weights=list(dict.fromkeys(weights)), node_definitions=node_definitions
            )
            logger.info("Opened %s", _library.database.describe())
        return _library


def _close(library: Library | None) -> None:
    global _library
    with _lock:
        if library is not _library or library is None:
            return
        _library = None
    try:
        library.close()
    except (ToolkitError, OSError) as error:
        logger.warning("The library could not be closed: %s", error)


@atexit.register
def _close_at_exit() -> None:
    _close(_library)
