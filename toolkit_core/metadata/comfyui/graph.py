"""A ComfyUI graph in API format: its nodes, its links, and the values of widgets that are linked to other nodes.

Everything in the file is untrusted: a node may be anything, a link may lead nowhere or in a circle, a chain may be
thousands of nodes long. Nothing here recurses, and each node is looked at once a question.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ..values import parse_json
from .node import Link, Node, Origin, as_link
from .node_table import CONDITIONING, GUIDERS, PIPES, SAMPLERS, SWITCHES, VALUES
from .semantics import Conditioning
from .sockets import (
    CONDITIONING_TYPES,
    MADE_TYPES,
    SAMPLED_TYPES,
    Role,
    carries_value,
    generates,
    infer_conditioning,
    is_pipe,
    is_sampler,
    role_of,
)
from .switches import CHOOSERS, infer_switch
from .types import NodeTypes
from .value_nodes import MAX_TEXT

_MAX_CHARACTERS = 16 * MAX_TEXT
_NUMBERS = ("INT", "FLOAT", "BOOLEAN")
_TEXT_NAMES = ("populated_text", "text", "string", "value", "prompt", "result", "caption")
_NUMBER_NAMES = ("value", "seed", "noise_seed", "number", "int", "float", "Number", "Value")
_ALIASES = {
    "seed": ("noise_seed",),
    "noise_seed": ("seed",),
    "sampler_name": ("sampler",),
    "scheduler": ("scheduler_name",),
    "positive": ("pos",),
    "negative": ("neg",),
}
_WRAPPERS = ("prompt", "output", "workflow_api")
_MAX_WRAPPERS = 4
_MAX_SLOTS = 64
_STEPS = 30_000
_STEPS_AN_INPUT = 4
"""How many inputs all questions of a graph together may look at: each question could go through the whole of it."""


class _Question(NamedTuple):
    """Which value is asked of which output: under what name, of what type, for which conditioning."""

    link: Link
    name: str
    wanted: type
    role: Role | None


class _KnownTypes:
    """The types of sockets as far as they say something, each asked for once."""

    def __init__(self, types: NodeTypes) -> None:
        self._types = types
        self._inputs: dict[tuple[str, str], str | None] = {}
        self._outputs: dict[tuple[str, int], str | None] = {}

    def of_input(self, node: Node, name: str) -> str | None:
        key = (node.class_type, name)
        if key not in self._inputs:
            self._inputs[key] = _known(self._types.input_type(*key))
        return self._inputs[key]

    def of_output(self, node: Node | None, link: Link) -> str | None:
        if node is None:
            return None
        key = (node.class_type, link.slot)
        if key not in self._outputs:
            self._outputs[key] = _known(self._types.output_type(*key))
        return self._outputs[key]


class Graph:
    """The nodes of a prompt by id, in the file's order."""

    def __init__(self, nodes: Mapping[str, Node], types: NodeTypes) -> None:
        self.nodes = nodes
        self._types = types
        self._answers: dict[_Question, Any] = {}
        self._chosen: dict[str, Sequence[str]] = {}
        self._samplers: dict[str, bool] = {}
        self._conditioning_slots: dict[str, list[int]] = {}
        self._characters_left = _MAX_CHARACTERS
        self._steps_left = _STEPS + _STEPS_AN_INPUT * sum(len(node.inputs) for node in nodes.values())
        self._conditionings: dict[tuple[str, Role], Conditioning] = {}
        known_types = _KnownTypes(types)
        for node in nodes.values():
            for name, value in node.inputs.items():
                link = as_link(value)
                source = nodes.get(link.node) if link else None
                if link and source:
                    node.links[name] = link
                kind = known_types.of_input(node, name) or (known_types.of_output(source, link) if link else None)
                if kind:
                    node.types[name] = kind
        for node in nodes.values():
            self._take_switch(node)

    def _take_switch(self, node: Node) -> None:
        """Leave a switch only the links that it passes on."""
        switch = SWITCHES.get(node.class_type) or infer_switch(node)
        if switch is None:
            return
        there = [name for name, value in node.inputs.items() if name in node.links or as_link(value) is None]
        chosen = switch({name: self._nearby(node, name) for name in there})
        if any(name in there for name in chosen):
            self._chosen[node.id] = chosen
            node.links = {name: node.links[name] for name in chosen if name in node.links}

    def _nearby(self, node: Node, name: str) -> Any:
        """What a switch is told, through links, None where only a run could know it; of other links, the link."""
        return node.links[name] if name in node.links and name not in CHOOSERS else self.value(node, name)

    def is_sampler(self, node: Node) -> bool:
        if node.id not in self._samplers:
            may_sample = is_sampler(node) and self._may_give_picture(node.class_type)
            self._samplers[node.id] = node.class_type in SAMPLERS or may_sample
        return self._samplers[node.id]

    def _may_give_picture(self, class_type: str) -> bool:
        kinds = list(self._output_types(class_type))
        return not kinds or any(kind in SAMPLED_TYPES for kind in kinds)

    def _output_types(self, class_type: str) -> Iterator[str]:
        """The types of a class's outputs as far as they are known, from slot 0."""
        for slot in range(_MAX_SLOTS):
            kind = self._types.output_type(class_type, slot)
            if kind is None:
                return
            yield kind

    def is_known(self, node: Node) -> bool:
        """Whether its class is in the table or among the known definitions, rather than read by its sockets' names."""
        tables = (CONDITIONING, SAMPLERS, GUIDERS, PIPES, SWITCHES, VALUES)
        if any(node.class_type in table for table in tables):
            return True
        return any(self._types.input_type(node.class_type, name) for name in node.inputs)

    def is_reroute(self, node: Node) -> bool:
        """Whether it only passes its one input on."""
        return len(node.links) == 1 and (len(node.inputs) == 1 or node.class_type in SWITCHES)

    def conditioning(self, node: Node, role: Role) -> Conditioning:
        """What a node's conditioning of one side is made of, by its sockets."""
        if (node.id, role) not in self._conditionings:
            self._conditionings[node.id, role] = infer_conditioning(node, role)
        return self._conditionings[node.id, role]

    def conditioning_slots(self, node: Node) -> list[int]:
        """Which outputs of its class are CONDITIONING; none where the types are not known."""
        if node.class_type not in self._conditioning_slots:
            kinds = enumerate(self._output_types(node.class_type))
            slots = [slot for slot, kind in kinds if kind in CONDITIONING_TYPES]
            self._conditioning_slots[node.class_type] = slots
        return self._conditioning_slots[node.class_type]

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

    def may_go_on(self, steps: int = 1) -> bool:
        """Whether so many more inputs may be looked at; a graph in which that ends is read as far as it went."""
        self._steps_left -= steps
        return self._steps_left > 0

    def pipe(self, node: Node) -> Iterator[Node]:
        """The node, and those that filled the pipes it takes, those first that count more; each once."""
        pending = [node]
        seen: set[str] = set()
        while pending and self.may_go_on():
            node = pending.pop()
            if node.id in seen:
                continue
            seen.add(node.id)
            yield node
            passed = node.links if self.is_reroute(node) else [name for name in node.links if is_pipe(node, name)]
            pending.extend(self.nodes[node.links[name].node] for name in reversed(list(passed)))

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

    def first(self, nodes: Iterable[Node], names: Iterable[str]) -> tuple[Any, Origin] | None:
        """The first widget of these names on these nodes that holds a value, and where that is."""
        names = tuple(names)
        for node in nodes:
            for name in names:
                if name in node.inputs and (value := self.value(node, name)) is not None:
                    return value, Origin(node, name)
        return None

    def _value(self, node: Node, name: str, wanted: type, role: Role | None) -> Any:
        value = _unwrap(node.inputs.get(name))
        if as_link(value) is None:
            return value
        link = node.links.get(name)
        return self._resolve(_Question(link, name, wanted, role)) if link else None

    def _resolve(self, question: _Question) -> Any:
        """Answer a question after those that it depends on; one that depends on itself has no answer.

        Nor has one that is left when no more may be looked at.
        """
        answers = self._answers
        begun: set[_Question] = set()
        pending = [question]
        while pending:
            current = pending[-1]
            if current in answers:
                pending.pop()
                continue
            node, field = self._asked(current)
            if not self.may_go_on(1 if field else len(node.inputs)):
                return None
            needed = {
                name: current._replace(link=link, name=name if field else current.name)
                for name, link in self._value_links(node, field).items()
            }
            open_questions = [need for need in needed.values() if need not in answers and need not in begun]
            if current not in begun and open_questions:
                begun.add(current)
                pending.extend(open_questions)
                continue
            begun.add(current)
            values = {name: _unwrap(value) for name, value in node.inputs.items() if as_link(value) is None}
            values.update({name: answers.get(need) for name, need in needed.items()})
            answers[current] = values.get(field) if field else self._bounded(self._evaluate(node, values, current))
            pending.pop()
        return answers[question]

    def _asked(self, question: _Question) -> tuple[Node, str | None]:
        """The node that answers, and if that filled a pipe, the input that it filled it with."""
        node = self.nodes[question.link.node]
        outputs = PIPES.get(node.class_type)
        if outputs is None and not any(is_pipe(node, name) for name in node.links):
            return node, None
        slot = question.link.slot
        name = outputs[slot] if outputs and 0 <= slot < len(outputs) else question.name
        names = (name, *_ALIASES.get(name, ()))
        for filled in self.pipe(node):
            field = next((name for name in names if name in filled.inputs), None)
            if field:
                return filled, field
        return node, None

    def _evaluate(self, node: Node, values: Mapping[str, Any], question: _Question) -> Any:
        switch = SWITCHES.get(node.class_type) or infer_switch(node)
        if switch is None:
            kinds = list(self._output_types(node.class_type))
            kind = kinds[question.link.slot] if 0 <= question.link.slot < len(kinds) else None
            is_made = node.class_type not in VALUES and any(other in MADE_TYPES for other in kinds)
            return None if is_made else _evaluate(node, values, question, kind)
        chosen = self._chosen.get(node.id) or switch(values)
        return next((values[name] for name in chosen if name in values), None)

    def _bounded(self, value: Any) -> Any:
        """Texts joined to themselves again and again would fill the memory."""
        if not isinstance(value, str):
            return value
        self._characters_left -= len(value)
        return value if len(value) <= MAX_TEXT and self._characters_left > 0 else None

    def _value_links(self, node: Node, field: str | None) -> dict[str, Link]:
        if field:
            return {field: node.links[field]} if field in node.links else {}
        is_transparent = node.class_type in VALUES or node.class_type in SWITCHES or carries_value(node)
        if not is_transparent:
            return {}
        return {name: link for name, link in node.links.items() if not is_pipe(node, name)}


