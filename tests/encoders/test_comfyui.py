"""Our tokens and vectors against those of a real ComfyUI."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from toolkit_core.encoders.clip import ClipTextEncoder, ClipVisionEncoder
from toolkit_core.encoders.clip_tokens import first_chunks

Ask = Callable[[str, dict[str, Any]], dict[str, np.ndarray]]

PROMPTS = [
    "",
    " ",
    "\n\n",
    "a photo of a cat",
    "masterpiece, best quality, (1girl:1.3), ((silver hair)), [simple background], <lora:add_detail:0.8>, BREAK, night",
    "(worst quality, low quality:1.4), (bad anatomy), (inaccurate limb:1.2), bad composition, extra digit, few digits",
    r"ganyu \(genshin impact\), 1girl, \(smile\), horns \\(red\\)",
    "((((deep))))), unbalanced (((",
    ") ( ) ((a:1.2) b:0.5",
    "(a:b:1.5), (:1.2), (x:), (x: 1e-1 ), (x:nan), (x:1_0), (), ((a):1.1)",
    "embedding:easynegative, embedding:bad-hands-5 more words, (embedding:foo:1.2)",
    "start embedding:one,two, three embedding:,lead embedding:tail,, after",
    "a embedding:name<lora:x:1> b embedding:[x] c",
    "x\nembedding:nl\nnext line",
    "prefixembedding:notone",
    "<|endoftext|> in the middle <|startoftext|> of it",
    "café naïve ÅÄÖ 漢字かな 한국어 العربية 🦊🔥 ﬁ ½ ² Ⅷ İstanbul ß",
    "don't you're i'll we've 100% 3.5mm f/1.8 #hashtag @user _under_score_ a--b",
    "nul\0char \0\1 \0\2 tab\tvt\x0b nbsp\u00a0zero\u200bwidth \ufeff",
    "antidisestablishmentarianism" * 12,
    "word " * 74,
    "word " * 75,
    "word " * 76,
    "(aaa bbb) " * 40,
    "(w:1.1), " * 25 + "(one two three four five six seven:1.2) tail",
    "(one two three four five six seven eight nine:1.2) " * 9,
    "cinematic still, a weathered astronaut sits on a wooden pier over a glowing teal ocean, two moons, fog, "
    "35mm film grain, shallow depth of field, by Greg Rutkowski and Ilya Kuvshinov, ArtStation, 8k --ar 16:9",
]


def _random_prompts(count: int) -> list[str]:
    rng = random.Random(20)
    pieces = [
        "(",
        "(",
        ")",
        ")",
        ":1.2",
        ":",
        "\\(",
        "\\)",
        "[",
        "]",
        ",",
        " ",
        " ",
        "\n",
        "cat",
        "dog",
        " embedding:x",
        "é",
        "1.5",
    ]
    return ["".join(rng.choices(pieces, k=rng.randint(1, 60))) for _ in range(count)]


def test_tokens_are_those_of_comfyui(ask_comfyui: Ask) -> None:
    texts = [*PROMPTS, *(text for text in _random_prompts(400) if not text.rstrip().endswith("embedding:"))]
    wanted = ask_comfyui("tokens", {"texts": texts})
    for text, chunk, clip_l, clip_g in zip(texts, first_chunks(texts), wanted["clip_l"], wanted["clip_g"], strict=True):
        assert chunk + [49407] * (77 - len(chunk)) == clip_l.tolist(), repr(text)
        assert chunk + [0] * (77 - len(chunk)) == clip_g.tolist(), repr(text)


def test_vectors_are_those_of_comfyui(
    ask_comfyui: Ask,
    clip_text_model: Callable[..., Any],
    clip_l_model: Any,
    clip_h_model: Any,
    save_weights: Callable[..., Path],
    min_cosine: Callable[[np.ndarray, np.ndarray], float],
    texts: tuple[str, ...],
    pictures: np.ndarray,
    tmp_path: Path,
) -> None:
    # ComfyUI's CLIP-G is as wide as its projection, so here the width is the real one.
    clip_g_model = clip_text_model(1280, 1280, "gelu")
    files = {
        "clip_l": save_weights(tmp_path / "clip_l.safetensors", clip_l_model.state_dict()),
        "clip_g": save_weights(tmp_path / "clip_g.safetensors", clip_g_model.state_dict()),
        "clip_h": save_weights(tmp_path / "clip_h.safetensors", clip_h_model.state_dict()),
    }
    np.save(tmp_path / "pictures.npy", pictures)
    wanted = ask_comfyui(
        "vectors",
        {
            "texts": texts,
            "pictures": str(tmp_path / "pictures.npy"),
            **{space: str(file) for space, file in files.items()},
            "clip_l_config": {"num_hidden_layers": 3, "intermediate_size": 1536},
            "clip_g_config": {"num_hidden_layers": 3, "intermediate_size": 2560},
            "clip_h_config": clip_h_model.config.to_dict(),
        },
    )
    for space in ("clip_l", "clip_g"):
        assert min_cosine(ClipTextEncoder(space, files[space], "cpu").encode(texts), wanted[space]) > 0.99999
    assert min_cosine(ClipVisionEncoder(files["clip_h"], "cpu").encode(pictures), wanted["clip_h"]) > 0.99999
