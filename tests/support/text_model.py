"""A tiny model for texts: a folder as sentence-transformers writes it, with random weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

WORDS = [
    "the",
    "cat",
    "sat",
    "on",
    "a",
    "mat",
    "and",
    "ran",
    "after",
    "red",
    "birds",
    "that",
    "sing",
    "of",
    "old",
    "stones",
    "in",
    "rain",
]


def write_text_model(made: Path) -> Path:
    """A tiny model as sentence-transformers saved them before version 6."""
    import transformers

    torch.manual_seed(0)
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ":", "query", "doc", *WORDS]
    config = transformers.BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=20,
    )
    transformers.BertModel(config).save_pretrained(made)
    (made / "vocab.txt").write_text("\n".join(vocabulary))
    tokenizer = transformers.BertTokenizer(vocab=str(made / "vocab.txt"))
    tokenizer.save_pretrained(made)
    kinds = {"": "Transformer", "1_Pooling": "Pooling", "2_Normalize": "Normalize"}
    write(
        made / "modules.json",
        [
            {"idx": n, "name": str(n), "path": path, "type": f"sentence_transformers.models.{kind}"}
            for n, (path, kind) in enumerate(kinds.items())
        ],
    )
    write(
        made / "1_Pooling/config.json",
        {"word_embedding_dimension": 16, "pooling_mode_mean_tokens": True},
    )
    write(made / "sentence_bert_config.json", {"max_seq_length": 12, "do_lower_case": False})
    write(
        made / "config_sentence_transformers.json",
        {"prompts": {"query": "query: ", "document": "doc: "}, "default_prompt_name": None},
    )
    return made


def write(path: Path, content: Any) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content))
