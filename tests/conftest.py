"""Shapes and types in annotations of the numeric parts are checked in every test.

The hook must be installed before the package is imported.
"""

import os
import signal

# Tests are many small products: one thread is no slower, and does not fight over a busy machine's cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from jaxtyping import install_import_hook

import tests.typecheck  # noqa: F401  # the hook looks it up as an attribute of `tests`

# The parts that compute with arrays. Not `kernels`: compiled functions have no Python types to check.
NUMERIC = (
    *("backbones", "batch", "data", "diagnostics", "heads", "losses"),
    *("ranking", "sphere", "stats", "training", "types"),
)
install_import_hook([f"lossgauge.{part}" for part in NUMERIC], "tests.typecheck.check")

# kernels are compiled once, not in each of the folders that tests take for the user's cache
from lossgauge.user_folders import keep_torch_private, private_folder  # noqa: E402  # after the hook
from tests.support.finished import (  # noqa: E402, F401  # fixtures for all tests
    finished_small_study,
    finished_study,
    small_study,
    whole_study,
)

if (kept := private_folder("compiled")) is not None:
    os.environ.setdefault("NUMBA_CACHE_DIR", str(kept))
keep_torch_private()

# A script starts `pytest &` with Ctrl-C ignored, and its children would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
