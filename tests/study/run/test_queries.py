"""What a run keeps of each query and of its heads, recomputed from the features and compared with the summary."""

import math
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from lossgauge.data.embeddings import load
from lossgauge.data.features import centered
from lossgauge.errors import CacheError, InputError
from lossgauge.files import read_table
from lossgauge.heads import LinearHead
from lossgauge.results.columns import HIT_WITHIN, PER_QUERY, QUERY_COLUMNS
from lossgauge.results.layout import HEAD, HEADS, Layout
from lossgauge.results.reader import read_run, read_study
from lossgauge.results.view import StudyView
from lossgauge.study.run.measure import measure
from lossgauge.study.run.queries import query_table
from lossgauge.study.runner import run_study
from lossgauge.study.schedule.run_config import RunConfig
from lossgauge.training import embed
from lossgauge.types import FeatureSet
from tests.study.schedule.test_runs import plan
from tests.study.test_selection import TURNING
from tests.support.finished import once
from tests.support.studies import Quiet, fake_features, vectors_plan, write_vectors

EPOCHS = 14


def asked(place):
    """Two losses, two seeds, a search, margins twice as large; of one loss, the best epoch is not the last."""
    return vectors_plan(
        place / "vectors.npz",
        f"losses=triplet,{place}/turning.py:Turning",
        *("seeds=2", f"epochs={EPOCHS}", "sensitivity=[2.0]", "retrieval_every=3"),
        *("tune={trials: 2, epochs: 2}", "selection=best-validation"),
    )


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """A folder with vectors and a finished study of them."""

    def make(place):
        write_vectors(place / "vectors.npz")
        (place / "turning.py").write_text(TURNING)
        result = run_study(asked(place), place / "study", progress=Quiet())
        assert result.failed == 0

    return once(tmp_path_factory, "queries", make)


@pytest.fixture(scope="session")
def view(made) -> StudyView:
    return read_study(made / "study")


def shown_runs(view):
    return [*view.results.summaries, *view.results.sensitivity]


def vectors_of(made) -> FeatureSet:
    """As the heads see them."""
    return centered(load(made / "vectors.npz"))


def test_means_over_the_queries_are_the_numbers_of_the_run_to_the_last_bit(view):
    assert len(shown_runs(view)) >= 6
    assert {row["selected_epoch"] for row in view.results.summaries} != {EPOCHS, 0}
    for row in shown_runs(view):
        queries = view.queries(row["run"])
        for column, of_query in PER_QUERY.items():
            values = queries[of_query].to_pylist()
            assert math.fsum(values) / len(values) == row[column], (row["run"], column)
        ranks = queries["first_right_rank"].to_numpy()
        for column, k in HIT_WITHIN.items():
            assert (ranks <= k).mean() == row[column]


def test_the_queries_are_those_of_the_kept_head_and_name_rows_of_the_dataset(made, view):
    features = vectors_of(made)
    layout = Layout(made / "study")
    for row in shown_runs(view):
        head = LinearHead(24, 8)
        head.load_state_dict(load_file(layout.head(row["run"])))
        rows = embed(head, features.features, features.test).double()
        rows /= rows.norm(dim=1, keepdim=True)
        labels = features.labels
        similarity = rows @ rows.T
        similarity.fill_diagonal_(-torch.inf)
        own = labels[features.test][:, None] == labels[features.test]
        queries = view.queries(row["run"])
        assert queries["query"].to_pylist() == features.test.tolist()
        assert queries["label"].to_pylist() == labels[features.test].tolist()
        for kind, among in (("right", own), ("wrong", ~own)):
            best, at = similarity.masked_fill(~among, -torch.inf).max(dim=1)
            assert queries[f"nearest_{kind}"].to_pylist() == features.test[at].tolist()
            np.testing.assert_allclose(
                queries[f"nearest_{kind}_similarity"].to_numpy(), best.numpy(), atol=1e-6
            )
        right = similarity.masked_fill(~own, -torch.inf).max(dim=1).values
        ranks = 1 + (similarity > right[:, None]).sum(dim=1)
        assert queries["first_right_rank"].to_pylist() == ranks.tolist()


