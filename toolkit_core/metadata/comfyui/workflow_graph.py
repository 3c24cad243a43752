"""A ComfyUI workflow as its file holds it: graphs of nodes and links, and a scope for every instance of a subgraph.

Everything in the file is untrusted: what has not its shape is left out, and instances are made up to a budget.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any, NamedTuple

from .group_nodes import group_definition

MUTED = 2
BYPASSED = 4
ANY = "*"
MAX_SIZE = 200_000
"""How many nodes, sockets and values all instances together may have; subgraphs in subgraphs multiply."""
MAX_DEPTH = 32
MAX_SOCKETS = 256

_SUBGRAPH_INPUT = "-10"
_SUBGRAPH_OUTPUT = "-20"
_SETTERS = ("SetNode", "easy setNode")

LinkId = int | str


class Socket(NamedTuple):
    """An input or output of a node. `widget` is the name of the widget that this input is the socket of."""

    name: str
    type: str
    link: LinkId | None
    widget: str | None


class Link(NamedTuple):
    """A link from an output slot of a node to an input slot of another; ids as texts."""

    origin: str
    origin_slot: int
    target: str
    target_slot: int


class WorkflowNode:
    """One node of a workflow: its sockets, and the values of its widgets as the file has them."""

    def __init__(self, node_id: str, class_type: str, raw: Mapping[str, Any]) -> None:
        self.id = node_id
        self.class_type = class_type
        self.inputs = _sockets(raw.get("inputs"))
        self.outputs = _sockets(raw.get("outputs"))
        self.values = raw.get("widgets_values")
        self.named_values = raw.get("widgets_values_named")
        self.properties: Mapping[str, Any] = _mapping(raw.get("properties"))
        mode = raw.get("mode")
        self.mode = mode if isinstance(mode, int) else 0
        order = raw.get("order")
        self.order = order if isinstance(order, int) else 0

    @property
    def is_active(self) -> bool:
        return self.mode not in (MUTED, BYPASSED)

    @cached_property
    def slots(self) -> dict[str, int]:
        """The slots of its inputs by name; the first of a name counts."""
        return {socket.name: slot for slot, socket in reversed(list(enumerate(self.inputs)))}

    @cached_property
    def sockets_then_widgets(self) -> list[int]:
        """The slots of its inputs as the editor orders them."""
        return sorted(range(len(self.inputs)), key=lambda slot: self.inputs[slot].widget is not None)

    @cached_property
    def input_types(self) -> list[frozenset[str]]:
        return [types_of(socket.type) for socket in self.inputs]

    @property
    def first_value(self) -> Any:
        """What its first widget holds."""
        return self.values[0] if isinstance(self.values, list) and self.values else None


class WorkflowGraph:
    """The nodes and links of a workflow or of a subgraph's definition, which also has inputs and outputs."""

    def __init__(self, raw: Mapping[str, Any]) -> None:
        nodes = [node for value in _list(raw.get("nodes")) if (node := _node(value))]
        self.nodes = {node.id: node for node in sorted(nodes, key=lambda node: node.order)}
        self.links = dict(_links(raw.get("links")))
        self.inputs = [socket.name for socket in _sockets(raw.get("inputs"))]
        self.slots = {name: slot for slot, name in reversed(list(enumerate(self.inputs)))}
        self.input_id = _border_id(raw.get("inputNode"), _SUBGRAPH_INPUT)
        self._input_links = [
            link_id
            for socket in _list(raw.get("inputs"))[:MAX_SOCKETS]
            for value in _list(_mapping(socket).get("linkIds"))
            if (link_id := _id(value)) is not None
        ]
        self._output_id = _border_id(raw.get("outputNode"), _SUBGRAPH_OUTPUT)
        for link in _ue_links(raw):
            self._connect(link)

    def _connect(self, link: Link) -> None:
        """A link that the Use Everywhere pack makes when a prompt is queued, where the input has no other."""
        node = self.nodes.get(link.target)
        if node and 0 <= link.target_slot < len(node.inputs) and node.inputs[link.target_slot].link is None:
            link_id = f"ue {link.target} {link.target_slot}"
            self.links[link_id] = link
            node.inputs[link.target_slot] = node.inputs[link.target_slot]._replace(link=link_id)

    @cached_property
    def size(self) -> int:
        """How many nodes, sockets and values there are."""
        nodes = self.nodes.values()
        values = sum(len(node.values) for node in nodes if isinstance(node.values, (list, dict)))
        return 1 + values + sum(1 + len(node.inputs) + len(node.outputs) for node in nodes)

    @cached_property
    def results(self) -> dict[int, Link]:
        """The links to a subgraph's outputs, by slot."""
        return {link.target_slot: link for link in self.links.values() if link.target == self._output_id}

    @cached_property
    def consumers(self) -> dict[int, list[tuple[WorkflowNode, Socket]]]:
        """The inputs that are linked to a subgraph's inputs, by slot, in the order in which they were linked."""
        found: dict[int, list[tuple[WorkflowNode, Socket]]] = {}
        ends = {socket.link: (node, socket) for node in self.nodes.values() for socket in node.inputs}
        for link_id in dict.fromkeys((*self._input_links, *self.links)):
            link = self.links.get(link_id)
            if link and link.origin == self.input_id and link_id in ends:
                found.setdefault(link.origin_slot, []).append(ends[link_id])
        return found

    @cached_property
    def setters(self) -> dict[str, WorkflowNode]:
        """The nodes that keep a link under a name, for those that get it elsewhere."""
        setters = [node for node in self.nodes.values() if node.class_type in _SETTERS]
        return {node.first_value: node for node in reversed(setters) if isinstance(node.first_value, str)}

    def link(self, socket: Socket) -> Link | None:
        return self.links.get(socket.link) if socket.link is not None else None

    def input_behind(self, socket: Socket) -> str | None:
        """The name of the subgraph's input that a node's input is linked to."""
        link = self.link(socket)
        if link and link.origin == self.input_id and 0 <= link.origin_slot < len(self.inputs):
            return self.inputs[link.origin_slot]
        return None


