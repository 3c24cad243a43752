"""What was found in a graph, and for a person by which rule."""

from __future__ import annotations

from typing import Any

from .graph import Graph
from .node import Origin

_MAX_NAMED = 4


class Findings:
    """Values by field of GenerationParameters, and by the same fields a short sentence on where each came from."""

    def __init__(self, graph: Graph) -> None:
        self.values: dict[str, Any] = {}
        self.rules: dict[str, str] = {}
        self._graph = graph

    def add(self, field: str, value: Any, *origins: Origin | None, into: str | None = None) -> None:
        """Take a value that is known. `into` is the input that the walk began at."""
        if value is None or value == ():
            return
        self.values[field] = value
        places = list(dict.fromkeys(self._place(origin) for origin in origins[: _MAX_NAMED + 1] if origin))
        if len(origins) > _MAX_NAMED:
            places = [*places[:_MAX_NAMED], f"and {len(origins) - _MAX_NAMED} more"]
        self.rules[field] = ", ".join([*places, f"into {into}"] if into else places)

    def _place(self, origin: Origin) -> str:
        """ "node 6 CLIPTextEncode.text", and from which node its value is linked in."""
        link = origin.node.links.get(origin.name)
        linked = f" from {self._graph.nodes[link.node]}" if link else ""
        inferred = "" if self._graph.is_known(origin.node) else " (inferred from its sockets)"
        return f"{origin}{linked}{inferred}"
