import contextlib
import fcntl
import json
import shutil
from types import SimpleNamespace

import pytest

from lossgauge.errors import CacheError, StudyError
from lossgauge.files import write_json
from lossgauge.results.writer import Store
from lossgauge.study.runner import run_study
from lossgauge.study.schedule.run_queue import RunQueue, passes
from lossgauge.study.schedule.runs import plan_runs
from lossgauge.study.status import FILE, StatusFile, read_status
from tests.study.schedule.test_runs import plan as grid_plan
from tests.study.schedule.test_search import FRAGILE
from tests.support.studies import Quiet, fake_features, vectors_plan, write_vectors


@pytest.fixture
def plan(tmp_path):
    vectors = write_vectors(tmp_path / "vectors.npz")
    return lambda *overrides: vectors_plan(vectors, *overrides)


def adds_up(found):
    known = [*found.done, *found.running, *found.failed, *found.waiting]
    return len(known) == len(set(known)) <= found.expected


class Watching(Quiet):
    """Asks for the status of the study that it watches, at every turn."""

    def __init__(self, folder):
        super().__init__()
        self.folder = folder
        self.seen = []

    def look(self, event, run=None):
        found = read_status(self.folder)
        assert adds_up(found)
        assert found.at_work
        self.seen.append((event, run, found))

    def study(self, runs):
        super().study(runs)
        self.look("study")

    def start(self, run):
        self.look("start", run.name)

    def epoch(self, run, epoch):
        self.look("epoch", run.name)

    def end(self, run, summary):
        super().end(run, summary)
        self.look("end", run.name)


def test_the_states_of_a_finished_study_add_up(tmp_path, plan):
    run_study(plan("losses=triplet,ccl", "seeds=2"), tmp_path / "out", progress=Quiet())
    found = read_status(tmp_path / "out")
    assert (len(found.done), found.running, found.failed, found.waiting) == (6, {}, {}, [])
    assert (found.expected, found.at_work, found.seconds_left) == (6, False, None)


def test_a_finished_run_with_a_damaged_file_is_among_the_failed(tmp_path, plan):
    run_study(plan("losses=triplet", "seeds=1"), tmp_path / "out", progress=Quiet())
    before = read_status(tmp_path / "out")
    steps = next((tmp_path / "out/runs").glob("*triplet*/steps.parquet"))
    steps.write_bytes(steps.read_bytes()[:-9] + b"X" + steps.read_bytes()[-8:])
    found = read_status(tmp_path / "out")
    assert found.failed.keys() == {steps.parent.name}
    assert f"{steps} is damaged" in found.failed[steps.parent.name]
    assert sorted([*found.done, *found.failed]) == sorted(before.done)


def test_the_status_can_be_asked_for_while_a_study_writes(tmp_path, plan, monkeypatch):
    monkeypatch.setattr("lossgauge.study.status.SECONDS", 0)
    out = tmp_path / "out"
    watcher = Watching(out)
    run_study(plan("tune={trials: 7, epochs: 2}", "seeds=2"), out, progress=watcher)
    events = [event for event, *_ in watcher.seen]
    assert events.count("end") == len(read_status(out).done) >= 2 + 2 + 7
    first, last = watcher.seen[0][2], watcher.seen[-1][2]
    # two of the baseline, two as they stand, seven trials and two tuned; the first round is named
    assert (len(first.waiting), first.expected) == (2 + 2 + 5, 2 + 2 + 7 + 2)
    assert (len(last.done), len(last.waiting)) == (len(read_status(out).done), 0)
    done = [len(found.done) for *_, found in watcher.seen]
    assert done == sorted(done)
    for event, run, found in watcher.seen:
        if event == "end":
            assert run in found.done
            assert run not in found.running
    left = [found.seconds_left for event, _, found in watcher.seen if event == "epoch"]
    assert any(seconds is not None and seconds >= 0 for seconds in left)
    running = [(run, found.running) for event, run, found in watcher.seen[1:] if event == "epoch"]
    assert any(run in now and 0 < now[run][0] <= now[run][1] for run, now in running)
    after = read_status(out)
    assert (after.at_work, after.running, after.waiting) == (False, {}, [])
    assert after.expected >= len(after.done)


class Stops(Quiet):
    def __init__(self, loss):
        super().__init__()
        self.loss = loss

    def epoch(self, run, epoch):
        if run.base == self.loss:
            raise KeyboardInterrupt


