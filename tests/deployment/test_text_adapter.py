"""A residual head on a backbone for texts, from a study of queries and documents to sentence-transformers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

import lossgauge as lg
from lossgauge.backbones import load_backbone
from lossgauge.data.features import features
from lossgauge.data.pairs import load as load_pairs
from lossgauge.deployment.embedding import embed_data
from lossgauge.deployment.export import export_head
from lossgauge.deployment.sentence_transformers_modules import (
    sentence_transformer,
    write_sentence_transformer,
)
from lossgauge.errors import InputError
from lossgauge.plan.yaml_file import load_plan
from lossgauge.ranking.judged import judged_retrieval
from lossgauge.results.reader import read_study
from lossgauge.study.engines import Resources
from lossgauge.study.runner import run_study
from lossgauge.types import Text
from tests.support.documents import blocks, text_of
from tests.support.finished import once
from tests.support.studies import Quiet
from tests.support.text_model import WORDS, write_text_model

pytest.importorskip("transformers", reason="needs pip install 'lossgauge[hf]'")


def write_pairs(path: Path, count: int = 48) -> Path:
    generator = np.random.default_rng(0)
    rows = []
    for number in range(count):
        drawn = generator.permutation(WORDS)
        rows.append(
            {
                "query": f"{drawn[0]} {drawn[1]} {number}",
                "positive": " ".join(drawn[:6]) + f" {number}",
                "negative": " ".join(drawn[6:11]) + f" {number}",
            }
        )
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Two studies with residual heads on a tiny model with prompts: `both`, and `query` for the query side only."""

    def make(folder: Path) -> None:
        write_text_model(folder / "tiny")
        write_pairs(folder / "pairs.jsonl")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("LOSSGAUGE_CACHE", str(folder / "cache"))
            for sides in ("both", "query"):
                plan = load_plan(
                    {
                        "datasets": [f"pairs:{folder}/pairs.jsonl"],
                        "backbone": f"hf:{folder}/tiny",
                        "losses": ["mnrl"],
                        "seeds": 1,
                        "epochs": 3,
                        "batch_size": 8,
                        "learning_rate": 0.05,
                        "head": "residual",
                        "rank": 4,
                        "sides": sides,
                        "images": "none",
                    }
                )
                run_study(plan, folder / sides, progress=Quiet(), resources=Resources(jobs=1))

    return once(tmp_path_factory, "text-adapter", make)


@pytest.fixture(autouse=True)
def cache(place, monkeypatch):
    monkeypatch.setenv("LOSSGAUGE_CACHE", str(place / "cache"))
    monkeypatch.setenv("LOSSGAUGE_WEIGHTS", str(place))


@pytest.mark.parametrize("sides", ["both", "query"])
def test_sentence_transformers_gives_the_embeddings_of_the_study(place, sides, tmp_path):
    library = pytest.importorskip(
        "sentence_transformers", reason="pip install 'lossgauge[sentence-transformers]'"
    )
    exported = export_head(place / sides, tmp_path / "head", model=tmp_path / "model")
    assert f"model: {tmp_path}/model" in str(exported)
    head = lg.load_head(tmp_path / "head")
    form = head.manifest.head
    assert (form.kind, form.rank, form.sides, form.embedding_size) == ("residual", 4, sides, 16)
    data = f"pairs:{place}/pairs.jsonl"
    written = embed_data(head, data, tmp_path / "out.npz")
    texts = load_pairs(place / "pairs.jsonl")
    frozen = features(texts, head.load_backbone())
    loaded = library.SentenceTransformer(str(tmp_path / "model"), device="cpu")
    names: dict[str, Any] = {}
    page = blocks(text_of("docs/rag.md"))
    exec(next(block.code for block in page if "def best_passage" in block.code), names)
    study = load_plan(yaml.safe_load(next(b.code for b in page if b.language == "yaml")))
    assert (study.head, study.backbone_of("pairs:questions.jsonl").name) == (
        "residual",
        "minilm-l6",
    )
    with np.load(tmp_path / "out.npz") as table:
        rows, of = table["embeddings"], table["sides"]
    assert written.row_count == len(rows) == len(texts.ids)
    assert np.flatnonzero(of == "document").tolist() == texts.pairs.corpus.tolist()
    words = np.array([texts.read(row).words for row in range(len(rows))])
    for side, encode in (("query", loaded.encode_query), ("document", loaded.encode_document)):
        encoded = encode(words[of == side].tolist(), show_progress_bar=False)
        assert np.abs(encoded - rows[of == side]).max() < 1e-5
    passages = words[of == "document"].tolist()
    asked_first = np.flatnonzero(of == "query")[0]
    nearest = int((rows[of == "document"] @ rows[asked_first]).argmax())
    best = names["best_passage"](str(tmp_path / "model"), words[asked_first], passages)
    assert best == passages[nearest]
    # the written rows measure as the run did: its summary is of another computation
    number = {row: at for at, row in enumerate(texts.pairs.corpus.tolist())}
    asked = {row: at for at, row in enumerate(frozen.test.tolist())}
    judged = [
        (asked[q], number[d])
        for q, d in zip(texts.pairs.query.tolist(), texts.pairs.document.tolist(), strict=True)
        if q in asked
    ]
    found = judged_retrieval(
        torch.from_numpy(rows)[frozen.test],
        torch.from_numpy(rows)[texts.pairs.corpus],
        query=[q for q, _ in judged],
        document=[d for _, d in judged],
    )
    run = next(row for row in read_study(place / sides).results.summaries if row["base"] == "mnrl")
    assert found.ndcg_at_10 == pytest.approx(run["ndcg_at_10"], abs=1e-9)
    assert exported.head.manifest.measured.ndcg_at_10 == pytest.approx(found.ndcg_at_10, abs=1e-9)
    same = np.abs(rows - torch.nn.functional.normalize(frozen.features).numpy()).max(axis=1) < 1e-6
    assert not same[of == "query"].any()
    assert same[of == "document"].all() == (sides == "query")


