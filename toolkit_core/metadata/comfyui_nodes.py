"""What ComfyUI's nodes do with texts, conditioning and models: the table that the graph walk reads.

A class that is not here is read by the names of its sockets (`comfyui_sockets`), which is right for most nodes. One
that names its sockets otherwise gets one line: its class_type, and what it does. Sources: ComfyUI's nodes.py and
comfy_extras, and the node packs' own definitions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

Values = Mapping[str, Any]
"""A node's widgets by input name, with links into them already resolved."""


class Conditioning(NamedTuple):
    """What one CONDITIONING output is made of: other conditioning, by input name, then texts, by widget name."""

    inputs: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()
    zeroed: bool = False


class Guidance(NamedTuple):
    """Which inputs of a sampler or guider are positive, negative, model and CFG scale. None: it has no such input."""

    positive: str = "positive"
    negative: str | None = "negative"
    model: str = "model"
    cfg: str | None = "cfg"


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
ZEROED = (Conditioning(zeroed=True),)
PAIR = by_slot(joins("positive"), joins("negative"))
FROM_IMAGE = by_slot(NOTHING, ZEROED)
"""Positive from an image alone; the negative is zeros of the same shape."""

CONDITIONING: dict[str, tuple[Conditioning, ...]] = {
    "CLIPTextEncode": encodes("text"),
    "CLIPTextEncodeControlnet": joins("conditioning", text="text"),
    "CLIPTextEncodeFlux": encodes("clip_l", "t5xxl"),
    "CLIPTextEncodeHiDream": encodes("clip_l", "clip_g", "t5xxl", "llama"),
    "CLIPTextEncodeHunyuanDiT": encodes("bert", "mt5xl"),
    "CLIPTextEncodeKandinsky5": encodes("clip_l", "qwen25_7b"),
    "CLIPTextEncodeLumina2": encodes("user_prompt"),
    "CLIPTextEncodePixArtAlpha": encodes("text"),
    "CLIPTextEncodeSD3": encodes("clip_l", "clip_g", "t5xxl"),
    "CLIPTextEncodeSDXL": encodes("text_g", "text_l"),
    "CLIPTextEncodeSDXLRefiner": encodes("text"),
    "BNK_CLIPTextEncodeAdvanced": encodes("text"),
    "BNK_CLIPTextEncodeSDXLAdvanced": encodes("text_g", "text_l"),
    "smZ CLIPTextEncode": encodes("text"),
    "ImpactWildcardEncode": encodes("populated_text"),
    "MiniMaxH3ImageToVideo": encodes("prompt"),
    "MiniMaxH3ReferenceToVideo": encodes("prompt"),
    "MiniMaxMusic3TextEncode": encodes("caption", "lyrics"),
    "PhotoMakerEncode": encodes("text"),
    "TextEncodeAceStepAudio": encodes("tags", "lyrics"),
    "TextEncodeAceStepAudio1.5": encodes("tags", "lyrics"),
    "TextEncodeBooguEdit": by_slot(encodes("prompt"), encodes("negative_prompt")),
    "TextEncodeHunyuanVideo_ImageToVideo": encodes("prompt"),
    "TextEncodeJoyImageEdit": encodes("prompt"),
    "TextEncodeMageFlowEdit": by_slot(encodes("prompt"), encodes("negative_prompt")),
    "TextEncodeQwenImageEdit": encodes("prompt"),
    "TextEncodeQwenImageEditPlus": encodes("prompt"),
    "TextEncodeZImageOmni": encodes("prompt"),
    "ConditioningAverage": joins("conditioning_to", "conditioning_from"),
    "ConditioningCombine": joins("conditioning_1", "conditioning_2"),
    "ConditioningConcat": joins("conditioning_to", "conditioning_from"),
    "ConditioningSetDefaultCombine": joins("cond", "cond_DEFAULT"),
    "ConditioningSetProperties": joins("cond_NEW"),
    "ConditioningSetPropertiesAndCombine": joins("cond", "cond_NEW"),
    "ConditioningZeroOut": ZEROED,
    "GLIGENTextBoxApply": joins("conditioning_to", text="text"),
    "PiDConditioning": joins("positive"),
    "PairConditioningCombine": by_slot(joins("positive_A", "positive_B"), joins("negative_A", "negative_B")),
    "PairConditioningSetDefaultCombine": by_slot(
        joins("positive", "positive_DEFAULT"), joins("negative", "negative_DEFAULT")
    ),
    "PairConditioningSetProperties": by_slot(joins("positive_NEW"), joins("negative_NEW")),
    "PairConditioningSetPropertiesAndCombine": by_slot(
        joins("positive", "positive_NEW"), joins("negative", "negative_NEW")
    ),
    "ControlNetApplyAdvanced": PAIR,
    "ControlNetApplySD3": PAIR,
    "ControlNetInpaintingAliMamaApply": PAIR,
    "ACN_AdvancedControlNetApply": PAIR,
    "InpaintModelConditioning": PAIR,
    "InstructPixToPixConditioning": PAIR,
    "HunyuanImageToVideo": joins("positive"),
    "LTXVReferenceAudio": by_slot(NOTHING, joins("positive"), joins("negative")),
    "WanInfiniteTalkToVideo": by_slot(NOTHING, joins("positive"), joins("negative")),
    "WanPhantomSubjectToVideo": by_slot(joins("positive"), joins("negative"), joins("negative")),
    "WanAnimate2ToVideo": PAIR,
    "Efficient Loader": by_slot(NOTHING, encodes("positive"), encodes("negative")),
    "SVD_img2vid_Conditioning": FROM_IMAGE,
    "SV3D_Conditioning": FROM_IMAGE,
    "StableZero123_Conditioning": FROM_IMAGE,
    "StableZero123_Conditioning_Batched": FROM_IMAGE,
    "Hunyuan3Dv2Conditioning": FROM_IMAGE,
    "Hunyuan3Dv2ConditioningMultiView": FROM_IMAGE,
    "Pixal3DConditioning": FROM_IMAGE,
    "SeedVR2Conditioning": FROM_IMAGE,
    "Trellis2Conditioning": FROM_IMAGE,
    "TripoSplatConditioning": FROM_IMAGE,
    "LotusConditioning": NOTHING,
}

