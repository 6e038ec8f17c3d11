"""A run's id hashes the code that decides its numbers: each file that a run goes through is in it, or computes nothing."""

import shutil
import sys
import threading
from pathlib import Path

import pytest
import torch

from lossgauge.backbones import BACKBONES, load_backbone
from lossgauge.data import DATASETS, load_dataset
from lossgauge.data.features import centered, features
from lossgauge.losses.registry import LOSSES, load_loss
from lossgauge.plan.loss import UNTRAINED
from lossgauge.results.writer import Store
from lossgauge.study.run.guarded import run_guarded
from lossgauge.study.schedule.code_hash import (
    EXTRACTION,
    LOOP,
    NO_NUMBERS,
    PACKAGE,
    code_of,
    makes_no_numbers,
    reached,
)
from lossgauge.study.schedule.runs import plan_runs
from tests.support.studies import fake_features, small_plan

FOLDER = f"{PACKAGE}/"
LIBRARIES = ("torch", "numpy", "scipy", "numba", "pandas")
THREADS = {"get_num_threads", "set_num_threads"}


class Trail:
    """The files of the package whose code runs, and where they call the code of a library for numbers."""

    def __init__(self):
        self.files: set[str] = set()
        self.calls: dict[str, set[str]] = {}

    def __enter__(self):
        threading.setprofile(self._see)
        sys.setprofile(self._see)
        return self

    def __exit__(self, *error):
        sys.setprofile(None)
        threading.setprofile(None)

    def _see(self, frame, event, argument):
        if not frame.f_code.co_filename.startswith(FOLDER):
            return
        name = frame.f_code.co_filename.removeprefix(FOLDER)
        self.files.add(name)
        if event == "c_call":
            of = getattr(argument, "__self__", None)
            module = getattr(argument, "__module__", None) or type(of).__module__
            if module.partition(".")[0] in LIBRARIES or type(of).__module__ in LIBRARIES:
                self.calls.setdefault(name, set()).add(argument.__name__)


@pytest.mark.parametrize("loss", [*LOSSES, UNTRAINED])
def test_each_file_that_a_run_goes_through_is_in_its_id_or_computes_nothing(tmp_path, loss):
    store = Store(tmp_path)
    starts = [LOOP, EXTRACTION] + ([] if loss == UNTRAINED else [f"losses/{loss}.py"])
    asked = "triplet" if loss == UNTRAINED else loss
    evaluate_once(asked)
    for number, sampler in enumerate(("stratified_kmeans", "m_per_class")):
        plan = small_plan(
            losses=asked, sampler=sampler, batch_size=8, selection="best-validation", head="mlp"
        )
        rows = fake_features(8, disjoint=number == 1)
        run = next(run for run in plan_runs(plan, rows) if run.config.loss == loss)
        with store.exclusive_lock(), Trail() as trail:
            end = run_guarded(run, lambda rows=rows: rows, store, on_epoch=lambda epoch: None)
        assert end.error is None
        assert_in_the_id_or_without_numbers(trail, reached(starts) | {"study/run/guarded.py"})


def evaluate_once(loss):
    """So that its kernel is compiled: to watch numba take minutes would say nothing of the run."""
    sizes = {"class_count": 2, "embedding_size": 3} if loss in ("arcface", "ccl") else {}
    load_loss(loss, **sizes)(torch.randn(4, 3), torch.tensor([0, 0, 1, 1]))


def test_each_file_that_features_go_through_is_in_the_id_or_computes_nothing():
    with Trail() as trail:
        centered(features(load_dataset("digits"), load_backbone("pixels")))
    starts = [EXTRACTION, "data/digits.py", "data/hub.py", "backbones/pixels.py"]
    assert_in_the_id_or_without_numbers(trail, reached(starts))


def assert_in_the_id_or_without_numbers(trail, in_the_id):
    assert len(trail.files & in_the_id) > 3
    for file in trail.files - in_the_id:
        assert makes_no_numbers(file), file
        assert trail.calls.get(file, set()) <= THREADS, (file, trail.calls[file])


