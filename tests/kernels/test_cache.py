"""A kernel found in the cache is the kernel that was compiled, to the last bit: a run goes on in another process."""

import os
import subprocess
import sys

import pytest

BITS = """
NAMES = {names}
import hashlib
from lossgauge import startup
startup.end_quickly()
with startup.imports():
    import torch
    from lossgauge.losses.registry import load_loss
digest = hashlib.sha256()
torch.set_grad_enabled(False)
for name in NAMES:
    torch.manual_seed(0)
    loss = load_loss(name, **({{"class_count": 10, "embedding_size": 16}} if name == "arcface" else {{}}))
    for _ in range(30):
        labels = torch.randint(0, 10, (64,))
        rows = torch.randn(64, 16) + 2 * torch.nn.functional.one_hot(labels, 16)
        outcome = loss.outcome(torch.nn.functional.normalize(rows), labels)
        for tensor in (outcome.value, outcome.weight, outcome.forces.gradient):
            digest.update(tensor.numpy().tobytes())
        digest.update(outcome.effective_share.hex().encode())
print(digest.hexdigest())
"""


@pytest.mark.parametrize(
    "names",
    [
        ("arcface",),  # compiles in 2 seconds, and a kernel of pairs in 6 to 12
        pytest.param(
            ("info_nce", "contrastive", "triplet", "scl", "dcl", "relaxed", "siglip"),
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_kernel_from_the_cache_gives_the_bits_of_the_one_just_compiled(tmp_path, names):
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", BITS.format(names=names)]
    compiled, found = (
        subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    )
    assert list(tmp_path.rglob("*float32-*"))
    assert compiled == found
