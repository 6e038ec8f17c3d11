"""Every file of examples/ as its first lines say it is run, with less to do where an argument allows it."""

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"

COMMANDS = {
    "my_backbone.py": [
        "-m",
        "lossgauge",
        "features",
        "orl-faces",
        "--backbone",
        "my_backbone.py:Model",
    ],
    "my_loss.py": ["-m", "lossgauge", "check", "my_loss.py:Pull"],
    "own_loop.py": ["own_loop.py"],
    "sampler_variance.py": ["sampler_variance.py", "8"],
    "text_embeddings.py": ["text_embeddings.py", "1"],
}
"""What Python is given in the folder of the examples."""

SHOWN = {
    "my_backbone.py": "orl-faces: 400 rows of 192 features by my_backbone.py:Model",
    "my_loss.py": "ok      it",
    "own_loop.py": "step 199: active triplets",
    "sampler_variance.py": "| strata: 60 k-means cells, antithetic |",
    "text_embeddings.py": "info_nce       1",
}


def test_no_example_is_forgotten():
    assert {path.name for path in EXAMPLES.glob("*.py")} == COMMANDS.keys()


@pytest.mark.parametrize("name", COMMANDS)
def test_an_example_runs_and_shows_what_it_is_for(name, tmp_path, monkeypatch):
    monkeypatch.setenv("LOSSGAUGE_CACHE", str(tmp_path))
    done = subprocess.run(
        [sys.executable, *COMMANDS[name]], cwd=EXAMPLES, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert SHOWN[name] in done.stdout
