"""A wind tunnel for metric-learning losses: what each does to your embedding space, with evidence.

>>> import lossgauge as lg
>>> lg.LOSSES
('contrastive', 'triplet', 'n_pair', 'info_nce', 'arcface', 'scl', 'ccl')
>>> loss = lg.load_loss("triplet", margin=0.2)

Names are loaded when first used, so that importing the package, and the command line's help, stay quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lossgauge.diagnostics.probe import Probe as Probe
    from lossgauge.diagnostics.variance import geometry as geometry
    from lossgauge.losses.registry import LOSSES as LOSSES
    from lossgauge.losses.registry import load_loss as load_loss
    from lossgauge.ranking.metrics import retrieval as retrieval
    from lossgauge.results.frames import load_study as load_study
    from lossgauge.testing import check_loss as check_loss

_HOME = {
    "LOSSES": "lossgauge.losses.registry",
    "load_loss": "lossgauge.losses.registry",
    "geometry": "lossgauge.diagnostics.variance",
    "Probe": "lossgauge.diagnostics.probe",
    "retrieval": "lossgauge.ranking.metrics",
    "check_loss": "lossgauge.testing",
    "load_study": "lossgauge.results.frames",
}

__all__ = ["LOSSES", "Probe", "check_loss", "geometry", "load_loss", "load_study", "retrieval"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'lossgauge' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