class Scope:
    """One instance of a graph: the workflow itself, or a subgraph in the place of a node, its host."""

    def __init__(self, graph: WorkflowGraph, host: WorkflowNode | None = None, outer: Scope | None = None) -> None:
        self.graph = graph
        self.host = host
        self.outer = outer
        self.children: dict[str, Scope] = {}
        self.depth = outer.depth + 1 if outer else 0
        self._prefix = f"{outer.id_of(host)}:" if outer and host else ""

    def id_of(self, node: WorkflowNode) -> str:
        """A node's id in a prompt: behind those of the hosts that it lies in."""
        return self._prefix + node.id

    def outward(self) -> Iterator[Scope]:
        """This scope, the one that its host lies in, and so on."""
        scope: Scope | None = self
        while scope:
            yield scope
            scope = scope.outer


def types_of(kind: str) -> frozenset[str]:
    """The types of a socket, which may be one of several."""
    return frozenset(ANY if name in ("", "0") else name for name in kind.lower().split(","))


def read_scopes(workflow: Any) -> list[Scope]:
    """The scope of a workflow and those of its subgraphs' instances, outer before inner; none where it is none."""
    if not isinstance(workflow, dict) or not isinstance(workflow.get("nodes"), list):
        return []
    definitions = _definitions(workflow)
    groups = _mapping(workflow.get("extra")).get("groupNodes")
    parsed: dict[str, WorkflowGraph] = {}
    scopes = [Scope(WorkflowGraph(workflow))]
    budget = MAX_SIZE
    for scope in scopes:  # it grows on the way
        for node in scope.graph.nodes.values():
            if not node.is_active or scope.depth >= MAX_DEPTH or _is_inside_itself(node, scope):
                continue
            graph = parsed.get(node.class_type)
            if graph is None and node.class_type in definitions:
                graph = parsed[node.class_type] = WorkflowGraph(definitions[node.class_type])
            if graph is None:
                graph = _group(node, groups)
            if graph is None:
                continue
            budget -= graph.size
            if budget < 0:
                return scopes
            scope.children[node.id] = Scope(graph, node, scope)
            scopes.append(scope.children[node.id])
    return scopes


