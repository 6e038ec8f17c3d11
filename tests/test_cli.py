"""The command line as a person meets it: in a process of its own."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SMALL = """
datasets: [digits]
backbone: pixels
losses: [triplet, ccl]
seeds: 1
epochs: 2
batch_size: 64
learning_rate: 0.001
embedding_size: 16
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with a study file and a loss of one's own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LOSSGAUGE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "small.yaml").write_text(SMALL)
    (tmp_path / "my_loss.py").write_text(
        "def pull(z, y):\n    return -((y[:, None] == y) * (z @ z.T)).mean()\n"
        "def push(z, y):\n    return -pull(z, y)\n"
    )
    return tmp_path


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "lossgauge", *arguments], capture_output=True, text=True, timeout=120
    )


def assert_refused(done: subprocess.CompletedProcess[str], *words: str) -> None:
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    for word in words:
        assert word in done.stderr


def test_help_says_what_it_is_with_examples_and_does_not_import_torch():
    code = "import sys; sys.argv = ['lossgauge', '--help']\nfrom lossgauge.cli import app\n"
    code += "try:\n    app()\nexcept SystemExit:\n    pass\nassert 'torch' not in sys.modules, 'torch was imported'"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for command in ("study", "report", "status", "losses", "datasets", "features", "check"):
        assert command in done.stdout
    assert "lossgauge study demo" in run("study", "--help").stdout


def test_a_study_its_status_and_its_report(place: Path):
    done = run("study", "small.yaml", "--set", "losses=triplet,my_loss.py:pull")
    assert done.returncode == 0, done.stderr
    assert "[3/3]" in done.stderr
    assert "3 runs done, 0 were there, 0 failed" in done.stdout
    page = place / "lossgauge-results" / "small" / "report.html"
    first = page.read_bytes()
    assert b"my_loss.py:pull" in first
    status = run("status", "lossgauge-results/small")
    assert "done     3" in status.stdout
    assert run("report", "lossgauge-results/small", "--out", "page.html").returncode == 0
    assert (place / "page.html").read_bytes() == first
    assert page.read_bytes() == first
    again = run("study", "small.yaml", "--set", "losses=triplet,my_loss.py:pull")
    assert "0 runs done, 3 were there" in again.stdout


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_ctrl_c_leaves_a_state_that_the_same_command_goes_on_from(place: Path, jobs: str):
    command = [
        sys.executable,
        "-m",
        "lossgauge",
        "study",
        "small.yaml",
        "--out",
        "out",
        "--set",
        "epochs=400",
        "--jobs",
        jobs,
    ]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 60
    while not list(Path("out").glob("runs/*untrained*")):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.02)
    time.sleep(0.5)
    # as a terminal does: to the study and to its workers
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    # Python ends itself by the signal where it came amid an exec of text, as compiling does: 130 to any shell
    assert process.returncode in (130, -signal.SIGINT)
    assert "stopped; what is done is in out. The same command goes on:" in errors
    assert f"  lossgauge study small.yaml --out out --set epochs=400 --jobs {jobs}\n" in errors
    assert "Traceback" not in errors
    assert not list(Path("out").glob("**/.new-*"))
    status = run("status", "out").stdout
    assert "done     1" in status
    assert "no study is at work here; the same study command goes on" in status
    # with fewer epochs, to be done soon: the baseline is there already
    done = run("study", "small.yaml", "--out", "out")
    assert "2 runs done, 1 were there, 0 failed" in done.stdout


@pytest.mark.parametrize("seconds", [0.4, 1.0])
def test_ctrl_c_before_the_first_run_names_the_command_too(place: Path, seconds: float):
    process = subprocess.Popen(
        [sys.executable, "-m", "lossgauge", "study", "small.yaml", "--set", "epochs=900"],
        stderr=subprocess.PIPE,
        text=True,
    )
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert "The same command goes on:\n  lossgauge study small.yaml --set epochs=900\n" in errors
    assert "Traceback" not in errors


