"""Lightning with the probe as a callback.   pip install 'lossgauge[lightning]'; python examples/lightning_callback.py"""

import torch
from lightning.pytorch import LightningModule, Trainer
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset

import lossgauge as lg
from lossgauge.loop.callbacks.lightning import LightningProbe


class Embedder(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = torch.nn.Linear(64, 32)
        self.criterion = lg.load_loss("info_nce", temperature=0.1)

    def training_step(self, batch, _):
        features, labels = batch
        return self.criterion(torch.nn.functional.normalize(self.net(features)), labels)

    validation_step = training_step  # the rows of its loss are those of the probe's epochs

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3)


features, labels = (torch.from_numpy(array) for array in load_digits(return_X_y=True))
features = features.float() / 16 - (features.float() / 16).mean(0)
train, test = (
    TensorDataset(features[:1200], labels[:1200]),
    TensorDataset(features[1200:], labels[1200:]),
)
torch.manual_seed(0)
callback = LightningProbe("criterion")
quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
trainer = Trainer(accelerator="cpu", max_epochs=3, callbacks=[callback], **quiet)
trainer.fit(Embedder(), DataLoader(train, 64, shuffle=True), DataLoader(test, 200))

for epoch in callback.probe.epochs:
    print(f"epoch {epoch['epoch']}: intra {epoch['intra']:.3f}, R@1 {epoch['recall_at_1']:.1%}")
for row in (callback.probe.rows[0], callback.probe.rows[-1]):
    print(f"step {row['step']}: loss {row['loss_value']:.3f}, mean weight {row['mean_weight']:.2f}")
