"""The token ids that ComfyUI makes of a prompt, without ComfyUI; and those that open_clip makes of a search text.

A prompt is read as `SDTokenizer.tokenize_with_weights` of comfy/sd1_clip.py does: attention weights are unwrapped,
`embedding:` words are ignored (there are no embedding files here), words are packed into chunks of 77 tokens. Only the
first chunk is made: the pooled vector comes from it alone. ComfyUI recurses over parentheses and rescans at each depth;
here one pass does, so that 100,000 open parentheses are as cheap as any other text.
"""

from __future__ import annotations

import gzip
import html
import importlib.util
import json
import re
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import EncoderError

if TYPE_CHECKING:
    from transformers import CLIPTokenizer

START_TOKEN = 49406
END_TOKEN = 49407
CHUNK_LENGTH = 77

_MAX_WORD_LENGTH = 8
_WORDS_A_ROUND = 96
_EMBEDDING = "embedding:"
_EMBEDDING_SPLIT = re.compile(r"(?<=\s)embedding:")
_PARENTHESIS = re.compile(r"[()]")

_tokenizer: CLIPTokenizer | None = None
_tokenizer_lock = threading.Lock()


def first_chunks(texts: Sequence[str]) -> list[list[int]]:
    """Token ids of each text's first chunk: start token, at most 75 tokens, end token. Not padded.

    A text that spells out `<|endoftext|>` has an end token in the middle, as in ComfyUI; the pooled vector is taken
    there. Raises EncoderError when open_clip's vocabulary is missing.
    """
    tokenizer = clip_tokenizer()
    words = [_words(text) for text in texts]
    chunks: list[list[int]] = [[START_TOKEN] for _ in texts]
    rounds = 0
    waiting = list(range(len(texts)))
    while waiting:
        first = rounds * _WORDS_A_ROUND
        batch = [words[i][first : first + _WORDS_A_ROUND] for i in waiting]
        flat = [word for group in batch for word in group]
        ids = iter(_token_ids(tokenizer, flat))
        rounds += 1
        still_waiting: list[int] = []
        for i, group in zip(waiting, batch, strict=True):
            full = False
            for tokens in [next(ids) for _ in group]:
                full = full or _append_word(chunks[i], tokens)
            if not full and len(words[i]) > rounds * _WORDS_A_ROUND:
                still_waiting.append(i)
            else:
                chunks[i].append(END_TOKEN)
        waiting = still_waiting
    return chunks


def open_clip_chunks(texts: Sequence[str]) -> list[list[int]]:
    """Token ids as open_clip's tokenizer gives them: start token, at most 75 tokens, end token. Not padded.

    Unlike there, no word of a text is a special token. Raises EncoderError when open_clip's vocabulary is missing.
    """
    ids = _token_ids(clip_tokenizer(), [_cleaned(text) for text in texts])
    return [[START_TOKEN, *tokens[: CHUNK_LENGTH - 2], END_TOKEN] for tokens in ids]


def _cleaned(text: str) -> str:
    """What open_clip makes of a text before its vocabulary: mended, without HTML's escapes, in lower case."""
    import ftfy

    text = html.unescape(html.unescape(ftfy.fix_text(text)))
    text = " ".join(text.split()).lower()
    # open_clip spells its special tokens otherwise; with spaces these are the pieces that it makes of them.
    for word in ("startoftext", "endoftext"):
        text = text.replace(f"<|{word}|>", f"<| {word} |>")
    return text


def _token_ids(tokenizer: CLIPTokenizer, words: list[str]) -> list[list[int]]:
    if not words:
        return []
    encoded: Any = tokenizer(words)["input_ids"]
    return [ids[1:-1] for ids in encoded]


def _append_word(chunk: list[int], tokens: list[int]) -> bool:
    """Add one word's tokens; True when the chunk is full. Only long words are broken in two."""
    room = CHUNK_LENGTH - 1 - len(chunk)
    if len(tokens) <= room:
        chunk.extend(tokens)
        return False
    if len(tokens) >= _MAX_WORD_LENGTH:
        chunk.extend(tokens[:room])
    return True


def _words(text: str) -> list[str]:
    """What ComfyUI hands to its tokenizer one after another: segments of equal weight, split at `embedding:`."""
    text = text.encode("utf-8", "replace").decode("utf-8")
    text = text.replace("\\)", "\0\1").replace("\\(", "\0\2")
    words: list[str] = []
    for segment in _segments(text):
        segment = segment.replace("\0\1", ")").replace("\0\2", "(")
        head, *embeddings = _EMBEDDING_SPLIT.split(segment)
        for word in [head, *(_EMBEDDING + rest for rest in embeddings)]:
            if word.startswith(_EMBEDDING):
                word = _after_embedding(word[len(_EMBEDDING) :].strip("\n"))
            if word:
                words.append(word)
    return words