def test_a_study_that_was_stopped_has_runs_that_wait_and_none_that_run(tmp_path, plan):
    with pytest.raises(KeyboardInterrupt):
        run_study(plan("losses=triplet,ccl"), tmp_path / "out", progress=Stops("ccl"))
    found = read_status(tmp_path / "out")
    assert (len(found.done), found.running, len(found.waiting)) == (2, {}, 1)
    assert (found.expected, found.at_work, found.seconds_left) == (3, False, None)
    assert found.waiting[0].split("_")[1] == "ccl"


def test_what_failed_before_waits_while_it_is_to_be_tried_again(tmp_path, plan):
    file = tmp_path / "own.py"
    file.write_text(FRAGILE.format(condition="True"))
    asked = plan(f"losses=['{file}:Fragile', triplet]")
    run_study(asked, tmp_path / "out", progress=Quiet())
    watcher = Watching(tmp_path / "out")
    run_study(asked, tmp_path / "out", progress=watcher)
    found = {event: status for event, _, status in watcher.seen}
    assert (len(found["study"].failed), len(found["study"].waiting)) == (0, 1)
    after = read_status(tmp_path / "out")
    assert (len(after.failed), after.waiting) == (1, [])


def test_the_epoch_of_a_run_that_tells_nothing_is_that_of_its_checkpoint(tmp_path, plan):
    run_study(plan("losses=triplet"), tmp_path, progress=Quiet())
    run = next(name for name in read_status(tmp_path).done if "triplet" in name)
    shutil.rmtree(tmp_path / "runs" / run)
    store = Store(tmp_path)
    with store.exclusive_lock():
        store.work.mkdir()
        write_json(store.work / FILE, {"running": {run: 0}})
        assert read_status(tmp_path).running == {run: (0, 3)}
        with store.new_checkpoint(run, 1):
            pass
        assert read_status(tmp_path).running == {run: (1, 3)}


def note_of(store):
    return json.loads((store.work / FILE).read_text())


def test_work_that_is_left_is_all_work_less_what_was_there_and_what_was_done(tmp_path, monkeypatch):
    monkeypatch.setattr("lossgauge.study.status.SECONDS", 0)
    asked = grid_plan("losses=[triplet, ccl, scl]", "seeds=2")
    _, _, *runs = plan_runs(asked, fake_features())  # each of 4 epochs over 40 rows; two untrained
    ledger, store = RunQueue(asked, [fake_features()]), Store(tmp_path)
    assert ledger.work == sum(passes(run) for run in runs) == 6 * 160
    watcher = StatusFile(store, ledger)

    def left_after(done):
        note = note_of(store)
        assert note["work_done"] + note["work_left"] == 6 * 160 - 160  # but for what was there
        assert note["work_done"] == done
        return note["running"]

    watcher.reused(runs[0])
    watcher.study(6)
    assert left_after(0) == {}
    watcher.start(runs[1])
    for epoch in (1, 2, 3):
        watcher.epoch(runs[1], epoch)
        assert left_after(40 * epoch) == {runs[1].name: epoch}
    watcher.start(runs[2])  # another worker's, from a checkpoint of epoch 2
    watcher.epoch(runs[2], 3)
    assert left_after(40 * 4) == {runs[1].name: 3, runs[2].name: 3}
    watcher.epoch(runs[1], 4)
    watcher.end(runs[1], {})
    assert left_after(160 + 40) == {runs[2].name: 3}
    watcher.epoch(runs[2], 4)
    watcher.end(runs[2], {})
    assert left_after(2 * 160) == {}  # with the two epochs of before the stop
    watcher.start(runs[3])
    watcher.epoch(runs[3], 1)
    watcher.failed(runs[3], "NaN")
    assert left_after(3 * 160) == {}
    assert note_of(store)["failed"] == [runs[3].name]
    for run in runs[4:]:  # on a machine that tells no epoch
        watcher.start(run)
        watcher.end(run, {})
    assert left_after(5 * 160) == {}
    assert note_of(store)["work_left"] == 0


def test_the_time_that_is_left_is_at_the_pace_since_the_start(tmp_path, plan, monkeypatch):
    run_study(plan("epochs=1"), tmp_path / "out", progress=Quiet())
    store = Store(tmp_path / "out")
    monkeypatch.setattr("lossgauge.study.status.time", SimpleNamespace(time=lambda: 1100.0))
    with store.exclusive_lock():
        store.work.mkdir()
        write_json(store.work / FILE, {"began": 1000.0, "work_done": 10, "work_left": 25})
        assert read_status(tmp_path / "out").seconds_left == pytest.approx(250.0)
        write_json(store.work / FILE, {"began": 1000.0, "work_done": 0, "work_left": 25})
        assert read_status(tmp_path / "out").seconds_left is None
    assert read_status(tmp_path / "out").seconds_left is None