def test_a_dry_run_says_what_would_be_and_writes_nothing(place: Path):
    settings = ("--set", "tune.trials=3", "--set", "sensitivity=0.5,2", "--jobs", "2")
    first = run("study", "small.yaml", "--dry-run", *settings)
    assert first.returncode == 0
    assert "before that its features, about" in first.stdout
    assert "17 runs, 0 of them done" in first.stdout
    run("features", "digits", "--backbone", "pixels")
    before = sorted(place.rglob("*"))
    done = run("study", "small.yaml", "--dry-run", *settings)
    assert sorted(place.rglob("*")) == before
    # untrained, 2 losses, 3 settings at 2 multiples, 2 × 3 trials, 2 tuned
    assert "17 runs, 0 of them done in lossgauge-results/small" in done.stdout
    assert "896 training and 901 test rows of 64 features" in done.stdout
    assert "at best" in done.stdout
    assert " MB" in done.stdout


def test_a_tuned_study_with_two_jobs_its_tables_and_its_schema(place: Path):
    done = run("study", "small.yaml", "--set", "tune.trials=6", "--jobs", "2", "--out", "out")
    assert done.returncode == 0
    assert "17 runs, 0 of them done before" in done.stderr
    page = Path("out/report.html").read_text()
    assert "triplet(tuned)" in page
    exported = run("export", "out", "--to", "csv")
    assert exported.returncode == 0, exported.stderr
    rows = Path("out/export/csv/runs.csv").read_text().splitlines()
    assert len(rows) == 1 + 5
    assert_refused(run("export", "out", "--to", "cvs"), "did you mean 'csv'")
    schema = json.loads(run("schema").stdout)
    assert "tune" in schema["properties"]


def test_a_failed_run_is_told_by_the_exit_code(place: Path):
    Path("my_loss.py").write_text("def pull(z, y):\n    return z.nothing\n")
    done = run("study", "small.yaml", "--set", "losses=triplet,my_loss.py:pull", "--out", "out")
    assert done.returncode == 1
    assert "2 runs done, 0 were there, 1 failed" in done.stdout
    assert "AttributeError" in run("status", "out").stdout


def test_lists_of_losses_and_datasets(place: Path):
    losses = run("losses").stdout
    assert "triplet" in losses
    assert "margin=0.2" in losses
    datasets = run("datasets").stdout
    assert "digits: found in" in datasets
    assert "cub200: not here" in datasets


def test_features_are_extracted_and_found_again(place: Path):
    first = run("features", "digits", "--backbone", "pixels")
    assert "1797 rows of 64 features by pixels, halves split 896/901" in first.stdout
    assert "1797 of 1797 images" in first.stderr
    assert run("features", "digits", "--backbone", "pixels").stderr == ""


def test_what_is_left_out_of_a_dataset_is_named(place: Path):
    for label in ("ant", "bee"):
        (place / "pets" / label).mkdir(parents=True)
        for number in range(4):
            Image.new("L", (4, 3), 9 * number).save(place / "pets" / label / f"{number}.png")
    (place / "pets" / "ant" / "notes.txt").write_text("small")
    (place / "pets" / "ant" / "9.jpg").write_text("no image")
    told = (
        "folder:pets: 1 files that are no images are left out: ant/notes.txt\n"
        "folder:pets: 1 of 9 images cannot be read and are left out: ant/9.jpg\n"
    )
    for _ in range(2):
        done = run("features", "folder:pets", "--backbone", "pixels")
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("folder:pets: 8 rows of 12 features by pixels")
        assert done.stdout.endswith(told)
    dry = run("study", "small.yaml", "--set", "datasets=folder:pets", "--dry-run")
    assert told in dry.stderr


def test_check_tells_which_rules_a_loss_keeps(place: Path):
    done = run("check", "triplet")
    assert done.returncode == 0
    assert "BROKEN" not in done.stdout
    broken = run("check", "my_loss.py:push")
    assert broken.returncode == 1
    assert "BROKEN  descending it brings classes together" in broken.stdout


