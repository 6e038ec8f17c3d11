import shutil

import pytest

from lossgauge.export import export_study
from lossgauge.integrations.tensorboard import run_folder
from lossgauge.integrations.tracked import TrackedRun
from tests.integrations import expected


def scalars(folder):
    """(name, step) → values of an event folder."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    found = {}
    for name in events.Tags()["scalars"]:
        for event in events.Scalars(name):
            found.setdefault((name, event.step), []).append(event.value)
    return found


@pytest.fixture
def exported(study, tmp_path):
    assert export_study(study, "tensorboard", tmp_path / "out") == str(tmp_path / "out")
    return tmp_path / "out"


def folders(exported):
    return sorted({path.parent for path in exported.rglob("events.*")})


def test_every_run_comes_back_with_its_numbers_once_even_after_two_exports(study, exported):
    names = [str(path.relative_to(exported)) for path in folders(exported)]
    export_study(study, "tensorboard", exported)
    assert [str(path.relative_to(exported)) for path in folders(exported)] == names
    rows = expected.tracked(study)
    assert len(names) == len(rows)
    for row in rows:
        end = row["run"].rpartition("_")[2]
        if row["variant"] != "default":
            end += f"-{row['variant']}-*"
        (place,) = (exported / "digits" / row["loss"]).glob(f"seed-{row['seed']}-{end}")
        numbers = expected.epoch_numbers(study, row["run"])
        last = max(epoch for _, epoch in numbers)
        for name, value in expected.summary_numbers(study, row).items():
            numbers[name, last] = value
        found = scalars(place)
        assert set(found) == set(numbers)
        for key, values in found.items():
            # float32, as its event files are
            assert values == [pytest.approx(numbers[key], rel=1e-7)], key


def test_a_run_that_is_gone_from_the_study_is_gone_from_a_new_export(study, exported, tmp_path):
    copy = shutil.copytree(study, tmp_path / "copy")
    row = next(row for row in expected.tracked(study) if row["variant"] == "sensitivity")
    shutil.rmtree(copy / "runs" / row["run"])
    before = folders(exported)
    export_study(copy, "tensorboard", exported)
    assert len(folders(exported)) == len(before) - 1


def test_a_loss_of_ones_own_cannot_lead_out_of_the_folder():
    tags = {"seed": "0"}
    run = TrackedRun("d_l_0_abc", "", "../d", "/home/me/my_loss.py:Pull", tags, {}, [], {})
    assert run_folder(run).parts == ("-d", "-home-me-my_loss.py-Pull", "seed-0-abc")
