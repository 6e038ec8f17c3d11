"""Statistics against R: limma for squeezed variances, lme4 for crossed random effects, metafor for a summary over datasets.

apt-get install r-bioc-limma r-cran-lme4 r-cran-metafor
python -m pytest tests/batteries/test_oracles.py -m slow
"""

from __future__ import annotations

import shutil
import subprocess

import numpy as np
import pytest

from lossgauge.stats.crossed import crossed, total
from lossgauge.stats.datasets import summarize
from lossgauge.stats.intervals import student
from lossgauge.stats.seed_variance import fit_prior, squeeze

pytestmark = pytest.mark.slow


def ask_r(package: str, code: str) -> list[float]:
    """The numbers that R prints."""
    program = shutil.which("Rscript")
    if program is None:
        pytest.skip(f"R is not installed: apt-get install {package}")
    loaded = package.split("-")[-1]
    script = f"suppressMessages(library({loaded})); options(digits=15)\n{code}\n"
    done = subprocess.run([program, "-"], input=script, capture_output=True, text=True, check=False)
    if "there is no package" in done.stderr:
        pytest.skip(f"R has no {loaded}: apt-get install {package}")
    assert done.returncode == 0, done.stderr
    return [float(word) for word in done.stdout.split()]


def in_r(values: np.ndarray) -> str:
    return f"c({', '.join(repr(float(v)) for v in values.ravel())})"


@pytest.mark.parametrize("degrees", [1, 2, 3, 9])
@pytest.mark.parametrize("losses", [3, 7, 40])
def test_squeezed_variances_are_limmas(degrees, losses):
    generator = np.random.default_rng(losses)
    variances = generator.chisquare(degrees, losses) * np.exp(generator.standard_normal(losses))
    found = ask_r(
        "r-bioc-limma",
        f"f <- squeezeVar({in_r(variances)}, {degrees}); cat(f$var.prior, f$df.prior, f$var.post)",
    )
    prior = fit_prior(variances, degrees)
    assert prior == pytest.approx(found[:2], rel=1e-6)
    assert squeeze(variances, degrees, prior).variance == pytest.approx(found[2:], rel=1e-6)


@pytest.mark.parametrize(("seeds", "queries"), [(3, 30), (5, 200)])
def test_the_variance_of_a_mean_is_that_of_lme4s_crossed_effects(seeds, queries):
    generator = np.random.default_rng(seeds)
    values = (
        generator.standard_normal((seeds, 1))
        + generator.standard_normal((1, queries))
        + generator.standard_normal((seeds, queries))
    )
    mean, variance = ask_r(
        "r-cran-lme4",
        f"d <- expand.grid(q=1:{queries}, s=1:{seeds}); d$y <- {in_r(values)};"
        " m <- lmer(y ~ 1 + (1|s) + (1|q), d); cat(fixef(m), vcov(m)[1, 1])",
    )
    found = crossed(values)
    assert found.mean == pytest.approx(mean)
    whole = total(found.seed_part, found.query_part, found.both_part)
    assert whole.variance == pytest.approx(variance, rel=1e-4)  # lmer's optimiser stops there


def test_a_summary_over_datasets_is_metafors():
    means = np.array([0.10, 0.30, -0.05, 0.22, 0.41, 0.02])
    errors = np.array([0.05, 0.10, 0.04, 0.08, 0.12, 0.06])
    mean, low, high, between, share, p_value = ask_r(
        "r-cran-metafor",
        f"m <- rma(yi={in_r(means)}, sei={in_r(errors)}, method='PM', test='knha');"
        " cat(m$b, m$ci.lb, m$ci.ub, m$tau2, m$I2, m$QEp)",
    )
    found = summarize([student(m, e, 1e6, 3) for m, e in zip(means, errors, strict=True)])
    assert found is not None
    assert (found.interval.mean, found.interval.low, found.interval.high) == pytest.approx(
        (mean, low, high), rel=1e-4
    )
    assert found.spread**2 == pytest.approx(between, rel=1e-3)
    assert found.heterogeneity == pytest.approx(share / 100, rel=1e-3)
    assert found.heterogeneity_p_value == pytest.approx(p_value, rel=1e-6)
