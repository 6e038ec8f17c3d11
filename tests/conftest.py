"""Shapes and types in annotations of the numeric parts are checked in the tests of these parts and of a run.

The hook must be installed before the package is imported.
"""

import gc
import os
import signal
from collections.abc import Iterator
from pathlib import Path

# Tests are many small products: one thread is no slower, and does not fight over a busy machine's cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import jaxtyping
import pytest

import tests.typecheck  # noqa: F401  # the hook looks it up as an attribute of `tests`

TESTS = Path(__file__).parent

# The parts that compute with arrays. Not `kernels`: compiled functions have no Python types to check.
NUMERIC = (
    *("backbones", "batch", "data", "diagnostics", "heads", "losses"),
    *("ranking", "sphere", "stats", "training", "types"),
)
jaxtyping.install_import_hook([f"lossgauge.{part}" for part in NUMERIC], "tests.typecheck.check")

# kernels are compiled once, not in each of the folders that tests take for the user's cache
from lossgauge.user_folders import keep_torch_private, private_folder  # noqa: E402  # after the hook
from tests.support.browser import browser, visit  # noqa: E402, F401  # one for all folders
from tests.support.finished import (  # noqa: E402, F401  # fixtures for all tests
    finished_small_study,
    finished_study,
    pair_study,
    small_study,
    whole_study,
)
from tests.support.forking import forked_workers  # noqa: E402, F401

if (kept := private_folder("compiled")) is not None:
    os.environ.setdefault("NUMBA_CACHE_DIR", str(kept))
keep_torch_private()

gc.disable()  # until the tests are collected: what is imported stays


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


# A script starts `pytest &` with Ctrl-C ignored, and its children would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


CHECKED = ("backbones", "data", "diagnostics", "losses", "ranking", "stats", "study/run")


@pytest.fixture(autouse=True)
def checks_of_shapes(request: pytest.FixtureRequest) -> Iterator[None]:
    """Whole studies call the same functions with the same shapes thousands of times: a quarter of their time.

    They go without the checks. Tests of one part, and those of one run with all of its parts, have them.
    """
    path = request.path.relative_to(TESTS).as_posix()
    checked = path.startswith(CHECKED) or (
        "/" not in path and path.removeprefix("test_").removesuffix(".py") in NUMERIC
    )
    jaxtyping.config.update("jaxtyping_disable", not checked)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
