"""What a ComfyUI node of an unknown class does: by its sockets' types where they are known, else by their names."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Literal

from .node import Node
from .semantics import Conditioning, Guidance

Role = Literal["positive", "negative"]

_POSITIVE = re.compile(r"(^|_)(pos|positive)(_|$|\d|prompt|text|cond)", re.IGNORECASE)
_NEGATIVE = re.compile(r"(^|_)(neg|negative)(_|$|\d|prompt|text|cond)", re.IGNORECASE)
_REFINER = re.compile(r"(^|_)refiner(_|$)", re.IGNORECASE)
_CONDITIONING = re.compile(r"^(cond|conds|conditioning|conditionings|text_embeds|embeds)(_|$|\d|\.)", re.IGNORECASE)
_PROMPT_TEXT = re.compile(
    r"^(text|prompt|prompts|caption|string|user_prompt|clip_[lgh]|t5xxl|t5|llama|bert|mt5xl|tags|lyrics)"
    r"(_?[a-z]?\d*|_prompt|_text)$",
    re.IGNORECASE,
)
_CHOICE = re.compile(
    r"style|mode|type|method|preset|format|interpretation|normalization|weight|file|name", re.IGNORECASE
)
_OTHER_NAMES = re.compile(
    r"(^|_)(model|unet|clip|vae|image|images|pixels|frames|video|audio|mask|masks|latent|latents|latent_image|samples"
    r"|control_net|controlnet|style_model|clip_vision|clip_vision_output|noise|sampler|sigmas|hooks|upscale_model"
    r"|ipadapter|lora|lora_stack|tokens)(_?\w?\d*)$",
    re.IGNORECASE,
)
_PIPE = re.compile(
    r"^(pipe|basic_pipe|any_pipe|detailer_pipe|context|ctx|base_ctx|bus|sdxl_tuple)(_?\d*|_opt)$|(^|_)(pipe|pipe_line)$",
    re.IGNORECASE,
)
_SIDE_PIPE = re.compile(r"refiner|ipadapter|sam_|segm|bbox", re.IGNORECASE)
_MODEL = re.compile(
    r"^(model|unet)(_?(1|a|0*1))?$|^(base_model|model_to|model_positive|model_opt|opt_model|model_override|optional_model)$",
    re.IGNORECASE,
)
_VAE = re.compile(r"^(vae|optional_vae|vae_opt|vae_override)(_?\d*)$", re.IGNORECASE)
_OVERRIDE = re.compile(r"override|optional", re.IGNORECASE)
_GENERATES = re.compile(
    r"^(seed|temperature|top_p|top_k|max_(new_)?tokens|max_length|num_beams|api_?key)$", re.IGNORECASE
)
_MAX_NAME = 200
_SEEDS = ("seed", "noise_seed")
_SAMPLING = ("steps", "sigmas", "sampler", "sampler_name", "scheduler", "denoise")
_CFG = ("cfg", "cfg_conds", "cfg_scale", "video_cfg", "true_gs")

CONDITIONING_TYPES = frozenset(("CONDITIONING", "WANVIDEOTEXTEMBEDS", "HYVIDEMBEDS"))
MODEL_TYPES = frozenset(("MODEL", "WANVIDEOMODEL", "HYVIDEOMODEL"))
VAE_TYPES = frozenset(("VAE", "WANVAE"))
PIPE_TYPES = frozenset(("PIPE_LINE", "PIPE_LINE_SDXL", "BASIC_PIPE", "DETAILER_PIPE", "SDXL_TUPLE", "BUS")) | {
    "RGTHREE_CONTEXT",
    "RGTHREE_DYNAMIC_CONTEXT",
}
MADE_TYPES = frozenset(("IMAGE", "VIDEO", "AUDIO"))
SAMPLED_TYPES = PIPE_TYPES | {"LATENT", "IMAGE", "VIDEO", "AUDIO", "*"}
_VALUE_TYPES = frozenset(("STRING", "INT", "FLOAT", "BOOLEAN", "COMBO", "NUMBER", "SEED"))
_PICTURE_TYPES = frozenset(("IMAGE", "LATENT", "VIDEO", "MASK"))
_OTHER_TYPES = _PICTURE_TYPES.union(
    ("AUDIO", "CLIP", "CLIP_VISION", "CLIP_VISION_OUTPUT", "STYLE_MODEL", "UPSCALE_MODEL", "CONTROL_NET", "GLIGEN"),
    ("NOISE", "SAMPLER", "SIGMAS", "TIMESTEPS_RANGE", "HOOKS", "HOOK_KEYFRAMES", "LORA_STACK", "IPADAPTER"),
    ("WANTEXTENCODER", "WANVIDIMAGE_EMBEDS", "WANVIDLORA"),
)
_NO_CONDITIONING = MODEL_TYPES | VAE_TYPES | _OTHER_TYPES | _VALUE_TYPES - {"STRING"}
_NO_VALUE = MODEL_TYPES | VAE_TYPES | _OTHER_TYPES | CONDITIONING_TYPES
_NO_PICTURE = (MODEL_TYPES | VAE_TYPES | CONDITIONING_TYPES | _VALUE_TYPES | _OTHER_TYPES) - _PICTURE_TYPES


@lru_cache(maxsize=2**13)
def _says(pattern: re.Pattern[str], name: str) -> bool:
    """Whether a name matches; sockets of a graph have few names, and none is longer than this."""
    return len(name) <= _MAX_NAME and bool(pattern.search(name))


def role_of(name: str) -> Role | None:
    """What an input's name says about the conditioning that goes into it."""
    if _says(_NEGATIVE, name):
        return "negative"
    return "positive" if _says(_POSITIVE, name) else None


