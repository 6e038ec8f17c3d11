"""The public Python API as a person uses it: one small study, asked for everything, and the blocks of the docs."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

import pandas as pd
import plotly.graph_objects as go
import polars as pl
import pytest
import torch

import lossgauge as lg
from lossgauge.errors import InputError, PlanError, StudyError
from lossgauge.report import figures
from lossgauge.results import reader
from lossgauge.results.columns import COLUMNS, TABLES

DOCS = Path(__file__).parents[1] / "docs"
PLAN = {
    "datasets": ["digits"],
    "backbone": "pixels",
    "losses": ["triplet", "info_nce", {"name": "triplet", "settings": {"margin": 0.5}}],
    "seeds": 2,
    "epochs": 2,
    "batch_size": 64,
    "learning_rate": 0.001,
    "embedding_size": 16,
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small finished study in `out`, and its cache."""
    folder = tmp_path_factory.mktemp("notebook")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOSSGAUGE_CACHE", str(folder / "cache"))
        patch.chdir(folder)
        lg.run_study(PLAN, out="out", progress=False)
    return folder


@pytest.fixture
def study(place: Path, monkeypatch: pytest.MonkeyPatch) -> lg.Study:
    monkeypatch.setenv("LOSSGAUGE_CACHE", str(place / "cache"))
    monkeypatch.chdir(place)
    return lg.load_study("out")


class Watched(lg.Progress):
    """Counts runs."""

    def __init__(self) -> None:
        self.ended = self.there = 0

    def reused(self, run) -> None:
        self.there += 1

    def end(self, run, summary) -> None:
        self.ended += 1


def test_a_study_runs_by_name_by_dict_and_by_file_with_changes(place, monkeypatch, capsys):
    monkeypatch.setenv("LOSSGAUGE_CACHE", str(place / "cache"))
    monkeypatch.chdir(place)
    small = {
        "datasets": "digits",
        "backbone": "pixels",
        "losses": ["triplet"],
        "seeds": 1,
        "epochs": 1,
    }
    changes = {"batch_size": 64, "embedding_size": 16, "losses.triplet.margin": 0.3}
    by_name = lg.run_study("demo", set={**small, **changes}, out=Path("one"), progress=False)
    assert by_name.plan["epochs"] == 1
    assert (by_name.folder / "report.html").is_file()
    (place / "mine.yaml").write_text(
        "datasets: [digits]\nbackbone: pixels\nlosses: [triplet]\nseeds: 1\nepochs: 3\n"
        "batch_size: 64\nlearning_rate: 0.001\nembedding_size: 16\n"
    )
    watched = Watched()
    by_file = lg.run_study("mine.yaml", set={"epochs": 1}, progress=watched)
    assert by_file.folder == Path("lossgauge-results/mine")
    assert (watched.ended, watched.there) == (2, 0)
    again = Watched()
    lg.run_study(place / "mine.yaml", set={"epochs": 1}, progress=again)
    assert (again.ended, again.there) == (0, 2)
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", "")
    lg.run_study("mine.yaml", set={"epochs": 1})
    assert capsys.readouterr().err == "2 runs, 2 reused\n"


def test_a_dict_takes_paths_and_numpy_numbers_and_refuses_the_rest(place, monkeypatch):
    import numpy as np

    monkeypatch.setenv("LOSSGAUGE_CACHE", str(place / "cache"))
    monkeypatch.chdir(place)
    expected = lg.forecast(
        {**PLAN, "seeds": np.array([0, 1])}, set={"epochs": np.int64(2)}, out="out"
    )
    assert (expected.runs, expected.there) == (8, 8)
    with pytest.raises((InputError, PlanError)) as raised:
        lg.forecast({**PLAN, "seeds": object()})
    assert len(str(raised.value).splitlines()) == 1


def test_a_mistake_in_a_study_is_one_line(place, monkeypatch):
    monkeypatch.chdir(place)
    with pytest.raises(PlanError, match="did you mean 'demo'"):
        lg.run_study("dmo", progress=False)
    with pytest.raises(PlanError, match="did you mean 'epochs'"):
        lg.run_study("demo", set={"epoch": 3}, progress=False)
    with pytest.raises(InputError, match="did you mean 'local'"):
        lg.run_study(PLAN, engine="locl", progress=False)
    with pytest.raises(StudyError, match="does not contain a study"):
        lg.load_study("nowhere")
    assert not Path("lossgauge-results/study").exists()


