"""The probe as a callback of the trainers of transformers and of sentence-transformers.

callback = TrainerProbe(loss, rows=lambda model: (model.encode(texts), labels))
SentenceTransformerTrainer(model, train_dataset=data, loss=loss, callbacks=[callback]).train()
callback.probe.findings()
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from lossgauge.errors import InputError, MissingExtra
from lossgauge.loop.callbacks.criterion import Follower
from lossgauge.loop.probe import OnNan, Probe

if TYPE_CHECKING:
    TrainerCallback: Any = object
else:
    try:
        from transformers import TrainerCallback
    except ImportError:
        raise MissingExtra(
            "TrainerProbe needs transformers: pip install 'lossgauge[sentence-transformers]'"
        ) from None

Rows = Callable[[Any], tuple[Any, Any]]
"""The model → embeddings and labels of the test side."""


class TrainerProbe(TrainerCallback):  # type: ignore[misc]
    """Records each update of a trainer, and after each epoch the rows that `rows` gives.

    `loss` is the module that computes the loss: one of sentence-transformers, which calls the model inside itself, or one that
    your model or your `compute_loss` calls with embeddings and labels. The other settings are those of `lossgauge.Probe`.
    """

    def __init__(
        self,
        loss: nn.Module,
        *,
        rows: Rows | None = None,
        every: int = 1,
        on_nan: OnNan = "raise",
    ) -> None:
        super().__init__()
        if not isinstance(loss, nn.Module):
            raise InputError(
                f"loss must be the module that computes the loss, got {type(loss).__name__}; with several data sets "
                "and losses, use one TrainerProbe for one of them"
            )
        self.loss, self.rows, self.every, self.on_nan = loss, rows, every, on_nan
        self._probe: Probe | None = None
        self._follower: Follower | None = None

    @property
    def probe(self) -> Probe:
        """The probe, from the start of the training on. Raises InputError before."""
        if self._probe is None:
            raise InputError("the probe exists once training has started: call trainer.train first")
        return self._probe

    def on_train_begin(
        self, args: Any, state: Any, control: Any, *, model: Any, optimizer: Any, **_: Any
    ) -> None:
        """Start to watch."""
        calls_model = hasattr(self.loss, "compute_loss_from_embeddings")
        self._probe = Probe(
            optimizer,
            loss=self.loss,
            model=self.loss.model if calls_model else None,  # type: ignore[arg-type]
            every=self.every,
            scaler=getattr(optimizer, "scaler", None),
            on_nan=self.on_nan,
        )
        self._follower = None if calls_model else Follower(self._probe, self.loss)

    def on_epoch_end(self, args: Any, state: Any, control: Any, *, model: Any, **_: Any) -> None:
        """The row of an epoch."""
        if self.rows is None:
            return
        training = model.training
        model.eval()
        with torch.no_grad():
            embeddings, labels = self.rows(model)
        model.train(training)
        self.probe.epoch(embeddings, labels)

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Stop to watch."""
        if self._follower is not None:
            self._follower.close()
        else:
            self.probe.close()
