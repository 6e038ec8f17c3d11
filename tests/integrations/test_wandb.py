import json
import os
import struct
import tempfile

import pytest

from lossgauge.export import export_study
from lossgauge.integrations.wandb import project_name
from tests.integrations import expected

BLOCK = 32768
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4


def records(path):
    """Records of a .wandb file, a log in LevelDB's format after seven bytes of its own."""
    from wandb.proto.wandb_internal_pb2 import Record

    content = path.read_bytes()
    assert content[:4] == b":W&B"
    at, parts = 7, b""
    while at < len(content):
        if BLOCK - at % BLOCK < 7:
            at += BLOCK - at % BLOCK
            continue
        _, size, kind = struct.unpack("<IHB", content[at : at + 7])
        parts += content[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (FULL, LAST):
            yield Record.FromString(parts)
            parts = b""


def items(message):
    return {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in message}


def read(path):
    """The run, its config, its history and its summary."""
    run, config, history, summary = None, {}, [], {}
    for record in records(path):
        kind = record.WhichOneof("record_type")
        if kind == "run":
            run = run or record.run
            config |= items(record.run.config.update)
        elif kind == "config":
            config |= items(record.config.update)
        elif kind == "history":
            history.append((record.history.step.num, items(record.history.item)))
        elif kind == "summary":
            summary |= items(record.summary.update)
    return run, config, history, summary


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    return tmp_path_factory.mktemp("wandb") / "out"


@pytest.fixture
def exported(study, out):
    assert export_study(study, "wandb", out) == str(out)
    return out


def files(folder):
    return sorted((folder / "wandb").glob("offline-run-*/run-*.wandb"))


def test_every_run_comes_back_with_its_numbers(study, exported):
    found = {}
    for path in files(exported):
        run, *rest = read(path)
        found[rest[0]["study.lossgauge.run"], run.job_type, rest[0]["study.loss"]] = (run, *rest)
    rows = expected.tracked(study)
    assert len(found) == len(rows) == len(files(exported))
    for row in rows:
        run, config, history, summary = found[row["run"], row["variant"], row["loss"]]
        assert run.project == "study"
        assert run.run_group == f"digits/{row['loss']}"
        assert run.run_id.startswith(row["run"])
        assert config["fingerprint"] == expected.config(study, row["run"])["fingerprint"]
        assert config["study.seed"] == str(row["seed"])
        numbers = expected.epoch_numbers(study, row["run"])
        seen = {
            (name, step): value
            for step, values in history
            for name, value in values.items()
            if not name.startswith("_") and name != "epoch"
        }
        assert seen == numbers
        assert all(values["epoch"] == step for step, values in history)
        for name, value in expected.summary_numbers(study, row).items():
            assert summary[name] == value


def test_nothing_is_kept_of_the_machine_or_the_code(exported):
    for folder in (exported / "wandb").iterdir():
        assert list((folder / "files").iterdir()) == []
        run, *_ = read(next(folder.glob("*.wandb")))
        assert (run.host, run.git.commit, run.git.remote_url) == ("", "", "")
    assert not list(exported.glob(".new-*"))


def test_a_second_export_adds_what_is_not_there_and_no_more(study, exported, capfd, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "disabled")  # it is asked for by name: only `online` sends
    before = {path: path.read_bytes() for path in files(exported)}
    lost = next(iter(before))
    for path in sorted(lost.parent.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    lost.parent.rmdir()
    left = exported / ".new-left" / "wandb" / "offline-run-half"  # of an export that was killed
    left.mkdir(parents=True)
    export_study(study, "wandb", exported)
    after = {path: path.read_bytes() for path in files(exported)}
    assert {path.name for path in after} == {path.name for path in before}
    assert all(after[path] == before[path] for path in set(before) - {lost})
    assert not list(exported.glob(".new-*"))
    assert capfd.readouterr() == ("", "")


def test_the_project_is_the_users_or_the_studys(monkeypatch):
    assert project_name("a/b: 50%") == "a-b- 50-"
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    assert project_name("demo") == "mine"


def test_a_machine_without_a_temporary_folder_has_one_beside_the_export(tmp_path, monkeypatch):
    from lossgauge.integrations import wandb as module

    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.delenv("TMPDIR", raising=False)
    found = tempfile._get_default_tempdir

    def only_tmpdir(*_):
        if "TMPDIR" in os.environ:
            return found()
        raise FileNotFoundError("No usable temporary directory found")

    monkeypatch.setattr(tempfile, "_get_default_tempdir", only_tmpdir)
    with module._temporary(tmp_path):
        assert tempfile.gettempdir() == str(tmp_path.resolve())
    with pytest.raises(FileNotFoundError):
        tempfile.gettempdir()