def test_every_table_is_a_data_frame_and_the_study_is_read_once(study, monkeypatch):
    read: list[object] = []
    for name in ("study_record", "read_run"):
        monkeypatch.setattr(reader, name, lambda *where: read.append(where))
    for name in TABLES:
        assert isinstance(getattr(study, name), pd.DataFrame), name
        assert getattr(study, name) is getattr(study, name)
    assert len(study.runs) == 8
    assert set(study.epochs["epoch"]) == {0, 1, 2}
    assert study.plan["epochs"] == 2
    assert "torch" in study.environment
    assert study.datasets == ("digits",)
    (
        study.claims(),
        study.answers(),
        study.findings(),
        study.plot.tradeoff(),
        repr(study),
        study.table(),
    )
    assert read == []


def test_the_library_of_the_frames_can_be_chosen(study):
    assert isinstance(lg.load_study("out", frames="polars").runs, pl.DataFrame)
    with pytest.raises(InputError, match="did you mean 'polars'"):
        lg.load_study("out", frames="polar")


def test_the_table_of_losses_has_the_means_of_the_runs(study):
    table = study.table("digits", columns=["recall_at_1", "test_intra"]).set_index("loss")
    runs = study.runs.groupby("loss")
    assert list(table.index) == ["triplet", "triplet(margin=0.5)", "info_nce", "untrained"]
    for column in ("recall_at_1", "test_intra"):
        assert table[column].to_dict() == pytest.approx(runs[column].mean().to_dict())
    assert (table["seeds"] == 2).all()
    difference = runs["test_intra"].max() - runs["test_intra"].min()
    # Student's t with one degree of freedom, over √2: half of the difference × 12.7062
    expected = (difference / 2 * 12.7062).to_dict()
    assert table["test_intra_half_width"].to_dict() == pytest.approx(expected, rel=1e-4)


def test_head_middle_and_tail_are_thirds_of_the_classes_by_their_training_rows(study):
    table = study.by_class_size("digits")
    assert len(table) == 3 * len(study.runs)
    sizes = study.classes[study.classes["side"] == "train"]
    for _, run in study.runs.iterrows():
        rows = sizes[sizes["run"] == run["run"]].sort_values(["size", "label"], ascending=[0, 1])
        queries = study.queries[study.queries["run"] == run["run"]]
        at = (table["loss"] == run["loss"]) & (table["seed"] == run["seed"])
        for group, first, last in (("head", 0, 4), ("middle", 4, 7), ("tail", 7, 10)):
            row = table[at & (table["group"] == group)].iloc[0]
            inside = queries["label"].isin(rows["label"][first:last])
            assert row["classes"] == last - first
            assert row["training_rows"] == pytest.approx(rows["size"][first:last].mean())
            assert row["recall_at_1"] == pytest.approx(queries["hit_at_1"][inside].mean())
            assert row["map_at_r"] == pytest.approx(queries["ap_at_r"][inside].mean())


def test_classes_without_training_rows_have_no_head_and_tail(study, monkeypatch):
    files = type(study.view.files)
    of_run = files.classes
    for side, words in (("test", "have no training rows"), ("", "2 classes: head, middle and")):
        monkeypatch.setattr(
            files,
            "classes",
            lambda self, run, side=side: [
                {**row, "label": row["label"] + 10 * (row["side"] == side)}
                for row in of_run(self, run)
                if side or row["label"] < 2
            ],
        )
        with pytest.raises(InputError, match=words):
            study.by_class_size()


def test_an_unknown_dataset_or_column_is_one_line_with_the_nearest_name(study):
    asked = (
        study.claims,
        study.answers,
        study.findings,
        study.table,
        study.by_class_size,
        study.plot.training_curves,
        study.plot.tradeoff,
    )
    for ask in asked:
        with pytest.raises(InputError) as raised:
            ask("digit")
        assert str(raised.value) == "the study has no dataset 'digit' (did you mean 'digits'?)"
    with pytest.raises(InputError, match=r"no column of numbers 'recal_at_1' \(did you mean"):
        study.table(columns=["recal_at_1"])
    with pytest.raises(InputError, match="the study has no dataset 3"):
        study.claims(3)
    for column in ("nearest", "validation_map_at_r", "loss"):  # of other tables, or text
        with pytest.raises(InputError, match=f"no column of numbers '{column}'"):
            study.table(columns=[column])
    for column in ("recall_at_1", "setting_margin"):
        assert column in study.table(columns=column)


