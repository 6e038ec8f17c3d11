"""A real study with something in every table: made once for each file of tests that asks for it."""

from pathlib import Path

import pytest

from lossgauge.study.runner import run_study
from tests.study.conftest import Quiet, small_plan

BROKEN = """
def broken(embeddings, labels):
    raise RuntimeError("it never works")
"""


def make_study(folder: Path) -> Path:
    """Digits and a dataset that is not there; triplet, CCL and a loss that fails; tuned, and one sensitivity."""
    loss = folder / "broken.py"
    loss.write_text(BROKEN)
    plan = small_plan(
        datasets="digits,cub200",
        losses=f"triplet,ccl,{loss}:broken",
        tune="{trials: 2, epochs: 1}",
        sensitivity="2.0",
        retrieval_every="2",
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOSSGAUGE_CACHE", str(folder / "cache"))
        patch.delenv("LOSSGAUGE_CUB200", raising=False)
        run_study(plan, folder / "study", progress=Quiet())
    return folder / "study"
