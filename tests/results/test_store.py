import json
import os
import re
from contextlib import ExitStack, suppress

import pytest

from lossgauge.errors import CacheError, StudyError
from lossgauge.files import read_rows, write_json, write_rows
from lossgauge.results.reader import read_study
from lossgauge.results.writer import Store


def test_rows_come_back_with_none_where_a_row_lacks_a_column(tmp_path):
    rows = [{"a": 1, "b": 0.5}, {"a": 2, "c": "x"}, {"b": None}]
    write_rows(tmp_path / "rows.parquet", rows)
    assert read_rows(tmp_path / "rows.parquet") == [{**dict.fromkeys("abc"), **row} for row in rows]


def test_no_rows_are_no_rows(tmp_path):
    write_rows(tmp_path / "rows.parquet", [])
    assert read_rows(tmp_path / "rows.parquet") == []


def test_nan_is_not_written_as_json(tmp_path):
    with pytest.raises(ValueError, match="Out of range float"):
        write_json(tmp_path / "x.json", {"a": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_a_torn_table_is_named(tmp_path):
    write_rows(tmp_path / "rows.parquet", [{"a": 1}])
    (tmp_path / "rows.parquet").write_bytes((tmp_path / "rows.parquet").read_bytes()[:-6])
    with pytest.raises(CacheError, match=r"rows\.parquet is damaged"):
        read_rows(tmp_path / "rows.parquet")


def test_a_run_appears_whole_or_not_at_all(tmp_path):
    store = Store(tmp_path)
    with pytest.raises(ValueError, match="Out of range"):
        store.publish("r", records={"summary": {"a": float("inf")}}, tables={})
    assert list((tmp_path / "runs").iterdir()) == []


def test_a_checkpoint_replaces_the_one_before(tmp_path):
    store = Store(tmp_path)
    for epoch in (2, 10, 9):
        with store.new_checkpoint("r", epoch) as folder:
            (folder / "x").write_text(str(epoch))
    assert store.checkpoint("r").name == "9"
    with pytest.raises(KeyboardInterrupt), store.new_checkpoint("r", 11):
        raise KeyboardInterrupt
    assert [p.name for p in (tmp_path / "partial" / "r").iterdir()] == ["9"]


def test_the_folder_of_advise_names_the_study_in_it(tmp_path):
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "study.json").write_text("{}")
    words = rf"does not contain a study .*; did you mean {re.escape(str(tmp_path / 'study'))}\?$"
    with pytest.raises(StudyError, match=words):
        read_study(tmp_path)


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (None, StudyError, "does not contain a study"),
        (
            json.dumps({"schema": 2}),
            StudyError,
            "of format 2, and this version of lossgauge reads format 5: run the study again",
        ),
        (
            "{",
            CacheError,
            r"study.json is damaged \(it is not valid JSON, line 1\); run the same `lossgauge study` command again$",
        ),
    ],
)
def test_a_folder_without_a_study_of_ours_is_refused(tmp_path, content, error, message):
    if content is not None:
        (tmp_path / "study.json").write_text(content)
    with pytest.raises(error, match=message):
        read_study(tmp_path)


def test_of_two_checkpoints_that_a_kill_left_the_later_one_counts(tmp_path):
    store = Store(tmp_path)
    for epoch in (9, 10):
        (tmp_path / "partial" / "r" / str(epoch)).mkdir(parents=True)
    assert store.checkpoint("r").name == "10"
    store.discard_checkpoint("r", store.checkpoint("r"))
    assert store.checkpoint("r").name == "9"
    store.discard_checkpoint("r")
    assert store.checkpoint("r") is None


def test_names_that_are_no_epochs_are_no_checkpoints(tmp_path):
    for name in ("1²", "3x", "steps", ".new-4"):
        (tmp_path / "partial" / "r" / name).mkdir(parents=True)
    assert Store(tmp_path).checkpoint("r") is None


DATASET = {"dataset": "digits", "fingerprint": "f", "embedding_size": 16}


def test_a_dataset_is_there_only_if_its_record_says_the_same(tmp_path):
    store = Store(tmp_path)
    (tmp_path / "datasets").mkdir()
    assert not store.has_dataset("digits", DATASET)
    store.write_dataset("digits", {**DATASET, "references": []})
    assert store.has_dataset("digits", DATASET)
    assert not store.has_dataset("digits", {**DATASET, "fingerprint": "other"})
    assert not store.has_dataset("digits", {**DATASET, "embedding_size": 8})
    assert not store.has_dataset("digits", {**DATASET, "test_samples": 1})


def test_a_record_of_another_dataset_is_damage(tmp_path):
    store = Store(tmp_path)
    (tmp_path / "datasets").mkdir()
    store.write_dataset("faces", {**DATASET, "references": []})
    assert not store.has_dataset("faces", DATASET)


@pytest.mark.parametrize("lock", [".lock", ".workers", None])
def test_after_its_locks_are_deleted_a_folder_at_work_still_is_held(tmp_path, monkeypatch, lock):
    monkeypatch.setattr("lossgauge.results.writer.ORPHAN_SECONDS", 0)
    with Store(tmp_path).exclusive_lock():
        for name in [lock] if lock else [".lock", ".workers"]:
            (tmp_path / name).unlink()
        assert Store(tmp_path).is_locked()
        with (
            pytest.raises(StudyError, match="another lossgauge study is running"),
            Store(tmp_path).exclusive_lock(),
        ):
            pass
    assert not Store(tmp_path).is_locked()
    with Store(tmp_path).exclusive_lock():
        assert Store(tmp_path).is_locked()


def test_after_their_lock_is_deleted_workers_of_a_killed_study_are_still_waited_for(
    tmp_path, monkeypatch
):
    monkeypatch.setattr("lossgauge.results.writer.ORPHAN_SECONDS", 0)
    with Store(tmp_path).exclusive_lock():
        pass
    with Store(tmp_path).shared_lock():
        (tmp_path / ".workers").unlink()
        with (
            pytest.raises(StudyError, match="worker processes of a killed study"),
            Store(tmp_path).exclusive_lock(),
        ):
            pass


def test_a_pipe_instead_of_a_lock_is_one_line_and_no_wait(tmp_path):
    os.mkfifo(tmp_path / ".lock")
    assert not Store(tmp_path).is_locked()
    with (
        pytest.raises(StudyError, match="lock is not a regular file: delete it"),
        Store(tmp_path).exclusive_lock(),
    ):
        pass


def half_written(folder):
    left = folder / "runs" / ".new-x"
    left.mkdir()
    (left / "summary.json").write_text("{")
    return left


@pytest.mark.parametrize("error", [None, KeyboardInterrupt])
def test_what_an_ended_worker_was_in_the_middle_of_is_gone_with_the_study(tmp_path, error):
    with suppress(KeyboardInterrupt), Store(tmp_path).exclusive_lock():
        left = half_written(tmp_path)
        if error:
            raise error
    assert not left.exists()


def test_what_a_worker_that_lives_on_is_writing_stays(tmp_path, monkeypatch):
    monkeypatch.setattr("lossgauge.results.writer.ENDING_SECONDS", 0)
    with ExitStack() as worker:
        with Store(tmp_path).exclusive_lock():
            worker.enter_context(Store(tmp_path).shared_lock())
            left = half_written(tmp_path)
        assert left.exists()
    with Store(tmp_path).exclusive_lock():
        assert not left.exists()
