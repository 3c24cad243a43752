"""From a sampler's positive or negative input back to the texts that made it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from ..values import as_number
from .graph import Graph
from .node import Link, Node, Origin
from .node_table import CONDITIONING, PIPES, VALUES
from .semantics import Conditioning
from .sockets import Role, is_pipe, model_input, role_of

_GUIDANCE_WIDGET = "guidance"
_GUIDANCE_OFF = "FluxDisableGuidance"
_PAIRS = (2, 4)
"""How many CONDITIONING outputs a node has that gives positive and negative, once or for a refiner, too."""


class Text(NamedTuple):
    text: str
    origin: Origin


@dataclass
class Texts:
    """What reaches one conditioning input: its texts in order, and the guidance set on the way."""

    texts: list[Text] = field(default_factory=list)
    guidance: float | None = None
    guidance_origin: Origin | None = None

    def joined(self) -> str | None:
        """The distinct texts, a line each; "" where all are empty, None where there is none."""
        distinct = dict.fromkeys(text for text, _ in self.texts if text.strip())
        return "\n".join(distinct) if distinct else "" if self.texts else None

    def origins(self) -> list[Origin]:
        """Where the texts are from that are joined; of an empty one, where the empty ones are from."""
        return [origin for text, origin in self.texts if text.strip()] or [origin for _, origin in self.texts]


def read_texts(graph: Graph, starts: Iterable[Link], role: Role) -> Texts:
    """Walk the conditioning back from these links, in the order in which nodes join it."""
    found = Texts()
    guidance_is_set = False
    seen: set[tuple[Link, Role]] = set()
    pending: list[tuple[Link, Role] | Text] = []
    pending.extend(reversed([(start, role) for start in starts]))
    while pending:
        current = pending.pop()
        if isinstance(current, Text):
            found.texts.append(current)
            continue
        if current in seen:
            continue
        seen.add(current)
        link, role = current
        node = graph.nodes[link.node]
        if not graph.may_go_on(len(node.inputs)):
            break
        if not guidance_is_set:
            guidance = as_number(graph.value(node, _GUIDANCE_WIDGET))
            if guidance is not None and guidance >= 0:  # below that, some nodes leave it to the model
                found.guidance, found.guidance_origin = guidance, Origin(node, _GUIDANCE_WIDGET)
            guidance_is_set = found.guidance is not None or node.class_type == _GUIDANCE_OFF
        if node.class_type in VALUES:
            sources: list[tuple[Link, Role]] = []
            texts = [(graph.text_of(link, role), Origin(node, ""))]
        else:
            node, role, output = _made_of(graph, link, role)
            sources = [(node.links[name], role_of(name) or role) for name in output.inputs if name in node.links]
            texts = [(graph.text(node, name, role), Origin(node, name)) for name in output.texts if name in node.inputs]
        pending.extend(reversed([Text(text, origin) for text, origin in texts if text is not None]))
        pending.extend(reversed(sources))
    return found


def _made_of(graph: Graph, link: Link, role: Role) -> tuple[Node, Role, Conditioning]:
    """What an output is made of: the node itself or the one that filled its pipe, the side, and the inputs."""
    node = graph.nodes[link.node]
    outputs = CONDITIONING.get(node.class_type)
    if outputs:
        if len(outputs) == 1:
            return node, role, outputs[0]
        return node, role, outputs[link.slot] if 0 <= link.slot < len(outputs) else Conditioning()
    role = _role_of_output(graph, node, link.slot, role)
    made = graph.conditioning(node, role)
    if any(name in node.links and is_pipe(node, name) for name in made.inputs):
        for filled in graph.pipe(node):
            inner = graph.conditioning(filled, role)
            if inner.texts or any(not is_pipe(filled, name) for name in inner.inputs):
                return filled, role, _of_output(node, link.slot, filled) or inner
        return node, role, Conditioning()
    return node, role, _of_output(node, link.slot, node) or made


def _of_output(node: Node, slot: int, filled: Node) -> Conditioning | None:
    """The very input that the table names for this slot, where it was filled."""
    outputs = PIPES.get(node.class_type, ())
    name = outputs[slot] if 0 <= slot < len(outputs) else None
    if name is None or name not in filled.inputs or is_pipe(filled, name):
        return None
    return Conditioning((name,)) if name in filled.links else Conditioning(texts=(name,))


def _role_of_output(graph: Graph, node: Node, slot: int, role: Role) -> Role:
    """A node that takes a positive and a negative, or a pipe, gives them in that order.

    Where its outputs' types are not known, those are slots 0 and 1, but not where it may pass a model on before them:
    there only the reader's own role can say.
    """
    named = PIPES.get(node.class_type)
    if named:
        return (role_of(named[slot]) if 0 <= slot < len(named) else None) or role
    sides = {role_of(name) for name in node.inputs}
    if not {"positive", "negative"} <= sides and not any(is_pipe(node, name) for name in node.links):
        return role
    slots = graph.conditioning_slots(node)
    if slots:
        in_order = slot in slots and len(slots) in _PAIRS
        return ("negative" if slots.index(slot) % 2 else "positive") if in_order else role
    linked = {role_of(name) for name in node.links}
    if {"positive", "negative"} <= linked and slot in (0, 1) and model_input(node) is None:
        return "positive" if slot == 0 else "negative"
    return role
