"""A pair loss over the pairs that a miner keeps, instead of all pairs of the batch."""

from __future__ import annotations

from typing import Any, ClassVar

from jaxtyping import Bool, Float, Int
from torch import Tensor

from lossgauge.losses.base import Loss, Outcome
from lossgauge.losses.inner import inner_loss, load_inner
from lossgauge.losses.miners import MINERS, Masks, mined
from lossgauge.losses.pairs import PairLoss, pair_masks, weights_pairs_of_samples
from lossgauge.losses.settings import one_of, setting
from lossgauge.sphere import on_sphere

KEPT = "mined_share"


class Mined(Loss):
    """The loss `of` (a name, also with settings, or a loss) over the pairs that `miner` keeps.

    The miner looks at the cosines of the rows, and no gradient flows through its choice. `mined_share` is the share of the terms
    that it keeps. Always in plain torch. `distance` draws from torch's generator, which a study seeds for each epoch.
    """

    group = "other"
    wraps_losses = True
    columns: ClassVar[tuple[str, ...]] = (KEPT,)

    of: Any = setting(default="triplet", check=inner_loss(weights_pairs_of_samples), tunable=False)
    miner: str = setting(default="hard", check=one_of(*MINERS), tunable=False)

    def prepare(self) -> None:
        self.loss: PairLoss = load_inner(self, "of")
        loss = self.loss
        self.columns = (*loss.columns, KEPT)  # type: ignore[misc]  # with those of the loss inside

    @property
    def entries(self) -> tuple[float, float]:
        return self.loss.entries

    def outcome(
        self, embeddings: Float[Tensor, "batch width"], labels: Int[Tensor, " batch"]
    ) -> Outcome:
        unit = on_sphere(embeddings)[0]
        every = Masks(*pair_masks(labels))
        kept = mined(self.miner, unit @ unit.T, every, width=embeddings.shape[1])
        outcome = self.loss.over_pairs(embeddings, *kept)
        total = self._term_count(embeddings, *every)
        share = float(outcome.counts.sum()) / total if total else float("nan")
        return outcome._replace(columns={**outcome.columns, KEPT: share})

    def _term_count(
        self,
        embeddings: Float[Tensor, "batch width"],
        positive: Bool[Tensor, "batch batch"],
        negative: Bool[Tensor, "batch batch"],
    ) -> int:
        """The terms of all pairs: from their numbers alone, if the loss has a kernel."""
        spec = self.loss.kernel()
        if spec is not None:
            return int(spec.counts(positive.sum(dim=1), negative.sum(dim=1)).sum())
        return int(self.loss.over_pairs(embeddings, positive, negative).counts.sum())
