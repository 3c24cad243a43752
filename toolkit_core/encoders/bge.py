"""BGE by ONNX Runtime, whichever build of it is importable."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import EncoderError
from ..spaces import SPACES
from .base import TextEncoder, Vectors
from .batching import is_out_of_memory
from .prompt_text import plain_prompt

log = logging.getLogger(__name__)

QUERY_PREFIX = "Represent this sentence for searching relevant passages: "
MAX_TOKENS = 512

_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
_GPU_PROVIDERS = (
    "DmlExecutionProvider",
    "ROCMExecutionProvider",
    "MIGraphXExecutionProvider",
    "OpenVINOExecutionProvider",
)
# What a batch counts for at first, and what it may become.
_TOKENS_A_BATCH_CPU = 512, 2048
_TOKENS_A_BATCH_GPU = 4096, 16384


def model_file(folder: Path) -> Path | None:
    """The graph of a BGE folder: `model.onnx` or `onnx/model.onnx`; None without one."""
    return next((file for file in (folder / "model.onnx", folder / "onnx" / "model.onnx") if file.is_file()), None)


class BgeEncoder(TextEncoder):
    """BAAI/bge-large-en-v1.5: the CLS token of the last hidden state, L2-normalised, of at most 512 tokens.

    Source: the model card. Stored texts get no prefix, a search text gets QUERY_PREFIX. Both are prompts as they were
    written: of each the `plain_prompt` is embedded.
    """

    def __init__(self, path: Path, device: str | None = None) -> None:
        """`path` is a folder with `model.onnx` or `onnx/model.onnx` and the tokenizer's files.

        `device` "cpu" keeps it off the GPU; otherwise the best provider that is there is taken.
        """
        super().__init__("bge", path.name)
        self.path = path
        self._wanted_device = device
        self._session: Any = None
        self._tokenizer: Any = None
        self._inputs: tuple[str, ...] = ()
        self._output = ""
        self._quiet: Any = None

    @property
    def device(self) -> str:
        return "not loaded" if self._session is None else self._session.get_providers()[0]

    def encode(self, texts: Sequence[str]) -> Vectors:
        return self._encode(texts, "")

    def encode_query(self, text: str) -> Vectors:
        return self._encode([text], QUERY_PREFIX)[0]

    def _encode(self, texts: Sequence[str], prefix: str) -> Vectors:
        if not texts:
            return np.empty((0, SPACES[self.space].width), np.float32)
        with self._lock:
            self.load()
            token_ids = self._token_ids([prefix + plain_prompt(text) for text in texts])
            vectors = self._in_batches(
                [len(ids) for ids in token_ids], lambda rows: self._forward([token_ids[row] for row in rows])
            )
        return self._checked(vectors, len(texts))

    def _token_ids(self, texts: Sequence[str]) -> list[list[int]]:
        # Python strings may hold lone surrogates, which the tokenizer refuses.
        clean = [text.encode("utf-8", "replace").decode("utf-8") for text in texts]
        return self._tokenizer(clean, truncation=True, max_length=MAX_TOKENS)["input_ids"]

    def _forward(self, token_ids: list[list[int]]) -> npt.NDArray[np.float32]:
        longest = max(map(len, token_ids))
        padding = self._tokenizer.pad_token_id or 0
        ids = np.array([row + [padding] * (longest - len(row)) for row in token_ids], np.int64)
        mask = np.array([[1] * len(row) + [0] * (longest - len(row)) for row in token_ids], np.int64)
        arrays = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        try:
            hidden = self._session.run([self._output], {name: arrays[name] for name in self._inputs}, self._quiet)[0]
        except Exception as error:
            if is_out_of_memory(error):
                raise
            # ONNX Runtime's exception classes differ from build to build.
            raise EncoderError(f"{self.path}: ONNX Runtime failed on {self.device}: {_first_line(error)}") from error
        if hidden.ndim != 3 or hidden.shape[-1] != SPACES[self.space].width:
            raise EncoderError(_wrong_graph(self.path, f"its output {self._output!r} has shape {hidden.shape}"))
        cls = hidden[:, 0].astype(np.float32)
        return cls / np.maximum(np.linalg.norm(cls, axis=1, keepdims=True), 1e-12)

    def _load(self) -> None:
        file = model_file(self.path)
        if file is None:
            raise EncoderError(f"{self.path} holds neither model.onnx nor onnx/model.onnx: point at BGE's folder.")
        tokenizer = _load_tokenizer(self.path)
        session = _open_session(file, self._wanted_device)
        self._inputs = tuple(node.name for node in session.get_inputs())
        unknown = [name for name in self._inputs if name not in _INPUTS]
        if unknown or "input_ids" not in self._inputs:
            raise EncoderError(_wrong_graph(file, f"its inputs are {', '.join(self._inputs)}"))
        hidden = [node for node in session.get_outputs() if len(node.shape) == 3]
        if not hidden:
            names = ", ".join(f"{node.name} {node.shape}" for node in session.get_outputs())
            raise EncoderError(_wrong_graph(file, f"it has no hidden state of three dimensions but {names}"))
        chosen = next((node for node in hidden if node.name == "last_hidden_state"), hidden[0])
        width = chosen.shape[-1]
        if isinstance(width, int) and width != SPACES[self.space].width:
            raise EncoderError(_wrong_graph(file, f"its vectors are {width} wide"))
        import onnxruntime  # there, since the session is open

        # What fails is raised; that memory ran out, though it goes on in smaller batches, is no line for the terminal.
        self._quiet = onnxruntime.RunOptions()
        self._quiet.log_severity_level = 4
        self._output, self._tokenizer, self._session = chosen.name, tokenizer, session

    def _unload(self) -> None:
        self._session = self._tokenizer = None

    def _batch_sizes(self) -> tuple[int, int]:
        return _TOKENS_A_BATCH_CPU if self.device == "CPUExecutionProvider" else _TOKENS_A_BATCH_GPU


def _wrong_graph(path: Path, what: str) -> str:
    return f"{path} is not bge-large-en-v1.5 as an ONNX graph: {what}. Get the model's own onnx/model.onnx (1024 wide)."


def _load_tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    except Exception as error:
        # transformers raises OSError, ValueError, KeyError or tokenizers' bare Exception for a bad folder.
        raise EncoderError(
            f"{folder} has no usable tokenizer ({_first_line(error)}). It needs tokenizer.json, tokenizer_config.json "
            f"and vocab.txt of BAAI/bge-large-en-v1.5 beside the graph."
        ) from error


def _open_session(file: Path, device: str | None) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise EncoderError(
            f"BGE needs ONNX Runtime, which can't be imported ({error}): pip install onnxruntime-gpu "
            f"(or onnxruntime where there is no GPU build)."
        ) from error
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    provider = "CPUExecutionProvider" if device == "cpu" else _best_provider(onnxruntime)
    if provider != "CPUExecutionProvider":
        try:
            session = onnxruntime.InferenceSession(str(file), options, providers=[provider, "CPUExecutionProvider"])
        except Exception as error:
            log.warning("BGE runs on the CPU: ONNX Runtime's %s failed: %s", provider, _first_line(error))
        else:
            if session.get_providers()[0] != provider:
                log.warning("BGE runs on the CPU: ONNX Runtime could not start its %s", provider)
            return session
    try:
        return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise EncoderError(
            f"{file} can't be opened by ONNX Runtime ({_first_line(error)}). "
            f"It may be cut short or damaged: get it again."
        ) from error


def _best_provider(onnxruntime: Any) -> str:
    available = onnxruntime.get_available_providers()
    if "CUDAExecutionProvider" in available and _torch_has_cuda():
        if hasattr(onnxruntime, "preload_dlls"):
            # Torch's own CUDA and cuDNN libraries, so that none need be installed beside them.
            onnxruntime.preload_dlls()
        return "CUDAExecutionProvider"
    return next((name for name in _GPU_PROVIDERS if name in available), "CPUExecutionProvider")


def _torch_has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
