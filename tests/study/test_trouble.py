"""A full disk, a folder that is read-only, damaged files: a clear error, and the rest goes on."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from lossgauge.errors import CacheError, StudyError
from lossgauge.files import read_json, write_json
from lossgauge.results.reader import read_study
from lossgauge.results.writer import Store
from lossgauge.study.engines import DEFAULT, Resources
from lossgauge.study.engines.features_file import write_features_file
from lossgauge.study.runner import run_study
from lossgauge.study.status import read_status
from tests.support.finished import once
from tests.support.studies import Quiet, small_plan


@pytest.fixture
def small_disk(tmp_path: Path):
    """A real file system of half a megabyte."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(place)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip(
            "no file system can be mounted here: run as root, in a container with --cap-add SYS_ADMIN"
        )
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_fails_runs_in_words_and_with_room_the_same_command_goes_on(
    small_disk, quiet, monkeypatch
):
    monkeypatch.setattr("lossgauge.study.run.execute.CHECKPOINT_SECONDS", 0)
    (small_disk / "ballast").write_bytes(b"x" * 330_000)
    plan = small_plan(losses="triplet,contrastive,scl", epochs=6, embedding_size=64)
    here = Resources("in-process")
    outcome = run_study(plan, small_disk / "out", progress=quiet, resources=here)
    assert outcome.failed > 0
    assert all("No space left" in words for words in quiet.failures.values())
    gone_on_with(plan, small_disk, here)


@pytest.mark.usefixtures("forked_workers")
def test_no_room_for_what_workers_need_is_one_clear_error(small_disk, quiet, monkeypatch):
    monkeypatch.setenv("LOSSGAUGE_CHECKPOINT_SECONDS", "0")
    (small_disk / "ballast").write_bytes(b"x" * 100_000)
    plan = small_plan(losses="triplet,contrastive,scl", epochs=6, embedding_size=64)
    with pytest.raises(
        StudyError, match=r"features for the workers cannot be written \(.*[Ss]pace"
    ):
        run_study(plan, small_disk / "out", progress=quiet, resources=Resources(jobs=2))
    gone_on_with(plan, small_disk, Resources(jobs=2))


def gone_on_with(plan, small_disk, resources):
    subprocess.run(["mount", "-o", "remount,size=16m", str(small_disk)], check=True)
    outcome = run_study(plan, small_disk / "out", progress=Quiet(), resources=resources)
    assert outcome.failed == 0
    results = read_study(small_disk / "out").results
    assert len(results.summaries) == 4
    assert results.failures == []
    assert not list((small_disk / "out").rglob(".new-*"))


def test_a_folder_that_becomes_read_only_is_told(small_disk, quiet):
    run_study(small_plan(losses="triplet", epochs=1), small_disk / "out", progress=quiet)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(StudyError, match=r"cannot write to .*give another folder with --out"):
        run_study(small_plan(losses="triplet", epochs=2), small_disk / "out", progress=quiet)
    assert len(read_study(small_disk / "out").results.summaries) == 2
    assert len(read_status(small_disk / "out").done) == 2


def damage_manifest(run: Path) -> None:
    (run / "manifest.json").write_text("[]")


def empty_manifest(run: Path) -> None:
    (run / "manifest.json").write_text("{}")


def no_manifest(run: Path) -> None:
    (run / "manifest.json").unlink()


def no_summary(run: Path) -> None:
    (run / "summary.json").unlink()


def torn_steps(run: Path) -> None:
    path = run / "steps.parquet"
    path.write_bytes(path.read_bytes()[:-9])


def a_file_instead(run: Path) -> None:
    shutil.rmtree(run)
    run.write_text("no folder")


@pytest.mark.parametrize(
    "damage", [damage_manifest, empty_manifest, no_manifest, no_summary, torn_steps, a_file_instead]
)
def test_a_damaged_run_is_reported_and_done_again_and_nothing_else_is(
    finished_small_study, quiet, damage
):
    whole = read_study(finished_small_study).results.summaries
    (run,) = finished_small_study.glob("runs/*triplet*")
    damage(run)
    if run.is_dir():
        (failure,) = read_study(finished_small_study).results.failures
        assert "is damaged (" in failure["error"]
        assert failure["error"].endswith("; run the same `lossgauge study` command again")
    outcome = run_study(small_plan(), finished_small_study, progress=quiet)
    assert (outcome.done, outcome.reused, outcome.failed) == (1, 2, 0)
    (words,) = quiet.warnings.values()
    assert list(quiet.warnings) == [run.name]
    assert "is damaged (" in words
    assert words.endswith("the run is done again")
    results = read_study(finished_small_study).results
    assert results.failures == []
    assert [row["map_at_r"] for row in results.summaries] == [row["map_at_r"] for row in whole]