def test_the_list_of_files_without_numbers_names_files_that_exist():
    for name in NO_NUMBERS:
        assert (PACKAGE / name).exists(), name


@pytest.mark.parametrize("name", [*DATASETS, "folder:pets", "embeddings:rows.npz"])
def test_every_dataset_has_its_reader_in_the_id(name):
    file = PACKAGE / "data" / f"{name.partition(':')[0].replace('-', '_')}.py"
    assert "def load(" in file.read_text() or "DATASET = " in file.read_text()
    assert code_of("scl", dataset=name, backbone="pixels")


def test_losses_datasets_and_backbones_have_codes_of_their_own():
    names = {
        *((loss, "digits", "pixels") for loss in (*LOSSES, UNTRAINED)),
        *(("scl", name, "pixels") for name in (*DATASETS, "folder:pets", "embeddings:x")),
        *(("scl", "digits", name) for name in (*BACKBONES[:2], "hf:model")),
    }
    codes = {code_of(loss, dataset=of, backbone=by) for loss, of, by in names}
    assert len(codes) == len(names)


@pytest.fixture
def package(tmp_path):
    """A copy of this package."""
    ignored = shutil.ignore_patterns("__pycache__", "*.html", "*.css", "*.js")
    return Path(shutil.copytree(PACKAGE, tmp_path / "lossgauge", ignore=ignored))


def edit(package, file, old, new):
    path = package / file
    text = path.read_text()
    assert old in text, (file, old)
    path.write_text(text.replace(old, new, 1))


def code(package=PACKAGE, loss="triplet", dataset="digits", backbone="pixels"):
    return code_of(loss, dataset=dataset, backbone=backbone, package=package)


MOVES = [
    ("kernels/triplet.py", "import", "X = 1\nimport"),
    ("kernels/threads.py", "ROWS_A_PIECE = 32", "ROWS_A_PIECE = 16"),
    ("losses/triplet.py", "class Triplet", "X = 1\nclass Triplet"),
    ("losses/base.py", "1.0 / divisor", "2.0 / divisor"),
    ("losses/compiled.py", "class Classes", "X = 1\nclass Classes"),
    ("data/samplers.py", "def ", "X = 1\ndef "),
    ("data/csv_digits.py", "halves(labels)", "halves(labels[::-1])"),
    ("data/splits.py", "def ", "X = 1\ndef "),
    ("data/extraction.py", "BATCH = 32", "BATCH = 16"),
    ("backbones/pixels.py", "class ", "X = 1\nclass "),
    ("training.py", "EMBED_ROWS = 1024", "EMBED_ROWS = 512"),
    ("heads.py", "torch.relu", "torch.tanh"),
    ("sphere.py", "1e-12)", "1e-9)"),
    ("diagnostics/probe.py", "TOGETHER = 32", "TOGETHER = 16"),
    ("diagnostics/variance.py", "math.isfinite", "math.isnan"),
    ("diagnostics/spacing.py", "def ", "X = 1\ndef "),
    ("ranking/metrics.py", "def ", "X = 1\ndef "),
    ("study/run/measure.py", "torch.inf).min()", "torch.inf).max()"),
    ("study/run/setup.py", "KMEANS_CELLS = 64", "KMEANS_CELLS = 32"),
    ("study/run/summary.py", "median(row", "max(row"),
    ("study/run/execute.py", "1_000_003", "1_000_033"),
]
STAYS = [
    ("study/run/execute.py", '"""One run', '"""Exactly one run'),
    ("study/run/execute.py", "    # a loss may draw", "    # now and then a loss draws"),
    ("study/run/execute.py", "has changed since the study started", "is another one now"),
    ("study/run/measure.py", "row: Record = {}", "row: dict = {}"),
    ("losses/triplet.py", '"""', '"""In short: '),
    ("losses/ccl.py", "class CCL", "X = 1\nclass CCL"),
    ("data/cub200.py", "def ", "X = 1\ndef "),
    ("backbones/hugging_face.py", "class HuggingFace", "X = 1\nclass HuggingFace"),
    ("report/page.py", "def ", "X = 1\ndef "),
    ("report/text/findings.py", "def ", "X = 1\ndef "),
    ("cli/program.py", "def ", "X = 1\ndef "),
    ("results/columns.py", "class Column", "X = 1\nclass Column"),
    ("results/frames.py", "def ", "X = 1\ndef "),
    ("errors.py", "class PlanError", "X = 1\nclass PlanError"),
    ("files.py", "MOST_LEVELS = 20", "MOST_LEVELS = 19"),
    ("health/space.py", "def ", "X = 1\ndef "),
    ("claims/verdicts.py", "def ", "X = 1\ndef "),
    ("study/engines/processes.py", "def ", "X = 1\ndef "),
    ("study/runner.py", "def ", "X = 1\ndef "),
]


