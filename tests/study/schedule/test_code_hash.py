"""What a run's numbers come from is in its id: every file of this package that a run goes through, and a user's own."""

import sys
from pathlib import Path

import pytest

from lossgauge.losses.registry import LOSSES
from lossgauge.plan.loss import UNTRAINED, LossPlan
from lossgauge.results.store import Store
from lossgauge.study.run.guarded import run_guarded
from lossgauge.study.schedule.code_hash import PACKAGE, SHARED, code_of
from lossgauge.study.schedule.runs import make_run
from tests.study.conftest import small_plan
from tests.study.schedule.test_runs import fake_features

NO_NUMBERS = {
    "study/attempt.py",
    "study/code.py",
    "files.py",
    "study/schedule/runs.py",
    "plan/loss.py",
    "results/records.py",
    "results/store.py",
    "errors.py",
    "types.py",
    "user_file.py",
    "user_folders.py",
    "losses/registry.py",
    "losses/settings.py",
}
"""What carries numbers and makes none: files and folders, the config of a run, the import of a loss."""


def files_gone_through(run, features, store):
    found = set()

    def see(frame, event, argument):
        found.add(frame.f_code.co_filename)

    sys.setprofile(see)
    try:
        end = run_guarded(run, lambda: features, store, on_epoch=lambda epoch: None)
    finally:
        sys.setprofile(None)
    assert end.error is None
    return {str(Path(f).relative_to(PACKAGE)) for f in found if Path(f).is_relative_to(PACKAGE)}


@pytest.mark.parametrize("loss", [*LOSSES, UNTRAINED])
def test_every_file_that_a_run_goes_through_is_in_its_id(tmp_path, loss):
    store = Store(tmp_path)
    for number, sampler in enumerate(("stratified_kmeans", "m_per_class")):
        plan = small_plan(sampler=sampler, batch_size=8, selection="best-validation", head="mlp")
        features = fake_features(8, disjoint=number == 1)
        run = make_run(plan, features, LossPlan(name=loss), 0)
        with store.exclusive_lock():
            gone_through = files_gone_through(run, features, store)
        for file in gone_through - NO_NUMBERS:
            assert any(
                Path(file).is_relative_to(part) for part in (*SHARED, f"losses/{loss}.py")
            ), file


def test_each_loss_has_a_code_of_its_own_and_an_edit_of_a_users_file_another(tmp_path):
    codes = {code_of(name) for name in (*LOSSES, UNTRAINED)}
    assert len(codes) == len(LOSSES) + 1
    own = tmp_path / "own.py"
    (tmp_path / "near.py").write_text("K = 1")
    own.write_text("from near import K\ndef pull(z, y):\n    return K * z.sum()\n")
    before = code_of(f"{own}:pull")
    (tmp_path / "near.py").write_text("K = 2")
    assert code_of(f"{own}:pull") not in (before, *codes)