@pytest.mark.parametrize(
    "content", ["[]", "{}", '{"references": 1}', '{"references": [{"dataset": "digits"}]}', "{"]
)
def test_a_damaged_record_of_a_dataset_is_written_again(finished_small_study, quiet, content):
    path = finished_small_study / "datasets" / "digits.json"
    whole = path.read_text()
    path.write_text(content)
    with pytest.raises(
        CacheError,
        match=r"datasets/digits\.json is damaged .*; run the same `lossgauge study` command again$",
    ):
        read_study(finished_small_study)
    run_study(small_plan(), finished_small_study, progress=quiet)
    assert path.read_text() == whole
    (words,) = quiet.warnings.values()
    assert re.fullmatch(
        r"datasets/digits\.json is damaged \(.*\); the study deletes it and writes it again when needed",
        words,
    )


def test_runs_without_a_name_are_a_damaged_study(finished_small_study, quiet):
    path = finished_small_study / "study.json"
    whole = path.read_text()
    damaged = json.loads(whole)
    del damaged["runs"][0]["run"]
    del damaged["sha256"]
    write_json(path, damaged)
    for read in (read_status, lambda folder: read_study(folder).results):
        with pytest.raises(
            CacheError, match=r"is damaged \(runs\.0\.run is missing\); run the same"
        ):
            read(finished_small_study)
    run_study(small_plan(), finished_small_study, progress=quiet)
    assert json.loads(path.read_text())["runs"] == json.loads(whole)["runs"]


def test_a_file_where_a_checkpoint_was_is_removed(finished_small_study, quiet):
    (run,) = finished_small_study.glob("runs/*triplet*")
    (finished_small_study / "partial" / run.name).write_text("no folder")
    assert run_study(small_plan(), finished_small_study, progress=quiet).reused == 3
    assert not list((finished_small_study / "partial").iterdir())


def cut(path: Path) -> None:
    os.truncate(path, 7)


def flip(path: Path) -> None:
    """One bit of the last bytes: of a tensor's numbers, where there are any."""
    content = path.read_bytes()
    path.write_bytes(content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])


class StopsInEpoch3(Quiet):
    def epoch(self, run, epoch):
        if epoch == 3:
            raise KeyboardInterrupt


FOUR_EPOCHS = {"losses": "triplet", "epochs": 4}


@pytest.fixture(scope="session")
def stopped_and_whole(tmp_path_factory):
    """A study of four epochs that was stopped in the third, in `out`, and one that was not, in `whole`."""

    def make(folder: Path) -> None:
        plan = small_plan(**FOUR_EPOCHS)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("LOSSGAUGE_CACHE", str(folder / "cache"))
            patch.setattr("lossgauge.study.run.execute.CHECKPOINT_SECONDS", 0)
            with pytest.raises(KeyboardInterrupt):
                run_study(plan, folder / "out", progress=StopsInEpoch3())
            run_study(plan, folder / "whole", progress=Quiet())

    return once(tmp_path_factory, "stopped", make)


@pytest.fixture
def stopped(stopped_and_whole, tmp_path, monkeypatch):
    """A copy of the stopped study; it goes on with a checkpoint after each epoch."""
    monkeypatch.setattr("lossgauge.study.run.execute.CHECKPOINT_SECONDS", 0)
    return Path(shutil.copytree(stopped_and_whole / "out", tmp_path / "out"))


def assert_as_if_never_stopped(folder, stopped_and_whole):
    found, whole = (
        read_study(out).results.summaries[-1] for out in (folder, stopped_and_whole / "whole")
    )
    assert found["map_at_r"] == whole["map_at_r"]