def test_a_copy_of_the_package_has_the_same_code(package):
    assert code(package) == code()


@pytest.mark.parametrize(("file", "old", "new"), MOVES)
def test_a_change_of_a_number_moves_the_id(package, file, old, new):
    edit(package, file, old, new)
    assert code(package) != code()


@pytest.mark.parametrize(("file", "old", "new"), STAYS)
def test_a_change_of_words_or_of_what_others_read_leaves_the_id(package, file, old, new):
    edit(package, file, old, new)
    assert code(package) == code()


@pytest.mark.parametrize(
    ("file", "changed"),
    [
        ("losses/ccl.py", {"loss": "ccl"}),
        ("losses/proxies.py", {"loss": "arcface"}),
        ("losses/info_nce.py", {"loss": "matryoshka"}),  # a setting of it names any loss
        ("data/hub.py", {"dataset": "cub200"}),
        ("data/folder.py", {"dataset": "folder:pets"}),
        ("data/embeddings.py", {"dataset": "embeddings:rows.npz"}),
        ("backbones/efficientnet_lite0.py", {"backbone": "efficientnet-lite0"}),
        ("backbones/hugging_face.py", {"backbone": "hf:some/model"}),
    ],
)
def test_the_files_of_one_loss_dataset_or_backbone_are_in_its_own_runs_only(package, file, changed):
    edit(package, file, "import annotations\n", "import annotations\nX = 1\n")
    assert code(package, **changed) != code(**changed)
    if file != "data/hub.py":  # a named dataset may come from there
        assert code(package) == code()


def test_a_module_that_a_loss_newly_imports_is_in_the_id(package):
    (package / "losses" / "extra.py").write_text("X = 1\n")
    edit(
        package, "losses/triplet.py", "import torch", "import torch\nimport lossgauge.losses.extra"
    )
    before = code(package)
    other = Path(shutil.copytree(package, package.with_name("other")))
    edit(other, "losses/extra.py", "X = 1", "X = 2")
    assert code(other) != before


def test_a_users_loss_counts_by_its_meaning_with_the_neighbours_that_it_imports(tmp_path):
    own, near = tmp_path / "own.py", tmp_path / "near.py"
    name = f"{own}:pull"
    near.write_text("K = 1")
    own.write_text("from near import K\ndef pull(z, y):\n    return K * z.sum()\n")
    before = code(loss=name)
    assert before != code()
    near.write_text("# one\nK = 1\n")
    own.write_text(
        'from near import K\ndef pull(z, y):\n    """Pulls."""\n    return K * z.sum()\n'
    )
    assert code(loss=name) == before
    near.write_text("K = 2")
    assert code(loss=name) != before


def test_a_users_loss_that_imports_this_package_counts_with_all_its_losses(package, tmp_path):
    plain, building = tmp_path / "plain.py", tmp_path / "building.py"
    plain.write_text("def pull(z, y):\n    return z.sum()\n")
    building.write_text(
        "import lossgauge\ndef pull(z, y):\n    return lossgauge.load_loss('ccl')(z, y)\n"
    )
    edit(package, "losses/ccl.py", "class CCL", "X = 1\nclass CCL")
    assert code(package, loss=f"{plain}:pull") == code(loss=f"{plain}:pull")
    assert code(package, loss=f"{building}:pull") != code(loss=f"{building}:pull")
