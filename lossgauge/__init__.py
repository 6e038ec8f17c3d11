"""Measure what each metric-learning loss does to an embedding space.

>>> import lossgauge as lg
>>> lg.LOSSES
('contrastive', 'triplet', 'n_pair', 'info_nce', 'arcface', 'scl', 'ccl')
>>> loss = lg.load_loss("triplet", margin=0.2)

The names below are the public ones; docs/python.md explains each. They are loaded when first used, so that
the import of the package and the help of the command line stay fast.
"""

from __future__ import annotations

TYPE_CHECKING = (
    False  # not from typing: a signal must find its handler set before anything is imported
)
if TYPE_CHECKING:
    from typing import Any

    from lossgauge import distributed as distributed
    from lossgauge.deployment.head import load_head as load_head
    from lossgauge.diagnosis.measure import diagnose as diagnose
    from lossgauge.diagnostics.clustering import cluster_agreement as cluster_agreement
    from lossgauge.diagnostics.clustering import clustering as clustering
    from lossgauge.diagnostics.directional_cdnv import directional_cdnv as directional_cdnv
    from lossgauge.diagnostics.effective_negatives import effective_negatives as effective_negatives
    from lossgauge.diagnostics.label_blind_gap import label_blind_gap as label_blind_gap
    from lossgauge.diagnostics.linear_cka import linear_cka as linear_cka
    from lossgauge.diagnostics.nearest_class_mean import nearest_class_mean as nearest_class_mean
    from lossgauge.diagnostics.pseudo_labels import pseudo_labels as pseudo_labels
    from lossgauge.diagnostics.variance import geometry as geometry
    from lossgauge.diagnostics.weights_and_directions import (
        weights_and_directions as weights_and_directions,
    )
    from lossgauge.loop.probe import Probe as Probe
    from lossgauge.losses.pair_gradient import pair_gradient as pair_gradient
    from lossgauge.losses.registry import LOSSES as LOSSES
    from lossgauge.losses.registry import load_loss as load_loss
    from lossgauge.losses.swap import swap as swap
    from lossgauge.notebook import Study as Study
    from lossgauge.notebook import advise as advise
    from lossgauge.notebook import forecast as forecast
    from lossgauge.notebook import load_features as load_features
    from lossgauge.notebook import load_study as load_study
    from lossgauge.notebook import run_study as run_study
    from lossgauge.ranking.judged import judged_retrieval as judged_retrieval
    from lossgauge.ranking.metrics import retrieval as retrieval
    from lossgauge.study.progress import Progress as Progress
    from lossgauge.testing import check_loss as check_loss
    from lossgauge.types import Step as Step

__version__ = "0.1.0"

_MODULE = {
    "LOSSES": "losses.registry",
    "Probe": "loop.probe",
    "Progress": "study.progress",
    "Step": "types",
    "Study": "notebook",
    "advise": "notebook",
    "check_loss": "testing",
    "cluster_agreement": "diagnostics.clustering",
    "clustering": "diagnostics.clustering",
    "diagnose": "diagnosis.measure",
    "directional_cdnv": "diagnostics.directional_cdnv",
    "effective_negatives": "diagnostics.effective_negatives",
    "forecast": "notebook",
    "geometry": "diagnostics.variance",
    "judged_retrieval": "ranking.judged",
    "label_blind_gap": "diagnostics.label_blind_gap",
    "linear_cka": "diagnostics.linear_cka",
    "load_features": "notebook",
    "load_head": "deployment.head",
    "load_loss": "losses.registry",
    "load_study": "notebook",
    "nearest_class_mean": "diagnostics.nearest_class_mean",
    "pair_gradient": "losses.pair_gradient",
    "pseudo_labels": "diagnostics.pseudo_labels",
    "retrieval": "ranking.metrics",
    "run_study": "notebook",
    "swap": "losses.swap",
    "weights_and_directions": "diagnostics.weights_and_directions",
}
"""Public name → module that defines it."""

_FOLDERS = ("distributed",)
"""Public names that are modules."""

__all__ = [*_MODULE, *_FOLDERS, "__version__"]


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name in _FOLDERS:
        return import_module(f"lossgauge.{name}")
    if name not in _MODULE:
        raise AttributeError(f"module 'lossgauge' has no attribute {name!r}")
    return getattr(import_module(f"lossgauge.{_MODULE[name]}"), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