@pytest.mark.usefixtures("forked_workers")
@pytest.mark.parametrize(
    ("name", "damage", "resources"),
    [
        ("[0-9]*/state.safetensors", flip, DEFAULT),
        ("[0-9]*/state.safetensors", flip, Resources(jobs=2)),
        ("[0-9]*/progress.json", flip, DEFAULT),
        ("[0-9]*/manifest.json", flip, DEFAULT),
        ("[0-9]*/steps.parquet", cut, DEFAULT),
        ("steps/000000000.parquet", flip, DEFAULT),
    ],
)
def test_a_damaged_checkpoint_costs_what_is_in_it_and_not_the_run(
    stopped, stopped_and_whole, quiet, name, damage, resources
):
    (path,) = stopped.glob(f"partial/*/{name}")
    damage(path)
    outcome = run_study(small_plan(**FOUR_EPOCHS), stopped, progress=quiet, resources=resources)
    assert (outcome.done, outcome.failed) == (1, 0)
    ((run, words),) = quiet.warnings.items()
    assert run == read_study(stopped).results.summaries[-1]["run"]
    assert re.fullmatch(
        rf".*{path.name} is damaged \(.*\); the run continues from its start", words
    )
    assert_as_if_never_stopped(stopped, stopped_and_whole)


def test_streamed_steps_that_a_kill_left_over_come_once(stopped, quiet):
    parts = sorted(stopped.glob("partial/*/steps/*.parquet"))
    # 14 steps an epoch, each streamed once
    assert [int(path.stem) for path in parts] == [0, 14]
    # killed between the stream and its checkpoint: a part that no checkpoint knows of
    shutil.copy(parts[1], parts[1].with_name("000000028.parquet"))
    told = []
    quiet.epoch = lambda run, epoch: told.append(epoch)
    run_study(small_plan(**FOUR_EPOCHS), stopped, progress=quiet)
    # from the checkpoint, not from the start
    assert told == [3, 4]
    assert quiet.warnings == {}
    (steps,) = stopped.glob("runs/*triplet*/steps.parquet")
    rows = Store(stopped).table(steps.parent.name, "steps")
    assert [row["step"] for row in rows] == list(range(4 * 14))


def as_in_format_2(path: Path) -> None:
    study = json.loads(path.read_text())
    del study["format"], study["sha256"]
    path.write_text(json.dumps({"schema": 2, **study}))


def as_in_format_6(path: Path) -> None:
    study = read_json(path)
    write_json(path, {**study, "format": 6, "plan": "of another form"})


@pytest.mark.parametrize("content", [as_in_format_2, as_in_format_6])
def test_a_study_of_another_format_is_neither_read_nor_written_over(
    finished_small_study, quiet, content
):
    path = finished_small_study / "study.json"
    content(path)
    before = {p: p.read_bytes() for p in finished_small_study.rglob("*") if p.is_file()}
    for act in (
        lambda: run_study(small_plan(), finished_small_study, progress=quiet),
        lambda: read_study(finished_small_study).results,
        lambda: read_status(finished_small_study),
    ):
        with pytest.raises(
            StudyError, match=r"is of format [26], and this version of lossgauge reads format 5"
        ):
            act()
    assert {p: p.read_bytes() for p in finished_small_study.rglob("*") if p.is_file()} == before


def test_where_the_last_checkpoint_is_damaged_the_one_before_is_taken(
    tmp_path, stopped_and_whole, quiet, monkeypatch
):
    monkeypatch.setattr("lossgauge.study.run.execute.CHECKPOINT_SECONDS", 0)
    plan = small_plan(**FOUR_EPOCHS)

    class KeepsBoth(StopsInEpoch3):
        def epoch(self, run, epoch):
            if epoch == 2:  # what a kill between two steps of a checkpoint leaves
                (one,) = tmp_path.glob("out/partial/*/1")
                shutil.copytree(one, tmp_path / "one")
            super().epoch(run, epoch)

    with pytest.raises(KeyboardInterrupt):
        run_study(plan, tmp_path / "out", progress=KeepsBoth())
    (two,) = tmp_path.glob("out/partial/*/2")
    shutil.copytree(tmp_path / "one", two.with_name("1"))
    flip(two / "state.safetensors")
    told = []
    quiet.epoch = lambda run, epoch: told.append(epoch)
    run_study(plan, tmp_path / "out", progress=quiet)
    assert told == [2, 3, 4]
    (words,) = quiet.warnings.values()
    assert words.endswith("; the run continues from its checkpoint of epoch 1")
    assert_as_if_never_stopped(tmp_path / "out", stopped_and_whole)


