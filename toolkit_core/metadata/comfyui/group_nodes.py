"""ComfyUI's old group nodes, made into the definition of a subgraph for each instance.

Source: ComfyUI_frontend's groupNode.ts, which shows a group's open inputs and outputs in the order of its nodes, and
keeps the values of all its widgets in the instance.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

_GROUP = re.compile(r"workflow[>/](.+)", re.DOTALL)
_INPUT = "-10"
_OUTPUT = "-20"


def group_definition(groups: Any, class_type: str, inputs: Sequence[str], values: Any) -> dict[str, Any] | None:
    """The subgraph that stands for a group node with inputs of these names and these `widgets_values`.

    None where the class is no group node, or its group is not in the workflow.
    """
    match = _GROUP.fullmatch(class_type)
    group = groups.get(match[1]) if match and isinstance(groups, dict) else None
    if not isinstance(group, dict) or not isinstance(group.get("nodes"), list):
        return None
    nodes = [dict(node) if isinstance(node, dict) else {} for node in group["nodes"]]
    for index, node in enumerate(nodes):
        node["id"] = index
        node["inputs"] = [dict(socket) for socket in node.get("inputs") or () if isinstance(socket, dict)]
    _share(values, nodes)
    links = _inner_links(group.get("links"), nodes)
    shown = {(entry[0], entry[1]) for entry in _lists(group.get("external"), 2) if _is_index(entry[0])}
    linked = {(link[1], link[2]) for link in links}
    hidden = {place for place in linked if place not in shown}
    links += _outer_inputs(nodes, group.get("config"), inputs)
    outputs = [(index, slot) for index, node in enumerate(nodes) for slot in range(len(node.get("outputs") or ()))]
    visible = [place for place in outputs if place not in hidden]
    links += [[f"out {slot}", *place, _OUTPUT, slot] for slot, place in enumerate(visible)]
    return {"nodes": nodes, "links": links, "inputs": [{"name": name} for name in inputs]}


def _share(values: Any, nodes: list[dict[str, Any]]) -> None:
    """Give each node its part of the instance's values; they keep those of the group where the numbers differ."""
    parts = [node.get("widgets_values") for node in nodes]
    counts = [len(part) if isinstance(part, list) else 0 for part in parts]
    if not isinstance(values, list) or len(values) != sum(counts):
        return
    start = 0
    for node, count in zip(nodes, counts, strict=True):
        if count:
            node["widgets_values"] = values[start : start + count]
        start += count


def _inner_links(raw: Any, nodes: list[dict[str, Any]]) -> list[list[Any]]:
    """The links between the group's nodes; those from outside have no origin, and are not among them."""
    links: list[list[Any]] = []
    for origin, origin_slot, target, target_slot, *_ in _lists(raw, 4):
        if not (_is_index(origin) and _is_index(target) and _is_index(target_slot) and target < len(nodes)):
            continue
        sockets = nodes[target]["inputs"]
        if target_slot < len(sockets):
            link_id = f"{target} {target_slot}"
            sockets[target_slot]["link"] = link_id
            links.append([link_id, origin, origin_slot, target, target_slot])
    linked = {link[0] for link in links}
    for socket in (socket for node in nodes for socket in node["inputs"]):
        socket["link"] = socket.get("link") if socket.get("link") in linked else None
    return links


def _outer_inputs(nodes: list[dict[str, Any]], config: Any, names: Sequence[str]) -> list[list[Any]]:
    """Links from the instance's inputs: first the open sockets of all nodes, then the widgets that became sockets."""
    opened = [
        (index, slot, socket)
        for index, node in enumerate(nodes)
        for slot, socket in enumerate(node["inputs"])
        if socket["link"] is None and not _is_hidden(config, index, socket.get("name"))
    ]
    sockets = [place for place in opened if not place[2].get("widget")]
    widgets = [place for place in opened if place[2].get("widget")]
    for name in names[len(sockets) :]:
        place = next((place for place in widgets if _is_named(name, place[2].get("name"))), None)
        if place is not None:
            widgets.remove(place)
        sockets.append(place or (-1, -1, {}))
    links: list[list[Any]] = []
    for number, (index, slot, socket) in enumerate(sockets[: len(names)]):
        socket["link"] = f"in {number}"
        links.append([socket["link"], _INPUT, number, index, slot])
    return links


def _is_named(name: str, inner: Any) -> bool:
    """An inner input's name stands behind its node's title where several nodes have one of that name."""
    return isinstance(inner, str) and (name == inner or name.endswith(f" {inner}"))


def _is_hidden(config: Any, index: int, name: Any) -> bool:
    entry: Any = config
    for key in (str(index), "input", name):
        entry = entry.get(key) if isinstance(entry, Mapping) and isinstance(key, str) else None
    return isinstance(entry, Mapping) and entry.get("visible") is False


def _lists(raw: Any, length: int) -> list[list[Any]]:
    return [entry for entry in raw if isinstance(entry, list) and len(entry) >= length] if isinstance(raw, list) else []


def _is_index(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
