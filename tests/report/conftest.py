"""The made-up study as every test of the report takes it."""

from __future__ import annotations

import pytest

from lossgauge.results.view import StudyView
from lossgauge.types import Results
from tests.support.made_up_study import make_results


@pytest.fixture
def results() -> Results:
    return make_results()


@pytest.fixture
def view(results: Results) -> StudyView:
    """`results`, read when a value is first asked for: change the rows before."""
    return StudyView(results)


@pytest.fixture
def varied() -> Results:
    """The same study, tuned and with a sensitivity; the faces are a class-disjoint split."""
    protocols = ("halves", "class-disjoint")
    return make_results(tuned=True, factors=(0.25, 0.5, 2.0, 4.0), protocols=protocols)


@pytest.fixture
def varied_view(varied: Results) -> StudyView:
    return StudyView(varied)