def test_heads_of_seed_0_are_kept_at_some_epochs_and_those_of_trials_are_not(made, view):
    layout = Layout(made / "study")
    trials = {row["run"] for row in view.results.trials}
    kept = set()
    for row in shown_runs(view):
        assert layout.head(row["run"]).is_file()
        if row["seed"] or row["loss"] == "untrained":
            assert not layout.heads(row["run"]).exists()
            continue
        heads = load_file(layout.heads(row["run"]))
        assert {int(name.split(".")[0]) for name in heads} == {0, 1, 2, 5, 10, EPOCHS}
        assert heads[f"{EPOCHS}.linear.weight"].shape == (8, 24)
        kept.add(row["run"])
        if row["selected_epoch"] in (1, 2, 5, 10, EPOCHS):
            selected = load_file(layout.head(row["run"]))
            for name, tensor in selected.items():
                assert torch.equal(tensor, heads[f"{row['selected_epoch']}.{name}"])
    assert kept
    assert trials
    for run in trials:
        assert not layout.head(run).exists()
        assert not layout.heads(run).exists()
        assert view.queries(run).num_rows == 0


@pytest.mark.parametrize(
    ("epochs", "kept"),
    [
        (1, [0, 1]),
        (3, [0, 1, 2, 3]),
        (20, [0, 1, 2, 5, 10, 20]),
        (100, [0, 1, 2, 5, 10, 20, 50, 100]),
        (1000, [0, 1, 2, 5, 10, 20, 50, 1000]),
    ],
)
def test_eight_heads_at_most_are_kept(epochs, kept):
    of = plan(f"epochs={epochs}")
    for seed in (0, 1):
        config = RunConfig.trained(of, fake_features(), of.losses[0], seed)
        assert [e for e in range(epochs + 1) if config.keeps_head(e)] == ([] if seed else kept)
    trial = RunConfig.trial(of, fake_features(), of.losses[0])
    assert not any(trial.keeps_head(epoch) for epoch in range(epochs + 1))
    assert not RunConfig.untrained(of, fake_features(), 0).keeps_head(0)


@pytest.mark.slow
def test_a_run_that_was_stopped_keeps_the_same_queries_and_heads(made, tmp_path, monkeypatch):
    """Stopped after each epoch in turn: heads and the best epoch come from the checkpoint."""
    monkeypatch.setattr("lossgauge.study.run.execute.CHECKPOINT_SECONDS", 0)
    turning = vectors_plan(
        made / "vectors.npz",
        *(f"losses={made}/turning.py:Turning", f"epochs={EPOCHS}", "selection=best-validation"),
    )
    run_study(turning, tmp_path / "whole", progress=Quiet())

    class Stops(Quiet):
        def epoch(self, run, epoch):
            if run.config.epochs and epoch == self.at:
                raise KeyboardInterrupt

    for at in (1, 4, 6):
        stops = Stops()
        stops.at = at
        with pytest.raises(KeyboardInterrupt):
            run_study(turning, tmp_path / "stopped", progress=stops)
        stops.at = 0
        run_study(turning, tmp_path / "stopped", progress=stops)
        names = ("queries.parquet", "classes.parquet", HEAD, HEADS)
        compared = 0
        for folder in (tmp_path / "whole" / "runs").iterdir():
            for name in names:
                if (folder / name).exists():
                    other = tmp_path / "stopped" / "runs" / folder.name / name
                    assert other.read_bytes() == (folder / name).read_bytes()
                    compared += 1
        assert compared == 7  # the untrained head has no heads of epochs
        shutil.rmtree(tmp_path / "stopped")


