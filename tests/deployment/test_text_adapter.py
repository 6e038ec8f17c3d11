"""A residual head on a backbone for texts, from a study of queries and documents to sentence-transformers."""

from __future__ import annotations

import json
import shutil
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
from lossgauge.deployment.embedding import embed_data, embed_pairs
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
from tests.support.command_line import assert_refused, run_cli
from tests.support.documents import blocks, command_lines, text_of
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
    written = embed_pairs(head, data, tmp_path / "out.npz")
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
    assert not (tmp_path / "out.npz").exists()
    tables = [np.load(tmp_path / f"out-{name}.npz") for name in ("queries", "documents")]
    rows = np.concatenate([table["embeddings"] for table in tables])
    of = np.concatenate([table["sides"] for table in tables])
    assert [*tables[0]["ids"], *tables[1]["ids"]] == list(texts.ids)
    assert written.queries.row_count + written.documents.row_count == len(rows) == len(texts.ids)
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
    study = read_study(place / sides).results
    run = next(row for row in study.summaries if row["base"] == "mnrl")
    (centered,) = (r for r in study.references if r["reference"] == "centered raw model")
    as_good = centered["ndcg_at_10"] >= run["ndcg_at_10"]
    assert any("centering the raw model, without" in n for n in exported.notes) is as_good
    assert found.ndcg_at_10 == pytest.approx(run["ndcg_at_10"], abs=1e-9)
    assert exported.head.manifest.measured.ndcg_at_10 == pytest.approx(found.ndcg_at_10, abs=1e-9)
    measured = exported.head.manifest.measured
    numbers = (measured.mrr_at_10, measured.found_at_1, measured.found_at_10, measured.found_at_100)
    assert numbers == pytest.approx((found.mrr_at_10, *found.found_at.values()), abs=1e-9)
    assert [one.without.mean for one in exported.compared] == pytest.approx(
        [
            measured.frozen_ndcg_at_10,
            measured.frozen_mrr_at_10,
            measured.frozen_found_at_1,
            measured.frozen_found_at_10,
            measured.frozen_found_at_100,
        ],
        abs=1e-9,
    )
    titles, with_head = (str(exported).splitlines()[at].split("  ") for at in (3, 4))
    titles, with_head = ([cell.strip() for cell in row if cell] for row in (titles, with_head))
    with_head = [cell.split(" ± ")[0] for cell in with_head]
    assert titles == ["nDCG@10", "MRR@10", "Recall@1", "Recall@10", "Recall@100"]
    assert with_head == [
        "head",
        *(f"{100 * value:.1f}\u00a0%" for value in (found.ndcg_at_10, *numbers)),
    ]
    card = (tmp_path / "model" / "README.md").read_text(encoding="utf-8")
    (numbers,) = (line for line in card.splitlines() if line.startswith("| nDCG@10"))
    with_head, raw, change = (cell.strip() for cell in numbers.split("|")[2:5])
    assert with_head.startswith(f"{100 * found.ndcg_at_10:.1f}\u00a0% ")
    before = exported.head.manifest.measured.frozen_ndcg_at_10
    assert raw.startswith(f"{100 * before:.1f}\u00a0% ")
    gain = f"{100 * (found.ndcg_at_10 - before):+.2f}".replace("-", "−")
    assert change.startswith(f"{gain} ± ")
    assert ("only queries pass" if sides == "query" else "an index must be embedded") in card
    narrower = "no narrower width: only queries pass" in str(exported)
    assert (narrower, len(exported.costs.widths) == 1) == (sides == "query",) * 2
    same = np.abs(rows - torch.nn.functional.normalize(frozen.features).numpy()).max(axis=1) < 1e-6
    assert not same[of == "query"].any()
    assert same[of == "document"].all() == (sides == "query")


def write_beir(folder: Path, pairs: Path) -> Path:
    """The same texts in the format of BEIR, with ids that sort otherwise; two thirds of the queries train."""
    rows = [json.loads(line) for line in pairs.read_text().splitlines()]
    (folder / "qrels").mkdir(parents=True)
    texts = [text for row in rows for text in (row["positive"], row["negative"])]
    corpus = [{"_id": f"d{997 * n % 1000}", "title": "", "text": t} for n, t in enumerate(texts)]
    queries = [{"_id": f"q {7 * n % 100}", "text": row["query"]} for n, row in enumerate(rows)]
    for name, content in (("corpus", corpus), ("queries", queries)):
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, content)))
    for name, part in (("train", range(32)), ("test", range(32, len(rows)))):
        lines = [f"{queries[n]['_id']}\t{corpus[2 * n]['_id']}\t{1 + n % 2}\n" for n in part]
        (folder / "qrels" / f"{name}.tsv").write_text(
            "query-id\tcorpus-id\tscore\n" + "".join(lines)
        )
    return folder