def parse_graph(prompt: Any, types: NodeTypes | None = None) -> Graph | None:
    """A prompt in API format; None where there is none.

    Also inside {"prompt": …}, {"output": …} or an entry of ComfyUI's history, and as text inside JSON. `types` are the
    known types of sockets, by default those of ComfyUI's own nodes.
    """
    candidates = [prompt]
    for _ in range(_MAX_WRAPPERS):
        for candidate in candidates:
            nodes = _nodes(candidate)
            if nodes:
                return Graph(nodes, types or NodeTypes.core())
        candidates = [inner for candidate in candidates for inner in _unwrapped(candidate)]
    return None


def _nodes(prompt: Any) -> dict[str, Node]:
    if not isinstance(prompt, dict):
        return {}
    return {str(node_id): node for node_id, value in prompt.items() if (node := _node(str(node_id), value))}


def _unwrapped(value: Any) -> list[Any]:
    """What may be a prompt in here: under a known key, or third in a queue's [number, id, prompt, …]."""
    inner = [value[key] for key in _WRAPPERS if key in value] if isinstance(value, dict) else []
    if isinstance(value, list):
        inner = value[:3]
    elif isinstance(value, dict) and len(value) == 1:
        inner.extend(value.values())
    return [parse_json(candidate) if isinstance(candidate, str) else candidate for candidate in inner]


