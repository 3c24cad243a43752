"""A ComfyUI workflow, as its editor saves it, made into the prompt graph that the editor would queue.

The rules are those of ComfyUI_frontend (executionUtil.ts, ExecutableNodeDTO.ts, SubgraphNode.ts, widgetInputs.ts), and
of the packs whose nodes exist in the editor only: KJNodes, Easy Use, rgthree, Use Everywhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

from .types import NodeTypes
from .widgets import widget_values
from .workflow_graph import ANY, BYPASSED, MAX_SOCKETS, MUTED, Scope, WorkflowNode, read_scopes, types_of

_REROUTES = ("Reroute", "Reroute (rgthree)")
_GETTERS = ("GetNode", "easy getNode")
_PRIMITIVE = "PrimitiveNode"
_EDITOR_ONLY = frozenset(
    (
        *_REROUTES,
        *_GETTERS,
        _PRIMITIVE,
        "SetNode",
        "easy setNode",
        "Note",
        "MarkdownNote",
        "Label (rgthree)",
        "Bookmark (rgthree)",
        "Fast Actions Button (rgthree)",
        "Fast Bypasser (rgthree)",
        "Fast Groups Bypasser (rgthree)",
        "Fast Groups Muter (rgthree)",
        "Fast Muter (rgthree)",
        "Mute / Bypass Relay (rgthree)",
        "Mute / Bypass Repeater (rgthree)",
        "Node Collector (rgthree)",
        "Random Unmuter (rgthree)",
    )
)
_SUBGRAPH_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE)


class _Place(NamedTuple):
    """An input or output of a node on the way back along a link.

    `type` is what the link's end takes. `is_outside`: the way led out of a subgraph, through its host.
    """

    side: Literal["input", "output"]
    scope: Scope
    node: WorkflowNode
    slot: int
    type: str | None = None
    is_outside: bool = False


class _Source(NamedTuple):
    """What an input gets: the output of a node that runs, or a widget's value; neither where it keeps its own."""

    link: list[Any] | None = None
    value: Any = None


_NOTHING = _Source()


def prompt_of_workflow(workflow: Any, types: NodeTypes) -> dict[str, dict[str, Any]]:
    """The prompt of a workflow: node ids to {"class_type", "inputs"}, in order of execution.

    A node inside subgraphs has the ids of their instances before its own, as in "12:5". A widget whose name is not
    known is left out. Empty where there is no workflow. Never raises.
    """
    return _Conversion(read_scopes(workflow), types).prompt()