def test_from_a_folder_of_beir_to_two_tables_and_their_diagnosis(place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    beir = write_beir(tmp_path / "beir", place / "pairs.jsonl")
    head = export_head(place / "query", tmp_path / "head").head
    done = run_cli("embed", "pairs:beir", "--head", "head", "--out", "x.npz")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-4:] == [
        "queries: x-queries.npz (48 rows of 16 numbers)",
        "documents: x-documents.npz (96 rows of 16 numbers)",
        "judgements: x-qrels.tsv (16 judgements of 16 test queries)",
        "measure them: lossgauge diagnose x-queries.npz --corpus x-documents.npz --judgements x-qrels.tsv",
    ]
    for name, file in (("queries", "queries"), ("documents", "corpus")):
        with np.load(f"x-{name}.npz") as table:
            lines = (beir / f"{file}.jsonl").read_text().splitlines()
            assert table["ids"].tolist() == [json.loads(line)["_id"] for line in lines]
            assert "labels" not in table
    own, ours = (
        sorted(p.read_text().splitlines()) for p in (beir / "qrels/test.tsv", Path("x-qrels.tsv"))
    )
    assert own == ours
    found = []
    for judgements in ("x-qrels.tsv", "beir/qrels/test.tsv"):
        done = run_cli(
            *("diagnose", "x-queries.npz", "--corpus", "x-documents.npz"),
            *("--judgements", judgements, "--json", "--quiet"),
        )
        assert done.returncode == 0, done.stderr
        found.append(json.loads(done.stdout)["judged"])
    assert found[0] == found[1]
    texts = load_pairs(beir)
    rows = features(texts, head.load_backbone()).features
    queries, documents = rows[: len(rows) - len(texts.pairs.corpus)], rows[texts.pairs.corpus]
    tested = torch.isin(texts.pairs.query, torch.from_numpy(texts.test))
    expected = judged_retrieval(
        head(queries)[32:],
        head.embed_documents(documents),
        query=texts.pairs.query[tested] - 32,
        document=texts.pairs.document[tested] - len(queries),
        grade=texts.pairs.grade[tested],
    )
    assert found[0][0]["ndcg_at_10"]["mean"] == pytest.approx(expected.ndcg_at_10, abs=1e-6)
    # one side alone gives the same rows; the two in the wrong order, or together, are refused
    for side, name in (("query", "queries"), ("document", "documents")):
        embed_data(head, "pairs:beir", tmp_path / f"{side}.npz", side=side)
        with np.load(f"{side}.npz") as one, np.load(f"x-{name}.npz") as two:
            assert one.files == two.files
            assert all(np.array_equal(one[key], two[key]) for key in one.files)
    assert_refused(
        run_cli("diagnose", "x-documents.npz", "--corpus", "x-queries.npz"),
        "the queries must be queries, but the rows of x-documents.npz are documents",
    )
    # with test.tsv alone, the queries are split by us, and it has training queries too
    half = shutil.copytree(beir, tmp_path / "half")
    (half / "qrels/train.tsv").unlink()
    embed_pairs(head, "pairs:half", Path("half.npz"))
    for judgements, words in (
        ("half-qrels.tsv", ()),
        ("half/qrels/test.tsv", ("8 of 16 judged queries are training", "use half-qrels.tsv")),
    ):
        of = lg.diagnose("half-queries.npz", corpus="half-documents.npz", judgements=judgements)
        note = "".join(note for note in of.notes if "training" in note)
        assert all(word in note for word in words)
        assert bool(note) == bool(words)
    done = run_cli("embed", "pairs:beir", "--head", "head", "--out", "x.npz")
    assert "queries: x-queries.npz (48 rows of 16 numbers, replaced an earlier file)" in done.stdout
    for frozen in (False, True):
        options = {"frozen": frozen, "center": True}
        notes = embed_pairs(head, "pairs:beir", tmp_path / f"{frozen}.npz", **options).notes
        assert any("--center changes documents too" in note for note in notes) != frozen
    assert_refused(
        run_cli("embed", "pairs:beir", "--head", "head", "--frozen", "--out", "x.npz"),
        "x-queries.npz has embeddings of a head, which features without a head must not replace",
    )