def is_conditioning(node: Node, name: str) -> bool:
    kind = node.types.get(name)
    return kind in CONDITIONING_TYPES if kind else _says(_CONDITIONING, name)


def may_carry_conditioning(node: Node, name: str) -> bool:
    """Whether a linked input can lead to conditioning or text: not where its type or name says otherwise."""
    kind = node.types.get(name)
    if kind in CONDITIONING_TYPES or kind == "STRING":
        return True
    return kind not in _NO_CONDITIONING and not _says(_OTHER_NAMES, name)


def may_carry_picture(node: Node, name: str) -> bool:
    """Whether a linked input can lead to what the picture was made from, rather than to what guided it."""
    return node.types.get(name) not in _NO_PICTURE


def carries_value(node: Node) -> bool:
    """Whether a node may pass a text or number on: not where it computes one from a model or a picture."""
    return all(
        node.types[name] not in _NO_VALUE if name in node.types else not _says(_OTHER_NAMES, name)
        for name in node.links
    )


def generates(node: Node) -> bool:
    """Whether a node's text is of a language model's or of chance's making."""
    return any(_GENERATES.match(name.rpartition(".")[2]) for name in node.inputs)


def is_pipe(node: Node, name: str) -> bool:
    """Whether an input is a bundle of positive, negative, model and more."""
    kind = node.types.get(name)
    if _says(_SIDE_PIPE, name):
        return False
    return kind in PIPE_TYPES or (kind not in _NO_VALUE and _says(_PIPE, name))


def model_input(node: Node) -> str | None:
    """The first, main model input of a node, and before it one that overrides it."""
    return _main(node, _MODEL, MODEL_TYPES)


def vae_input(node: Node) -> str | None:
    return _main(node, _VAE, VAE_TYPES)


def _main(node: Node, named: re.Pattern[str], types: frozenset[str]) -> str | None:
    fitting = [name for name in node.links if _says(named, name) and node.types.get(name, "*") in types | {"*"}]
    fitting += [name for name in node.links if node.types.get(name) in types and name not in fitting]
    return next((name for name in fitting if _says(_OVERRIDE, name)), fitting[0] if fitting else None)


def pipe_input(node: Node) -> str | None:
    return next((name for name in node.links if is_pipe(node, name)), None)


