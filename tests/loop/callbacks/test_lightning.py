"""The probe as a callback of Lightning, in a short training, beside a plain loop."""

import json

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import lossgauge as lg
from lossgauge.errors import InputError, MissingExtra

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),
]  # importing Lightning takes seconds
lightning = pytest.importorskip(
    "lightning.pytorch", reason="needs Lightning: pip install 'lossgauge[lightning]'"
)
from lossgauge.loop.callbacks.lightning import LightningProbe, _refuse_malicious  # noqa: E402

ROWS, CLASSES = 48, 4


def data() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(ROWS) % CLASSES
    centers = torch.randn(CLASSES, 8, generator=generator)
    return centers[labels] + 0.7 * torch.randn(ROWS, 8, generator=generator), labels


class Model(lightning.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Linear(8, 4)
        self.criterion = lg.load_loss("triplet")

    def step(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        z = nn.functional.normalize(self.net(batch[0]))
        return self.criterion(z, batch[1])

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        return self.step(batch)

    def validation_step(self, batch: tuple[Tensor, Tensor], _: int) -> None:
        self.step(batch)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=0.01)


def fit(model: Model, *callbacks, folder, **settings) -> None:
    loader = DataLoader(TensorDataset(*data()), batch_size=16)
    trainer = lightning.Trainer(
        accelerator="cpu",
        max_epochs=3,
        callbacks=list(callbacks),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        **settings,
    )
    trainer.fit(model, loader, DataLoader(TensorDataset(*data()), batch_size=20))


def plain_loop() -> tuple[Model, list[dict]]:
    """The same training without Lightning."""
    model = Model()
    optimizer = model.configure_optimizers()
    features, labels = data()
    rows = []
    for _ in range(3):
        for batch in torch.arange(ROWS).split(16):
            z = nn.functional.normalize(model.net(features[batch]))
            z.retain_grad()
            evaluation = model.criterion.evaluate(z, labels[batch])
            optimizer.zero_grad()
            evaluation.value.backward()
            rows.append(
                {
                    "loss_value": float(evaluation.value.detach()),
                    "embedding_gradient": float(z.grad.norm(dim=1).mean()),
                    "head_gradient": float(
                        torch.cat([p.grad.flatten() for p in model.net.parameters()]).norm()
                    ),
                    "term_count": evaluation.term_count,
                    "active_count": evaluation.active_count,
                }
            )
            optimizer.step()
    return model, rows


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_a_training_with_lightning(tmp_path, precision):
    model, callback = Model(), LightningProbe("criterion")
    fit(model, callback, folder=tmp_path, precision=precision)
    probe = callback.probe
    assert [row["step"] for row in probe.rows] == list(range(9))
    assert [row["epoch"] for row in probe.epochs] == [1, 2, 3]
    assert [row["step"] for row in probe.epochs] == [3, 6, 9]
    other, rows = plain_loop()
    if precision == "32-true":
        for one, wanted in zip(model.parameters(), other.parameters(), strict=True):
            assert torch.equal(one, wanted)
    for row, wanted in zip(probe.rows, rows, strict=True):
        for column, value in wanted.items():
            rel = 1e-5 if precision == "32-true" else 0.2
            assert row[column] == pytest.approx(value, rel=rel), column
    with torch.no_grad():
        z = nn.functional.normalize(model.net(data()[0]))
    if precision == "32-true":
        assert probe.epochs[-1]["intra"] == pytest.approx(lg.geometry(z, data()[1]).intra, rel=1e-5)


def test_accumulation_and_clipping(tmp_path):
    callback = LightningProbe("criterion")
    fit(Model(), callback, folder=tmp_path, accumulate_grad_batches=3, gradient_clip_val=1e-3)
    rows = callback.probe.rows
    assert [row["micro_batch_count"] for row in rows] == [3, 3, 3]
    assert all(row["loss_factor"] == pytest.approx(1) for row in rows)
    assert all(row["batch_size"] == ROWS for row in rows)
    assert all(row["clipped_head_gradient"] == pytest.approx(1e-3, rel=1e-3) for row in rows)
    assert all(row["head_gradient"] > 1e-3 for row in rows)


class Written(LightningProbe):
    """Each rank writes what its probe has: the processes that Lightning starts end with the training."""

    def __init__(self, folder) -> None:
        super().__init__()
        self.folder = folder

    def on_train_end(self, trainer, pl_module) -> None:
        super().on_train_end(trainer, pl_module)
        rank = trainer.global_rank
        text = json.dumps({"epochs": self.probe.epochs, "rows": self.probe.rows})
        (self.folder / f"{rank}.json").write_text(text)
        if rank == 0:
            torch.save(pl_module.state_dict(), self.folder / "weights.pt")


def test_two_ranks_have_the_rows_of_the_whole_validation_and_none_twice(tmp_path):
    # 45 rows on two ranks: the sampler repeats one, which would be a sure hit of its copy
    features, labels = (part[:45] for part in data())
    loader = DataLoader(TensorDataset(features, labels), batch_size=8)
    trainer = lightning.Trainer(
        accelerator="cpu",
        devices=2,
        strategy="ddp_spawn",
        max_epochs=2,
        num_sanity_val_steps=0,
        callbacks=[Written(tmp_path)],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )
    model = Model()
    trainer.fit(model, loader, loader)
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    assert first["epochs"] == second["epochs"]
    assert len(first["epochs"]) == 2
    model.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
    with torch.no_grad():
        z = nn.functional.normalize(model.net(features))
    last = first["epochs"][-1]
    assert last["intra"] == pytest.approx(lg.geometry(z, labels).intra, rel=1e-5)
    assert last["recall_at_1"] == pytest.approx(lg.retrieval(z, labels).recall_at[1])
    assert len(first["rows"]) == len(second["rows"]) == 6
    assert first["rows"] != second["rows"]  # each has the updates of its own batches


def test_every_third_update_and_the_weights_without_the_callback(tmp_path):
    model, other, callback = Model(), Model(), LightningProbe(every=3)
    fit(model, callback, folder=tmp_path)
    fit(other, folder=tmp_path)
    assert [row["step"] for row in callback.probe.rows] == [0, 3, 6]
    assert all(map(torch.equal, model.parameters(), other.parameters()))


def test_what_is_wrong_is_said(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="call trainer"):
        _ = LightningProbe().probe
    with pytest.raises(
        InputError, match=r"no loss module 'criteron' \(did you mean 'criterion'\?\)"
    ):
        fit(Model(), LightningProbe("criteron"), folder=tmp_path)
    monkeypatch.setattr("lossgauge.loop.callbacks.lightning.version", lambda _: "2.6.3")
    with pytest.raises(MissingExtra, match="malicious release"):
        _refuse_malicious()