@pytest.mark.parametrize("page", ["docs/rag.md", "docs/deploy.md", "docs/diagnose.md"])
def test_the_lines_of_a_page_from_texts_to_their_diagnosis_run_in_their_order(
    place, page, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    exported = export_head(place / "query", tmp_path / "head")
    shutil.copy(place / "pairs.jsonl", "questions.jsonl")
    write_beir(tmp_path / "my-beir", place / "pairs.jsonl")
    Path("passages.csv").write_text("id,text\np7,cat sat\np2,old stones\n")
    begins = (
        "lossgauge embed pairs:q",
        "lossgauge embed pairs:my",
        "lossgauge embed texts:p",
        "lossgauge diagnose raw-",
        "lossgauge diagnose found-",
        "lossgauge diagnose centered-",
    )
    run = [line for line in command_lines(text_of(page)) if line.startswith(begins)]
    assert len(run) >= 3
    for line in run:
        done = run_cli(*line.split()[1:], "--quiet")
        assert done.returncode == 0, (line, done.stderr)
        if "--against" in line:
            assert "retrieval by cosine changes by nDCG@10" in done.stdout
    if page == "docs/rag.md":
        view = read_study(place / "query")
        dataset = view.datasets[0]
        rows = {row["reference"]: row for row in view.references(dataset)}
        for name, reference in (("raw", "frozen features"), ("centered", "centered raw model")):
            files = [f"{name}-{part}" for part in ("queries.npz", "documents.npz", "qrels.tsv")]
            done = lg.diagnose(files[0], corpus=files[1], judgements=files[2])
            level = view.reference_interval(dataset, rows[reference], "ndcg_at_10")
            found = done.judged[0].ndcg_at_10
            assert found.mean == pytest.approx(rows[reference]["ndcg_at_10"], abs=1e-6)
            assert found.half_width == pytest.approx(level.half_width, abs=1e-6)
        (without,) = (one.without for one in exported.compared if one.title == "nDCG@10")
        raw = view.reference_interval(dataset, rows["frozen features"], "ndcg_at_10")
        assert without.half_width == pytest.approx(raw.half_width, abs=1e-6)


def test_passages_without_labels_are_embedded_with_their_ids(place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    head = export_head(place / "query", tmp_path / "head").head
    Path("passages.csv").write_text(
        "id,text,url\np7,cat sat on a mat and ran after red birds that sing,a\np2,old stones,b\n"
    )
    done = run_cli(
        "embed", "texts:passages.csv", "--head", "head", "--side", "document", "--out", "p.npz"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[1:] == [
        "note: columns of passages.csv that are not read: url",
        "note: the texts have no labels",
        "note: 50.0% of the texts are longer than hf:tiny takes, 12 tokens: the rest of each is cut off",
        "embeddings: p.npz (2 rows of 16 numbers, no labels)",
    ]
    backbone = head.load_backbone()
    with np.load("p.npz") as table:
        assert table["ids"].tolist() == ["p7", "p2"]
        assert "labels" not in table
        expected = backbone.extract(backbone.prepare(Text("old stones", "document"))[None])
        assert (
            np.abs(table["embeddings"][1] - head.embed_documents(expected)[0].numpy()).max() < 1e-6
        )
    done = run_cli(
        "embed",
        "texts:passages.csv",
        "--frozen",
        "--backbone",
        f"hf:{place}/tiny",
        "--out",
        "raw.npz",
    )
    assert done.returncode == 0, done.stderr
    assert_refused(
        run_cli("check", "texts:passages.csv"),
        "passages.csv has an unknown column 'url'",
    )
    Path("plain.csv").write_text("text\ncat sat\nold stones\n")
    for command in (
        ("check", "texts:plain.csv"),
        ("features", "texts:plain.csv", "--backbone", f"hf:{place}/tiny"),
    ):
        assert_refused(
            run_cli(*command), "label is missing; only `lossgauge embed` takes texts without labels"
        )


FINE = [{"query": f"q{n}", "positive": f"p{n}"} for n in range(6)]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([*FINE, {"query": " q1", "positive": "x", "negative": "p1 "}], "bad.jsonl, line 2, has it as positive and bad.jsonl, line 7, as negative"),
        ([*FINE, {"query": "q9", "positive": " "}], "bad.jsonl, line 7, has an empty one (1 of 7 rows does)"),
        ([{"query": [1.0, 2.0], "positive": [1.0]}], "positive has 1 numbers in bad.jsonl, line 1"),
    ],
)  # fmt: skip
def test_bad_pairs_are_one_line_in_each_command_and_nothing_is_written(
    place, rows, words, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    Path("bad.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    backbone = f"hf:{place}/tiny"
    Path("s.yaml").write_text(
        f"datasets: ['pairs:bad.jsonl']\nbackbone: {backbone}\nlosses: [mnrl]\nseeds: 1\nepochs: 1\nbatch_size: 4\nlearning_rate: 0.01\n"
    )
    for command in (
        ("check", "pairs:bad.jsonl"),
        ("embed", "pairs:bad.jsonl", "--frozen", "--backbone", backbone),
        ("study", "s.yaml", "--out", "out"),
    ):
        done = run_cli(*command)
        assert done.returncode == 2, command
        assert words in done.stderr
        assert len(done.stderr.splitlines()) == 1
    assert {path.name for path in tmp_path.iterdir()} == {"bad.jsonl", "s.yaml"}


@pytest.mark.parametrize(
    ("lost", "words"),
    [
        (
            ("tokenizer.json", "tokenizer_config.json", "vocab.txt"),
            "no tokenizer: save it beside the weights",
        ),
        (("tokenizer.json", "vocab.txt"), "the tokenizer in model has no words"),
        (("1_Pooling/config.json",), "has no 1_Pooling/config.json, so it is not known how"),
    ],
)
def test_a_model_without_its_files_is_refused_and_nothing_is_written(
    place, lost, words, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(place / "tiny", "model")
    for name in lost:
        Path("model", name).unlink(missing_ok=True)
    done = run_cli("embed", f"pairs:{place}/pairs.jsonl", "--frozen", "--backbone", "hf:model")
    assert done.returncode == 2
    assert words in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


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
    with pytest.raises(InputError, match="has queries and documents, and a table has one side"):
        embed_data(head, f"pairs:{place}/pairs.jsonl", tmp_path / "out.npz")
    backbone = load_backbone(f"hf:{place}/tiny")
    for side, embed in (("query", head), ("document", head.embed_documents)):
        written = embed_data(head, f"texts:{table}", tmp_path / f"{side}.npz", side=side)
        with np.load(written.path) as written:
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
    exported = export_head(place / "both", tmp_path / "narrow", width=15)
    narrow = exported.head
    assert (narrow.manifest.head.kind, narrow.embedding_size) == ("linear", 15)
    # the raw model beside it: right singular vectors of its training rows, and one right document for each query
    frozen = features(load_pairs(place / "pairs.jsonl"), narrow.load_backbone())
    raw = torch.nn.functional.normalize(frozen.features.double()).numpy()
    right = dict(zip(frozen.pairs.query.tolist(), frozen.pairs.document.tolist(), strict=True))
    train = [*frozen.train.tolist(), *(right[row] for row in frozen.train.tolist())]
    corpus, by_hand = frozen.pairs.corpus.numpy(), {}
    for width in (15, 8):
        cut = raw @ np.linalg.svd(raw[train])[2][:width].T
        cut /= np.linalg.norm(cut, axis=1, keepdims=True)
        gains = []
        for query in frozen.test.tolist():
            similarity = cut[corpus] @ cut[query]
            rank = 1 + (similarity > similarity[corpus == right[query]]).sum()
            gains.append(1 / np.log2(1 + rank) if rank <= 10 else 0.0)
        by_hand[width] = np.mean(gains)
    found = {row.width: row.reduced for row in exported.costs.raw}
    assert list(found) == [16, 15, 8]
    assert {width: found[width] for width in by_hand} == pytest.approx(by_hand, abs=1e-9)
    (line,) = (line for line in str(exported).splitlines() if line.startswith("at 15 numbers"))
    assert f"{100 * by_hand[15]:.1f}\u00a0% with the raw model cut to 15 principal" in line
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