def infer_guidance(node: Node) -> Guidance:
    """The positive, negative, model and CFG inputs of a sampler or guider of unknown class."""
    sided = [name for name in node.links if role_of(name) and may_carry_conditioning(node, name)]
    positive = next((name for name in sided if role_of(name) == "positive"), None)
    negative = next((name for name in sided if role_of(name) == "negative"), None)
    conditioning = next((name for name in node.links if is_conditioning(node, name) and name not in sided), None)
    pipe = pipe_input(node)
    both = "text_embeds" if "text_embeds" in node.links else pipe
    return Guidance(
        positive=positive or conditioning or pipe or "positive",
        negative=negative or both,
        model=model_input(node) or pipe or "model",
        cfg=next((name for name in _CFG if name in node.inputs), None),
        by="guider" if "guider" in node.links else None,
    )


def is_sampler(node: Node) -> bool:
    """Whether sockets look like a sampler's: something that guides it, and noise or steps."""
    names, links = node.inputs, node.links
    if "guider" in links:
        return any(name in names for name in ("noise", "sigmas", "sampler", *_SEEDS))
    if not any(name in names for name in _SEEDS) or not any(name in names for name in _SAMPLING):
        return False
    return any(
        (role_of(name) == "positive" and may_carry_conditioning(node, name))
        or is_conditioning(node, name)
        or is_pipe(node, name)
        for name in links
    )  # fmt: skip


def infer_conditioning(node: Node, role: Role) -> Conditioning:
    """What a CONDITIONING output of an unknown class is made of, `role` being what the output is.

    Inputs named for the role come first, then a pipe, any conditioning, and prompt texts; a node with none of these
    passes on whatever may lead to conditioning (a reroute, a switch).
    """
    if re.search(r"zero_?out", node.class_type, re.IGNORECASE):
        return Conditioning()
    named = [name for name in node.inputs if role_of(name) and _holds_prompt(node, name)]
    sided = [name for name in named if role_of(name) == role]
    if sided:
        sided = [name for name in sided if not _says(_REFINER, name)] or sided
        return _split(node, [name for name in sided if "populated" in name] or sided)
    pipes = tuple(name for name in node.links if is_pipe(node, name))
    if pipes:
        return Conditioning(pipes)
    if named and role == "negative":
        return Conditioning()
    inputs = tuple(name for name in node.links if is_conditioning(node, name))
    texts = tuple(name for name in _prompt_texts(node) if name not in inputs)
    if inputs or texts:
        return Conditioning(inputs, texts)
    return Conditioning(tuple(name for name in node.links if may_carry_conditioning(node, name)))


def _prompt_texts(node: Node) -> list[str]:
    """The inputs that hold prompt text: by name, or the only text of a node that has a text encoder."""
    strings = [name for name in node.inputs if _may_be_text(node, name)]
    named = [name for name in strings if _says(_PROMPT_TEXT, name)]
    if named:
        return named
    encodes = any(node.types.get(name) == "CLIP" or name == "clip" for name in node.links)
    return strings if encodes and len(strings) == 1 else []


def _may_be_text(node: Node, name: str) -> bool:
    if _says(_CHOICE, name) or node.types.get(name, "STRING") != "STRING":
        return False
    return isinstance(node.inputs[name], str) or (name in node.links and may_carry_conditioning(node, name))


def _holds_prompt(node: Node, name: str) -> bool:
    """Whether an input that is named for a side is conditioning or text, and not a choice, a number or a picture."""
    if name in node.links:
        return may_carry_conditioning(node, name) and not _says(_CHOICE, name)
    return _may_be_text(node, name)


def _split(node: Node, sided: list[str]) -> Conditioning:
    """Named inputs as conditioning where they are linked, and as texts where they are widgets or links to text."""
    inputs = tuple(name for name in sided if name in node.links and node.types.get(name) != "STRING")
    return Conditioning(inputs, tuple(name for name in sided if name not in inputs))
