import pytest
import torch

from lossgauge.data.samplers import random_batches
from lossgauge.errors import InputError

ROWS = torch.arange(100, 123)


def test_batches_are_a_function_of_seed_and_epoch():
    def flat(seed, epoch):
        return torch.cat(random_batches(ROWS, batch_size=5, seed=seed, epoch=epoch)).tolist()

    assert flat(1, 2) == flat(1, 2)
    assert flat(1, 2) != flat(1, 3)
    assert flat(1, 2) != flat(2, 2)


def test_batches_are_full_and_no_row_comes_twice():
    batches = random_batches(ROWS, batch_size=5, seed=0, epoch=1)
    assert [len(batch) for batch in batches] == [5, 5, 5, 5]
    taken = torch.cat(batches).tolist()
    assert len(set(taken)) == 20
    assert set(taken) <= set(ROWS.tolist())


def test_fewer_rows_than_a_batch_make_one_batch():
    (batch,) = random_batches(ROWS, batch_size=64, seed=0, epoch=1)
    assert sorted(batch.tolist()) == ROWS.tolist()


def test_a_batch_of_one_is_refused():
    with pytest.raises(InputError, match="at least two samples"):
        random_batches(ROWS, batch_size=1, seed=0, epoch=1)
