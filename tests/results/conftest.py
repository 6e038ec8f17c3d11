"""One finished study for all tests of its folder that do not change it."""

import pytest

from tests.integrations.studies import make_study


@pytest.fixture(scope="package")
def folder(tmp_path_factory):
    return make_study(tmp_path_factory.mktemp("results"))
