"""The probe in the trainers of pytorch-metric-learning."""

import logging

import pytest
import torch
from pytorch_metric_learning import losses, miners, trainers
from torch import Tensor, nn

import lossgauge as lg
from lossgauge.errors import InputError
from lossgauge.loop.callbacks.pytorch_metric_learning import watch_trainer

ROWS, CLASSES = 24, 3


def data() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(ROWS) % CLASSES
    centers = torch.randn(CLASSES, 6, generator=generator)
    return centers[labels] + torch.randn(ROWS, 6, generator=generator), labels


def trainer_of(kind: type = trainers.MetricLossOnly, **settings) -> trainers.MetricLossOnly:
    logging.getLogger("PML").setLevel(logging.ERROR)
    torch.manual_seed(0)
    trunk = nn.Linear(6, 4)
    models = {"trunk": trunk, **settings.pop("more_models", {})}
    parameters = [p for model in models.values() for p in model.parameters()]
    return kind(
        models,
        {"trunk_optimizer": torch.optim.SGD(parameters, lr=0.1)},
        12,
        {"metric_loss": losses.TripletMarginLoss(0.2), **settings.pop("more_losses", {})},
        torch.utils.data.TensorDataset(*data()),
        mining_funcs={"tuple_miner": miners.TripletMarginMiner(margin=0.2)},
        dataloader_num_workers=0,
        data_device=torch.device("cpu"),
        **settings,
    )


@pytest.mark.filterwarnings("ignore")
def test_a_training_with_a_miner():
    ended = []
    trainer, other = trainer_of(end_of_epoch_hook=lambda _: ended.append(1)), trainer_of()
    features, labels = data()

    def rows(of):
        with torch.no_grad():
            return of.models["trunk"](features), labels

    probe = watch_trainer(trainer, rows=rows)
    for one in (trainer, other):
        torch.manual_seed(1)
        one.train(num_epochs=2)
    assert [row["step"] for row in probe.rows] == [0, 1, 2, 3]
    assert [(row["epoch"], row["step"]) for row in probe.epochs] == [(1, 2), (2, 4)]
    assert probe.epochs[-1]["intra"] == pytest.approx(lg.geometry(*rows(trainer)).intra)
    assert all(row["term_count"] > 0 and row["embedding_gradient"] > 0 for row in probe.rows)
    assert all(row["batch_class_count"] == 3 for row in probe.rows)
    assert ended == [1, 1]
    for name, weight in trainer.models["trunk"].state_dict().items():
        assert torch.equal(weight, other.models["trunk"].state_dict()[name])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_classifier_beside_the_metric_loss():
    trainer = trainer_of(
        trainers.TrainWithClassifier,
        more_models={"classifier": nn.Linear(4, CLASSES)},
        more_losses={"classifier_loss": nn.CrossEntropyLoss()},
        loss_weights={"metric_loss": 1, "classifier_loss": 0.5},
    )
    probe = watch_trainer(trainer)
    trainer.train(num_epochs=1)
    assert probe.losses == ["metric_loss", "classifier_loss"]
    for row in probe.rows:
        assert row["loss_weight_classifier_loss"] == pytest.approx(0.5)
        assert row["loss_value"] == pytest.approx(
            row["loss_value_metric_loss"] + 0.5 * row["loss_value_classifier_loss"], rel=1e-5
        )
    assert probe.epochs == []


def test_something_else_is_no_trainer():
    with pytest.raises(
        InputError, match=r"needs a trainer of pytorch-metric-learning .* got Linear"
    ):
        watch_trainer(nn.Linear(2, 2))
