"""What is known of the sockets of ComfyUI's node classes: their types, and which widget a saved value belongs to.

A class is looked up in a running ComfyUI's definitions, in the workflow that a file holds, and in a table of ComfyUI's
own nodes, which `tools/comfyui_core_nodes.py` makes. Sources of the rules: ComfyUI_frontend's litegraphService.ts,
widgets.ts, dynamicWidgets.ts and litegraphUtil.ts.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

CORE_NODES = "core_nodes.json"
DYNAMIC_COMBO = "COMFY_DYNAMICCOMBO_V3"
AUTOGROW = "COMFY_AUTOGROW_V3"

_MATCH_TYPE = "COMFY_MATCHTYPE_V3"
_CONTROL = "control_after_generate"
_SEEDS = ("seed", "noise_seed")
_VALUE_TYPES = frozenset(("INT", "FLOAT", "BOOLEAN", "STRING", "COMBO", DYNAMIC_COMBO))
_DRAWN_TYPES = frozenset(
    (
        *("MARKDOWN", "TEXTAREA", "COLOR", "COLORS", "CHART", "GALLERIA", "PAINTER", "COMPOSITOR", "CURVE", "RANGE"),
        *("VIDEO_EDIT", "BOUNDING_BOX", "BOUNDING_BOXES", "LOAD_3D", "LOAD_3D_ADVANCED", "PREVIEW_3D"),
        *("WEBCAM", "AUDIO_RECORD"),
    )
)
"""Types that have a widget in the frontend. IMAGECOMPARE has one, too, but keeps no value."""
_UNCOUNTED = (AUTOGROW, "LOAD_3D", "LOAD_3D_ADVANCED")
"""As many widgets as are linked, or buttons of the editor's own before the widget."""
_MAX_DEPTH = 8
"""How deep dynamic inputs lie in each other; ComfyUI's own go three deep."""


class Input(NamedTuple):
    """One input of a class.

    `values` is how many of a node's `widgets_values` are its own: none for a socket; one for a widget; more where the
    frontend puts widgets of its own behind it, as after a seed. `forced` is a widget's type that is only a socket.
    `inner` are the inputs that a dynamic combo adds, by its value, or those that an autogrow repeats, under "".
    """

    name: str
    type: str
    values: int = 0
    forced: bool = False
    inner: Mapping[str, tuple[Input, ...]] = {}


class NodeType(NamedTuple):
    """The inputs of a class by name, in order, and the types of its outputs by slot.

    `has_widgets`: whether they say which of them are widgets; those that a workflow lists do not.
    """

    inputs: Mapping[str, Input]
    outputs: tuple[str, ...]
    has_widgets: bool = True


Lookup = Callable[[str], NodeType | None]


class NodeTypes:
    """What several sources know of node classes; the first that can answer a question does."""

    def __init__(self, *lookups: Lookup) -> None:
        self._lookups = lookups

    @classmethod
    def from_object_info(cls, definitions: Mapping[str, Any]) -> NodeTypes:
        """The classes of a running ComfyUI: the JSON of its `/object_info`."""
        return cls(cache(lambda class_type: _from_definition(definitions.get(class_type))))

    @classmethod
    def from_workflow(cls, workflow: Any) -> NodeTypes:
        """The classes of a workflow, of which each node lists its sockets; widgets only where they are sockets too."""
        return cls(_from_nodes(workflow_nodes(workflow)).get)

    @classmethod
    def core(cls) -> NodeTypes:
        """ComfyUI's own nodes, out of the table in this package. It is read once, at the first question."""
        return cls(_core_node)

    def otherwise(self, other: NodeTypes) -> NodeTypes:
        """These sources, and where they have no answer, the other ones."""
        return NodeTypes(*self._lookups, *other._lookups)

    def input_type(self, class_type: str, name: str) -> str | None:
        """An input's type, such as "CONDITIONING", "COMBO" or "IMAGE,MASK"; "*" is any. None: not known."""
        for known in self._known(class_type):
            found = _find(known.inputs, name)
            if found:
                return found.type
        return None

    def output_type(self, class_type: str, slot: int) -> str | None:
        """The type of an output slot; "*" is any. None: not known."""
        for known in self._known(class_type):
            if 0 <= slot < len(known.outputs):
                return known.outputs[slot]
        return None

    def widgets(self, class_type: str, values: Sequence[Any] = ()) -> tuple[str | None, ...] | None:
        """The input that each of a node's `widgets_values` belongs to; None for a value of the frontend's own.

        A dynamic combo's inputs depend on its value, so `values` are the node's. There are more names than values
        where a newer version of the class has more widgets, and fewer where a frontend adds some. None: not known.
        """
        known = next((known for known in self._known(class_type) if known.has_widgets), None)
        return _names(known.inputs.values(), values) if known else None

    def definition(self, class_type: str) -> NodeType | None:
        """All that the first source that knows the class says of it."""
        return next(self._known(class_type), None)

    def _known(self, class_type: str) -> Iterator[NodeType]:
        for lookup in self._lookups:
            found = lookup(class_type)
            if found:
                yield found


