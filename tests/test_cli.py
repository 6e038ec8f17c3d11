"""The command line as a person meets it: in this process, and in one of its own where that is the point."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image

import lossgauge
from lossgauge import cli
from lossgauge.backbones import BACKBONES
from lossgauge.claims.verdicts import STATUSES
from lossgauge.cli import arguments as shared
from lossgauge.cli import lists
from lossgauge.errors import InputError
from lossgauge.integrations import EXPORTERS
from lossgauge.plan.yaml_file import built_in_studies
from lossgauge.results import reader
from lossgauge.results.reader import read_study
from lossgauge.study.runner import run_study
from tests.support.command_line import LOSSGAUGE, assert_refused
from tests.support.command_line import run_cli as run
from tests.support.forking import fork_script
from tests.support.studies import SMALL, Quiet, small_plan
from tests.support.waiting import PATIENCE, wait_for


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
    assert "3 runs done, 0 reused, 0 failed" in done.stdout
    page = place / "lossgauge-results" / "small" / "report.html"
    first = page.read_bytes()
    assert b"my_loss.py:pull" in first
    status = run("status", "lossgauge-results/small")
    assert "done     3" in status.stdout
    assert run("report", "lossgauge-results/small", "--out", "page.html").returncode == 0
    assert (place / "page.html").read_bytes() == first
    assert page.read_bytes() == first
    again = run("study", "small.yaml", "--set", "losses=triplet,my_loss.py:pull")
    assert "0 runs done, 3 reused" in again.stdout


def in_the_middle_of_a_run() -> bool:
    """Whether the baseline is done and a loss has come some epochs far."""
    status = Path("out/.work/running.json")
    return bool(list(Path("out").glob("runs/*untrained*"))) and any(
        json.loads(status.read_text())["running"].values() if status.is_file() else ()
    )


def test_ctrl_c_leaves_a_state_that_the_same_command_goes_on_from(place: Path):
    """With two jobs: tests/test_stopping.py."""
    words = ["study", "small.yaml", "--out", "out", "--set", "epochs=400", "--jobs", "1"]
    process = fork_script("from lossgauge.__main__ import main; main()", *words)
    wait_for(in_the_middle_of_a_run, process=process)
    process.send_signal(signal.SIGINT)
    assert process.wait(PATIENCE) == 130
    errors = process.output
    assert errors.endswith(
        "lossgauge: stopped; finished runs are kept in out. To continue, run the same command: "
        "lossgauge study small.yaml --out out --set epochs=400 --jobs 1\n"
    )
    assert "Traceback" not in errors
    assert not list(Path("out").glob("**/.new-*"))
    status = run("status", "out").stdout
    assert "done     1" in status
    assert "no study is running here; to continue, run the same `lossgauge study` command" in status
    # with fewer epochs, to be done soon: the baseline is there already
    done = run("study", "small.yaml", "--out", "out")
    assert "2 runs done, 1 reused, 0 failed" in done.stdout


@pytest.mark.parametrize("library", ["libtorch_cpu", "llvmlite"])
def test_ctrl_c_before_the_first_run_names_the_command_too(place: Path, library: str):
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "lossgauge",
            "study",
            "small.yaml",
            "--jobs",
            "1",
            "--set",
            "epochs=900",
        ],
        stderr=subprocess.PIPE,
        text=True,
    )
    # as soon as it is in the middle of its imports
    wait_for(lambda: library in Path(f"/proc/{process.pid}/maps").read_text(), process=process)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=PATIENCE)
    assert errors.endswith(": lossgauge study small.yaml --jobs 1 --set epochs=900\n")
    assert "Traceback" not in errors


def test_a_dry_run_says_what_would_be_and_writes_nothing(place: Path):
    settings = ("--set", "tune.trials=3", "--set", "sensitivity=0.5,2", "--jobs", "2")
    first = run("study", "small.yaml", "--dry-run", *settings)
    assert first.returncode == 0
    assert "first its features, about" in first.stdout
    assert "17 runs, 0 of them done" in first.stdout
    run("features", "digits", "--backbone", "pixels")
    before = sorted(place.rglob("*"))
    done = run("study", "small.yaml", "--dry-run", *settings)
    assert sorted(place.rglob("*")) == before
    # untrained, 2 losses, 3 settings at 2 multiples, 2 × 3 trials, 2 tuned
    assert "17 runs, 0 of them done in lossgauge-results/small" in done.stdout
    assert "896 training and 901 test rows of 64 features" in done.stdout
    assert "jobs at least" in done.stdout
    assert " MB" in done.stdout


def test_a_tuned_study_its_tables_and_its_schema(place: Path):
    done = run("study", "small.yaml", "--set", "tune.trials=6", "--out", "out")
    assert done.returncode == 0
    assert "17 runs, 0 reused" in done.stderr
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
    assert "2 runs done, 0 reused, 1 failed" in done.stdout
    assert "AttributeError" in run("status", "out").stdout


def test_lists_of_losses_and_datasets(place: Path):
    losses = run("losses").stdout
    assert "triplet" in losses
    assert "margin=0.2" in losses
    datasets = run("datasets").stdout
    assert "digits: found in" in datasets
    assert "cub200: not found" in datasets
    lines = datasets.splitlines()
    assert all(len(line) <= 100 or len(line.split()) == 1 for line in lines), lines


def test_features_are_extracted_and_found_again(place: Path):
    first = run("features", "digits", "--backbone", "pixels")
    assert "1797 rows of 64 features by pixels, halves split 896/901" in first.stdout
    assert "1797 of 1797 rows" in first.stderr
    assert run("features", "digits", "--backbone", "pixels").stderr == ""


def test_what_is_left_out_of_a_dataset_is_named(place: Path):
    for label in ("ant", "bee"):
        (place / "pets" / label).mkdir(parents=True)
        for number in range(4):
            Image.new("L", (4, 3), 9 * number).save(place / "pets" / label / f"{number}.png")
    (place / "pets" / "ant" / "notes.txt").write_text("small")
    (place / "pets" / "ant" / "9.jpg").write_text("no image")
    told = (
        "folder:pets: left out because they are not images, or in a format that is not read (1): ant/notes.txt\n"
        "folder:pets: left out because they cannot be read (1 of 9): ant/9.jpg\n"
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
    assert "no known problem found" in run("check", "good.npz").stdout
    assert "act: collapse" in run("check", "flat.npz").stdout


def test_check_says_the_same_of_any_byte_order_layout_and_scale(place: Path):
    labels = np.repeat(np.arange(4), 6)
    noise = np.random.default_rng(0).normal(0, 0.2, (24, 8))
    rows = (np.eye(8)[labels] + noise).astype(np.float32)
    places = {
        "plain": (rows, labels),
        "foreign": (rows.astype(">f4"), labels.astype(">i8")),
        "columns": (np.asfortranarray(rows), labels.astype(">u2")),
        "tiny": (rows * np.float32(2.0**-86), labels),
        "huge": (rows * np.float32(2.0**100), labels),
        "double": (rows.astype(">f8") * 2.0**-500, labels),
    }
    for name, (embeddings, numbers) in places.items():
        np.savez(f"{name}.npz", embeddings=embeddings, labels=numbers)
    plain = run("check", "plain.npz")
    assert plain.stderr == ""
    for name in places:
        done = run("check", f"{name}.npz")
        assert (done.returncode, done.stderr) == (0, ""), name
        first, *rest = done.stdout.splitlines()
        assert first.startswith("24 rows of 4 classes, width 8, norms from")
        # digits that float32 does not keep are not shown
        assert rest == plain.stdout.splitlines()[1:], name


def test_check_counts_rows_of_zeros_and_measures_numbers_of_any_size(place: Path):
    labels, rows = np.repeat(np.arange(4), 5), np.random.default_rng(0).normal(size=(20, 8))
    np.savez("huge.npz", embeddings=rows * 1e160, labels=labels)
    np.savez("usual.npz", embeddings=rows, labels=labels)
    huge, usual = (run("check", name).stdout.splitlines() for name in ("huge.npz", "usual.npz"))
    assert huge[1:] == usual[1:]
    rows[[3, 7]] = 0
    np.savez("zeros.npz", embeddings=rows, labels=labels)
    assert (
        "2 of 20 rows are all zeros and are left out, the first is zeros.npz, row 3"
        in run("check", "zeros.npz").stdout
    )


@pytest.mark.parametrize(
    ("embeddings", "labels", "words"),
    [
        (np.ones((3, 2)), np.arange(2), "holds 3 embeddings, but labels has shape (2,)"),
        (np.array([[1, 0], [np.nan, 1], [0, 1]]), np.array([0, 1, 0]), "row 1 holds NaN"),
        (np.ones((0, 2)), np.zeros(0, int), "needs at least two, got shape (0, 2)"),
        (np.ones((1, 2)), np.zeros(1, int), "needs at least two, got shape (1, 2)"),
        (np.array([[None]]), np.array([1]), "save text with labels.astype(str)"),
        (np.zeros((3, 2)), np.arange(3), "all 3 rows are zero"),
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
        (("report", "nowhere"), "does not contain a study"),
        (("status", "nowhere"), "does not contain a study"),
        (("study", "small.yaml", "--set", "seeds=0"), "seeds"),
        (("study", "small.yaml", "--set", "hidden_size=3"), "head: mlp"),
        (("study", "small.yaml", "--set", "epochs={low: 1, high: 3}"), "epochs cannot be tuned"),
        (("study", "small.yaml", "--engine", "slurm"), "known: local, in-process, processes, ray"),
        (("study", "small.yaml", "--device", "cuda"), "torch finds no GPU"),
        (
            ("study", "small.yaml", "--dry-run", "--engine", "slurm"),
            "known: local, in-process, processes, ray",
        ),
        (("study", "small.yaml", "--set", "sensitivity=1e308"), "is not finite"),
        (("study", "small.yaml", "--jobs", "2", "--cpus", "inf"), "finite"),
        (("export", "nowhere"), "does not contain a study"),
        (("export", "nowhere", "--to", "cvs"), "unknown export format 'cvs' (did you mean 'csv'?)"),
        (("export", "nowhere", "--quote-formulas"), "has an effect only with csv, got parquet"),
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


def called(monkeypatch, capsys, *arguments: str) -> tuple[int, str, str]:
    """Exit code and output of a command, in this process."""
    monkeypatch.setattr(sys, "argv", ["lossgauge", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    shown = capsys.readouterr()
    return ended.value.code or 0, shown.out, shown.err


COMMANDS = ("study", "report", "status", "export", "features", "check", "cache rm", "cache verify")
OPTIONS = (
    "study demo --out",
    "study demo --set",
    "study demo --engine",
    "study demo --device",
    "report x --out",
    "export x --out",
    "export x --to",
    "features digits --backbone",
    "features digits --dtype",
    "features digits --device",
    "check x.npz --labels-name",
    "check x.npz --embeddings-name",
)


@pytest.mark.parametrize("command", [*COMMANDS, *OPTIONS])
def test_an_empty_argument_is_refused_by_every_command(place, monkeypatch, capsys, command):
    entry = place / "cache" / "digits-pixels-0123456789abcdef"
    entry.mkdir(parents=True)
    before = sorted(place.rglob("*"))
    *_, last = command.split()
    named = last if last.startswith("--") else f"the argument after {last!r}"
    for arguments in ([*command.split(), ""], [*command.split()[:-1], f"{last}="]):
        if arguments[-1] and not last.startswith("--"):
            continue
        code, out, err = called(monkeypatch, capsys, *arguments)
        assert (code, out) == (2, "")
        assert err == f"lossgauge: {named} is empty; give a value, or leave it out\n"
    assert sorted(place.rglob("*")) == before


def test_no_name_at_all_is_no_name_of_every_entry_of_the_cache(place):
    (place / "cache" / "digits-pixels-0123456789abcdef").mkdir(parents=True)
    with pytest.raises(InputError, match="the cache has no entry ''"):
        lists._cached([""])
    assert [folder.name for folder in lists._cached(["dig"])] == ["digits-pixels-0123456789abcdef"]


@pytest.mark.parametrize("command", ["study demo --out", "report", "features digits --backbone"])
def test_a_name_that_is_no_utf8_is_one_clear_line(place, monkeypatch, capsys, command):
    code, out, err = called(monkeypatch, capsys, *command.split(), "a\udcff")
    assert (code, out) == (2, "")
    assert err.startswith(r"lossgauge: 'a\udcff' is not valid UTF-8; rename")
    assert os.listdir(place) == ["my_loss.py", "small.yaml"] or not list(place.glob("a*"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ("study", "--bogus\x1b[31m"),
            r"No such option: --bogus\x1b[31m; --help shows the arguments and options",
        ),
        (("study",), "Missing argument 'NAME|FILE'; --help shows the arguments and options"),
        (("study", "demo", "--jobs", "x"), "Invalid value for '--jobs'"),
        (("stduy",), "stduy"),
        (("study", "n\u202ey\a"), r"no study is named 'n\u202ey\x07'"),
        (("report", "a" * 300), "does not contain a study (it has no study.json)"),
        (("check", "a" * 300 + ".npz"), "File name too long"),
    ],
)
def test_a_wrong_call_is_one_line_without_what_a_terminal_obeys(
    place, monkeypatch, capsys, arguments, words
):
    code, out, err = called(monkeypatch, capsys, *arguments)
    assert (code, out) == (2, "")
    assert words in err
    assert len(err.splitlines()) == 1
    assert err[:-1].isprintable()


def test_the_version_is_shown(monkeypatch, capsys):
    code, out, err = called(monkeypatch, capsys, "--version")
    assert (code, out, err) == (0, f"lossgauge {lossgauge.__version__}\n", "")


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        ("lossgauge st", {"study", "status"}),
        ("lossgauge study de", {"demo"}),
        ("lossgauge study demo --dr", {"--dry-run"}),
        ("lossgauge export x --to c", {"csv"}),
        ("lossgauge features digits --backbone p", {"pixels"}),
    ],
)
def test_a_shell_completes(monkeypatch, capsys, words, completed):
    monkeypatch.setenv("_LOSSGAUGE_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(len(words.split()) - 1))
    code, out, _ = called(monkeypatch, capsys)
    assert (code, set(out.split())) == (0, completed)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_completion_of_a_shell_is_shown(monkeypatch, capsys, shell):
    monkeypatch.setenv("_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION", "1")
    code, out, _ = called(monkeypatch, capsys, "--show-completion", shell)
    assert code == 0
    assert f"_LOSSGAUGE_COMPLETE=complete_{shell}" in out


def test_what_a_shell_completes_is_what_there_is():
    assert list(shared.STUDIES) == built_in_studies()
    assert tuple(EXPORTERS) == shared.FORMATS
    assert shared.VERDICTS == STATUSES
    assert set(shared.BACKBONES) == set(BACKBONES)


def test_quiet_shows_the_result_alone(place, monkeypatch, capsys):
    code, out, err = called(monkeypatch, capsys, "features", "digits", "--backbone", "pixels", "-q")
    assert (code, err) == (0, "")
    code, out, err = called(
        monkeypatch, capsys, "study", "small.yaml", "--quiet", "--set", "epochs=1"
    )
    assert (code, err) == (0, "")
    assert out.splitlines()[0] == "3 runs done, 0 reused, 0 failed"


def test_every_command_has_an_example_in_its_help(monkeypatch, capsys):
    for command in typer.main.get_command(cli.app).commands.values():
        for one in getattr(command, "commands", {"": command}).values():
            assert one.epilog, one.name
            assert f"lossgauge {'cache ' if one is not command else ''}{one.name}" in one.epilog


def test_an_export_reads_the_study_once(place, monkeypatch, capsys):
    run_study(small_plan(losses="triplet", epochs=1), place / "out", progress=Quiet())
    read = []
    monkeypatch.setattr(
        reader, "read_study", lambda folder: read.append(folder) or read_study(folder)
    )
    assert called(monkeypatch, capsys, "export", "out", "--to", "csv")[0] == 0
    assert len(read) == 1


def test_no_command_at_all_shows_the_help(monkeypatch, capsys):
    for arguments in ((), ("cache",)):
        code, out, err = called(monkeypatch, capsys, *arguments)
        assert (code, err) == (2, "")
        assert "Usage:" in out


def test_all_that_is_printed_goes_through_one_function():
    package = Path(cli.__file__).parents[1]
    printed = [
        f"{path.name}: {line.strip()}"
        for path in package.rglob("*.py")
        for line in path.read_text(encoding="utf-8").splitlines()
        if re.search(r"\b(typer\.echo|print|click\.echo|console\.print|_console\.print)\(", line)
        and not line.strip().startswith("yield ")  # code in a page for the user
    ]
    assert printed == [
        "program.py: typer.echo(safe(line), err=err)",
        "progress_bars.py: self._progress.console.print(Text(one_line(words)))",
        "progress_bars.py: self._console.print(Text(one_line(words)), soft_wrap=True)",
    ]


def test_an_output_that_lacks_a_character_stops_no_command(place):
    code = subprocess.run(
        [*LOSSGAUGE, "status", "η"],
        env={**os.environ, "PYTHONIOENCODING": "latin-1"},
        capture_output=True,
    )
    assert code.returncode == 2
    assert rb"\u03b7" in code.stderr
    losses = subprocess.run(
        [*LOSSGAUGE, "datasets"],
        env={**os.environ, "PYTHONIOENCODING": "latin-1", "LOSSGAUGE_CUB200": "η"},
        capture_output=True,
    )
    assert losses.returncode == 0
    assert rb"\u03b7" in losses.stdout


def test_a_report_is_written_over_no_link(place, monkeypatch, capsys):
    (place / "target").write_text("mine")
    (place / "page.html").symlink_to("target")
    run_study(small_plan(losses="triplet", epochs=1), place / "out", progress=Quiet())
    code, _, err = called(monkeypatch, capsys, "report", "out", "--out", "page.html")
    assert code == 2
    assert "page.html is a link" in err
    assert (place / "target").read_text() == "mine"


@pytest.mark.parametrize("make", [os.mkfifo, Path.touch])
def test_a_study_in_a_place_that_is_no_folder_is_one_clear_line(place, monkeypatch, capsys, make):
    make(place / "out")
    code, _, err = called(monkeypatch, capsys, "study", "small.yaml", "--out", "out")
    assert code == 2
    assert "out" in err
    assert len(err.strip().splitlines()) == 1 or "features of" in err


def test_a_damaged_run_is_named_by_every_command_that_reads_it(place: Path):
    assert run("study", "small.yaml", "--out", "out").returncode == 0
    summary = next(Path("out/runs").glob("*triplet*/summary.json"))
    summary.write_text(summary.read_text().replace('"epochs"', '"epoch"'))
    refused = run("report", "out", "--out", "out/study.json")
    assert_refused(refused, "out/study.json exists and is not a lossgauge report")
    status = run("status", "out")
    assert "done     2" in status.stdout
    assert f"failed: {summary.parent.name}: {summary} is damaged" in status.stdout
    for command in (("report", "out", "--out", "page.html"), ("export", "out", "--to", "csv")):
        done = run(*command)
        assert done.returncode == 0
        assert done.stderr.splitlines()[-1].startswith(f"left out: {summary} is damaged (")


def test_a_folder_of_advise_stands_for_the_study_inside(tmp_path):
    for name in ("advised/study", "study/study"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "study.json").touch()
    (tmp_path / "study" / "study.json").touch()
    assert shared.study_folder(tmp_path / "advised") == tmp_path / "advised" / "study"
    assert shared.study_folder(tmp_path / "study") == tmp_path / "study"
    assert shared.study_folder(tmp_path / "nothing") == tmp_path / "nothing"
