from __future__ import annotations

import pytest

from toolkit_core.encoders.clip_tokens import CHUNK_LENGTH, END_TOKEN, START_TOKEN, first_chunks


def test_known_ids() -> None:
    """The ids of OpenAI's own tokenizer for these words."""
    assert first_chunks(["a photo of a cat", ""]) == [[49406, 320, 1125, 539, 320, 2368, 49407], [49406, 49407]]


@pytest.mark.parametrize(
    ("prompt", "same_as"),
    [
        ("(a photo:1.2) of ((a cat))", "a photo of a cat"),
        ("(a photo of a cat", "(a photo of a cat"),
        ("((a photo of)) ((a:0.5):1.1) cat", "a photo of a cat"),
        ("embedding:missing a photo of a cat", "a photo of a cat"),
    ],
)
def test_weights_and_embeddings_leave_only_words(prompt: str, same_as: str) -> None:
    assert first_chunks([prompt]) == first_chunks([same_as])


def test_a_long_text_fills_one_chunk() -> None:
    (chunk,) = first_chunks(["word " * 500])
    assert len(chunk) == CHUNK_LENGTH
    assert (chunk[0], chunk[-1]) == (START_TOKEN, END_TOKEN)


def test_texts_of_many_segments_are_read_to_the_end_of_the_chunk() -> None:
    many = "( :1.1)" * 300 + "cat"
    assert first_chunks([many]) == first_chunks(["cat"])


@pytest.mark.parametrize(
    "text",
    [
        "(" * 100_000,
        "(" * 50_000 + "a" + ")" * 50_000,
        "(" * 100_000 + "a" + ")" * 50_000,
        ")(" * 50_000,
        "(" * 30_000 + "a:1.2)" * 30_000,
        "(a:1)" * 20_000,
        ":" * 100_000,
        "x" * 100_000,
        "\0" * 100_000,
        "\ud800",
    ],
    ids=lambda text: repr(text[:4]),
)
@pytest.mark.timeout(60)  # a hang, not a speed: linear work takes a small part of a second
def test_deep_and_long_texts_do_not_hang_it(text: str) -> None:
    (chunk,) = first_chunks([text])
    assert len(chunk) <= CHUNK_LENGTH


def test_an_embedding_without_a_name_is_ignored() -> None:
    """ComfyUI fails on it (there is no first word); here the prompt's other words count."""
    assert first_chunks(["a cat embedding:", "embedding: \n"]) == first_chunks(["a cat ", ""])
