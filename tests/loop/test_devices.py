"""On a GPU: the probe's rows are those of a CPU, and no step waits for the device. Needs nothing but the core packages."""

import warnings

import pytest
import torch
from torch import nn

from lossgauge.diagnostics.probe import TOGETHER
from lossgauge.loop.probe import Probe
from lossgauge.losses.registry import load_loss
from tests.loop.trainings import SIZE, batch, seeded_network

needs_a_gpu = pytest.mark.skipif(
    not torch.cuda.is_available(),
    reason="no GPU here: run on a machine with CUDA and its build of torch",
)

SAME = (
    *("loss_value", "loss_factor", "embedding_gradient", "embedding_gradient_p90"),
    *("tangent_gradient", "head_gradient", "clipped_head_gradient", "batch_size"),
    *("batch_class_count", "lone_ratio", "embedding_norm", "micro_batch_count"),
)


def train_on(
    device,
    loss,
    *,
    probed=True,
    steps=4,
    autocast=None,
    scaler=None,
    fused=False,
    clip=None,
    accumulate=1,
    quiet=False,
    overflow_at=None,
):
    """A loop on a device; with `quiet`, each synchronisation is an error, and the rows are not read."""
    network = seeded_network().to(device)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01, fused=fused)
    probe = Probe(optimizer, loss=loss, scaler=None) if probed else None
    batches = [tuple(t.to(device) for t in batch(number)) for number in range(steps * accumulate)]
    if quiet:  # what torch does once, at the first step
        torch.cuda.synchronize()
        with warnings.catch_warnings(action="ignore", category=UserWarning):  # it is a prototype
            torch.cuda.set_sync_debug_mode("error")
    try:
        for step in range(steps):
            for part in range(accumulate):
                x, y = batches[step * accumulate + part]
                with torch.autocast(device, dtype=autocast, enabled=autocast is not None):
                    z = network(x)
                    if probe is not None:
                        z = probe.embeddings(z, y)
                    value = loss(z, y) / accumulate
                if step == overflow_at:
                    value = value * float("inf")
                (value if scaler is None else scaler.scale(value)).backward()
            if clip is not None:
                if scaler is not None:
                    scaler.unscale_(optimizer)
                nn.utils.clip_grad_norm_(network.parameters(), clip, foreach=True)
            if scaler is None:
                optimizer.step()
            else:
                scaler.step(optimizer)
                scaler.update()
            optimizer.zero_grad()
    finally:
        if quiet:
            torch.cuda.set_sync_debug_mode("default")
    return probe, [p.detach().cpu() for p in network.parameters()]


@needs_a_gpu
@pytest.mark.parametrize("make", [nn.CrossEntropyLoss, lambda: load_loss("triplet")])
def test_rows_on_a_gpu_are_those_on_a_cpu(make):
    for settings in ({}, {"accumulate": 2, "clip": 0.05}, {"fused": True}):
        on_cpu = train_on("cpu", make(), **settings)[0].rows
        on_gpu = train_on("cuda", make(), **settings)[0].rows
        assert len(on_gpu) == len(on_cpu)
        for row, wanted in zip(on_gpu, on_cpu, strict=True):
            for column in SAME:
                assert row[column] == pytest.approx(wanted[column], rel=1e-3), column


@needs_a_gpu
@pytest.mark.parametrize("fused", [False, True])
def test_a_scaler_on_a_gpu_changes_no_number(fused):
    plain = train_on("cuda", nn.CrossEntropyLoss(), clip=0.05)[0].rows
    scaler = torch.amp.GradScaler("cuda", init_scale=2.0**10)
    scaled = train_on("cuda", nn.CrossEntropyLoss(), clip=0.05, scaler=scaler, fused=fused)[0].rows
    for row, wanted in zip(scaled, plain, strict=True):
        assert row["loss_factor"] == 1024
        for column in SAME:
            if column != "loss_factor":
                assert row[column] == pytest.approx(wanted[column], rel=1e-3), column


@needs_a_gpu
@pytest.mark.parametrize("fused", [False, True])
def test_a_skipped_step_on_a_gpu_is_a_row(fused):
    scaler = torch.amp.GradScaler("cuda", init_scale=2.0**10)
    probe, _ = train_on("cuda", nn.CrossEntropyLoss(), scaler=scaler, fused=fused, overflow_at=2)
    assert [row["skipped"] for row in probe.rows] == [False, False, True, False]
    assert probe.rows[2]["embedding_gradient"] is None


@needs_a_gpu
@pytest.mark.parametrize(
    "settings",
    [{}, {"clip": 0.05, "accumulate": 2}, {"fused": True, "autocast": torch.bfloat16}],
    ids=["plain", "clipping and accumulation", "fused and autocast"],
)
def test_no_step_waits_for_the_gpu(settings):
    train_on("cuda", nn.CrossEntropyLoss(), steps=2, **settings)  # what torch sets up once
    probe, weights = train_on(
        "cuda", nn.CrossEntropyLoss(), steps=TOGETHER - 1, quiet=True, **settings
    )
    assert len(probe.rows) == TOGETHER - 1
    plain = train_on("cuda", nn.CrossEntropyLoss(), steps=TOGETHER - 1, probed=False, **settings)
    assert all(map(torch.equal, weights, plain[1]))


@needs_a_gpu
def test_a_scaler_with_a_fused_optimizer_does_not_wait_either():
    """A plain optimiser under a scaler waits by itself: torch reads there whether the step is skipped."""

    def scaler():
        made = torch.amp.GradScaler("cuda", init_scale=2.0**10)
        made.scale(torch.ones((), device="cuda"))
        return made

    train_on("cuda", nn.CrossEntropyLoss(), steps=2, fused=True, scaler=scaler())
    probe, _ = train_on(
        "cuda", nn.CrossEntropyLoss(), steps=8, fused=True, scaler=scaler(), quiet=True
    )
    assert len(probe.rows) == 8


@needs_a_gpu
def test_labels_on_another_device_are_refused():
    from lossgauge.errors import InputError

    network, loss = seeded_network().to("cuda"), nn.CrossEntropyLoss()
    probe = Probe(torch.optim.SGD(network.parameters(), lr=0.1), loss=loss)
    x, y = batch(0)
    with pytest.raises(
        InputError, match=r"device of the embeddings, cuda:0, got cpu; .*labels\.to"
    ):
        probe.embeddings(network(x.to("cuda")), y)
    assert SIZE == 4
