from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from toolkit_core.encoders.bge import QUERY_PREFIX, BgeEncoder
from toolkit_core.encoders.prompt_text import plain_prompt
from toolkit_core.encoders.tiny import SEED
from toolkit_core.encoders.tiny_bge import tiny_bert
from toolkit_core.errors import EncoderError

MinCosine = Callable[[np.ndarray, np.ndarray], float]


def _torch_reference(folder: Path, texts: list[str]) -> np.ndarray:
    """The model that the graph was exported from, in torch, one text at a time and without padding."""
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    model = tiny_bert(SEED)
    rows: list[np.ndarray] = []
    with torch.inference_mode():
        for text in texts:
            inputs = tokenizer(plain_prompt(text), truncation=True, max_length=512, return_tensors="pt")
            rows.append(torch.nn.functional.normalize(model(**inputs).last_hidden_state[:, 0], dim=1).numpy())
    return np.concatenate(rows)


def test_vectors_equal_the_same_model_in_torch(
    tiny_weights: Path, texts: tuple[str, ...], min_cosine: MinCosine
) -> None:
    long_and_short = [*texts, "words without end " * 400]
    vectors = BgeEncoder(tiny_weights / "bge", "cpu").encode(long_and_short)
    assert min_cosine(vectors, _torch_reference(tiny_weights / "bge", long_and_short)) > 0.99999


def test_vectors_have_length_one(tiny_weights: Path, texts: tuple[str, ...]) -> None:
    vectors = BgeEncoder(tiny_weights / "bge").encode(texts)
    assert vectors.shape == (len(texts), 1024)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, rtol=1e-5)


def test_padding_and_batch_size_do_not_change_a_vector(
    tiny_weights: Path, texts: tuple[str, ...], min_cosine: MinCosine
) -> None:
    encoder = BgeEncoder(tiny_weights / "bge", "cpu")
    alone = np.concatenate([encoder.encode([text]) for text in texts])
    assert min_cosine(encoder.encode(texts * 30), np.tile(alone, (30, 1))) > 0.99999


def test_a_query_gets_the_prefix_and_a_stored_text_none(tiny_weights: Path) -> None:
    encoder = BgeEncoder(tiny_weights / "bge", "cpu")
    np.testing.assert_allclose(
        encoder.encode_query("a red fox"), encoder.encode([QUERY_PREFIX + "a red fox"])[0], atol=1e-6
    )
    assert not np.allclose(encoder.encode_query("a red fox"), encoder.encode(["a red fox"])[0], atol=1e-3)


def test_attention_syntax_does_not_change_a_vector(tiny_weights: Path) -> None:
    encoder = BgeEncoder(tiny_weights / "bge", "cpu")
    plain, weighted = encoder.encode(["a red fox, snow", "a (red fox:1.3), ((snow)) <lora:fur:0.8>"])
    np.testing.assert_allclose(plain, weighted, atol=1e-5)
    np.testing.assert_allclose(encoder.encode_query("(fox:1.2)"), encoder.encode_query("fox"), atol=1e-6)


@pytest.mark.parametrize("text", ["", "\0", "\ud800 lone surrogate", "(" * 100_000, "x" * 100_000, "🦊" * 1000])
def test_any_text_gives_a_vector(text: str, tiny_weights: Path) -> None:
    assert np.isfinite(BgeEncoder(tiny_weights / "bge", "cpu").encode([text])).all()


def test_it_says_what_it_runs_on(tiny_weights: Path) -> None:
    encoder = BgeEncoder(tiny_weights / "bge", "cpu")
    assert encoder.device == "not loaded"
    encoder.load()
    assert encoder.device == "CPUExecutionProvider"
    encoder.unload()
    assert encoder.device == "not loaded"


def test_the_graph_may_lie_beside_the_tokenizer(tiny_weights: Path, tmp_path: Path) -> None:
    folder = tmp_path / "flat"
    shutil.copytree(tiny_weights / "bge", folder)
    (folder / "onnx" / "model.onnx").rename(folder / "model.onnx")
    assert BgeEncoder(folder, "cpu").encode(["a cat"]).shape == (1, 1024)


