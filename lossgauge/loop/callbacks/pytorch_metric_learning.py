"""The probe in the trainers of pytorch-metric-learning.

trainer = trainers.MetricLossOnly(models, optimizers, batch_size, loss_funcs, dataset, mining_funcs=...)
probe = watch_trainer(trainer, rows=lambda trainer: (test_embeddings, test_labels))
trainer.train(num_epochs=10)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lossgauge.errors import InputError
from lossgauge.loop.callbacks.criterion import Follower
from lossgauge.loop.probe import OnNan, Probe


def watch_trainer(
    trainer: Any,
    *,
    rows: Callable[[Any], tuple[Any, Any]] | None = None,
    every: int = 1,
    on_nan: OnNan = "raise",
) -> Probe:
    """A probe that records each update of `trainer`, with the terms that its loss and its miner choose.

    Call it before `trainer.train`. `rows` gets the trainer after each epoch, and gives embeddings and labels of the test side, for
    `probe.epoch`. Your own `end_of_epoch_hook` is still called, after it. The losses are those of `trainer.loss_funcs`, the first
    one being `metric_loss`.
    """
    if "metric_loss" not in getattr(trainer, "loss_funcs", {}):
        raise InputError(
            f"watch_trainer needs a trainer of pytorch-metric-learning with loss_funcs['metric_loss'], got {type(trainer).__name__}"
        )
    frozen = {f"{name}_optimizer" for name in trainer.freeze_these}
    metric = trainer.loss_funcs["metric_loss"]
    others = {name: loss for name, loss in trainer.loss_funcs.items() if loss is not metric}
    probe = Probe(
        [optimizer for name, optimizer in trainer.optimizers.items() if name not in frozen],
        loss={"metric_loss": metric, **others},
        every=every,
        on_nan=on_nan,
    )
    follower = Follower(probe, metric)
    end_of_epoch = trainer.end_of_epoch_hook

    def hook(of: Any) -> Any:
        if rows is None:
            follower.end_epoch()
        else:
            probe.epoch(*rows(of))
            follower.forget()
        return end_of_epoch(of)

    trainer.end_of_epoch_hook = hook
    return probe
