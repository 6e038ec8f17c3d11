"""DDP and FSDP2: the gradient at the embeddings is that of the local loss, that at the parameters is of the mean loss."""

import json
import subprocess
import sys

import pytest
import torch
import torch.distributed as dist

from tests.loop.ranks import plain_rows, train_ranks


def check_rows(rows, expected):
    assert len(rows) == len(expected)
    for row, wanted in zip(rows, expected, strict=True):
        assert {name: row[name] for name in wanted} == pytest.approx(wanted, rel=1e-5)
        assert row["micro_batch_count"] == 2


@pytest.fixture
def one_rank():
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
@pytest.mark.usefixtures("one_rank")
def test_on_one_rank_rows_are_those_of_a_plain_loop_and_weights_are_the_same(kind):
    with_probe = train_ranks(kind, probed=True, rank=0, ranks=1)
    without = train_ranks(kind, probed=False, rank=0, ranks=1)
    assert with_probe["digest"] == without["digest"]
    check_rows(with_probe["rows"], plain_rows(ranks=1)[0])


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
def test_on_two_ranks_too(kind, tmp_path):
    done = {}
    for how in ("with", "without"):
        processes = [
            subprocess.Popen(
                [
                    *(sys.executable, "-m", "tests.loop.ranks", kind, how),
                    *(str(rank), "2", str(tmp_path / f"store-{how}")),
                ],
                stdout=subprocess.PIPE,
                text=True,
            )
            for rank in range(2)
        ]
        printed = [process.communicate()[0] for process in processes]
        assert [process.returncode for process in processes] == [0, 0]
        done[how] = [json.loads(text.splitlines()[-1]) for text in printed]
    digests = {one["digest"] for how in done for one in done[how]}
    assert len(digests) == 1
    expected = plain_rows(ranks=2)
    for rank in range(2):
        check_rows(done["with"][rank]["rows"], expected[rank])


def test_the_norm_of_gradients_of_every_kind():
    from lossgauge.loop.parameter_gradients import gradient_norms

    def gradient_norm(parameters):
        norms = gradient_norms(parameters)
        return None if norms is None else norms.norm()

    def holding(gradient):
        parameter = torch.nn.Parameter(torch.zeros(gradient.shape, dtype=gradient.dtype))
        parameter.grad = gradient
        return parameter

    dense = torch.tensor([3.0, 4.0])
    half = torch.full((4,), 6e4, dtype=torch.float16)  # its norm does not fit float16
    rows = torch.sparse_coo_tensor(
        torch.tensor([[1, 1]]), torch.tensor([[6.0], [6.0]]), (3, 1), check_invariants=True
    )
    assert gradient_norm([]) is None
    assert gradient_norm([torch.nn.Parameter(torch.ones(2))]) is None
    assert float(gradient_norm([holding(dense)])) == 5
    assert float(gradient_norm([holding(dense), holding(rows)])) == 13
    assert float(gradient_norm([holding(half)])) == pytest.approx(1.2e5, rel=1e-3)
    wide = gradient_norm([holding(dense), holding(dense.double())])
    assert wide.dtype == torch.float64
    assert float(wide) == pytest.approx(50**0.5, rel=1e-12)
