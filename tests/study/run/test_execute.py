"""What a run comes to in its summary, from rows made by hand; and what a loss draws by chance."""

import numpy as np
import pytest
import torch

from lossgauge.data.samplers import (
    drawn_batches,
    kmeans_cells,
    m_per_class_batches,
    positions_along_strata,
    random_batches,
    stratified_batches,
)
from lossgauge.plan.loss import UNTRAINED
from lossgauge.study.run.setup import batches_of, set_up
from lossgauge.study.run.summary import summarize, with_dynamics
from lossgauge.study.runner import run_study
from lossgauge.study.schedule.run_config import RunConfig
from lossgauge.study.schedule.runs import plan_runs
from tests.study.schedule.test_runs import plan
from tests.support.studies import Quiet, fake_features, vectors_plan, write_vectors

TRAIN_INTRA = [1.0, 0.6, 0.3, 0.15, 0.1]
TEST_INTRA = [0.9, 0.88, 0.5, 0.45, 0.3]
STEP_LOSSES = [[8.0, 4.0], [1.0, 0.6], [0.2, 0.4], [2.0, 1.0]]
"""Two steps an epoch: the loss dips and rises again, and its first step is not the mean of its first epoch."""


def epoch_rows():
    return [
        {
            "epoch": epoch,
            "train_intra": TRAIN_INTRA[epoch],
            "test_intra": TEST_INTRA[epoch],
            "recall_at_1": 0.5 + 0.1 * epoch,
            **({"seconds": 10.0 * epoch} if epoch else {}),
        }
        for epoch in range(5)
    ]


def step_rows():
    milliseconds = iter([2.0, 4.0, 6.0, 3.0, 5.0, 4.0, 900.0, 4.0])
    return [
        {
            "step": 2 * (epoch - 1) + number,
            "epoch": epoch,
            "loss_value": loss,
            "pull": 0.5 * epoch if epoch > 2 else None,
            "push": None,
            "step_milliseconds": next(milliseconds),
            "probe_milliseconds": 1.0 + number,
        }
        for epoch, losses in enumerate(STEP_LOSSES, start=1)
        for number, loss in enumerate(losses)
    ]


def summary_of(epochs=None, *, selected=4):
    epochs, steps = epochs or epoch_rows(), step_rows()
    return summarize(with_dynamics(epochs, steps), steps, selected)


def first_time_at(values, level):
    """Looked up on a fine grid: when the line through `values` is first at `level` or below."""
    times = np.linspace(0, len(values) - 1, 400_001)
    below = np.interp(times, range(len(values)), values) <= level + 1e-12
    return pytest.approx(times[below.argmax()], abs=2e-5) if below.any() else None


def test_the_rows_of_an_epoch_carry_the_mean_of_its_steps():
    rows = with_dynamics(epoch_rows(), step_rows())
    assert [row.get("loss_value") for row in rows] == [None, 6.0, 0.8, pytest.approx(0.3), 1.5]
    assert [row.get("pull") for row in rows] == [None, None, None, 1.5, 2.0]
    assert [row["test_intra"] for row in rows] == TEST_INTRA
    assert "pull" not in rows[0]


def test_decay_is_counted_from_the_first_step_and_the_floor_is_the_lowest_loss():
    summary, _ = summary_of()
    losses = [8.0, 6.0, 0.8, 0.3, 1.5]  # before training, then the mean of each epoch
    assert summary["decay_epochs"] == first_time_at(losses, 0.1 * 8.0)
    assert summary["floor_decay_epochs"] == first_time_at(losses, 0.3 + 0.1 * (8.0 - 0.3))
    assert summary["loss_value"] == 1.5


def test_a_decay_that_is_not_defined_says_why():
    summary, _ = summary_of()
    assert "no_decay" not in summary
    steps = step_rows()
    rows = with_dynamics(epoch_rows(), steps)
    summary, _ = summarize(rows, steps, 4, surrogate="its value is always 1")
    assert summary["decay_epochs"] is summary["floor_decay_epochs"] is None
    assert summary["no_decay"] == "the value does not show progress: its value is always 1"
    rows[-1]["loss_value"] = -1.0
    summary, _ = summarize(rows, steps, 4)
    assert summary["decay_epochs"] is None
    assert summary["floor_decay_epochs"] is not None
    assert "negative values" in summary["no_decay"]


def test_compaction_is_of_the_training_side_over_all_epochs():
    level = 1.0 - 0.9 * (1.0 - 0.1)
    for selected in (2, 4):
        summary, _ = summary_of(selected=selected)
        assert summary["compaction_epochs"] == first_time_at(TRAIN_INTRA, level)
    assert summary["compaction_epochs"] != first_time_at(TEST_INTRA, 0.9 - 0.9 * (0.9 - 0.3))


