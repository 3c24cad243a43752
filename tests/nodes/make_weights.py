"""Writes seeded random weights of the full-size architectures, in fp16: python make_weights.py FOLDER

ComfyUI's loaders take no other size. They know no meaning; that two prompts differ is all that the tests need.
"""

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

SEED = 3


def normal(generator, std, *shape):
    return (torch.randn(*shape, generator=generator) * std).half()


def norm(name, width):
    return {f"{name}.weight": torch.ones(width).half(), f"{name}.bias": torch.zeros(width).half()}


def layers(prefix, count, width, intermediate, generator):
    """Attention outweighs the residual stream, so that the one pooled token tells its neighbours apart."""
    tensors = {}
    for layer in range(count):
        at = f"{prefix}layers.{layer}."
        for part, gain in (("q_proj", 1.5), ("k_proj", 1.5), ("v_proj", 2.0), ("out_proj", 3.0)):
            tensors[f"{at}self_attn.{part}.weight"] = normal(generator, gain * width**-0.5, width, width)
            tensors[f"{at}self_attn.{part}.bias"] = torch.zeros(width).half()
        tensors[f"{at}mlp.fc1.weight"] = normal(generator, width**-0.5, intermediate, width)
        tensors[f"{at}mlp.fc1.bias"] = torch.zeros(intermediate).half()
        tensors[f"{at}mlp.fc2.weight"] = normal(generator, intermediate**-0.5, width, intermediate)
        tensors[f"{at}mlp.fc2.bias"] = torch.zeros(width).half()
        tensors |= norm(f"{at}layer_norm1", width) | norm(f"{at}layer_norm2", width)
    return tensors


def text_tower(count, width, projected, seed=SEED):
    generator = torch.Generator().manual_seed(seed)
    tensors = {
        "text_model.embeddings.token_embedding.weight": normal(generator, 1.0, 49408, width),
        "text_model.embeddings.position_embedding.weight": normal(generator, 0.3, 77, width),
        **layers("text_model.encoder.", count, width, 4 * width, generator),
        **norm("text_model.final_layer_norm", width),
    }
    if projected:
        tensors["text_projection.weight"] = normal(generator, width**-0.5, width, width)
    return tensors


def vision_tower():
    generator = torch.Generator().manual_seed(SEED)
    width = 1280
    return {
        "vision_model.embeddings.class_embedding": normal(generator, 0.1, width),
        "vision_model.embeddings.patch_embedding.weight": normal(generator, 588**-0.5, width, 3, 14, 14),
        "vision_model.embeddings.position_embedding.weight": normal(generator, 0.3, 257, width),
        **norm("vision_model.pre_layrnorm", width),
        **layers("vision_model.encoder.", 32, width, 5120, generator),
        **norm("vision_model.post_layernorm", width),
        "visual_projection.weight": normal(generator, width**-0.5, 1024, width),
    }


def base_ipadapter():
    """A base ViT-H IPAdapter for the tiny SDXL-shaped model of the observer nodes."""
    generator = torch.Generator().manual_seed(SEED)
    tensors = {
        "image_proj.proj.weight": normal(generator, 1024**-0.5, 4 * 2048, 1024),
        "image_proj.proj.bias": torch.zeros(4 * 2048).half(),
        **norm("image_proj.norm", 2048),
    }
    # SDXL has 70 attention layers, numbered by odd numbers in the order that IPAdapter_plus patches them: input blocks
    # 4, 5 (2 each), 7, 8 (10 each), output blocks 0 to 2 (10 each), 3 to 5 (2 each), then the middle block (10).
    widths = [64] * 4 + [128] * 20 + [128] * 30 + [64] * 6 + [128] * 10
    for number, width in enumerate(widths):
        for part in ("to_k_ip", "to_v_ip"):
            tensors[f"ip_adapter.{2 * number + 1}.{part}.weight"] = normal(generator, 2048**-0.5, width, 2048)
    return tensors


def lora_of_clip_g():
    """A LoRA of rank 4 on two layers of CLIP-G, strong enough to be other weights."""
    generator = torch.Generator().manual_seed(SEED)
    tensors = {}
    for layer in (0, 1):
        at = f"lora_te2_text_model_encoder_layers_{layer}_self_attn_out_proj"
        tensors[f"{at}.lora_up.weight"] = normal(generator, 0.3, 1280, 4)
        tensors[f"{at}.lora_down.weight"] = normal(generator, 0.3, 4, 1280)
        tensors[f"{at}.alpha"] = torch.tensor(4.0).half()
    return tensors


MODELS = {
    "text_encoders/clip_l.safetensors": lambda: text_tower(12, 768, projected=False),
    "text_encoders/clip_g.safetensors": lambda: text_tower(32, 1280, projected=True),
    "clip_vision/clip_vision_h.safetensors": vision_tower,
    "ipadapter/base_vit-h.safetensors": base_ipadapter,
    "loras/clip_g_lora.safetensors": lora_of_clip_g,
}

folder = Path(sys.argv[1])
for name, make in MODELS.items():
    if not (folder / name).exists():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        save_file(make(), folder / f"{name}.part")
        (folder / f"{name}.part").rename(folder / name)
