"""Run inside a ComfyUI folder: what the pack makes of each model family's CLIP, beside what ComfyUI does.

python clip_families.py PACK ANSWER.json
"""

import importlib.util
import json
import sys
import time
from pathlib import Path

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false
import numpy as np

pack, answer_file = sys.argv[1:]
sys.argv = [sys.argv[0], "--cpu"]
sys.path.insert(0, str(Path.cwd()))
import comfy.options  # noqa: E402

comfy.options.enable_args_parsing()

import comfy.sd  # noqa: E402
import comfy.sd1_clip  # noqa: E402
import comfy.sdxl_clip  # noqa: E402
import comfy.text_encoders.flux  # noqa: E402
import comfy.text_encoders.sd3_clip  # noqa: E402
import torch  # noqa: E402

spec = importlib.util.spec_from_file_location("the_pack", Path(pack) / "__init__.py")
assert spec is not None
assert spec.loader is not None
module = importlib.util.module_from_spec(spec)
sys.modules["the_pack"] = module
spec.loader.exec_module(module)
encoders = importlib.import_module("the_pack.nodes.encoders")

SMALL = {
    "clip_l_model_config": {"num_hidden_layers": 3},
    "clip_g_model_config": {"num_hidden_layers": 3},
    "t5xxl_model_config": {"num_layers": 1, "d_ff": 64},
}
TEXTS = ["a red fox", "(a lighthouse:1.4) in a storm, " + "oil painting, " * 40, ""]


def make(model, tokenizer):
    class Target:
        params = {}  # noqa: RUF012
        clip = model

    Target.tokenizer = tokenizer
    made = comfy.sd.CLIP(Target, model_options=dict(SMALL))
    with torch.no_grad():
        for name, parameter in made.cond_stage_model.named_parameters():
            generator = torch.Generator().manual_seed(hash(tuple(parameter.shape)) % 2**31)
            scale = 1.0 if "norm" in name and name.endswith("weight") else 0.05
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)
    return made


def refiner_tokenizer(**given):
    return comfy.sd1_clip.SD1Tokenizer(clip_name="g", tokenizer=comfy.sdxl_clip.SDXLClipGTokenizer, **given)


def sd3(**given):
    return comfy.text_encoders.sd3_clip.SD3ClipModel(t5=False, **given)


# The tokens of T5 play no part here, and its tokenizer is not in every checkout.
both = comfy.sdxl_clip.SDXLTokenizer
FAMILIES = {
    "SDXL": (comfy.sdxl_clip.SDXLClipModel, both),
    "SD3": (sd3, both),
    "SD1": (comfy.sd1_clip.SD1ClipModel, comfy.sd1_clip.SD1Tokenizer),
    "FLUX.1": (comfy.text_encoders.flux.flux_clip(), both),
    "refiner": (comfy.sdxl_clip.SDXLRefinerClipModel, refiner_tokenizer),
}


def options(clip):
    found = {}
    for space in encoders.text_spaces(clip):
        model = getattr(clip.cond_stage_model, space)
        found[space] = [model.layer, model.layer_idx, model.return_projected_pooled, str(model.execution_device)]
    return found


def own_pooled(clip, space):
    """ComfyUI's own pooled vectors, one text at a time."""
    model, rows = clip.cond_stage_model, []
    for text in TEXTS:
        model.reset_clip_options()
        model.set_clip_options({"projected_pooled": False} if space == "clip_l" else {})
        tokens = clip.tokenize(text)[encoders.TOKENS[space]]
        rows.append(getattr(model, space).encode_token_weights(tokens)[1][0])
    model.reset_clip_options()
    return torch.stack(rows).float().numpy()


def lowest_cosine(a, b):
    a, b = a.astype(np.float64), b.astype(np.float64)
    return float(((a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)).min())


def describe(clip):
    before = options(clip)
    spaces = encoders.text_spaces(clip)
    sources = encoders.connected_encoders(clip)
    agreement, lacking = {}, {}
    for space in encoders.TOKENS:
        try:
            vectors = sources[space]().encode(TEXTS)
        except Exception as error:
            lacking[space] = str(error)
            continue
        agreement[space] = lowest_cosine(vectors, own_pooled(clip, space))
    skipped = clip.clone()
    skipped.clip_layer(-1)
    skip = {space: encoders.ClipInput(skipped, space).encode(TEXTS) for space in spaces}
    same = all(np.array_equal(skip[space], sources[space]().encode(TEXTS)) for space in spaces)
    return {
        "spaces": spaces,
        "agreement": agreement,
        "lacking": lacking,
        "clip_skip_changes_nothing": same,
        "options_kept": options(clip) == before,
    }


def after_an_error(clip):
    """The options after a forward pass that failed: of a text model whose positions were cut off."""
    before = options(clip)
    positions = clip.cond_stage_model.clip_l.transformer.text_model.embeddings.position_embedding
    positions.weight = torch.nn.Parameter(positions.weight[:10], requires_grad=False)
    try:
        encoders.ClipInput(clip, "clip_l").encode(TEXTS)
    except RuntimeError:
        return options(clip) == before
    return "no error"


def batch_time(clip):
    """Seconds for 32 prompts at once over seconds for them one at a time; the best of two, in turns."""
    encoder = encoders.ClipInput(clip, "clip_l")
    texts = [f"prompt number {number}" for number in range(32)]
    encoder.encode(texts[:8])
    at_once, singly = [], []
    for _ in range(2):
        started = time.perf_counter()
        encoder.encode(texts)
        at_once.append(time.perf_counter() - started)
        started = time.perf_counter()
        for text in texts:
            encoder.encode([text])
        singly.append(time.perf_counter() - started)
    return min(at_once) / min(singly)


clips = {family: make(*parts) for family, parts in FAMILIES.items()}
answer: dict[str, object] = {family: describe(clip) for family, clip in clips.items()}
answer["batch_time"] = batch_time(clips["SDXL"])
answer["options_kept_after_an_error"] = after_an_error(clips["SDXL"])
Path(answer_file).write_text(json.dumps(answer))