class _Conversion:
    def __init__(self, scopes: list[Scope], types: NodeTypes) -> None:
        self._scopes = scopes
        self._types = types
        self._values: dict[WorkflowNode, dict[str, Any]] = {}
        self._sources: dict[_Place, _Source] = {}
        self._bypasses: dict[tuple[WorkflowNode, int, str], int | None] = {}
        self._promoted: dict[Scope, _Promoted] = {}
        for scope in scopes:
            if scope.host and scope.outer:
                self._promoted[scope] = _promoted_values(scope, scope.host, self._promoted.get(scope.outer))

    def prompt(self) -> dict[str, dict[str, Any]]:
        return {
            scope.id_of(node): {"class_type": node.class_type, "inputs": self._inputs(scope, node)}
            for scope, node in _in_order(self._scopes)
        }

    def _inputs(self, scope: Scope, node: WorkflowNode) -> dict[str, Any]:
        inputs = {**self._values_of(node), **self._overridden(scope, node)}
        wrapped = {name: _wrapped(value) for name, value in inputs.items()}
        for slot, socket in enumerate(node.inputs):
            source = self._source(_Place("input", scope, node, slot)) if socket.name else _NOTHING
            if source.link is not None:
                wrapped[socket.name] = [*source.link]
            elif source.value is not None:
                wrapped[socket.name] = _wrapped(source.value)
        return wrapped

    def _values_of(self, node: WorkflowNode) -> dict[str, Any]:
        if node not in self._values:
            self._values[node] = widget_values(node, self._types)
        return self._values[node]

    def _overridden(self, scope: Scope, node: WorkflowNode) -> dict[str, Any]:
        """The widgets of an inner node that are set on the subgraph's host."""
        promoted = self._promoted.get(scope)
        return promoted.by_node.get(node.id, {}) if promoted else {}

    def _source(self, start: _Place) -> _Source:
        """Follow a link to the node that runs; a link in a circle gives nothing."""
        visited: dict[_Place, None] = {}
        current: _Place | _Source = start
        while isinstance(current, _Place):
            if current in self._sources:
                current = self._sources[current]
            elif current in visited:
                current = _NOTHING
            else:
                visited[current] = None
                current = self._before_input(current) if current.side == "input" else self._before_output(current)
        self._sources.update(dict.fromkeys(visited, current))
        return current

    def _before_input(self, place: _Place) -> _Place | _Source:
        scope, node = place.scope, place.node
        socket = node.inputs[place.slot]
        link = scope.graph.link(socket)
        if link is None:
            return _NOTHING
        if link.origin == scope.graph.input_id:
            return self._at_host(scope, link.origin_slot)
        origin = scope.graph.nodes.get(link.origin)
        if origin is None:
            return _NOTHING
        return place._replace(side="output", node=origin, slot=link.origin_slot, type=place.type or socket.type)

    def _at_host(self, scope: Scope, slot: int) -> _Place | _Source:
        """A subgraph's input: what is linked to it outside, or the value of the widget that it stands for."""
        if not (scope.host and scope.outer and 0 <= slot < len(scope.graph.inputs)):
            return _NOTHING
        name = scope.graph.inputs[slot]
        outside = scope.host.slots.get(name)
        if outside is not None and scope.outer.graph.link(scope.host.inputs[outside]):
            return _Place("input", scope.outer, scope.host, outside, is_outside=True)
        value = self._promoted[scope].by_input.get(name)
        if value is None:
            value = self._first_value(scope, slot)
        return _Source(value=value)

    def _first_value(self, scope: Scope, slot: int) -> Any:
        """The value of the first widget that a subgraph's input leads to, which counts for all of them."""
        pending = [(scope, slot)]
        seen = set(pending)
        while pending:
            current, index = pending.pop()
            deeper: list[tuple[Scope, int]] = []
            for node, socket in current.graph.consumers.get(index, ()):
                inner = current.children.get(node.id)
                if inner is None:
                    value = self._values_of(node).get(socket.widget or socket.name)
                else:
                    value = self._promoted[inner].by_input.get(socket.name)
                    deeper += [(inner, inner.graph.slots[socket.name])] if socket.name in inner.graph.slots else []
                if value is not None:
                    return value
            pending += [place for place in reversed(deeper) if place not in seen]
            seen.update(deeper)
        return None

    def _before_output(self, place: _Place) -> _Place | _Source:
        scope, node, slot = place.scope, place.node, place.slot
        if node.mode == MUTED:
            return _NOTHING
        if node.mode == BYPASSED:
            index = self._bypass(node, min(slot, MAX_SOCKETS), place.type or ANY)
            return _NOTHING if index is None else place._replace(side="input", slot=index, type=None)
        inner = scope.children.get(node.id)
        if inner:
            return self._at_result(place, inner)
        if node.class_type == _PRIMITIVE:  # it sets the widget that it is linked to, which is the host's own outside
            return _NOTHING if place.is_outside else _Source(value=node.first_value)
        if node.class_type in _GETTERS:
            return _at_setter(place)
        if node.class_type in _REROUTES:
            return place._replace(side="input") if slot < len(node.inputs) else _NOTHING
        if not _runs(scope, node):
            return _NOTHING
        return _Source(link=[scope.id_of(node), slot])

    def _bypass(self, node: WorkflowNode, slot: int, wanted: str) -> int | None:
        asked = (node, slot, wanted)
        if asked not in self._bypasses:
            self._bypasses[asked] = _bypass(node, slot, wanted)
        return self._bypasses[asked]

    def _at_result(self, place: _Place, inner: Scope) -> _Place | _Source:
        """A subgraph's output: what is linked to it inside."""
        link = inner.graph.results.get(place.slot)
        if link is None:
            return _NOTHING
        if link.origin == inner.graph.input_id:
            return self._at_host(inner, link.origin_slot)
        origin = inner.graph.nodes.get(link.origin)
        return place._replace(scope=inner, node=origin, slot=link.origin_slot) if origin else _NOTHING


class _Promoted(NamedTuple):
    """The widgets of a subgraph that its host shows: values by the subgraph's input, and by inner node and widget."""

    by_input: dict[str, Any]
    by_node: dict[str, dict[str, Any]]


def _runs(scope: Scope, node: WorkflowNode) -> bool:
    if not node.is_active or node.class_type in _EDITOR_ONLY or node.id in scope.children:
        return False
    return not _SUBGRAPH_ID.fullmatch(node.class_type)