SAMPLERS: dict[str, Guidance] = {
    "KSampler": Guidance(),
    "KSamplerAdvanced": Guidance(),
    "SamplerCustom": Guidance(),
    "SamplerCustomAdvanced": Guidance(positive="guider", negative="guider", model="guider", cfg=None),
}

GUIDERS: dict[str, Guidance] = {
    "BasicGuider": Guidance(positive="conditioning", negative=None, cfg=None),
    "CFGGuider": Guidance(),
    "DualCFGGuider": Guidance(positive="cond1", cfg="cfg_conds"),
    "DualModelGuider": Guidance(),
    "LTXVDualCFGGuider": Guidance(cfg="video_cfg"),
    "PerpNegGuider": Guidance(),
}


def _text(values: Values, name: str) -> str:
    value = values.get(name)
    return value if isinstance(value, str) else ""


def _index(values: Values, name: str) -> int | None:
    value = values.get(name)
    return value if isinstance(value, int) else None


def widget(name: str) -> Callable[[Values], Any]:
    """Gives one of its inputs as it is."""
    return lambda values: values.get(name)


def joined(*names: str, by: str = "delimiter", default: str = " ", skip_empty: bool = False) -> Callable[[Values], Any]:
    """Joins its texts by the text in the widget `by`, or by `default` where it has no such widget."""

    def join(values: Values) -> str:
        separator = (_text(values, by) if by in values else default).replace("\\n", "\n")
        texts = [_text(values, name) for name in names if name in values]
        return separator.join(text for text in texts if text or not skip_empty)

    return join


def _concatenated(values: Values) -> str:
    return _text(values, "delimiter").join((_text(values, "string_a"), _text(values, "string_b")))


def _replaced(values: Values) -> str:
    text, find, replace = (_text(values, name) for name in ("string", "find", "replace"))
    grown = len(text) + text.count(find) * len(replace)
    return text.replace(find, replace) if grown <= MAX_TEXT else ""


def _trimmed(values: Values) -> str:
    text, mode = _text(values, "string"), values.get("mode")
    return text.strip() if mode == "Both" else text.lstrip() if mode == "Left" else text.rstrip()


def _cased(values: Values) -> str:
    text = _text(values, "string")
    changes = {
        "UPPERCASE": text.upper,
        "lowercase": text.lower,
        "Capitalize": text.capitalize,
        "Title Case": text.title,
    }
    mode = values.get("mode")
    return changes[mode]() if isinstance(mode, str) and mode in changes else text


def _cut(values: Values) -> str:
    return _text(values, "string")[_index(values, "start") : _index(values, "end")]


MAX_TEXT = 2**20
"""A longer text is no prompt; it would come from texts that are joined to themselves again and again."""

VALUES: dict[str, Callable[[Values], Any]] = {
    "PrimitiveString": widget("value"),
    "PrimitiveStringMultiline": widget("value"),
    "PrimitiveInt": widget("value"),
    "PrimitiveFloat": widget("value"),
    "PrimitiveBoolean": widget("value"),
    "SeedNode": widget("seed"),
    "PreviewAny": widget("source"),
    "ShowText|pysssss": widget("text"),
    "StringConcatenate": _concatenated,
    "StringReplace": _replaced,
    "StringTrim": _trimmed,
    "StringSubstring": _cut,
    "CaseConverter": _cased,
    "Text Concatenate": joined("text_a", "text_b", "text_c", "text_d", skip_empty=True),
    "Text Multiline": widget("text"),
    "JoinStrings": joined("string1", "string2"),
    "CR Text Concatenate": joined("text1", "text2", by="separator"),
    "ImpactWildcardProcessor": widget("populated_text"),
    "easy positive": widget("positive"),
    "easy negative": widget("negative"),
    "TextGenerate": lambda values: None,
    "TextGenerateLTX2Prompt": lambda values: None,
    "RegexExtract": lambda values: None,
    "RegexReplace": lambda values: None,
    "JsonExtractString": lambda values: None,
    "StringFormat": lambda values: None,
}
"""Nodes that make a text or a number. None stands for what only a run can know."""

SWITCHES: dict[str, Callable[[Values], str | None]] = {
    "ComfySwitchNode": lambda values: "on_true" if values.get("switch") else "on_false",
    "Any Switch (rgthree)": lambda values: next((name for name in sorted(values) if name.startswith("any_")), None),
    "ImpactSwitch": lambda values: f"input{values.get('select', 1)}",
    "ImpactConditionalBranch": lambda values: "tt_value" if values.get("cond") else "ff_value",
}
"""Nodes that pass on one of their inputs, whatever its type: the name of that input."""