def workflow_nodes(workflow: Any) -> Iterator[dict[str, Any]]:
    """The nodes of a workflow and of its subgraphs' definitions, each as the file has it."""
    graphs = [workflow]
    while graphs:
        graph = graphs.pop()
        if not isinstance(graph, dict):
            continue
        nodes, definitions = graph.get("nodes"), graph.get("definitions")
        yield from (node for node in (nodes if isinstance(nodes, list) else ()) if isinstance(node, dict))
        subgraphs = definitions.get("subgraphs") if isinstance(definitions, dict) else None
        graphs.extend(reversed(subgraphs) if isinstance(subgraphs, list) else ())


def _find(inputs: Mapping[str, Input], name: str) -> Input | None:
    """An input by its name in a prompt, where a dynamic one's inner inputs follow it behind a dot."""
    for _ in range(_MAX_DEPTH):
        if name in inputs:
            return inputs[name]
        head, _, name = name.partition(".")
        outer = inputs.get(head)
        if outer is None:
            return None
        inner = [found for chosen in outer.inner.values() for found in chosen]
        if outer.type == AUTOGROW:
            named = next((found for found in inner if name.startswith(found.name)), None)
            return named or (inner[0] if inner else None)
        inputs = _by_name(inner)
    return None


def _by_name(inputs: Iterable[Input]) -> dict[str, Input]:
    """The first of each name: a dynamic combo's choices have names in common, and their types."""
    return {found.name: found for found in reversed(list(inputs))}


def _names(inputs: Collection[Input], values: Sequence[Any]) -> tuple[str | None, ...]:
    old = _without_forced(inputs, values)
    if old is not None:
        return old
    names: list[str | None] = []
    pending = [(found, "") for found in reversed(list(inputs))]
    while pending:
        found, prefix = pending.pop()
        if found.type in _UNCOUNTED and (found.values or any(inner.values for inner in found.inner.get("", ()))):
            break  # how many values there are is not known, so neither is what follows
        if not found.values:
            continue
        name = prefix + found.name
        value = values[len(names)] if len(names) < len(values) else None
        chosen = found.inner.get(value, ()) if isinstance(value, str) else ()
        names += [name, *(None,) * (found.values - 1)]
        pending += [(inner, f"{name}.") for inner in reversed(chosen)]
    return tuple(names)


def _without_forced(inputs: Collection[Input], values: Sequence[Any]) -> tuple[str | None, ...] | None:
    """The names where there is a value for each forced input too, as frontends before 1.16 saved it."""
    if not any(found.forced for found in inputs) or any(found.inner for found in inputs):
        return None
    names: list[str | None] = []
    for found in inputs:
        if found.forced:
            names.append(None)
        elif found.values:
            names += [found.name, *(None,) * (found.values - 1)]
    return tuple(names) if len(names) == len(values) else None


def _from_nodes(nodes: Iterable[dict[str, Any]]) -> dict[str, NodeType]:
    inputs: dict[str, dict[str, Input]] = {}
    outputs: dict[str, tuple[str, ...]] = {}
    for node in nodes:
        class_type = node.get("type")
        if not isinstance(class_type, str):
            continue
        known = inputs.setdefault(class_type, {})
        for name, kind in _slots(node.get("inputs")):
            if name is not None:
                known[name] = Input(name, kind if known.get(name, Input(name, kind)).type == kind else "*")
        before, given = outputs.get(class_type, ()), tuple(kind for _, kind in _slots(node.get("outputs")))
        shared = tuple(one if one == other else "*" for one, other in zip(before, given, strict=False))
        outputs[class_type] = shared + max(before, given, key=len)[len(shared) :]
    return {class_type: NodeType(known, outputs[class_type], False) for class_type, known in inputs.items()}


