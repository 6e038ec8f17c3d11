"""One finished study for all tests of its folder that do not change it."""

import pytest


@pytest.fixture(scope="session")
def folder(whole_study):
    return whole_study