def test_claims_and_answers_are_words_with_their_numbers(study):
    claims = {claim.key: claim for claim in study.claims("digits")}
    everything = study.claims()
    assert everything[:9] == study.claims("digits")
    assert [claim.key for claim in everything[9:]] == list(claims)
    assert all("of 1 dataset" in claim.reason for claim in everything[9:])
    assert list(claims) == ["1", "2", "3", "4", "5", "6", "7a", "7b", "8"]
    assert claims["3"].verdict == "not tested"
    assert "class-disjoint" in claims["3"].reason
    five = claims["5"]
    assert len(five.evidence) == len(five.members) == 2
    runs = study.runs.set_index(["loss", "seed"])["term_active_ratio"]
    row = next(row for row in five.members if row["column"] == "term_active_ratio")
    expected = (runs["info_nce"] - runs["triplet"]).mean()
    assert (row["left"], row["right"], row["seeds"]) == (["info_nce"], ["triplet"], 2)
    assert row["effect"] == pytest.approx(expected)
    assert all(claim.movement is None for claim in claims.values())
    topics = [answer.topic for answer in study.answers("digits")]
    assert topics[0] == "Compared with no training"
    assert len(set(topics)) == len(topics) > 3
    assert len(pd.DataFrame(study.claims("digits"))) == 9


def test_findings_are_the_checks_of_each_run(study):
    found = study.findings("digits")
    assert {(one.loss, one.seed) for one in found} == {
        (loss, seed) for loss in (*study.table()["loss"],) for seed in (0, 1)
    }
    of_one = [one for one in found if (one.loss, one.seed) == ("triplet", 0)]
    names = [one.name for one in of_one]
    assert {"collapse", "same-place", "loss-at-collapse", "margin"} < set(names)
    assert len(names) == len(set(names))
    margin = next(one for one in found if (one.loss, one.name) == ("triplet(margin=0.5)", "margin"))
    assert margin.evidence.startswith("the margin is 0.5, and ")
    levels = [one.level for one in found]
    assert levels == sorted(levels, key=("act", "watch", "ok").index)
    assert found == study.findings()
    assert len(pd.DataFrame(found)) == len(found)


def test_claims_of_a_file_come_after_those_of_the_paper(study, place):
    (place / "own.yaml").write_text(
        "claims:\n- claim: Mine.\n  losses: triplet\n  than: info_nce\n  column: map_at_r\n  direction: lower\n"
    )
    own = study.claims("digits", claims="own.yaml")[-1]
    assert (own.key, own.claim) == ("own 1", "Mine.")
    runs = study.runs.set_index(["loss", "seed"])["map_at_r"]
    assert own.effect == pytest.approx((runs["triplet"] - runs["info_nce"]).mean())
    (place / "own.yaml").write_text("claims: []")
    with pytest.raises(PlanError, match="claims must have at least 1 entries"):
        study.claims("digits", claims="own.yaml")


def test_every_chart_of_the_page_is_a_method(study, whole_study):
    modules = (
        import_module(f"lossgauge.report.figures.{m.name}") for m in iter_modules(figures.__path__)
    )
    charts = {
        module.CHART.key.replace("-", "_"): module.CHART
        for module in modules
        if hasattr(module, "CHART")
    }
    methods = {name for name in dir(study.plot) if not name.startswith("_")}
    assert methods == charts.keys() | {"embedding_map", "class_distances"}
    tuned = lg.load_study(whole_study)
    for name, chart in charts.items():
        figure = getattr(tuned.plot, name)("digits")
        assert isinstance(figure, go.Figure)
        drawn = chart.draw(tuned.view, "digits")
        assert len(figure.data) == len(drawn["data"]), name
    for name in ("sensitivity", "search_trials"):
        with pytest.raises(InputError, match="no run on 'digits' has the values"):
            getattr(study.plot, name)("digits")