def test_rows_of_one_kind_need_their_side_if_only_queries_pass(place, tmp_path):
    head = export_head(place / "query", tmp_path / "head").head
    table = tmp_path / "texts.csv"
    table.write_text("text,label\n" + "".join(f"cat {w},{n % 2}\n" for n, w in enumerate(WORDS)))
    with pytest.raises(
        InputError, match=r"only queries pass .* say --side query or --side document"
    ):
        embed_data(head, f"texts:{table}", tmp_path / "out.npz")
    with pytest.raises(InputError, match="side must be query or document, got 'corpus'"):
        embed_data(head, f"texts:{table}", tmp_path / "out.npz", side="corpus")
    with pytest.raises(InputError, match="says itself which rows are queries"):
        embed_data(head, f"pairs:{place}/pairs.jsonl", tmp_path / "out.npz", side="query")
    backbone = load_backbone(f"hf:{place}/tiny")
    for side, embed in (("query", head), ("document", head.embed_documents)):
        embed_data(head, f"texts:{table}", tmp_path / "out.npz", side=side)
        with np.load(tmp_path / "out.npz") as written:
            # the prompt of the side is before each text
            expected = embed(backbone.extract(backbone.prepare(Text("cat sat", side))[None]))
            row = WORDS.index("sat")
            assert np.abs(written["embeddings"][row] - expected[0].numpy()).max() < 1e-6
            assert set(written["sides"]) == {side}
    with pytest.raises(InputError, match="width 8 needs a head for both sides"):
        export_head(place / "query", tmp_path / "narrow", width=8)


def test_a_narrow_residual_head_is_linear_and_its_cosines_are_those_of_the_directions(
    place, tmp_path
):
    full = export_head(place / "both", tmp_path / "full").head
    narrow = export_head(place / "both", tmp_path / "narrow", width=16).head
    assert narrow.manifest.head.kind == "residual"  # the full width stays as it is
    narrow = export_head(place / "both", tmp_path / "narrow", width=15).head
    assert (narrow.manifest.head.kind, narrow.embedding_size) == ("linear", 15)
    rows = torch.randn(9, 16, generator=torch.Generator().manual_seed(0))
    layer = full.layers["linear"]
    assert (full(rows) - torch.nn.functional.normalize(layer(rows))).abs().max() < 1e-6
    loaded = narrow.layers["linear"].weight.double()
    turn = loaded @ torch.linalg.inv(layer.weight.double())
    assert torch.allclose(turn @ turn.T, torch.eye(15).double(), atol=1e-5)


def test_a_model_is_written_into_a_new_folder_and_for_texts_only(place, tmp_path):
    pytest.importorskip("sentence_transformers")
    head = export_head(place / "both", tmp_path / "head").head
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").touch()
    with pytest.raises(InputError, match="is written into a new or empty folder"):
        write_sentence_transformer(head, head.load_backbone(), tmp_path / "full")
    with pytest.raises(InputError, match="needs a backbone for texts, got"):
        sentence_transformer(head, load_backbone("pixels"))  # type: ignore[arg-type]
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["mine.txt"]