def test_failed_runs_are_told_with_their_error_and_are_none_that_wait(tmp_path, plan):
    (tmp_path / "own.py").write_text(FRAGILE.format(condition="True"))
    run_study(
        plan(f"losses=['{tmp_path / 'own.py'}:Fragile', triplet]"),
        tmp_path / "out",
        progress=Quiet(),
    )
    found = read_status(tmp_path / "out")
    assert (len(found.done), len(found.failed), found.waiting) == (2, 1, [])
    assert list(found.failed.values()) == ["RuntimeError: too strong"]


def test_a_study_that_searches_expects_runs_that_have_no_name_yet(tmp_path, plan):
    tuned = plan("tune={trials: 7, epochs: 1}")
    with pytest.raises(KeyboardInterrupt):
        run_study(tuned, tmp_path / "out", progress=Stops("triplet"))
    found = read_status(tmp_path / "out")
    assert (len(found.done), len(found.waiting), found.expected) == (1, 1 + 5, 2 + 7 + 1)


def test_a_run_that_is_asked_for_twice_is_expected_once(tmp_path, plan):
    doubled = plan("losses=[triplet, {triplet: {margin: 0.4}}]", "sensitivity=[2]")
    quiet = Quiet()
    run_study(doubled, tmp_path / "out", progress=quiet)
    found = read_status(tmp_path / "out")
    assert quiet.there == [name for name in quiet.ended if name in quiet.there]
    assert len(quiet.there) == 1
    # margins of 0.2, 0.4, 0.8 and the baseline; 0.4 is the one at twice the other
    assert (len(found.done), found.expected) == (4, 4)


DAMAGED = [b"", b"{", b"\xff\xfe", b"{}"]
WRONG = [b"[]", b"null", b"3", b'{"running": 5}', b'{"running": {"x": "y"}}']
"""JSON, but not what was written."""


@pytest.mark.parametrize("damaged", [*DAMAGED, *WRONG])
def test_a_damaged_note_of_what_is_running_does_not_break_the_status(tmp_path, plan, damaged):
    out = tmp_path / "out"
    run_study(plan("epochs=1"), out, progress=Quiet())
    note = Store(out).work / FILE
    note.parent.mkdir(exist_ok=True)
    note.write_bytes(damaged)
    with (out / ".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        found = read_status(out)
    assert found.at_work
    assert (len(found.done), found.running, found.seconds_left) == (2, {}, None)
    # nobody is at work: it is not even looked at
    assert read_status(out) == found._replace(at_work=False)


@pytest.mark.parametrize("damaged", [*DAMAGED, *WRONG])
def test_a_damaged_note_of_a_failure_is_still_one_of_a_failure(tmp_path, plan, damaged):
    (tmp_path / "own.py").write_text(FRAGILE.format(condition="True"))
    out = tmp_path / "out"
    run_study(plan(f"losses=['{tmp_path / 'own.py'}:Fragile']"), out, progress=Quiet())
    (note,) = out.glob("failed/*.json")
    note.write_bytes(damaged)
    found = read_status(out)
    assert adds_up(found)
    assert found.failed.keys() == {note.stem}
    assert found.failed[note.stem]


def test_a_note_of_an_older_study_names_no_run_of_this_one(tmp_path, plan):
    out = tmp_path / "out"
    run_study(plan("epochs=1"), out, progress=Quiet())
    note = Store(out).work / FILE
    note.parent.mkdir(exist_ok=True)
    content = {"began": 0.0, "jobs": 1, "running": {"other": 3}, "work_done": 0, "work_left": 5}
    note.write_text(json.dumps(content))
    with (out / ".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        found = read_status(out)
    assert (len(found.done), found.running, found.waiting) == (2, {}, [])


def test_a_folder_without_a_study_is_said_to_have_none(tmp_path, plan):
    with pytest.raises(StudyError, match=r"does not contain a study \(it has no study.json\)"):
        read_status(tmp_path / "nowhere")
    run_study(plan("epochs=1"), tmp_path / "out", progress=Quiet())
    (tmp_path / "out" / "study.json").write_text("{")
    with pytest.raises(CacheError, match=r"study\.json is damaged"):
        read_status(tmp_path / "out")


def test_asking_writes_nothing(tmp_path, plan):
    run_study(plan("epochs=1"), tmp_path / "out", progress=Quiet())
    with contextlib.suppress(FileNotFoundError):
        (tmp_path / "out" / ".lock").unlink()
    before = sorted(tmp_path.rglob("*"))
    assert not read_status(tmp_path / "out").at_work
    assert sorted(tmp_path.rglob("*")) == before