def _slots(slots: Any) -> Iterator[tuple[str | None, str]]:
    for slot in slots if isinstance(slots, list) else ():
        name, kind = (slot.get("name"), slot.get("type")) if isinstance(slot, dict) else (None, None)
        yield name if isinstance(name, str) else None, kind if isinstance(kind, str) else "*"


def _from_definition(definition: Any) -> NodeType | None:
    """A class as `/object_info` describes it: each input is [type or choices, options]."""
    if not isinstance(definition, dict):
        return None
    outputs = definition.get("output")
    kinds = (_type_of(kind) for kind in (outputs if isinstance(outputs, list) else ()))
    order = definition.get("input_order")
    inputs = _inputs_of(definition.get("input"), order if isinstance(order, dict) else {}, 0)
    return NodeType(
        {found.name: found for found in inputs}, tuple("*" if kind == _MATCH_TYPE else kind for kind in kinds)
    )


def _inputs_of(groups: Any, order: Mapping[str, Any], depth: int) -> tuple[Input, ...]:
    inputs: list[Input] = []
    for group in ("required", "optional"):
        specs = groups.get(group) if isinstance(groups, dict) else None
        if isinstance(specs, dict):
            names = dict.fromkeys([*(order.get(group) or ()), *specs])
            inputs += [_input_of(name, specs[name], depth) for name in names if name in specs]
    return tuple(inputs)


def _input_of(name: str, spec: Any, depth: int) -> Input:
    parts = spec if isinstance(spec, list) else []
    options = parts[1] if len(parts) > 1 and isinstance(parts[1], dict) else {}
    kind = _type_of(parts[0] if parts else None)
    template = options.get("template")
    template = template if isinstance(template, dict) else {}
    if kind == _MATCH_TYPE:
        return Input(name, _type_of(template.get("allowed_types")))
    inner: dict[str, tuple[Input, ...]] = {}
    if depth < _MAX_DEPTH and kind == AUTOGROW:
        inner[""] = _inputs_of(template.get("input"), {}, depth + 1)
    elif depth < _MAX_DEPTH and kind == DYNAMIC_COMBO:
        choices = (choice for choice in options.get("options") or () if isinstance(choice, dict))
        inner = {str(choice.get("key")): _inputs_of(choice.get("inputs"), {}, depth + 1) for choice in choices}
    widget = options.get("widgetType") or kind
    if widget not in _VALUE_TYPES | _DRAWN_TYPES:
        return Input(name, kind, inner=inner)
    if options.get("forceInput"):
        return Input(name, kind, forced=True)
    return Input(name, kind, 1 + _controls(name if depth == 0 else "", widget, options), inner=inner)


def _controls(name: str, kind: str, options: Mapping[str, Any]) -> int:
    """How many widgets the frontend puts behind this one: what becomes of a seed, and a filter for a list."""
    if kind == "INT":
        return 1 if options.get(_CONTROL, name in _SEEDS) else 0
    return 2 if kind == "COMBO" and options.get(_CONTROL) else 0


def _type_of(kind: Any) -> str:
    """A type's name; a list of choices is a combo."""
    return kind if isinstance(kind, str) else "COMBO" if isinstance(kind, list) else "*"


@cache
def _core_node(class_type: str) -> NodeType | None:
    types, nodes = _core_table()
    if class_type not in nodes:
        return None
    inputs, outputs = nodes[class_type]
    return NodeType(
        {found.name: found for found in _unpacked(inputs, types)}, tuple(types[number] for number in outputs)
    )


@cache
def _core_table() -> tuple[list[str], dict[str, Any]]:
    """The names of all types, and by class its inputs and the numbers of its outputs' types."""
    table = json.loads(Path(__file__).with_name(CORE_NODES).read_text(encoding="utf-8"))
    return table["types"], table["nodes"]


def _unpacked(inputs: list[Any], types: list[str]) -> tuple[Input, ...]:
    """Inputs as the table has them: [name, number of its type, values or -1 if forced, inner inputs]."""
    unpacked: list[Input] = []
    for name, kind, *more in inputs:
        values = more[0] if more else 0
        inner = {choice: _unpacked(chosen, types) for choice, chosen in (more[1] if len(more) > 1 else {}).items()}
        unpacked.append(Input(name, types[kind], max(values, 0), values < 0, inner))
    return tuple(unpacked)


def definitions_of(object_info: Mapping[str, Any]) -> dict[str, NodeType]:
    """Every class of a `/object_info`, to make the table from."""
    return {name: found for name, spec in object_info.items() if (found := _from_definition(spec))}
