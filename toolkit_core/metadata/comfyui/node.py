"""One node of a ComfyUI graph in API format, and the links between nodes."""

from __future__ import annotations

from typing import Any, NamedTuple


class Link(NamedTuple):
    """A link to an output slot of a node."""

    node: str
    slot: int


class Node:
    """One node: its class, all inputs, those of them that are links to nodes of this graph, and the known types.

    `types` has no entry for an input whose type is not known, or may be any.
    """

    __slots__ = ("class_type", "id", "inputs", "links", "types")

    def __init__(self, node_id: str, class_type: str, inputs: dict[str, Any]) -> None:
        self.id = node_id
        self.class_type = class_type
        self.inputs = inputs
        self.links: dict[str, Link] = {}
        self.types: dict[str, str] = {}

    def __str__(self) -> str:
        return f"node {self.id} {self.class_type}"


class Origin(NamedTuple):
    """Where a value was found: an input of a node, or "" for what the node itself makes."""

    node: Node
    name: str

    def __str__(self) -> str:
        return f"{self.node}.{self.name}" if self.name else str(self.node)


def as_link(value: Any) -> Link | None:
    """A link is [node id, output slot], as ComfyUI's own `is_link` has it; other programs write the id as a number."""
    if not isinstance(value, list) or len(value) != 2:
        return None
    node, slot = value
    if isinstance(slot, float) and slot.is_integer():
        slot = int(slot)
    if isinstance(node, bool) or isinstance(slot, bool) or not isinstance(slot, int):
        return None
    return Link(str(node), slot) if isinstance(node, (str, int)) else None
