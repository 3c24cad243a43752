"""The words in which the table of nodes says what a node does with conditioning."""

from __future__ import annotations

from typing import NamedTuple


class Conditioning(NamedTuple):
    """What one CONDITIONING output is made of: other conditioning, by input name, then texts, by widget name."""

    inputs: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()


class Guidance(NamedTuple):
    """Which inputs of a sampler or guider are positive, negative, model and CFG scale. None: it has no such input.

    by: the input behind which another node holds all this: a guider, or the settings of a sampler.
    """

    positive: str = "positive"
    negative: str | None = "negative"
    model: str = "model"
    cfg: str | None = "cfg"
    by: str | None = None


def encodes(*widgets: str) -> tuple[Conditioning, ...]:
    """A text encoder: its widgets that hold prompt text, in order."""
    return (Conditioning(texts=widgets),)


def joins(*inputs: str, text: str | None = None) -> tuple[Conditioning, ...]:
    """Passes on the conditioning of these inputs, in order, and then a text of its own."""
    return (Conditioning(inputs, (text,) if text else ()),)


def by_slot(*outputs: tuple[Conditioning, ...]) -> tuple[Conditioning, ...]:
    """Several outputs: what each slot does, from slot 0 on."""
    return tuple(output[0] for output in outputs)


NOTHING = (Conditioning(),)
ZEROED = NOTHING
"""Conditioning of the right shape and all zeros: no text is left in it."""
PAIR = by_slot(joins("positive"), joins("negative"))
FROM_IMAGE = by_slot(NOTHING, ZEROED)
"""Positive from an image alone; the negative is zeros of the same shape."""
