"""What the built-in studies of the two-loss paper must show (arXiv 2510.02161), and that they run on small copies."""

from statistics import mean

import pytest

from lossgauge.data import cub200, cub200_official
from lossgauge.data.dataset import Counts
from lossgauge.plan.yaml_file import load_plan
from lossgauge.results.reader import read_study
from lossgauge.study.runner import run_study
from tests.data.layouts import cub200 as build_birds

CONTRASTIVE, TRIPLET = "contrastive(margin=1)", "triplet(margin=1, power=1)"
SQUARED = "triplet(margin=1, power=2)"


def rows_of(folder, dataset, loss):
    rows = read_study(folder).results.summaries
    return [row for row in rows if (row["dataset"], row["loss"]) == (dataset, loss)]


def average(rows, column):
    return mean(row[column] for row in rows)


@pytest.mark.slow
def test_two_losses_runs_on_both_toy_sets(tmp_path, quiet):
    plan = load_plan("two-losses", ["epochs=2", "seeds=1", "retrieval_every=2"])
    outcome = run_study(plan, tmp_path, progress=quiet)
    assert (outcome.done, outcome.failed) == (6, 0)
    (row,) = rows_of(tmp_path, "toy:gaussians", TRIPLET)
    assert (row["protocol"], row["term_count"]) == ("same rows", 64)
    assert row["test_intra"] == row["train_intra"]


@pytest.mark.slow
def test_two_losses_gives_the_published_numbers_of_the_toy_study(tmp_path, quiet):
    run_study(load_plan("two-losses"), tmp_path, progress=quiet)
    epochs = read_study(tmp_path).results.epochs
    last = [row for row in epochs if row["epoch"] == 100]
    targets = {
        CONTRASTIVE: {
            "intra": (0.010, 0.002),
            "spacing": (1.21, 0.06),
            "active": (0.63, 0.04),
            "gradient": (0.46, 0.1),
        },
        TRIPLET: {
            "intra": (0.036, 0.008),
            "spacing": (1.44, 0.02),
            "active": (0.09, 0.04),
            "gradient": (1.09, 0.2),
        },
    }
    for loss, target in targets.items():
        rows = rows_of(tmp_path, "toy:gaussians", loss)
        ended = [r for r in last if (r["dataset"], r["loss"]) == ("toy:gaussians", loss)]
        found = {
            "intra": average(rows, "train_intra"),
            "spacing": average(rows, "train_spacing_mean"),
            "active": average(ended, "term_active_ratio"),
            "gradient": average(ended, "head_gradient"),
        }
        for name, (value, tolerance) in target.items():
            assert found[name] == pytest.approx(value, abs=tolerance), (loss, name)
    decay = {
        loss: average(rows_of(tmp_path, "toy:gaussians", loss), "decay_epochs") for loss in targets
    }
    assert decay[TRIPLET] < decay[CONTRASTIVE]  # the reverse of the published order


def test_the_conventions_of_the_authors_run_on_a_small_copy_and_name_what_is_not_there(
    tmp_path, quiet, monkeypatch
):
    monkeypatch.setattr(cub200.CUB200, "expected", Counts(5, 3, 4))
    monkeypatch.setattr(cub200_official.CUB200Official, "expected", Counts(4, 4, 4))
    monkeypatch.setenv("LOSSGAUGE_CUB200", str(build_birds(tmp_path)))
    for name in ("CIFAR10", "CARS196"):
        monkeypatch.setenv(f"LOSSGAUGE_{name}", str(tmp_path / "nowhere"))
    plan = load_plan(
        "author-conventions", ["backbone=pixels", "epochs=2", "seeds=1", "batch_size=4"]
    )
    outcome = run_study(plan, tmp_path / "out", progress=quiet)
    assert (outcome.done, outcome.failed) == (3, 0)
    assert list(quiet.missing) == ["cifar10", "cars196-official"]
    (row,) = rows_of(tmp_path / "out", "cub200-official", TRIPLET)
    assert row["protocol"] == "official"


@pytest.mark.slow
def test_on_a_held_out_half_the_raw_rows_retrieve_best_and_the_losses_follow_in_the_order_of_intra(
    tmp_path, quiet
):
    changes = ["datasets=['toy:gaussians-halves']", "retrieval_every=100"]
    losses = "[{contrastive: {margin: 1}}, {triplet: {margin: 1, power: 1}}, {triplet: {margin: 1, power: 2}}]"
    run_study(load_plan("two-losses", [*changes, f"losses={losses}"]), tmp_path, progress=quiet)
    references = read_study(tmp_path).results.references
    (raw,) = (r for r in references if r["reference"] == "frozen features")
    rows = {
        loss: rows_of(tmp_path, "toy:gaussians-halves", loss)
        for loss in (SQUARED, TRIPLET, CONTRASTIVE)
    }
    for column, frozen in (("recall_at_1", raw["recall_at_1"]), ("test_intra", raw["intra"])):
        order = [frozen, *(average(of_loss, column) for of_loss in rows.values())]
        assert order == sorted(order, reverse=True), column
