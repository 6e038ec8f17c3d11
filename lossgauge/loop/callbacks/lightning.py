"""The probe as a callback of Lightning.

callback = LightningProbe("criterion")
Trainer(callbacks=[callback]).fit(model, data)
callback.probe.findings(); callback.probe.report("page.html")
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from torch import nn
from torch.utils.data.distributed import DistributedSampler

from lossgauge.errors import InputError, MissingExtra, nearest
from lossgauge.loop.callbacks.criterion import Follower
from lossgauge.loop.probe import OnNan, Probe

MALICIOUS = ("2.6.2", "2.6.3")
"""Releases of Lightning that steal credentials when they are imported."""


def _refuse_malicious() -> None:
    for package in ("lightning", "pytorch-lightning"):
        try:
            found = version(package)
        except PackageNotFoundError:
            continue
        if found in MALICIOUS:
            raise MissingExtra(
                f"{package} {found} is a malicious release, and importing it runs its code: "
                f"pip uninstall {package}, change the credentials on this machine, then pip install 'lossgauge[lightning]'"
            )


_refuse_malicious()
if TYPE_CHECKING:
    Callback: Any = object
else:
    try:
        from lightning.pytorch import Callback
    except ImportError:
        try:
            from pytorch_lightning import Callback
        except ImportError:
            raise MissingExtra(
                "LightningProbe needs Lightning: pip install 'lossgauge[lightning]'"
            ) from None


class LightningProbe(Callback):  # type: ignore[misc]
    """Records each update of a LightningModule, and each validation whose `validation_step` calls the loss.

    `loss` is the name of the module's attribute that `training_step` calls with embeddings and labels, such as `criterion`, or a
    dotted name. The other settings are those of `lossgauge.Probe`. With several ranks, each has the rows of its own updates, and the
    validation rows of all ranks, without those that the sampler repeats to fill the last batch.
    """

    def __init__(self, loss: str = "criterion", *, every: int = 1, on_nan: OnNan = "raise") -> None:
        super().__init__()
        self.loss, self.every, self.on_nan = loss, every, on_nan
        self._follower: Follower | None = None

    @property
    def probe(self) -> Probe:
        """The probe, from the start of the training on. Raises InputError before."""
        if self._follower is None:
            raise InputError("the probe exists once training has started: call trainer.fit first")
        return self._follower.probe

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Start to watch."""
        criterion = _attribute(pl_module, self.loss)
        probe = Probe(
            list(trainer.optimizers),
            loss=criterion,
            every=self.every,
            scaler=getattr(trainer.precision_plugin, "scaler", None),
            on_nan=self.on_nan,
        )
        self._follower = Follower(probe, criterion)

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        """Begin with no rows."""
        if self._follower is not None:
            self._follower.forget()

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """The row of an epoch."""
        if self._follower is not None:
            self._follower.end_epoch(_row_ids(trainer.val_dataloaders))

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Stop to watch."""
        if self._follower is not None:
            self._follower.close()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Stop to watch; the rows so far stay."""
        self.on_train_end(trainer, pl_module)


def _attribute(module: nn.Module, name: str) -> nn.Module:
    found: Any = module
    for part in name.split("."):
        found = getattr(found, part, None)
    if not isinstance(found, nn.Module):
        known = [key for key, _ in module.named_modules() if key]
        raise InputError(
            f"{type(module).__name__} has no loss module {name!r}{nearest(name, known)}; give LightningProbe the name of the "
            "attribute that training_step calls with embeddings and labels"
        )
    return found


def _row_ids(loaders: Any) -> list[int] | None:
    """The index of each validation row of this rank in its dataset, in the order of the loader; None if it is not known."""
    loader = loaders[0] if isinstance(loaders, list | tuple) and len(loaders) == 1 else loaders
    sampler = getattr(loader, "sampler", None)
    return list(sampler) if isinstance(sampler, DistributedSampler) else None
