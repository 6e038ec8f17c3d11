"""A head on features of a real model of transformers: found in another place, and refused with other weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import lossgauge as lg
from lossgauge.deployment.embedding import embed_data
from lossgauge.deployment.export import export_head
from lossgauge.deployment.sentence_transformers_modules import sentence_transformers_modules
from lossgauge.errors import InputError
from lossgauge.plan.yaml_file import load_plan
from lossgauge.study.engines import Resources
from lossgauge.study.runner import run_study
from tests.support.documents import blocks, text_of
from tests.support.studies import Quiet

pytestmark = pytest.mark.slow


def save_vit(folder: Path, seed: int) -> Path:
    transformers = pytest.importorskip("transformers", reason="pip install 'lossgauge[hf]'")
    torch.manual_seed(seed)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.ViTConfig(**sizes, intermediate_size=32, image_size=16, patch_size=8)
    model = transformers.ViTModel(config, add_pooling_layer=False)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
    model.eval().save_pretrained(folder)
    transformers.ViTImageProcessorPil(size={"height": 16, "width": 16}).save_pretrained(folder)
    return folder


def test_the_same_weights_in_another_place_and_other_weights(tmp_path, monkeypatch):
    monkeypatch.setenv("LOSSGAUGE_CACHE", str(tmp_path / "cache"))
    first = save_vit(tmp_path / "tiny", 0)
    copy, other = save_vit(tmp_path / "copy", 0), save_vit(tmp_path / "other", 1)
    generator = np.random.default_rng(0)
    for number in range(32):
        path = tmp_path / "pets" / "abcd"[number % 4] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = generator.integers(0, 64, (20, 20, 3)) + 48 * (number % 4)
        Image.fromarray(pixels.astype(np.uint8)).save(path)
    data = f"folder:{tmp_path}/pets"
    plan = load_plan(
        {
            "datasets": [data],
            "backbone": f"hf:{first}",
            "losses": ["arcface"],
            "seeds": 1,
            "epochs": 1,
            "batch_size": 8,
            "learning_rate": 0.01,
            "embedding_size": 4,
        }
    )
    run_study(plan, tmp_path / "study", progress=Quiet(), resources=Resources(jobs=1))
    export_head(tmp_path / "study", tmp_path / "head")
    head = lg.load_head(tmp_path / "head")
    embed_data(head, data, tmp_path / "out.npz", backbone=f"hf:{copy}")
    backbone = head.load_backbone(f"hf:{first}")
    image = Image.open(tmp_path / "pets" / "b" / "5.png")
    with np.load(tmp_path / "out.npz") as table:
        row = table["ids"].tolist().index("b/5.png")
        expected = head(backbone.extract(backbone.prepare(image)[None]))[0].numpy()
        assert np.abs(table["embeddings"][row] - expected).max() < 1e-5
    images = [Image.open(path) for path in sorted((tmp_path / "pets").glob("*/*.png"))[:3]]
    features = backbone.extract(torch.stack([backbone.prepare(image) for image in images]))
    names: dict[str, Any] = {"sentence_transformers_modules": sentence_transformers_modules}
    page = next(b.code for b in blocks(text_of("docs/deploy.md")) if "def with_images" in b.code)
    exec(page, names)
    model = names["with_images"](str(first), head)
    assert np.abs(model.encode(images) - head(features).numpy()).max() < 1e-5
    with pytest.raises(InputError, match="is for features of hf:tiny, not of hf:other"):
        embed_data(head, data, tmp_path / "out.npz", backbone=f"hf:{other}")
