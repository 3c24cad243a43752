"""What a ComfyUI node of an unknown class does, by the names of its sockets."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

from .comfyui_nodes import Conditioning, Guidance

Role = Literal["positive", "negative"]

_POSITIVE = re.compile(r"(^|_)(pos|positive)(_|$|\d|prompt|text|cond)", re.IGNORECASE)
_NEGATIVE = re.compile(r"(^|_)(neg|negative)(_|$|\d|prompt|text|cond)", re.IGNORECASE)
_CONDITIONING = re.compile(r"^(cond|conds|conditioning|text_embeds|embeds)(_|$|\d|\.)", re.IGNORECASE)
_PROMPT_TEXT = re.compile(
    r"^(text|prompt|prompts|caption|string|user_prompt|clip_[lgh]|t5xxl|t5|llama|bert|mt5xl|tags|lyrics)"
    r"(_?[a-z]?\d*|_prompt|_text)$",
    re.IGNORECASE,
)
_CHOICE = re.compile(
    r"style|mode|type|method|preset|format|interpretation|normalization|weight|file|name", re.IGNORECASE
)
_OTHER_TYPES = re.compile(
    r"(^|_)(model|unet|clip|vae|image|images|pixels|frames|video|audio|mask|masks|latent|latents|latent_image|samples"
    r"|control_net|controlnet|style_model|clip_vision|clip_vision_output|noise|sampler|sigmas|hooks|upscale_model"
    r"|ipadapter|lora|lora_stack|tokens)(_?\w?\d*)$",
    re.IGNORECASE,
)
_PIPE = re.compile(r"^(pipe|basic_pipe|detailer_pipe|context|ctx|base_ctx)(_|$|\d)|_pipe$", re.IGNORECASE)
_MODEL = re.compile(r"^(model|unet)(_?(1|a|0*1))?$|^(base_model|model_to|model_positive|model_opt)$", re.IGNORECASE)
_SEEDS = ("seed", "noise_seed")
_SAMPLING = ("steps", "sigmas", "sampler", "sampler_name", "scheduler", "denoise")


def role_of(name: str) -> Role | None:
    """What an input's name says about the conditioning that goes into it."""
    if _NEGATIVE.search(name):
        return "negative"
    return "positive" if _POSITIVE.search(name) else None


def may_carry_conditioning(name: str) -> bool:
    """Whether an input of this name can lead to conditioning or text: not where the name says another type."""
    return not _OTHER_TYPES.search(name)


def is_pipe(name: str) -> bool:
    return bool(_PIPE.search(name))


def is_model(name: str) -> bool:
    """Whether it is the first, main model input of a node."""
    return bool(_MODEL.search(name))


def carries_value(links: Mapping[str, Any]) -> bool:
    """Whether a node may pass a text or number on: not where it computes one from a model or a picture."""
    return all(may_carry_conditioning(name) for name in links)


def infer_guidance(names: Mapping[str, Any], links: Mapping[str, Any]) -> Guidance:
    """The positive, negative, model and CFG inputs of a sampler or guider of unknown class."""
    positive = next((name for name in links if role_of(name) == "positive"), None)
    negative = next((name for name in links if role_of(name) == "negative"), None)
    conditioning = next((name for name in links if _CONDITIONING.search(name)), None)
    pipe = next((name for name in links if is_pipe(name)), None)
    guider = "guider" if "guider" in links else None
    both = "text_embeds" if "text_embeds" in links else pipe
    cfg = next((name for name in ("cfg", "cfg_conds", "cfg_scale", "video_cfg", "true_gs") if name in names), None)
    model = next((name for name in links if is_model(name)), None)
    return Guidance(
        positive=positive or guider or conditioning or pipe or "positive",
        negative=negative or guider or both,
        model=model or guider or pipe or "model",
        cfg=cfg,
    )


def is_sampler(names: Mapping[str, Any], links: Mapping[str, Any]) -> bool:
    """Whether sockets look like a sampler's: something that guides it, and noise or steps."""
    if "guider" in links:
        return any(name in names for name in ("noise", "sigmas", "sampler", *_SEEDS))
    if not any(name in names for name in _SEEDS) or not any(name in names for name in _SAMPLING):
        return False
    return any(role_of(name) == "positive" or _CONDITIONING.search(name) or is_pipe(name) for name in links)


def infer_conditioning(names: Mapping[str, Any], links: Mapping[str, Any], role: Role, class_type: str) -> Conditioning:
    """What a CONDITIONING output of an unknown class is made of, `role` being what the output is.

    Inputs named for the role come first, then any conditioning, then prompt texts; a node with none of these passes on
    whatever may lead to conditioning (a reroute, a switch).
    """
    if re.search(r"zero_?out", class_type, re.IGNORECASE):
        return Conditioning(zeroed=True)
    sided = [name for name in names if role_of(name) == role and not _CHOICE.search(name)]
    other_side = any(role_of(name) not in (None, role) for name in names)
    if sided:
        return _split(sided, names, links)
    if other_side and role == "negative":
        return Conditioning()
    inputs = tuple(name for name in links if _CONDITIONING.search(name))
    texts = tuple(name for name in names if _PROMPT_TEXT.search(name) and not _CHOICE.search(name))
    if inputs or texts:
        return Conditioning(inputs, tuple(name for name in texts if name not in inputs))
    return Conditioning(tuple(name for name in links if may_carry_conditioning(name)))


def _split(sided: list[str], names: Mapping[str, Any], links: Mapping[str, Any]) -> Conditioning:
    """Named inputs as conditioning where they are linked and as texts where they are widgets."""
    inputs = tuple(name for name in sided if name in links)
    return Conditioning(inputs, tuple(name for name in sided if isinstance(names[name], str)))