def _in_order(scopes: list[Scope]) -> Iterator[tuple[Scope, WorkflowNode]]:
    """The nodes that run, those of a subgraph in the place of its host."""
    pending = [(scope, node) for scope in scopes[:1] for node in reversed(scope.graph.nodes.values())]
    while pending:
        scope, node = pending.pop()
        inner = scope.children.get(node.id)
        if inner:
            pending += [(inner, node) for node in reversed(inner.graph.nodes.values())]
        elif _runs(scope, node):
            yield scope, node


def _wrapped(value: Any) -> Any:
    """A list that is a value looks like a link, so the editor wraps it."""
    return {"__value__": value} if isinstance(value, list) else value


def _bypass(node: WorkflowNode, slot: int, wanted: str) -> int | None:
    """The input that a bypassed node passes on to an output: of the same slot, else of the same type."""
    inputs = node.sockets_then_widgets
    if not inputs:
        return None
    if wanted in (ANY, ""):
        return inputs[slot] if 0 <= slot < len(inputs) else inputs[0]
    given = types_of(node.outputs[slot].type if 0 <= slot < len(node.outputs) else ANY)
    taken = types_of(wanted)

    def fits(index: int) -> bool:
        return _compatible(node.input_types[index], given) and _compatible(node.input_types[index], taken)

    if 0 <= slot < len(inputs) and fits(inputs[slot]):
        return inputs[slot]
    exact = next((index for index in inputs if node.inputs[index].type == wanted), None)
    return exact if exact is not None else next(filter(fits, inputs), None)


def _compatible(one: frozenset[str], other: frozenset[str]) -> bool:
    """Whether sockets connect: they have a type in common, or one takes any."""
    return not one.isdisjoint(other) or ANY in one or ANY in other


def _at_setter(place: _Place) -> _Place | _Source:
    """What was kept under the name that a Get node asks for, in its own graph or in those around it."""
    name = place.node.first_value
    for scope in place.scope.outward() if isinstance(name, str) else ():
        setter = scope.graph.setters.get(name)
        if setter and setter.inputs:
            return place._replace(side="input", scope=scope, node=setter, slot=0)
    return _NOTHING


def _promoted_values(scope: Scope, host: WorkflowNode, outer: _Promoted | None) -> _Promoted:
    """The values that a host shows: by its `proxyWidgets`, else in the order of the inputs that stand for widgets."""
    promoted = _Promoted({}, {})
    values = host.values if isinstance(host.values, list) else []
    proxies = host.properties.get("proxyWidgets")
    if isinstance(proxies, list) and proxies:
        for proxy, value in zip(proxies, values, strict=False):
            if isinstance(proxy, list) and len(proxy) > 1 and isinstance(proxy[1], str) and value is not None:
                _set(scope, promoted, str(proxy[0]), proxy[1], value)
    else:
        shown = [name for slot, name in enumerate(scope.graph.inputs) if _stands_for_widget(scope, slot)]
        promoted.by_input.update((name, value) for name, value in zip(shown, values, strict=False) if value is not None)
    for name, value in (outer.by_node.get(host.id, {}) if outer else {}).items():
        promoted.by_input[name] = value
    return promoted


def _set(scope: Scope, promoted: _Promoted, node_id: str, widget: str, value: Any) -> None:
    """Set the widget of an inner node, or of the subgraph itself, whose id is -1 here."""
    node = scope.graph.nodes.get(node_id)
    if node is None:
        promoted.by_input[widget] = value
        return
    promoted.by_node.setdefault(node_id, {})[widget] = value
    for socket in node.inputs:
        name = scope.graph.input_behind(socket)
        if name is not None and widget in (socket.widget, socket.name):
            promoted.by_input[name] = value


def _stands_for_widget(scope: Scope, slot: int) -> bool:
    """Whether a subgraph's input leads to a widget, also through subgraphs inside."""
    pending = [(scope, slot)]
    seen = set(pending)
    while pending:
        current, index = pending.pop()
        for node, socket in current.graph.consumers.get(index, ()):
            inner = current.children.get(node.id)
            if inner is None:
                if socket.widget is not None:
                    return True
            elif socket.name in inner.graph.slots:
                deeper = (inner, inner.graph.slots[socket.name])
                if deeper not in seen:
                    seen.add(deeper)
                    pending.append(deeper)
    return False