@pytest.mark.parametrize("unknown", [(1, 2, 3), (2,), (0,), (4,), (0, 1, 2, 3, 4)])
def test_compaction_is_not_made_up_where_an_epoch_has_no_intra(unknown):
    for gone in (True, False):
        rows = epoch_rows()
        for epoch in unknown:
            if gone:
                del rows[epoch]["train_intra"]
            else:
                rows[epoch]["train_intra"] = None
        summary, _ = summary_of(rows)
        assert summary["compaction_epochs"] is None
        assert summary["decay_epochs"] is not None


def test_the_space_is_that_of_the_selected_epoch_and_the_dynamics_are_of_all_steps():
    summary, _ = summary_of(selected=2)
    assert (summary["epochs"], summary["selected_epoch"]) == (4, 2)
    assert (summary["test_intra"], summary["train_intra"]) == (0.5, 0.3)
    assert summary["recall_at_1"] == pytest.approx(0.7)
    assert summary["loss_value"] == 1.5  # of the last epoch, not of the selected one
    assert summary["pull"] == pytest.approx((1.5 + 1.5 + 2.0 + 2.0) / 4)
    assert summary["push"] is None


def test_the_clock_is_kept_apart_and_one_slow_step_does_not_move_the_median():
    summary, timing = summary_of()
    assert timing == {
        "step_milliseconds": 4.0,
        "probe_share": pytest.approx((4 * 1.0 + 4 * 2.0) / (2 + 4 + 6 + 3 + 5 + 4 + 900 + 4)),
        "seconds": 10.0 + 20.0 + 30.0 + 40.0,
    }
    assert not summary.keys() & {*timing, "probe_milliseconds"}


def test_a_head_without_training_has_its_space_and_no_dynamics():
    before = epoch_rows()[:1]
    summary, timing = summarize(before, [], 0)
    assert summary == {
        "epochs": 0,
        "selected_epoch": 0,
        "train_intra": 1.0,
        "test_intra": 0.9,
        "recall_at_1": 0.5,
    }
    assert timing == {}


def test_classes_are_those_that_are_trained_on():
    features = fake_features(classes=5, disjoint=True)
    run = next(
        run for run in plan_runs(plan("losses=arcface"), features) if run.loss.name != UNTRAINED
    )
    assert len(set_up(run, features).training.loss.proxies) == 5


@pytest.mark.parametrize(
    "sampler_name", ["random", "stratified", "stratified_kmeans", "m_per_class", "drawn"]
)
def test_batches_are_those_of_the_sampler_by_seed_and_epoch(sampler_name):
    features = fake_features()
    of_classes = ["samples_per_class=2"] if sampler_name == "m_per_class" else []
    asked = plan(f"sampler={sampler_name}", "batch_size=8", *of_classes)
    rows, labels = features.train, features.labels[features.train]
    for seed in (0, 3):
        config = RunConfig.trained(asked, features, asked.losses[0], seed)
        draw = batches_of(config, features)
        how = {"batch_size": 8, "seed": seed}
        for epoch in (1, 2):
            if sampler_name == "random":
                expected = random_batches(rows, epoch=epoch, **how)
            elif sampler_name == "stratified":
                expected = stratified_batches(rows, labels, epoch=epoch, **how)
            elif sampler_name == "drawn":
                expected = drawn_batches(rows, labels, terms="triplet", epoch=epoch, **how)
            elif sampler_name == "m_per_class":
                expected = m_per_class_batches(
                    rows, labels, samples_per_class=2, epoch=epoch, **how
                )
            else:
                space = features.features[rows]
                cells = kmeans_cells(space, 40, seed)
                positions = positions_along_strata(space, cells)
                expected = stratified_batches(rows, cells, positions=positions, epoch=epoch, **how)
            assert all(map(torch.equal, draw(epoch), expected))
        assert not all(map(torch.equal, draw(1), draw(2)))


DRAWS = """
import random
import numpy as np
import torch

class Draws(torch.nn.Module):
    def forward(self, z, y):
        with open("draws.txt", "a") as file:
            print(float(torch.rand(())), np.random.rand(), random.random(), file=file)
        return -((y[:, None] == y) * (z @ z.T)).mean()
"""


def test_a_loss_that_draws_by_chance_draws_otherwise_in_every_epoch_and_seed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.py").write_text(DRAWS)
    vectors = write_vectors(tmp_path / "vectors.npz")
    drawn = []
    for folder in ("one", "two"):
        plan = vectors_plan(vectors, "losses=own.py:Draws", "seeds=3", "batch_size=180")
        run_study(plan, tmp_path / folder, progress=Quiet())
        drawn.append((tmp_path / "draws.txt").read_text().split())
        (tmp_path / "draws.txt").unlink()
    assert drawn[0] == drawn[1]
    assert len(drawn[0]) == 3 * 3 * 3  # seeds, epochs of one batch, generators
    assert len(set(drawn[0])) == len(drawn[0])
