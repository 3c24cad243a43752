"""Run inside a ComfyUI folder: its own token ids, vectors and pixels, for the tests to compare with.

python comfyui_reference.py tokens|vectors|pictures GIVEN.json ANSWER.npz
"""

import json
import sys
import tempfile
from pathlib import Path

# pyright: reportMissingImports=false
import numpy as np

question, given_file, answer_file = sys.argv[1:]
sys.argv = [sys.argv[0], "--cpu"]
import comfy.options  # noqa: E402

comfy.options.enable_args_parsing()

import comfy.clip_model  # noqa: E402
import comfy.ops  # noqa: E402
import comfy.sd1_clip  # noqa: E402
import comfy.sdxl_clip  # noqa: E402
import torch  # noqa: E402
from safetensors.torch import load_file  # noqa: E402


def first_chunks(tokenizer, texts):
    return [[token for token, _ in tokenizer.tokenize_with_weights(text)[0]] for text in texts]


def tokens(given):
    with tempfile.TemporaryDirectory() as no_embeddings:
        tokenizer = comfy.sdxl_clip.SDXLTokenizer(embedding_directory=no_embeddings)
        return {
            "clip_l": np.array(first_chunks(tokenizer.clip_l, given["texts"])),
            "clip_g": np.array(first_chunks(tokenizer.clip_g, given["texts"])),
        }


def vectors(given):
    ids = tokens(given)
    config = {"clip_l_model_config": given["clip_l_config"], "clip_g_model_config": given["clip_g_config"]}
    model = comfy.sdxl_clip.SDXLClipModel(dtype=torch.float32, model_options=config)
    model.clip_l.load_sd(load_file(given["clip_l"]))
    model.clip_g.load_sd(load_file(given["clip_g"]))
    model.clip_l.set_clip_options({"projected_pooled": False})
    vision = comfy.clip_model.CLIPVisionModelProjection(
        given["clip_h_config"], torch.float32, "cpu", comfy.ops.manual_cast
    )
    vision.load_state_dict(load_file(given["clip_h"]))
    pixels = torch.from_numpy(np.load(given["pictures"])).float() / 255
    with torch.inference_mode():
        return {
            "clip_l": model.clip_l.encode(ids["clip_l"].tolist())[1].numpy(),
            "clip_g": model.clip_g.encode(ids["clip_g"].tolist())[1].numpy(),
            "clip_h": vision(pixel_values=comfy.clip_model.clip_preprocess(pixels).float())[2].numpy(),
        }


def pictures(given):
    """What CLIP sees of each file after LoadImage, as in ComfyUI before the normalisation, uint8."""
    import folder_paths

    import nodes

    folder_paths.set_input_directory(given["folder"])
    plain = {"mean": [0.0, 0.0, 0.0], "std": [1.0, 1.0, 1.0]}
    answers = {}
    for name in given["names"]:
        loader = nodes.LoadImage()  # pyright: ignore[reportAttributeAccessIssue]
        image = loader.load_image(name)[0][:1].float()
        pixels = comfy.clip_model.clip_preprocess(image, **plain)
        answers[name] = (255 * pixels[0]).round().byte().movedim(0, -1).numpy()
    return answers


answers = {"tokens": tokens, "vectors": vectors, "pictures": pictures}[question](
    json.loads(Path(given_file).read_text())
)
np.savez(answer_file, **answers)
