"""What each process that trains does once, done by importing this: the server of `forking.py` does it for all.

Nothing is differentiated here: torch's threads for that would not be there in a forked process.
"""

import gc
from importlib import import_module

import pyarrow
import torch

from lossgauge import startup
from lossgauge.losses.registry import load_loss
from lossgauge.study.schedule.code_hash import code_of

for module in (
    "lossgauge.data.extraction_worker",
    "lossgauge.study.engines.worker",
    "lossgauge.study.runner",
    "tests.support.studies",
    "torch._dynamo",  # which the first step of an optimizer imports
):
    import_module(module)

with torch.no_grad():
    for name, sizes in (("triplet", {}), ("ccl", {"class_count": 2, "embedding_size": 2})):
        load_loss(name, **sizes)(torch.eye(2).repeat(2, 1), torch.tensor([0, 1, 0, 1]))
        code_of(name, dataset="digits", backbone="pixels")

pyarrow.array([])  # which imports pandas, where it is installed

gc.freeze()  # no forked process looks through all this for garbage
startup.end_quickly()
