"""Which input each saved widget value of a workflow's node belongs to. What is not known is left out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .types import NodeTypes
from .workflow_graph import Socket, WorkflowNode

_POWER_LORAS = "Power Lora Loader (rgthree)"
_CONTROLS = ("control_after_generate", "control_filter_list")
_CONTROL_VALUES = ("fixed", "increment", "decrement", "randomize", "increment-wrap")
_WEIGHTS = (".safetensors", ".ckpt", ".gguf", ".sft", ".pt", ".pth")


def widget_values(node: WorkflowNode, types: NodeTypes) -> dict[str, Any]:
    """The values of a node's widgets by input name.

    A file may name them itself (as the frontend does since 1.45, and some packs always did); else they stand in the
    order of the class's widgets. From a value on that is not of its widget's type, the class was another version.
    """
    if isinstance(node.values, dict):
        return {name: value for name, value in node.values.items() if isinstance(name, str)}
    values = node.values if isinstance(node.values, list) else []
    names = types.widgets(node.class_type, values)
    if isinstance(node.named_values, dict):
        named = {name: value for name, value in node.named_values.items() if isinstance(name, str)}
        return {name: value for name, value in named.items() if (name in names if names else name not in _CONTROLS)}
    if node.class_type == _POWER_LORAS:
        return _power_loras(values)
    if names is None:
        names = _names_of_sockets(node, values)
    if names is None:
        return _only_text(node, values)
    linked = {socket.name for socket in node.inputs if socket.link is not None}
    found: dict[str, Any] = {}
    for name, value in zip(names, values, strict=False):
        if name is None:
            continue
        if name not in linked and not _fits(value, types.input_type(node.class_type, name)):
            break
        found[name] = value
    return found


def _fits(value: Any, kind: str | None) -> bool:
    if value is None:
        return True
    if kind in ("INT", "FLOAT"):
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if kind == "BOOLEAN":
        return isinstance(value, bool)
    return kind != "STRING" or isinstance(value, str)


def _names_of_sockets(node: WorkflowNode, values: Sequence[Any]) -> tuple[str | None, ...] | None:
    """The names where each widget has a socket, as in all files of frontends since 1.16 that were not queued."""
    names: list[str | None] = []
    for socket in node.inputs:
        if socket.widget is None:
            continue
        names.append(socket.widget)
        if socket.type in ("INT", "COMBO") and len(names) < len(values) and _is_control(values[len(names)]):
            names.append(None)
    return tuple(names) if names and len(names) == len(values) else None


def _is_control(value: Any) -> bool:
    return isinstance(value, str) and value in _CONTROL_VALUES


def _only_text(node: WorkflowNode, values: Sequence[Any]) -> dict[str, Any]:
    """The one text of a class never seen, where its sockets leave no doubt what it is for."""
    texts = [value for value in values if isinstance(value, str) and not _is_control(value)]
    if len(texts) != 1:
        return {}
    taken, given = _types_of(node.inputs), _types_of(node.outputs)
    if "CLIP" in taken and given == {"CONDITIONING"} and "CONDITIONING" not in taken:
        return {"text": texts[0]}
    if not taken and given == {"STRING"}:
        return {"text": texts[0]}
    if "MODEL" in given and "MODEL" not in taken and texts[0].lower().endswith(_WEIGHTS):
        return {"ckpt_name": texts[0]}
    return {}


def _types_of(sockets: Sequence[Socket]) -> set[str]:
    return {socket.type for socket in sockets}


def _power_loras(values: Sequence[Any]) -> dict[str, Any]:
    """rgthree's list of LoRAs, each an object, between widgets of the editor's own."""
    loras = [value for value in values if isinstance(value, dict) and "lora" in value]
    return {f"lora_{number}": lora for number, lora in enumerate(loras, 1)}
