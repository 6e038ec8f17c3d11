import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from lossgauge.errors import StudyError
from lossgauge.export import export_study
from lossgauge.integrations.mlflow import _create, _finished, _write_run
from lossgauge.integrations.tracked import TrackedRun
from tests.integrations import expected

pytestmark = [
    # SQLAlchemy 2.1 about MLflow's own mappers
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated"),
]


def client_of(place):
    from mlflow import MlflowClient
    from sqlalchemy.engine import URL

    uri = URL.create("sqlite", database=str(place / "mlflow.db")).render_as_string()
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    return tmp_path_factory.mktemp("a place with%20blanks") / "mlflow"


@pytest.fixture
def exported(study, out, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert export_study(study, "mlflow", out) == str(out)
    assert list(tmp_path.iterdir()) == []  # nothing beside the place that was given
    return out


def runs_of(client, study):
    experiment = client.get_experiment_by_name(study.name)
    return client.search_runs([experiment.experiment_id])


def test_every_run_comes_back_with_its_numbers(study, exported):
    client = client_of(exported)
    found = {run.data.tags["lossgauge.id"]: run for run in runs_of(client, study)}
    rows = expected.tracked(study)
    assert len(found) == len(rows)
    by_why = {
        (r.data.tags["lossgauge.run"], r.data.tags["variant"], r.data.tags["loss"]): r
        for r in found.values()
    }
    for row in rows:
        run = by_why[row["run"], row["variant"], row["loss"]]
        for column in ("dataset", "loss", "base", "variant", "seed"):
            assert run.data.tags[column] == str(row[column])
        assert run.info.status == "FINISHED"
        config = expected.config(study, row["run"])
        assert run.data.params["fingerprint"] == config["fingerprint"]
        assert run.data.params["features.images"] == config["features"]["images"]
        for key, value in config["settings"].items():
            assert run.data.params[f"settings.{key}"] == str(value)
        assert "loss_file" not in run.data.params
        numbers = expected.epoch_numbers(study, row["run"])
        last = {}
        for (name, epoch), value in sorted(numbers.items(), key=lambda item: item[0][1]):
            last[name] = value
            history = {m.step: m.value for m in client.get_metric_history(run.info.run_id, name)}
            assert history[epoch] == value
            assert set(history) == {at for known, at in numbers if known == name}
        assert run.data.metrics == last | expected.summary_numbers(study, row)


def test_a_second_export_adds_nothing_and_a_half_written_run_is_written_anew(
    study, exported, capfd
):
    client = client_of(exported)
    before = {run.info.run_id: run.data.tags["lossgauge.id"] for run in runs_of(client, study)}
    half = next(iter(before))
    client.update_run(half, status="RUNNING")
    export_study(study, "mlflow", exported)
    after = {run.info.run_id: run.data.tags["lossgauge.id"] for run in runs_of(client, study)}
    assert sorted(after.values()) == sorted(before.values())
    assert set(before) - set(after) == {half}
    assert capfd.readouterr() == ("", "")


def test_a_database_whose_tables_are_not_all_made_is_never_there(tmp_path, monkeypatch):
    def killed(uri):
        Path(uri.removeprefix("sqlite:///")).write_text("half of the tables")
        raise KeyboardInterrupt

    monkeypatch.setattr("lossgauge.integrations.mlflow._client", killed)
    with pytest.raises(KeyboardInterrupt):
        _create(tmp_path / "mlflow.db")
    assert list(tmp_path.iterdir()) == []


class Pages(list):
    token = None


class Paged:
    """A store that gives its runs two at a time."""

    def __init__(self, runs):
        self.runs = runs
        self.deleted = []

    def search_runs(self, experiments, page_token):
        assert experiments == ["7"]
        start = int(page_token or 0)
        page = Pages(self.runs[start : start + 2])
        page.token = str(start + 2) if start + 2 < len(self.runs) else None
        return page

    def delete_run(self, run):
        self.deleted.append(run)


def run_there(number, status="FINISHED", tags=None):
    tags = {"lossgauge.id": f"run {number}"} if tags is None else tags
    info = SimpleNamespace(run_id=number, status=status)
    return SimpleNamespace(info=info, data=SimpleNamespace(tags=tags))


def test_what_is_there_is_looked_for_on_every_page_and_another_s_run_is_left_alone():
    client = Paged(
        [
            run_there(0),
            run_there(1, "RUNNING"),
            run_there(2, "RUNNING", tags={}),
            run_there(3),
            run_there(4, "FAILED"),
        ]
    )
    assert _finished(client, "7") == {"run 0", "run 3"}
    assert client.deleted == [1, 4]


class Recorder:
    """A store that writes down what it is told."""

    def __init__(self):
        self.calls = []

    def create_run(self, experiment, *, start_time, run_name, tags):
        self.calls.append(("create", experiment, run_name, tags))
        return SimpleNamespace(info=SimpleNamespace(run_id="r"))

    def log_batch(self, run, *, metrics=(), params=()):
        self.calls.append(("batch", [*metrics], [*params]))

    def set_terminated(self, run, status):
        self.calls.append(("end", run, status))


def test_a_long_run_is_written_in_parts_and_said_to_be_whole_at_the_end():
    epochs = [(epoch, {"a": epoch / 7, "b": -epoch}) for epoch in range(1300)]
    config = {f"setting {number}": number for number in range(250)}
    summary = {"summary/x": 1.5}
    run = TrackedRun("id", "name", "digits", "scl", {"seed": "0"}, config, epochs, summary)
    entities = SimpleNamespace(
        Metric=lambda name, value, time, step: (name, value, step),
        Param=lambda name, value: (name, value),
    )
    client = Recorder()
    _write_run(entities, client, "7", run)
    first, *batches, last = client.calls
    assert first == ("create", "7", "name", {"seed": "0", "lossgauge.id": "id"})
    assert last == ("end", "r", "FINISHED")
    metrics = [metric for _, some, _ in batches for metric in some]
    params = [param for _, _, some in batches for param in some]
    assert metrics == [
        *((name, value, epoch) for epoch, values in epochs for name, value in values.items()),
        ("summary/x", 1.5, 1299),
    ]
    assert params == [(name, str(value)) for name, value in config.items()]
    # the most that MLflow takes in one call
    assert max(len(some) for _, some, _ in batches) <= 1000
    assert max(len(some) for _, _, some in batches) <= 100
    client = Recorder()
    _write_run(entities, client, "7", run._replace(epochs=[]))
    assert client.calls[1][1] == [("summary/x", 1.5, 0)]


def test_the_users_server_goes_first_unless_a_folder_is_named(
    study, exported, tmp_path, monkeypatch, capfd
):
    named = f"sqlite:///{tmp_path}/named.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", named)
    monkeypatch.chdir(tmp_path)
    before = dict(os.environ)
    assert export_study(study, "mlflow") == f"experiment 'study' at {named}"
    assert [path.name for path in tmp_path.iterdir()] == ["named.db"]
    assert not (study / "export").exists()
    assert dict(os.environ) == before
    assert capfd.readouterr() == ("", "")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "no such thing://")
    assert export_study(study, "mlflow", exported) == str(exported)


def test_a_password_is_not_shown():
    from lossgauge.integrations.mlflow import without_password

    assert without_password("https://me:secret@host:5000/x") == "https://host:5000/x"
    assert without_password("sqlite:////tmp/x.db") == "sqlite:////tmp/x.db"


def test_a_deleted_experiment_is_said(study, exported):
    client = client_of(exported)
    experiment = client.get_experiment_by_name(study.name).experiment_id
    client.delete_experiment(experiment)
    with pytest.raises(StudyError, match="the MLflow experiment 'study' is deleted"):
        export_study(study, "mlflow", exported)
    client.restore_experiment(experiment)


def test_mlflow_is_imported_without_a_home(monkeypatch):
    from lossgauge.integrations import mlflow as module

    def no_home(*_):
        if "HOME" in os.environ:
            return Path(os.environ["HOME"])
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("HOME")
    monkeypatch.setattr(Path, "home", no_home)
    with module._a_home():
        assert os.environ["HOME"] == os.sep
    assert "HOME" not in os.environ