def test_a_checkpoint_of_another_run_is_not_taken_up(tmp_path, quiet, monkeypatch):
    monkeypatch.setattr("lossgauge.study.run.execute.CHECKPOINT_SECONDS", 0)
    plan = small_plan(**FOUR_EPOCHS, seeds=2)
    with pytest.raises(KeyboardInterrupt):
        run_study(plan, tmp_path, progress=StopsInEpoch3())
    (begun,) = (tmp_path / "partial").iterdir()
    other = next(
        row["run"]
        for row in Store(tmp_path).read_study()["runs"]
        if row["seed"] == 1 and row["loss"] == "triplet"
    )
    shutil.copytree(begun, begun.with_name(other))
    run_study(plan, tmp_path, progress=quiet)
    ((run, words),) = quiet.warnings.items()
    assert run == other
    assert f"it belongs to '{begun.name}/2'" in words


def test_a_changed_width_writes_the_references_again(tmp_path, quiet):
    for width in (16, 8):
        run_study(
            small_plan(losses="triplet", epochs=1, embedding_size=width), tmp_path, progress=quiet
        )
        record = read_json(tmp_path / "datasets" / "digits.json")
        assert record["embedding_size"] == width
    run_study(
        small_plan(losses="triplet", epochs=1, embedding_size=8), tmp_path / "new", progress=quiet
    )
    assert read_json(tmp_path / "new" / "datasets" / "digits.json") == record
    assert quiet.warnings == {}


@pytest.mark.usefixtures("forked_workers")
@pytest.mark.parametrize("resources", [DEFAULT, Resources(jobs=2)])
def test_runs_that_are_removed_while_the_study_works_are_told_and_counted(
    tmp_path, quiet, resources
):
    plan = small_plan(losses="triplet,contrastive,ccl", epochs=1)

    class Removes(Quiet):
        def end(self, run, summary):
            super().end(run, summary)
            if len(self.ended) == 2 and resources is DEFAULT:
                shutil.rmtree(tmp_path / "runs")
            elif len(self.ended) == 2:  # a worker may be writing into the folder
                for folder in (tmp_path / "runs").iterdir():
                    if not folder.name.startswith("."):
                        shutil.rmtree(folder)

    watcher = Removes()
    outcome = run_study(plan, tmp_path, progress=watcher, resources=resources)
    there = {path.name for path in (tmp_path / "runs").iterdir()}
    missing = set(watcher.ended) - there
    assert len(missing) >= 2
    assert (outcome.done, outcome.failed) == (4 - len(missing), len(missing))
    (words,) = watcher.warnings.values()
    assert (
        f"{len(missing)} runs were removed from {tmp_path / 'runs'} while the study was running"
        in words
    )
    assert all(name in words for name in missing)
    outcome = run_study(plan, tmp_path, progress=quiet)
    assert (outcome.done, outcome.failed) == (len(missing), 0)


@pytest.mark.usefixtures("forked_workers")
def test_damaged_features_for_workers_fail_their_runs_in_words(tmp_path, quiet, monkeypatch):
    def hand_over_and_flip(features, path):
        write_features_file(features, path)
        flip(path)

    monkeypatch.setattr(
        "lossgauge.study.engines.features_file.write_features_file", hand_over_and_flip
    )
    plan = small_plan(losses="triplet", epochs=1)
    outcome = run_study(plan, tmp_path, progress=quiet, resources=Resources(jobs=2))
    assert outcome.failed == 2
    assert all(
        "features-0.safetensors is damaged (its content" in w for w in quiet.failures.values()
    )
    monkeypatch.undo()


def test_the_folder_can_be_moved_and_read_and_gone_on_with(tmp_path, quiet, monkeypatch):
    run_study(small_plan(losses="triplet"), tmp_path / "here", progress=quiet)
    before = read_study(tmp_path / "here").results
    os.rename(tmp_path / "here", tmp_path / "there")
    assert read_study(tmp_path / "there").results == before
    outcome = run_study(small_plan(), tmp_path / "there", progress=quiet)
    assert (outcome.done, outcome.reused) == (1, 2)