def _is_inside_itself(node: WorkflowNode, scope: Scope) -> bool:
    return any(outer.host and outer.host.class_type == node.class_type for outer in scope.outward())


def _group(node: WorkflowNode, groups: Any) -> WorkflowGraph | None:
    """The nodes of a group node, which take over its values."""
    raw = group_definition(groups, node.class_type, [socket.name for socket in node.inputs], node.values)
    if raw is None:
        return None
    node.values = None
    return WorkflowGraph(raw)


def _definitions(workflow: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The subgraphs' definitions by id, also those that lie inside others."""
    found: dict[str, Mapping[str, Any]] = {}
    graphs: list[Any] = [workflow]
    while graphs:
        raw = graphs.pop()
        for subgraph in _list(_mapping(_mapping(raw).get("definitions")).get("subgraphs")):
            if isinstance(subgraph, dict) and isinstance(subgraph.get("id"), str):
                found.setdefault(subgraph["id"], subgraph)
                graphs.append(subgraph)
    return found


def _node(raw: Any) -> WorkflowNode | None:
    if not isinstance(raw, dict) or not isinstance(raw.get("type"), str):
        return None
    node_id = _id(raw.get("id"))
    return WorkflowNode(str(node_id), raw["type"], raw) if node_id is not None else None


def _sockets(raw: Any) -> list[Socket]:
    sockets: list[Socket] = []
    for value in _list(raw)[:MAX_SOCKETS]:
        slot = _mapping(value)
        name, kind = slot.get("name"), slot.get("type")
        widget = _mapping(slot.get("widget")).get("name")
        sockets.append(
            Socket(
                name if isinstance(name, str) else "",
                kind if isinstance(kind, str) else "*",
                _id(slot.get("link")),
                widget if isinstance(widget, str) else None,
            )
        )
    return sockets


def _links(raw: Any) -> Iterator[tuple[LinkId, Link]]:
    """Links by id: [id, origin, slot, target, slot, type], or an object with these names."""
    for value in raw.values() if isinstance(raw, dict) else _list(raw):
        if isinstance(value, dict):
            names = ("id", "origin_id", "origin_slot", "target_id", "target_slot")
            parts = [value.get(name) for name in names]
        else:
            parts = _list(value)[:5]
        link_id, link = _id(parts[0]) if parts else None, _link(parts[1:])
        if link_id is not None and link:
            yield link_id, link


def _ue_links(raw: Mapping[str, Any]) -> Iterator[Link]:
    for value in _list(_mapping(raw.get("extra")).get("ue_links")):
        names = ("upstream", "upstream_slot", "downstream", "downstream_slot")
        link = _link([_mapping(value).get(name) for name in names])
        if link:
            yield link


def _link(parts: list[Any]) -> Link | None:
    if len(parts) < 4:
        return None
    origin, target, origin_slot, target_slot = _id(parts[0]), _id(parts[2]), _slot(parts[1]), _slot(parts[3])
    if origin is None or target is None or origin_slot is None or target_slot is None:
        return None
    return Link(str(origin), origin_slot, str(target), target_slot)


def _slot(value: Any) -> int | None:
    """A slot's number, which some packs write as a text."""
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,6}", value):
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _border_id(raw: Any, default: str) -> str:
    border = _id(_mapping(raw).get("id"))
    return default if border is None else str(border)


def _id(value: Any) -> LinkId | None:
    """A node's or a link's id."""
    return value if isinstance(value, (int, str)) and not isinstance(value, bool) else None


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