def test_the_map_and_the_distances_have_the_rows_of_the_examples(study):
    examples = study.view.files.examples("digits")
    space = next(at for at, of in enumerate(examples.about.spaces) if of.name == "triplet")
    label_of = dict(zip(*(examples.rows[n].to_pylist() for n in ("row", "label")), strict=True))
    for epoch in (0, None):
        figure = study.plot.embedding_map("digits", loss="triplet", epoch=epoch)
        wanted = sorted(
            (str(label_of[row["row"]]), row["x"] / 16_000, row["y"] / 16_000)
            for row in examples.positions.to_pylist()
            if row["space"] == space and row["epoch"] == (2 if epoch is None else epoch)
        )
        drawn = [(t.name, x, y) for t in figure.data for x, y in zip(t.x, t.y, strict=True)]
        assert sorted(drawn) == wanted
        assert len(drawn) > 100
    cosines = [row for row in examples.cosines.to_pylist() if row["space"] == space]
    heat = study.plot.class_distances("digits", loss="triplet").data[0]
    for row in cosines:
        one, other = (examples.about.classes.index(row[name]) for name in ("label", "other"))
        assert heat.z[one][other] == heat.z[other][one] == pytest.approx(1 - row["cosine"])
    assert heat.z[0][0] is None
    frozen = study.plot.class_distances("digits").data[0]
    assert frozen.zmax == heat.zmax
    assert frozen.z != heat.z
    with pytest.raises(InputError, match="did you mean 'triplet'"):
        study.plot.embedding_map("digits", loss="tripplet")
    with pytest.raises(InputError, match="the map has the epochs 0, 1, 2, got 7"):
        study.plot.embedding_map("digits", loss="triplet", epoch=7)


def test_plots_are_plotly_figures_of_the_report(study):
    curves = study.plot.training_curves("digits")
    assert isinstance(curves, go.Figure)
    assert {"triplet", "info_nce"} <= {trace.name for trace in curves.data}
    assert study.plot.tradeoff() == study.plot.tradeoff("digits")


def test_the_tradeoff_of_several_datasets_is_one_figure(study):
    from lossgauge.report.figures.stacked import stacked

    one = study.plot.tradeoff("digits")
    both = stacked({"digits": one, "<b>faces": one})
    assert len(both.data) == 2 * len(one.data)
    assert {trace.xaxis for trace in both.data} == {"x", "x2"}
    top, bottom = both.layout.yaxis.domain, both.layout.yaxis2.domain
    assert 0 < bottom[0] < bottom[1] < top[0] < top[1] < 1
    assert both.layout.height > 2 * one.layout.height
    for trace, original in zip(both.data, one.data * 2, strict=True):
        assert (trace.x, trace.y, trace.name) == (original.x, original.y, original.name)
    assert {a.yref for a in both.layout.annotations} <= {"y", "y2", "paper", None}
    assert "<b>&lt;b&gt;faces</b>" in {a.text for a in both.layout.annotations}


def test_a_report_and_an_export_go_where_one_says(study, place):
    page = study.report("page.html")
    assert page.read_bytes() == (study.folder / "report.html").read_bytes()
    (place / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="delete it, or give another path"):
        study.report("mine.txt")
    assert study.report() == study.folder / "report.html"
    assert study.export("csv", "tables") == str(place / "tables")
    assert len((place / "tables" / "runs.csv").read_text().splitlines()) == 1 + 8
    with pytest.raises(InputError, match="did you mean 'csv'"):
        study.export("cvs")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: lg.run_study(None), "a study must be a name, a YAML file or a dict, got None"),
        (lambda: lg.run_study(["demo"]), "a study must be a name, a YAML file or a dict"),
        (lambda: lg.load_study(None), "a study's folder must be a path, got None"),
        (lambda: lg.run_study("demo", progress="bar"), "progress must be True, False or"),
        (lambda: lg.run_study("demo", jobs="two"), "jobs must be a whole number, got 'two'"),
        (lambda: lg.run_study("demo", cpus="two"), "cpus must be a number, got 'two'"),
        (lambda: lg.check_loss("triplet"), "give a loss that can be called with embeddings and labels"),
        (lambda: lg.check_loss(torch.nn.Module), "give a loss that can be called"),
    ],
)  # fmt: skip
def test_an_argument_of_a_wrong_kind_is_refused_in_words(tmp_path, monkeypatch, call, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=message):
        call()
    assert not list(tmp_path.iterdir())


