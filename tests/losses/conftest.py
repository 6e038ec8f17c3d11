import pytest

from tests.losses.cases import BATCHES, Batch, make_batch


@pytest.fixture(params=[(name, unit) for name in BATCHES for unit in (True, False)], ids=str)
def batch(request: pytest.FixtureRequest) -> Batch:
    name, unit = request.param
    return make_batch(BATCHES[name], unit=unit)
