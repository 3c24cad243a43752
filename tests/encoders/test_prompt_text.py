from __future__ import annotations

import pytest

from toolkit_core.encoders.prompt_text import plain_prompt


@pytest.mark.parametrize(
    ("prompt", "plain"),
    [
        ("a photo of a cat", "a photo of a cat"),
        ("", ""),
        (
            "(masterpiece:1.2), ((best quality)), [blurry], {soft light}",
            "masterpiece, best quality, blurry, soft light",
        ),
        ("((nested (deep:1.1) words:1.3):0.9)", "nested deep words"),
        ("(a:.5) (b: 1.5 ) (c:-1) (d:2.)", "a b c d"),
        (r"ganyu \(genshin impact\), \[x\]", "ganyu (genshin impact), [x]"),
        ("night city <lora:neon_style:0.8>, rain <hypernet:x:1><lyco:y:1:1>", "night city, rain"),
        ("<LoRA:big:1> castle", "castle"),
        ("a < b and c > d", "a < b and c > d"),
        ("embedding:easynegative, blurry", "easynegative, blurry"),
        ("(embedding:neg/bad-hands-5.pt:1.2), text", "bad-hands-5, text"),
        ("red dress BREAK blue sky", "red dress blue sky"),
        ("breaking news, BREAKFAST", "breaking news, BREAKFAST"),
        ("a castle :1.2 AND a forest:0.8 AND fog", "a castle a forest fog"),
        ("at 10:30, ratio 16:9", "at 10:30, ratio 16:9"),
        ("[cat:dog:0.5] and [red|blue] ball", "cat dog and red blue ball"),
        ("unclosed (word", "unclosed word"),
        ("smile :)", "smile :)"),
        ("a ,, b, , ,c ,", "a, b,c"),
        ("two\nlines\t here", "two lines here"),
    ],
)
def test_syntax_goes_and_words_stay(prompt: str, plain: str) -> None:
    assert plain_prompt(prompt) == plain


@pytest.mark.parametrize(
    "text",
    [
        "(" * 100_000,
        ")" * 100_000,
        "[" * 50_000 + "]" * 50_000,
        "<lora:" * 20_000,
        ":1" * 50_000,
        " " * 100_000,
        ": " * 50_000 + ")",
        "(a:" + "1" * 100_000,
        "embedding:" * 10_000,
        ", " * 50_000,
        "\\" * 100_000,
        " AND " * 20_000,
    ],
    ids=lambda text: text[:6],
)
@pytest.mark.timeout(60)  # a hang, not a speed: linear work takes a small part of a second
def test_100_000_characters_do_not_hang_it(text: str) -> None:
    assert len(plain_prompt(text)) <= len(text)
