"""A ComfyUI graph in API format: its nodes, its links, and the values of widgets that are linked to other nodes.

Everything in the file is untrusted: a node may be anything, a link may lead nowhere or in a circle, a chain may be
thousands of nodes long. Nothing here recurses, and each node is looked at once a question.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any, NamedTuple

from .comfyui_nodes import MAX_TEXT, SAMPLERS, SWITCHES, VALUES
from .comfyui_sockets import Role, carries_value, is_sampler, role_of

_MAX_CHARACTERS = 16 * MAX_TEXT
_TEXT_NAMES = ("text", "string", "value", "prompt", "populated_text", "result", "caption")
_NUMBER_NAMES = ("value", "seed", "noise_seed", "number", "int", "float", "Number", "Value")


class Link(NamedTuple):
    """A link to an output slot of a node."""

    node: str
    slot: int


class Node:
    """One node: its class, all inputs, and those of them that are links to nodes of this graph."""

    def __init__(self, node_id: str, class_type: str, inputs: dict[str, Any]) -> None:
        self.id = node_id
        self.class_type = class_type
        self.inputs = inputs
        self.links: dict[str, Link] = {}

    @cached_property
    def is_sampler(self) -> bool:
        return self.class_type in SAMPLERS or is_sampler(self.inputs, self.links)

    @property
    def is_reroute(self) -> bool:
        """Whether it only passes its one input on."""
        return len(self.links) == 1 and (len(self.inputs) == 1 or self.class_type in SWITCHES)


class _Question(NamedTuple):
    """Which value is asked of which output: under what name, of what type, for which conditioning."""

    link: Link
    name: str
    wanted: type
    role: Role | None


class Graph:
    """The nodes of a prompt by id, in the file's order."""

    def __init__(self, nodes: Mapping[str, Node]) -> None:
        self.nodes = nodes
        self._answers: dict[_Question, Any] = {}
        self._characters_left = _MAX_CHARACTERS
        for node in nodes.values():
            node.links = {
                name: link for name, value in node.inputs.items() if (link := _link(value)) and link.node in nodes
            }
        for node in nodes.values():
            self._take_switch(node)

    def _take_switch(self, node: Node) -> None:
        """Leave a switch only the link that it passes on."""
        switch = SWITCHES.get(node.class_type)
        if switch is None:
            return
        chosen = switch({name: self._nearby(value) for name, value in node.inputs.items()})
        if chosen in node.links:
            node.links = {chosen: node.links[chosen]}

    def _nearby(self, value: Any) -> Any:
        """A literal, or the value of the primitive that is linked there."""
        link = _link(value)
        if link is None:
            return value
        source = self.nodes.get(link.node)
        return source.inputs.get("value") if source else None

    def upstream(self, starts: Iterable[Node], follow: Callable[[Node, str], bool]) -> Iterator[Node]:
        """The starts and what they are made from, nearest first, through the inputs that `follow` allows."""
        queue = deque(starts)
        seen = {node.id for node in queue}
        while queue:
            node = queue.popleft()
            yield node
            for name, link in node.links.items():
                if link.node not in seen and follow(node, name):
                    seen.add(link.node)
                    queue.append(self.nodes[link.node])

    def text(self, node: Node, name: str, role: Role | None = None) -> str | None:
        """The text of a widget, through links; None where only a run could know it."""
        value = self._value(node, name, str, role)
        return value if isinstance(value, str) else None

    def text_of(self, link: Link, role: Role | None = None) -> str | None:
        """The text that an output gives; None where only a run could know it."""
        value = self._resolve(_Question(link, "text", str, role))
        return value if isinstance(value, str) else None

    def value(self, node: Node, name: str) -> Any:
        """The number or name in a widget, through links; None where there is none."""
        return self._value(node, name, object, None)

    def _value(self, node: Node, name: str, wanted: type, role: Role | None) -> Any:
        value = _unwrap(node.inputs.get(name))
        if _link(value) is None:
            return value
        link = node.links.get(name)
        return self._resolve(_Question(link, name, wanted, role)) if link else None

    def _resolve(self, question: _Question) -> Any:
        """Answer a question after those that it depends on; one that depends on itself has no answer."""
        answers = self._answers
        begun: set[_Question] = set()
        pending = [question]
        while pending:
            current = pending[-1]
            if current in answers:
                pending.pop()
                continue
            node = self.nodes[current.link.node]
            needed = {name: current._replace(link=link) for name, link in self._value_links(node).items()}
            open_questions = [need for need in needed.values() if need not in answers and need not in begun]
            if current not in begun and open_questions:
                begun.add(current)
                pending.extend(open_questions)
                continue
            begun.add(current)
            values = {name: _unwrap(value) for name, value in node.inputs.items() if _link(value) is None}
            values.update({name: answers.get(need) for name, need in needed.items()})
            answers[current] = self._bounded(_evaluate(node, values, current))
            pending.pop()
        return answers[question]

    def _bounded(self, value: Any) -> Any:
        """Texts joined to themselves again and again would fill the memory."""
        if not isinstance(value, str):
            return value
        self._characters_left -= len(value)
        return value if len(value) <= MAX_TEXT and self._characters_left > 0 else None

    def _value_links(self, node: Node) -> dict[str, Link]:
        return node.links if node.class_type in VALUES or carries_value(node.links) else {}


def parse_graph(prompt: Any) -> Graph | None:
    """A prompt in API format, also inside {"prompt": …} or {"output": …}; None where it is none."""
    for candidate in (prompt, *(prompt.get(key) for key in ("prompt", "output") if isinstance(prompt, dict))):
        if not isinstance(candidate, dict):
            continue
        nodes = {node_id: node for node_id, value in candidate.items() if (node := _node(node_id, value))}
        if nodes:
            return Graph(nodes)
    return None


def _node(node_id: str, value: Any) -> Node | None:
    if not isinstance(value, dict) or not isinstance(value.get("class_type"), str):
        return None
    inputs = value.get("inputs")
    return Node(node_id, value["class_type"], inputs if isinstance(inputs, dict) else {})


def _link(value: Any) -> Link | None:
    """A link is [node id, output slot]: the same test as ComfyUI's own `is_link`."""
    if isinstance(value, list) and len(value) == 2:
        node, slot = value
        if isinstance(node, str) and isinstance(slot, int) and not isinstance(slot, bool):
            return Link(node, slot)
    return None


def _unwrap(value: Any) -> Any:
    """ComfyUI writes a list that is a value, not a link, as {"__value__": […]}."""
    return value["__value__"] if isinstance(value, dict) and "__value__" in value else value


def _evaluate(node: Node, values: Mapping[str, Any], question: _Question) -> Any:
    """What a node gives: by the table, else the one widget or input that fits the question."""
    if node.class_type in VALUES:
        return VALUES[node.class_type](values)
    if node.class_type in SWITCHES:
        return values.get(SWITCHES[node.class_type](values) or "")
    if not carries_value(node.links):
        return None
    fitting = {name: value for name, value in values.items() if _fits(value, question.wanted)}
    if question.role:
        sided = [name for name in fitting if role_of(name) == question.role]
        if sided:
            return fitting[sided[0]]
    preferred = _TEXT_NAMES if question.wanted is str else _NUMBER_NAMES
    for name in (question.name, *preferred):
        if name in fitting:
            return fitting[name]
    return next(iter(fitting.values())) if len(fitting) == 1 else None


def _fits(value: Any, wanted: type) -> bool:
    if wanted is str:
        return isinstance(value, str)
    return isinstance(value, (int, float, str)) and not isinstance(value, bool)