def _after_embedding(text: str) -> str:
    """What is left of the text after an embedding's name, for which there is no file."""
    parts = text.split()
    if not parts:
        return ""
    name, leftover = parts[0], " ".join(parts[1:])
    bracket = re.search(r"[<\[]", name)
    if bracket is not None:
        leftover = name[bracket.start() :] + (" " + leftover if leftover else "")
        name = name[: bracket.start()]
    stripped = name.strip(",")
    if len(stripped) < len(name):
        leftover = f"{name[len(stripped) :]} {leftover}"
    return leftover


def _segments(text: str) -> list[str]:
    """The texts between attention parentheses, in order, as `token_weights` cuts them; the weights are dropped."""
    closing, opening = _match_parentheses(text)
    segments: list[str] = []
    outer: list[tuple[int, int]] = []
    position, end = 0, len(text)
    literal_from = 0
    while True:
        opened = text.find("(", position, end)
        # An unbalanced ")" hides the "(" after it, which is then plain text.
        while opened != -1 and opened not in closing:
            opened = text.find("(", opened + 1, end)
        if opened == -1:
            if literal_from < end:
                segments.append(text[literal_from:end])
            if not outer:
                return segments
            position, end = outer.pop()
            literal_from = position
            continue
        if literal_from < opened:
            segments.append(text[literal_from:opened])
        closed = closing[opened]
        if closed is None:
            # Never closed: ComfyUI takes the rest as one item, and still unwraps it when it ends with ")".
            if text[end - 1] != ")" or end - opened < 2:
                segments.append(text[opened:end])
                position = literal_from = end
                continue
            closed = end - 1
            closing[opening[closed]] = None
        else:
            outer.append((closed + 1, end))
        position = literal_from = opened + 1
        end = _without_weight(text, position, closed)


def _without_weight(text: str, start: int, end: int) -> int:
    """Where the content of a parenthesis ends: before its `:weight` if it has one."""
    # A weight holds no parenthesis: stopping at the last one keeps deep nesting from being scanned again at each depth.
    colon = text.rfind(":", max(start, text.rfind(")", start, end)), end)
    if colon <= start:
        return end
    try:
        float(text[colon + 1 : end])
    except ValueError:
        return end
    return colon


def _match_parentheses(text: str) -> tuple[dict[int, int | None], dict[int, int]]:
    """Each attention "(" to its ")" or None, and each such ")" to its "(". Others are plain text."""
    closing: dict[int, int | None] = {}
    opening: dict[int, int] = {}
    stack: list[int] = []
    below = 0
    for found in _PARENTHESIS.finditer(text):
        at = found.start()
        if text[at] == "(":
            if below:
                below -= 1
            else:
                closing[at] = None
                stack.append(at)
        elif stack:
            opened = stack.pop()
            closing[opened] = at
            opening[at] = opened
        else:
            below += 1
    return closing, opening


def clip_tokenizer() -> CLIPTokenizer:
    """OpenAI's CLIP tokenizer, built once from the vocabulary that open_clip ships. Raises EncoderError without it."""
    global _tokenizer
    with _tokenizer_lock:
        if _tokenizer is None:
            _tokenizer = _build_tokenizer()
        return _tokenizer


def _build_tokenizer() -> CLIPTokenizer:
    from transformers import CLIPTokenizer

    merges = _bpe_merges()
    characters = _byte_characters()
    vocabulary = [*characters, *(c + "</w>" for c in characters), *(m.replace(" ", "") for m in merges)]
    vocabulary += ["<|startoftext|>", "<|endoftext|>"]
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "vocab.json").write_text(
            json.dumps({token: i for i, token in enumerate(vocabulary)}), encoding="utf-8"
        )
        (Path(folder) / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]), encoding="utf-8")
        (Path(folder) / "tokenizer_config.json").write_text(
            json.dumps({"tokenizer_class": "CLIPTokenizer", "model_max_length": 10**9, "do_lower_case": True})
        )
        return CLIPTokenizer.from_pretrained(folder, local_files_only=True)


def _bpe_merges() -> list[str]:
    # Found without importing open_clip, which would import timm and torchvision for one text file.
    spec = importlib.util.find_spec("open_clip")
    folders = list(spec.submodule_search_locations or []) if spec is not None else []
    for folder in folders:
        file = Path(folder) / "bpe_simple_vocab_16e6.txt.gz"
        if file.is_file():
            lines = gzip.decompress(file.read_bytes()).decode("utf-8").split("\n")
            return lines[1 : 49152 - 256 - 2 + 1]
    raise EncoderError("CLIP's vocabulary comes with open_clip, which is not installed: pip install open_clip_torch")


def _byte_characters() -> list[str]:
    """The printable character that stands for each byte in CLIP's vocabulary, in its order (GPT-2's table)."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) for byte in printable] + [chr(256 + n) for n in range(len(others))]