def _graph(file: Path, output_shape: list[int], inputs: tuple[str, ...] = ("input_ids",)) -> None:
    """A graph that looks up each token in one table: real, but not BGE."""
    from onnx import TensorProto, helper, numpy_helper, save

    width = output_shape[-1]
    table = numpy_helper.from_array(np.ones((2000, width), np.float32), "table")
    nodes = [helper.make_node("Gather", ["table", inputs[0]], ["looked_up"])]
    if len(output_shape) == 2:
        axes = numpy_helper.from_array(np.array([1], np.int64), "axes")
        nodes.append(helper.make_node("ReduceMean", ["looked_up", "axes"], ["output"], keepdims=0))
    else:
        axes = None
        nodes.append(helper.make_node("Identity", ["looked_up"], ["output"]))
    shape = ["batch", *(["sequence"] if len(output_shape) == 3 else []), width]
    graph = helper.make_graph(
        nodes,
        "not_bge",
        [helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "sequence"]) for name in inputs],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, shape)],
        [table, *([axes] if axes is not None else [])],
    )
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), file)


@pytest.mark.parametrize(
    ("shape", "inputs", "message"),
    [
        ([0, 0, 384], ("input_ids",), "384 wide"),
        ([0, 1024], ("input_ids",), "three dimensions"),
        ([0, 0, 1024], ("pixel_values",), "pixel_values"),
    ],
    ids=["another width", "pooled output", "another model"],
)
def test_another_graph_is_refused(
    shape: list[int], inputs: tuple[str, ...], message: str, tiny_weights: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "other"
    shutil.copytree(tiny_weights / "bge", folder)
    _graph(folder / "onnx" / "model.onnx", shape, inputs)
    with pytest.raises(EncoderError, match=message):
        BgeEncoder(folder, "cpu").load()


def test_a_graph_without_token_types_is_fed_without_them(tiny_weights: Path, tmp_path: Path) -> None:
    folder = tmp_path / "plain"
    shutil.copytree(tiny_weights / "bge", folder)
    _graph(folder / "onnx" / "model.onnx", [0, 0, 1024])
    assert BgeEncoder(folder, "cpu").encode(["a cat"]).shape == (1, 1024)


def test_a_truncated_graph_is_a_clear_error(tiny_weights: Path, tmp_path: Path) -> None:
    folder = tmp_path / "cut"
    shutil.copytree(tiny_weights / "bge", folder)
    graph = folder / "onnx" / "model.onnx"
    graph.write_bytes(graph.read_bytes()[:100_000])
    with pytest.raises(EncoderError, match=r"model\.onnx.*get it again"):
        BgeEncoder(folder, "cpu").load()


@pytest.mark.parametrize("without", ["tokenizer", "graph"])
def test_a_folder_that_lacks_something_is_a_clear_error(without: str, tiny_weights: Path, tmp_path: Path) -> None:
    folder = tmp_path / "bare"
    shutil.copytree(tiny_weights / "bge", folder)
    if without == "graph":
        shutil.rmtree(folder / "onnx")
    else:
        for file in folder.glob("*.*"):
            file.unlink()
    with pytest.raises(EncoderError, match=r"tokenizer|model\.onnx"):
        BgeEncoder(folder, "cpu").load()


# With a batch that would hold all of the texts: how often it was found too large, and how far off the vectors are.
ENCODE_WITHIN = """
import json, logging, os, resource, sys
from pathlib import Path

import numpy as np

from toolkit_core.encoders import bge
from toolkit_core.encoders.batching import BatchSize

too_large = []
handler = logging.Handler()
handler.emit = too_large.append
logging.getLogger("toolkit_core.encoders").addHandler(handler)

texts = [f"{number} foxes in the snow " * 120 for number in range(16)]
encoder = bge.BgeEncoder(Path(sys.argv[1]), "cpu")
alone = np.concatenate([encoder.encode([text]) for text in texts])
encoder._batch = BatchSize(len(texts) * bge.MAX_TOKENS, len(texts) * bge.MAX_TOKENS)
used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
resource.setrlimit(resource.RLIMIT_AS, (used + 300 * 2**20, used + 300 * 2**20))
found, far = [], []
for _ in range(2):
    too_large.clear()
    far.append(float(np.abs(encoder.encode(texts) - alone).max()))
    found.append(len(too_large))
print(json.dumps([*found, max(far)]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux bounds the memory of a process")
def test_batches_become_smaller_where_memory_runs_out(tiny_weights: Path) -> None:
    run = [sys.executable, "-c", ENCODE_WITHIN, str(tiny_weights / "bge")]
    done = subprocess.run(run, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    first, second, far = json.loads(done.stdout)
    assert first > 0, "the memory was enough for all of them at once, and this test of nothing"
    assert second < first, "what did not fit is tried again"
    assert far < 1e-5
    assert "Failed to allocate" not in done.stderr, "ONNX Runtime writes to the terminal what is dealt with"


def test_without_onnx_runtime_it_says_what_to_install(tiny_weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(EncoderError, match="pip install onnxruntime"):
        BgeEncoder(tiny_weights / "bge", "cpu").load()