class Cells(HTMLParser):
    """Texts of the cells of a table."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.rows: list[list[str]] = []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag == "tr":
            self.rows.append([])

    def handle_data(self, data):
        if data.strip() and self.rows:
            self.rows[-1].append(data)


def test_a_study_shows_itself_as_text_and_as_a_table(study):
    assert repr(study) == "<Study out: 8 runs; 3 losses on digits>"
    cells = Cells()
    cells.feed(study._repr_html_())
    header, *rows = cells.rows
    assert header[:4] == ["dataset", "loss", "seeds", COLUMNS["recall_at_1"].title]
    assert [row[1] for row in rows] == ["triplet", "triplet(margin=0.5)", "info_nce", "untrained"]
    assert re.fullmatch(r"\d+\.\d\s% ± \d+\.\d", rows[0][3])


def test_no_name_is_markup_in_the_table_of_a_study(place, monkeypatch):
    monkeypatch.setenv("LOSSGAUGE_CACHE", str(place / "cache"))
    monkeypatch.chdir(place)
    Path("<img src=x>.py").write_text("def pull(z, y):\n    return (z @ z.T).mean()\n")
    shown = lg.run_study(
        PLAN,
        set={"losses": ["<img src=x>.py:pull"], "seeds": 1, "epochs": 1},
        out="<script>",
        progress=False,
    )
    cells = Cells()
    cells.feed(shown._repr_html_())
    assert set(cells.tags) == {"table", "caption", "thead", "tbody", "tr", "th", "td"}
    assert "<img src=x>.py:pull" in cells.rows[1]


def test_failed_and_waiting_runs_are_counted(place, monkeypatch):
    monkeypatch.setenv("LOSSGAUGE_CACHE", str(place / "cache"))
    monkeypatch.chdir(place)
    Path("bad.py").write_text("def bad(z, y):\n    return z.nothing\n")
    broken = lg.run_study(
        PLAN, set={"losses": ["bad.py:bad"], "seeds": 1, "epochs": 1}, out="bad", progress=False
    )
    assert repr(broken) == "<Study bad: 1 run, 1 failed; 1 loss on digits>"
    assert "AttributeError" in broken.failures["error"].iloc[0]


def test_features_come_from_the_cache(study, capsys):
    features = lg.load_features("digits", "pixels")
    assert features.features.shape == (1797, 64)
    assert capsys.readouterr().err == ""
    lg.load_features("digits", "pixels", refresh=True)
    assert "1797 of 1797 rows" in capsys.readouterr().err
    lg.load_features("digits", "pixels", refresh=True, progress=False)
    assert capsys.readouterr().err == ""
    with pytest.raises(InputError, match="did you mean 'digits'"):
        lg.load_features("digit")


def python_blocks(name: str) -> str:
    """All Python blocks of a page of the docs, one after the other."""
    text = (DOCS / name).read_text()
    return "\n".join(re.findall(r"^```python\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL))


def test_every_public_name_is_on_the_page_about_python():
    page = (DOCS / "python.md").read_text()
    assert [name for name in lg.__all__ if not re.search(rf"\blg\.{name}\b", page)] == []
    members = [name for name in vars(lg.Study) if not name.startswith("_")]
    unnamed = {name for name in members if not re.search(rf"study\.{name}\b", page)}
    assert unnamed <= {"dataset_named", "view"}


def test_the_claims_of_the_docs_run(study, place, capsys):
    (place / "lossgauge-results").mkdir(exist_ok=True)
    if not (place / "lossgauge-results" / "demo").exists():
        (place / "lossgauge-results" / "demo").symlink_to(place / "out")
    exec(compile(python_blocks("claims.md"), "claims.md", "exec"), {"__name__": "docs"})
    printed = capsys.readouterr().out
    assert "7a\n  not tested\n" in printed
    assert "triplet − info_nce in intra, claimed above 0: " in printed


def test_a_study_of_queries_and_documents_shows_its_own_measures(pair_study):
    study = lg.load_study(pair_study)
    columns = ["ndcg_at_10", "mrr_at_10", "found_at_1", "found_at_10"]
    table = study.table()
    assert [name for name in table.columns if not name.endswith("_half_width")][3:] == columns
    assert table["ndcg_at_10_half_width"].notna().all()
    assert "<th>Recall@10</th>" in study._repr_html_()
    assert "R@1<" not in study._repr_html_().replace("MRR@1", "")
    assert study.claims() == []
    assert len(study.plot.retrieval().data) > 0
    with pytest.raises(InputError, match="classes"):
        study.plot.tradeoff()
