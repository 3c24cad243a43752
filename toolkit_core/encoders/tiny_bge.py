"""The tiny BGE: a two-layer BERT of the real width, exported to ONNX and checked against torch."""

from __future__ import annotations

import json
import string
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import EncoderError

if TYPE_CHECKING:
    import torch

WIDTH = 1024
MIN_EXPORT_COSINE = 0.9999

_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_SYMBOLS = (
    "".join(c for c in string.printable if c.isprintable() and not c.isspace() and not c.isupper()) + "éèüöäçñ°’“”–—…"
)
_WORDS = """
a an the of in on at with and or by for from to her his their very no not is are one two three many photo photograph
picture image portrait painting drawing sketch illustration render anime manga comic realistic photorealistic
masterpiece best worst low high quality detailed highly intricate ultra sharp focus blurry blur depth bokeh cinematic
dramatic soft warm cold light lighting shadow sunlight moonlight neon glow bright dark night day morning evening sunset
sunrise dusk dawn sky cloud rain snow fog mist storm lightning sea ocean lake river water waterfall beach sand desert
mountain hill valley forest tree flower grass garden field city street road building house castle ruins temple church
bridge tower room interior window door table chair bed kitchen library market car train ship boat plane robot machine
space planet star galaxy moon sun fire ice smoke magic dragon monster demon angel fairy witch wizard knight king queen
prince princess warrior samurai ninja soldier pirate cat dog fox wolf bear lion tiger horse bird owl crow fish whale
snake rabbit deer butterfly girl boy woman man person people child old young solo couple crowd face eyes eye hair hand
hands finger fingers smile looking viewer standing sitting lying walking running sleeping holding wearing dress shirt
skirt coat armor hat glasses boots gloves jewelry crown sword shield gun book umbrella blue red green yellow orange
purple pink black white grey brown gold silver blonde long short wide close up shot full body upper view angle front
side back above below background foreground simple complex colorful monochrome vintage retro modern futuristic
cyberpunk steampunk fantasy gothic baroque style art artist digital oil watercolor ink pencil concept abstract surreal
minimal beautiful ugly deformed bad anatomy extra missing cropped watermark signature text logo jpeg artifacts noise
grain film camera lens 4k 8k hdr rings concentric stripes diagonal spiral circle square triangle target pattern shape
""".split()  # noqa: SIM905

# Words count for more than their places, and attention is nearly even: the CLS token becomes little else than a mean of
# the words, so that texts that share words are near each other.
_GAINS = {
    "word_embeddings": 1.0,
    "embeddings": 0.05,
    "attention.self.query": 0.5,
    "attention.self.key": 0.5,
    "attention.self.value": 2.0,
    "attention.output": 3.0,
    "dense": 0.5,
}


def write_tiny_bge(folder: Path, seed: int) -> None:
    """Write `onnx/model.onnx`, config.json, vocab.txt and the tokenizer's files. Raises EncoderError, see `tiny`."""
    _require_exporter()
    (folder / "onnx").mkdir(parents=True, exist_ok=True)
    _write_tokenizer(folder, _vocabulary())
    model = tiny_bert(seed)
    model.config.save_pretrained(folder)
    _export(model, folder / "onnx" / "model.onnx")


def tiny_bert(seed: int) -> Any:
    """The model that is exported, in torch: a seeded, untrained BertModel of two layers and sixteen heads."""
    import torch
    from transformers import BertConfig, BertModel

    config = BertConfig(
        vocab_size=len(_vocabulary()),
        hidden_size=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=16,
        intermediate_size=128,
    )
    model = BertModel(config, add_pooling_layer=False).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() == 2:
                gain = next(gain for part, gain in _GAINS.items() if part in name)
                std = gain if "embeddings" in name else gain * parameter.shape[1] ** -0.5
                parameter.normal_(0.0, std, generator=generator)
        for token in ("[CLS]", "[SEP]"):
            model.embeddings.word_embeddings.weight[_SPECIAL.index(token)] *= 0.1
    return model


def _require_exporter() -> None:
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise EncoderError(f"Tiny weights need {error.name}: pip install 'diffusion-toolkit[demo]'") from error


def _vocabulary() -> list[str]:
    characters = sorted(set(_SYMBOLS))
    return list(dict.fromkeys([*_SPECIAL, *characters, *(f"##{c}" for c in characters), *_WORDS]))


def _write_tokenizer(folder: Path, vocabulary: list[str]) -> None:
    from tokenizers import Tokenizer
    from tokenizers.decoders import WordPiece as WordPieceDecoder
    from tokenizers.models import WordPiece
    from tokenizers.normalizers import BertNormalizer
    from tokenizers.pre_tokenizers import BertPreTokenizer
    from tokenizers.processors import TemplateProcessing

    ids = {token: i for i, token in enumerate(vocabulary)}
    tokenizer = Tokenizer(WordPiece(ids, unk_token="[UNK]"))
    tokenizer.add_special_tokens(list(_SPECIAL))
    tokenizer.normalizer = BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = BertPreTokenizer()
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[("[CLS]", ids["[CLS]"]), ("[SEP]", ids["[SEP]"])],
    )
    tokenizer.decoder = WordPieceDecoder()
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
    special = {
        "pad_token": "[PAD]",
        "unk_token": "[UNK]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "mask_token": "[MASK]",
    }
    configuration = {"tokenizer_class": "BertTokenizer", "do_lower_case": True, "model_max_length": 512, **special}
    (folder / "tokenizer_config.json").write_text(json.dumps(configuration, indent=2))
    (folder / "special_tokens_map.json").write_text(json.dumps(special, indent=2))


def _export(model: Any, file: Path) -> None:
    import torch

    class LastHiddenState(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(
            self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor
        ) -> torch.Tensor:
            output = self.model(input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids)
            return output.last_hidden_state

    module = LastHiddenState().eval()
    vocabulary = model.config.vocab_size
    axes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("sequence", max=512)}
    names = ("input_ids", "attention_mask", "token_type_ids")
    with warnings.catch_warnings(), torch.no_grad():
        # The exporter warns of its own deprecated calls; whether the graph is right is checked below.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            _inputs(torch, vocabulary, [9, 5]),
            file,
            input_names=list(names),
            output_names=["last_hidden_state"],
            dynamic_shapes=dict.fromkeys(names, axes),
            dynamo=True,
            external_data=False,
            verbose=False,
        )
        inputs = _inputs(torch, vocabulary, [40, 3, 17])
        wanted = module(*inputs)[:, 0].numpy()
    _check_export(file, {name: value.numpy() for name, value in zip(names, inputs, strict=True)}, wanted)


def _inputs(torch: Any, vocabulary: int, lengths: list[int]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(5, vocabulary, (len(lengths), max(lengths)), generator=generator)
    mask = (torch.arange(max(lengths))[None] < torch.tensor(lengths)[:, None]).long()
    return ids * mask, mask, torch.zeros_like(ids)


def _check_export(file: Path, inputs: dict[str, Any], wanted: Any) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    given: Any = session.run(["last_hidden_state"], inputs)[0]
    given = given[:, 0]
    cosines = (given * wanted).sum(1) / (np.linalg.norm(given, axis=1) * np.linalg.norm(wanted, axis=1))
    if not cosines.min() >= MIN_EXPORT_COSINE:
        raise EncoderError(
            f"The ONNX export of the tiny BGE differs from torch (cosine {cosines.min():.4f}): the installed torch, "
            f"onnx and onnxscript don't fit together; update them."
        )