def test_frozen_features_have_queries_too(made, view):
    features = vectors_of(made)
    table = view.frozen_queries("embeddings:vectors.npz")
    (frozen,) = [
        row
        for row in view.references("embeddings:vectors.npz")
        if row["reference"] == "frozen features"
    ]
    assert table["query"].to_pylist() == features.test.tolist()
    for column, of_query in PER_QUERY.items():
        values = table[of_query].to_pylist()
        assert math.fsum(values) / len(values) == frozen[column]
    with pytest.raises(InputError, match="need the folder of a study with the dataset 'other'"):
        view.frozen_queries("other")


def test_queries_are_a_frame_with_the_columns_of_their_run(made):
    import lossgauge

    study = lossgauge.load_study(made / "study")
    frame = study.queries
    assert {"run", "dataset", "loss", "seed", "query", "label", *QUERY_COLUMNS} <= set(frame)
    assert len(frame) == len(study.runs) * 180
    runs = study.runs.set_index(["run", "variant"])
    means = frame.groupby(["run", "variant"])[["hit_at_1", "ap_at_r"]].mean()
    for at, row in means.iterrows():
        assert row["hit_at_1"] == pytest.approx(runs.loc[at, "recall_at_1"])
        assert row["ap_at_r"] == pytest.approx(runs.loc[at, "map_at_r"])


def test_an_unknown_run_and_results_without_a_folder_are_one_line(view):
    run = shown_runs(view)[-1]["run"]
    with pytest.raises(InputError, match=f"no finished run .*did you mean '{run}'"):
        view.queries(run[:-1])
    with pytest.raises(InputError, match="queries need the folder of a study"):
        StudyView(view.results).queries(run)


@pytest.mark.parametrize("name", ["queries.parquet", HEAD, HEADS])
def test_damage_of_queries_and_heads_is_noticed(made, tmp_path, name):
    copy = shutil.copytree(made / "study", tmp_path / "study")
    path = next(copy.glob(f"runs/*/{name}"))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(CacheError, match=f"{name} is damaged"):
        read_run(Layout(copy), path.parent.name)
    assert any(name in line for line in read_study(copy).damage)


def test_damage_of_the_queries_of_frozen_features_is_noticed_and_mended_by_the_same_command(
    made, tmp_path
):
    copy = shutil.copytree(made / "study", tmp_path / "study")
    (path,) = copy.glob("datasets/*.parquet")
    before = path.read_bytes()
    path.write_bytes(before[:-1] + b"x")
    with pytest.raises(CacheError, match=r"frozen\.parquet is damaged"):
        read_study(copy)
    quiet = Quiet()
    run_study(asked(made), copy, progress=quiet)
    assert quiet.ended == []
    assert path.read_bytes() == before


class Sphere(torch.nn.Module):
    def forward(self, features):
        return torch.nn.functional.normalize(features)


def test_a_sample_that_is_the_only_one_of_its_class_is_no_query():
    features = fake_features()
    labels = features.labels.clone()
    labels[features.test[3]] = 77
    measured = measure(
        Sphere(), features._replace(labels=labels), with_retrieval=True, with_queries=True
    )
    expected = [row for row in features.test.tolist() if row != features.test[3]]
    assert measured.queries["query"].to_pylist() == expected
    assert measured.row["recall_at_1"] == np.mean(measured.queries["hit_at_1"].to_numpy())


def test_without_retrieval_there_are_no_queries():
    measured = measure(Sphere(), fake_features(), with_retrieval=False, with_queries=True)
    assert measured.queries is None


def test_a_query_takes_some_forty_bytes(tmp_path):
    from lossgauge.files import write_table
    from lossgauge.ranking.metrics import retrieval

    rows = torch.randn(4000, 16, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(4000) % 10
    table = query_table(retrieval(rows, labels).per_query, torch.arange(4000))
    write_table(tmp_path / "queries.parquet", table)
    assert (tmp_path / "queries.parquet").stat().st_size < 45 * 4000
    assert read_table(tmp_path / "queries.parquet").equals(table)
