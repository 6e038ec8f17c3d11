"""Frame, page, trackers and findings of a probe."""

import json
import re
import sys
from types import ModuleType

import pytest
import torch
from torch import nn

from lossgauge.errors import InputError
from lossgauge.health.finding import Finding
from lossgauge.loop import page as pages
from lossgauge.loop.columns import COLUMNS
from lossgauge.loop.probe import Probe
from tests.loop.trainings import CLASSES, SIZE, arcface, batch, seeded_network, train
from tests.support.documents import ROOT

BAD = Finding("cone", "act", "the space", "<b>0.99</b> of 1", "0.9", "because", "do this")


@pytest.fixture
def asked(monkeypatch):
    """What the rules of `lossgauge.health` are asked; they answer with two findings."""
    calls = {}

    def rule(name, *answer):
        def ask(*args, **kwargs):
            calls[name] = (args, kwargs)
            return list(answer)

        return ask

    training, space = ModuleType("training"), ModuleType("space")
    training.training_findings = rule(
        "training", Finding("loss-floor", "ok", "the loss", "1.2", "1.1")
    )
    training.optimizer_findings = rule("optimizer")
    training.label_findings = rule("label")
    space.space_findings = rule("space", BAD)
    monkeypatch.setitem(sys.modules, "lossgauge.health.training", training)
    monkeypatch.setitem(sys.modules, "lossgauge.health.space", space)
    return calls


@pytest.fixture(scope="module")
def probe():
    """Three updates, one of them skipped, and two epochs."""
    loss = arcface()
    done = train(probed=True, steps=3, loss=loss).probe
    x, y = batch(7)
    for _ in range(2):
        done.epoch(nn.functional.normalize(x), y)
    return done


def test_findings_are_those_of_the_rules_the_worst_first(probe, asked):
    assert [finding.name for finding in probe.findings()] == ["cone", "loss-floor"]
    (rows,), settings = asked["training"]
    assert [row["step"] for row in rows] == [0, 1, 2]
    assert settings["loss"] == "ArcFace"
    assert settings["settings"]["scale"] == 8
    assert (settings["batch_size"], settings["class_count"]) == (24, CLASSES)
    (geometry,), settings = asked["space"]
    assert geometry.class_count == CLASSES
    assert settings == {"width": 6}
    (optimizers, module), _ = asked["optimizer"]
    assert isinstance(optimizers[0], torch.optim.Adam)
    (loss, embeddings, labels), _ = asked["label"]
    assert loss is not module  # a copy: it may be called without a trace
    assert embeddings.shape == (24, SIZE)
    assert labels.shape == (24,)


def test_findings_do_not_disturb_the_training(asked):
    def loop(ask):
        network, loss = seeded_network(), nn.CrossEntropyLoss()
        optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
        probe = Probe(optimizer, loss=loss)
        torch.manual_seed(5)
        for step in range(3):
            x, y = batch(step)
            z = probe.embeddings(nn.functional.dropout(network(x)), y)
            loss(z, y).backward()
            optimizer.step()
            if ask:
                sys.modules["lossgauge.health.training"].label_findings = lambda loss, z, y: [
                    f for f in [] if loss(torch.rand_like(z), y)
                ]
                probe.findings()
        return list(network.parameters()), probe.rows

    (one, rows), (other, same) = loop(True), loop(False)
    assert all(map(torch.equal, one, other))
    assert rows == same


def test_the_page_has_findings_curves_and_epochs(probe, asked, tmp_path):
    path = probe.report(tmp_path / "deep" / "page.html")
    html = path.read_text()
    assert "&lt;b&gt;0.99&lt;/b&gt; of 1" in html
    assert "Try: do this" in html
    assert "The probe of ArcFace" in html
    assert "3 recorded updates · 2 measured epochs" in html
    assert not re.search(r'(src|href)="https?:', html.split("<script>")[0])
    figure = json.loads(html.partition('data-for="curves-figure"')[2].split(">")[1].split("<")[0])
    lines = {trace["name"]: trace for trace in figure["data"]}
    assert lines["loss value"]["x"] == [0, 1, 2]
    assert lines["recall at 1"]["x"] == [3, 3]
    assert lines["loss value"]["y"] == pytest.approx(
        [row["loss_value"] for row in probe.rows], rel=1e-4
    )


def test_the_figure_is_one_that_plotly_knows(probe):
    import plotly.graph_objects as go

    go.Figure(pages.curves(probe.rows, probe.epochs))


def test_a_page_without_epochs_and_of_skipped_updates():
    row = {**dict.fromkeys(COLUMNS), "step": 0, "epoch": 1, "skipped": True}
    html = pages.page([row], [], [], ["a", "b"])
    assert "The probe of a + b" in html
    assert "1 of them skipped" in html
    assert "curves-figure" not in html


def test_long_curves_are_thinned():
    row = dict.fromkeys(COLUMNS)
    rows = [{**row, "step": n, "skipped": False, "loss_value": 1.0 + n} for n in range(5001)]
    (trace,) = pages.curves(rows, [])["data"]
    assert len(trace["x"]) == 1667
    assert "Every 3th row" not in pages.page(rows, [], [], ["a"])
    assert "One row of 3 is drawn" in pages.page(rows, [], [], ["a"])


def test_rows_come_back_from_tensorboard(probe, tmp_path):
    pytest.importorskip("tensorboard")
    from tests.integrations.test_tensorboard import scalars

    where = probe.log_to("tensorboard", tmp_path / "out", name="mine")
    assert where == str(tmp_path / "out")
    (place,) = {path.parent for path in (tmp_path / "out").rglob("events.*")}
    found = scalars(place)
    for row in probe.rows:
        assert found["greediness/embedding_gradient", row["step"]] == [
            pytest.approx(row["embedding_gradient"], rel=1e-6)
        ]
    assert found["retrieval/recall_at_1", 3] == [
        pytest.approx(probe.epochs[-1]["recall_at_1"], rel=1e-6)
    ]
    assert ("variance/intra", 3) in found
    probe.log_to("tensorboard", tmp_path / "out")  # replaces it
    with pytest.raises(InputError, match="neither empty nor an earlier export"):
        probe.log_to("wandb", tmp_path / "out")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated")
def test_rows_come_back_from_mlflow(probe, tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    probe.log_to("mlflow", tmp_path / "out")
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/out/mlflow.db")
    (run,) = client.search_runs([client.get_experiment_by_name("probe").experiment_id])
    history = client.get_metric_history(run.info.run_id, "greediness/loss_value")
    assert [(metric.step, metric.value) for metric in history] == [
        (row["step"], row["loss_value"]) for row in probe.rows
    ]


@pytest.mark.slow
def test_rows_are_written_to_wandb(probe, tmp_path):
    pytest.importorskip("wandb")
    probe.log_to("wandb", tmp_path / "out")
    assert len(list((tmp_path / "out" / "wandb").glob("offline-run-*"))) == 1


def test_an_unknown_tracker_has_a_near_name(probe):
    with pytest.raises(InputError, match="did you mean 'tensorboard'"):
        probe.log_to("tensorbord")


def test_the_page_of_docs_defines_every_column(probe):
    text = (ROOT / "docs" / "probe.md").read_text()
    table = text.partition("## The columns of `probe.rows`")[2].partition("## With")[0]
    short = {name: f"…_{name.rpartition('_')[2]}" for name in COLUMNS}
    for column in probe.rows[0]:
        assert f"`{column}`" in table or f"`{short[column]}`" in table, column
    assert list(COLUMNS) == list(probe.rows[0])
