"""The VAE that decoded the final picture."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from ..values import as_name
from .graph import Graph
from .node import Link, Node, Origin
from .sockets import may_carry_picture, pipe_input, vae_input

_WIDGETS = ("vae_name", "vae", "vae_file", "vae_path")
_LOADER_WIDGETS = ("model_name", "name")
_LOADER = re.compile(r"vae.{0,20}load|load.{0,20}vae", re.IGNORECASE)
_THE_CHECKPOINTS_OWN = frozenset(("baked vae", "automatic", "default", "from checkpoint", "(use same)"))
_LATENT = re.compile(r"^(samples|latent|latents|latent_image)$", re.IGNORECASE)


class Vae(NamedTuple):
    """A VAE's file, where it is named, and the node that decoded with it."""

    name: str
    origin: Origin
    decoder: Node


def read_vae(graph: Graph, final: Node, savers: Iterable[Node]) -> Vae | None:
    """The VAE behind the last decoder before the saver; None where it is the checkpoint's own, or not known."""
    decoder = _decoder(graph, final, savers)
    seen: set[str] = set()
    node: Node | None = decoder
    while node and node.id not in seen:
        seen.add(node.id)
        is_loader = bool(_LOADER.search(node.class_type))
        link = _vae_link(graph, node)
        if link is None or is_loader:
            found = graph.first([node], (*_WIDGETS, *(_LOADER_WIDGETS if is_loader else ())))
            name = as_name(found[0]) if found else None
            if found is None or name is None or name.lower() in _THE_CHECKPOINTS_OWN:
                return None
            return Vae(name, found[1], decoder)
        node = graph.nodes[link.node]
    return None


def _decoder(graph: Graph, final: Node, savers: Iterable[Node]) -> Node:
    """The node nearest to the saver that turns a latent into the picture; a sampler may do it by itself."""
    reached_from: dict[str, Node] = {}
    queue = list(savers)
    seen = {node.id for node in queue}
    for node in queue:
        if node is final:
            break
        for name, link in node.links.items():
            if link.node not in seen and may_carry_picture(node, name):
                seen.add(link.node)
                reached_from[link.node] = node
                queue.append(graph.nodes[link.node])
    decoder, node = final, final
    while node.id in reached_from:
        node = reached_from[node.id]
        if vae_input(node) and any(_LATENT.search(name) for name in node.links):
            decoder = node
    return decoder


def _vae_link(graph: Graph, node: Node) -> Link | None:
    name = vae_input(node)
    if name:
        return node.links[name]
    if graph.is_reroute(node):
        return next(iter(node.links.values()))
    if any(widget in node.inputs for widget in _WIDGETS):
        return None
    pipe = pipe_input(node)
    return node.links[pipe] if pipe else None
