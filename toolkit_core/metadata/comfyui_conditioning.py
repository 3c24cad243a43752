"""From a sampler's positive or negative input back to the texts that made it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from .comfyui_graph import Graph, Link, Node
from .comfyui_nodes import CONDITIONING, VALUES, Conditioning
from .comfyui_sockets import Role, infer_conditioning, is_model, role_of
from .values import as_number

_GUIDANCE_WIDGET = "guidance"
_GUIDANCE_OFF = "FluxDisableGuidance"


@dataclass
class Texts:
    """What reaches one conditioning input: its texts in order, and the guidance set on the way."""

    texts: list[str] = field(default_factory=list)
    guidance: float | None = None

    def joined(self) -> str | None:
        """The distinct texts, a line each; "" where all are empty, None where there is none."""
        distinct = list(dict.fromkeys(text for text in self.texts if text.strip()))
        return "\n".join(distinct) if distinct else "" if self.texts else None


def read_texts(graph: Graph, starts: Iterable[Link], role: Role) -> Texts:
    """Walk the conditioning back from these links, in the order in which nodes join it."""
    found = Texts()
    guidance_is_set = False
    seen: set[tuple[Link, Role]] = set()
    pending: list[tuple[Link, Role] | str] = []
    pending.extend(reversed([(start, role) for start in starts]))
    while pending:
        current = pending.pop()
        if isinstance(current, str):
            found.texts.append(current)
            continue
        if current in seen:
            continue
        seen.add(current)
        link, role = current
        node = graph.nodes[link.node]
        if not guidance_is_set:
            found.guidance = as_number(graph.value(node, _GUIDANCE_WIDGET))
            guidance_is_set = found.guidance is not None or node.class_type == _GUIDANCE_OFF
        if node.class_type in VALUES:
            sources: list[tuple[Link, Role]] = []
            texts = [graph.text_of(link, role)]
        else:
            role = _role_of_output(node, link.slot, role)
            output = _output(node, link.slot, role)
            sources = [(node.links[name], role_of(name) or role) for name in output.inputs if name in node.links]
            texts = [graph.text(node, name, role) for name in output.texts if name in node.inputs]
        pending.extend(reversed([text for text in texts if text is not None]))
        pending.extend(reversed(sources))
    return found


def _output(node: Node, slot: int, role: Role) -> Conditioning:
    outputs = CONDITIONING.get(node.class_type)
    if outputs is None:
        return infer_conditioning(node.inputs, node.links, role, node.class_type)
    if len(outputs) == 1:
        return outputs[0]
    return outputs[slot] if 0 <= slot < len(outputs) else Conditioning()


def _role_of_output(node: Node, slot: int, role: Role) -> Role:
    """A node that passes a positive and a negative on gives them in that order, from slot 0.

    Not so where it passes a model on before them: there only the reader's own role can say.
    """
    sides = {role_of(name) for name in node.links}
    if {"positive", "negative"} <= sides and slot in (0, 1) and not any(is_model(name) for name in node.links):
        return "positive" if slot == 0 else "negative"
    return role
