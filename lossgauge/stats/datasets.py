"""One difference over several datasets: a random-effects summary, and intervals of ranks.

The variance between datasets is Paule and Mandel's (1982): it solves one monotone equation, so it always exists and is unique,
and is less biased than DerSimonian and Laird's where few datasets differ much (Veroniki et al. 2016,
https://doi.org/10.1002/jrsm.1164). The interval is Hartung and Knapp's (Student's t with datasets − 1 degrees of freedom):
the normal interval is too narrow for few datasets. It is never narrower than that of equal datasets (Röver et al. 2015,
https://doi.org/10.1186/s12874-015-0091-1).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
from scipy import special

from lossgauge.stats.decisions import Decision
from lossgauge.stats.intervals import Interval, student, t_quantile

FEWEST_DATASETS = 6
"""With five, even a difference of the same sign on every one has p = 0.06 in a sign test."""


Loss = TypeVar("Loss")


class Summary(NamedTuple):
    """A mean difference over datasets."""

    interval: Interval
    """Over new datasets; `size` is the number of datasets."""
    spread: float
    """Standard deviation of the true difference between datasets (τ), in the unit of the difference."""
    heterogeneity: float
    """Share of the variance of the observed differences that is between datasets (I²), in [0, 1]."""
    heterogeneity_p_value: float
    """Of Cochran's Q, for equal true differences on all datasets."""
    next_dataset: tuple[float, float] | None
    """Where the true difference on one more dataset lies with 95 %; None below three datasets."""
    limit: str
    """What cannot be concluded from so few datasets; empty from six."""


def summarize(differences: Sequence[Interval]) -> Summary | None:
    """The summary of one comparison; datasets without an interval are left out; None below two datasets."""
    known = [(d.mean, error) for d in differences if (error := d.standard_error)]
    count = len(known)
    if count < 2:
        return None
    means, errors = np.array(known).T
    weights = errors**-2
    common = weights @ means / weights.sum()
    cochran = float(weights @ (means - common) ** 2)
    between = _between(means, errors**2)
    weights = 1 / (errors**2 + between)
    mean = float(weights @ means / weights.sum())
    scale = max(1.0, float(weights @ (means - mean) ** 2) / (count - 1))
    error = float(np.sqrt(scale / weights.sum()))
    over = "new datasets, with new seeds and queries in each"
    half = t_quantile(count - 2) * float(np.sqrt(between + error**2)) if count > 2 else None
    return Summary(
        student(mean, error, count - 1, count)._replace(over=over, approximate=limit(count)),
        float(np.sqrt(between)),
        between / (between + _typical(errors**2)),
        float(special.chdtrc(count - 1, cochran)),
        None if half is None else (mean - half, mean + half),
        limit(count),
    )


def limit(datasets: int) -> str:
    """What cannot be concluded from this number of datasets; empty from six."""
    if datasets >= FEWEST_DATASETS:
        return ""
    return (
        f"{datasets} dataset{'s' * (datasets > 1)}: with fewer than {FEWEST_DATASETS}, nothing can be concluded for other datasets,"
        " even if all have the same sign"
    )


def rank_intervals(decisions: Mapping[tuple[Loss, Loss], Decision]) -> dict[Loss, tuple[int, int]]:
    """The best and the worst rank of each loss; 1 is the highest mean.

    `decisions` are those of all pairs, in both orders, corrected together (Holm). A loss ranks behind all that are clearly better, and
    before all that are clearly worse. All intervals hold together with 95 % (Al Mohamad, Goeman and van Zwet 2022, "Simultaneous
    confidence intervals for ranks").
    """
    count = len({left for left, _ in decisions})
    better: Counter[Loss] = Counter()
    worse: Counter[Loss] = Counter()
    for (left, _), decided in decisions.items():
        better[left] += decided.side == "lower"
        worse[left] += decided.side == "higher"
    return {left: (1 + better[left], count - worse[left]) for left, _ in decisions}


def _between(means: np.ndarray, variances: np.ndarray) -> float:
    """The variance between datasets at which the weighted squares have their expected sum, datasets − 1; 0 if they are below.

    By Newton's method from 0: the sum falls and is convex, so no step is too long (DerSimonian and Kacker 2007).
    """
    between = 0.0
    for _ in range(100):
        weights = 1 / (variances + between)
        left = means - weights @ means / weights.sum()
        excess = float(weights @ left**2) - (len(means) - 1)
        if excess <= 1e-10 * len(means):
            break
        between += excess / float(weights**2 @ left**2)
    return between


def _typical(variances: np.ndarray) -> float:
    """Higgins and Thompson's typical variance inside a dataset."""
    weights = 1 / variances
    return float((len(weights) - 1) * weights.sum() / (weights.sum() ** 2 - (weights**2).sum()))