def _node(node_id: str, value: Any) -> Node | None:
    if not isinstance(value, dict) or not isinstance(value.get("class_type"), str):
        return None
    inputs = value.get("inputs")
    return Node(node_id, value["class_type"], inputs if isinstance(inputs, dict) else {})


def _known(kind: str | None) -> str | None:
    """A type that says something: not "*", and not one of several."""
    return None if kind in (None, "", "*") or "," in kind else kind


def _unwrap(value: Any) -> Any:
    """ComfyUI writes a list that is a value, not a link, as {"__value__": […]}."""
    return value["__value__"] if isinstance(value, dict) and "__value__" in value else value


def _evaluate(node: Node, values: Mapping[str, Any], question: _Question, kind: str | None) -> Any:
    """What a node gives: by the table, else the one widget or input that fits the question and the output's type."""
    if node.class_type in VALUES:
        outputs = VALUES[node.class_type]
        if callable(outputs):
            return outputs(values)
        slot = question.link.slot
        return outputs[slot](values) if 0 <= slot < len(outputs) else None
    if not carries_value(node):
        return None
    if question.wanted is str and (kind in _NUMBERS or (generates(node) and "populated_text" not in values)):
        return None
    fitting = {
        name: value
        for name, value in values.items()
        if _fits(value, question.wanted, kind) and not (question.wanted is str and node.types.get(name) == "COMBO")
    }
    if question.role:
        sided = [name for name in fitting if role_of(name) == question.role]
        if sided:
            return fitting[sided[0]]
    preferred = _TEXT_NAMES if question.wanted is str else _NUMBER_NAMES
    for name in (question.name, *preferred):
        if name in fitting:
            return fitting[name]
    return next(iter(fitting.values())) if len(fitting) == 1 else None


def _fits(value: Any, wanted: type, kind: str | None) -> bool:
    if wanted is str:
        return isinstance(value, str)
    return isinstance(value, (int, float) if kind in _NUMBERS else (int, float, str)) and not isinstance(value, bool)