def test_check_tells_a_collapsed_space_from_a_good_one(place: Path):
    labels = np.repeat(np.arange(4), 5)
    good = np.eye(8, dtype=np.float32)[labels] + np.random.default_rng(0).normal(
        0, 0.1, (20, 8)
    ).astype(np.float32)
    np.savez("good.npz", embeddings=good, labels=labels)
    np.savez("flat.npz", embeddings=np.ones((20, 8), np.float32), labels=labels)
    assert "no bad sign seen" in run("check", "good.npz").stdout
    assert "collapsed to one point" in run("check", "flat.npz").stdout


@pytest.mark.parametrize(
    ("embeddings", "labels", "words"),
    [
        (np.ones((3, 2)), np.arange(2), "got 3 embeddings and 2 labels"),
        (np.array([[1, 0], [np.nan, 1], [0, 1]]), np.array([0, 1, 0]), "NaN in row 1"),
        (np.eye(3), np.zeros(3, int), "at least two"),
        (np.eye(3), np.arange(3), "each of the 3 classes has one sample"),
        (np.ones((0, 2)), np.zeros(0, int), "empty"),
        (np.array([[None]]), np.array([1]), "cannot be read as .npz"),
    ],
)
def test_bad_embeddings_are_one_clear_line(place: Path, embeddings, labels, words):
    np.savez("bad.npz", embeddings=embeddings, labels=labels)
    assert_refused(run("check", "bad.npz"), words)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("study", "dmo"), "did you mean 'demo'"),
        (("study", "small.yaml", "--set", "epoch=3"), "did you mean 'epochs'"),
        (("study", "small.yaml", "--set", "datasets=digit"), "did you mean 'digits'"),
        (("study", "small.yaml", "--set", "losses=tripplet"), "did you mean 'triplet'"),
        (("features", "digit"), "did you mean 'digits'"),
        (("features", "fashion-mnist"), "not in"),
        (("report", "nowhere"), "holds no study"),
        (("status", "nowhere"), "holds no study"),
        (("study", "small.yaml", "--set", "seeds=0"), "seeds"),
        (("study", "small.yaml", "--set", "hidden_size=3"), "head: mlp"),
        (("study", "small.yaml", "--set", "epochs={low: 1, high: 3}"), "epochs cannot be tuned"),
        (("study", "small.yaml", "--engine", "slurm"), "known: local, ray"),
        (("study", "small.yaml", "--device", "cuda"), "torch sees no GPU"),
        (("study", "small.yaml", "--dry-run", "--engine", "slurm"), "known: local, ray"),
        (("study", "small.yaml", "--set", "sensitivity=1e308"), "is no number"),
        (("study", "small.yaml", "--jobs", "2", "--cpus", "inf"), "finite"),
        (("export", "nowhere"), "holds no study"),
        (("check", "nothing.npz"), "nothing.npz"),
        (("check", "my_loss.py:pul"), "did you mean 'pull'"),
    ],
)
def test_a_mistake_is_one_clear_line_and_leaves_nothing(place: Path, monkeypatch, arguments, words):
    monkeypatch.setenv("LOSSGAUGE_FASHION_MNIST", str(place / "empty"))
    before = sorted(os.listdir(place))
    assert_refused(run(*arguments), words)
    assert sorted(set(os.listdir(place)) - {"__pycache__"}) == before


def test_a_cache_with_a_flipped_byte_is_one_clear_line(place: Path):
    run("features", "digits", "--backbone", "pixels")
    (path,) = place.glob("cache/*/shard-00000.safetensors")
    content = bytearray(path.read_bytes())
    content[5000] ^= 1
    path.write_bytes(content)
    assert_refused(run("study", "small.yaml"), str(path), "lossgauge cache rm digits")
    assert run("cache", "verify").returncode == 1
    assert run("features", "digits", "--backbone", "pixels", "--refresh").returncode == 0
    assert run("study", "small.yaml").returncode == 0
