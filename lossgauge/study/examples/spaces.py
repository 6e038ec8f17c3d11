"""The spaces that examples are taken from: the frozen features, and each loss's head at some epochs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float64, Int
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from lossgauge.diagnostics.references import FROZEN
from lossgauge.files import damaged
from lossgauge.ranking.query_set import against_each_other
from lossgauge.ranking.scores import norms_and_directions
from lossgauge.ranking.search import neighbor_blocks
from lossgauge.results.examples import NEIGHBORS
from lossgauge.results.layout import Layout
from lossgauge.results.view import Loss, StudyView
from lossgauge.study.examples.embedding_map import MOST_EPOCHS
from lossgauge.study.run.run_log import heads_of
from lossgauge.study.run.setup import head_of
from lossgauge.study.schedule.run_config import RunConfig
from lossgauge.training import embed
from lossgauge.types import FeatureSet, Record

MOST_LOSSES = 12
"""Losses whose examples are kept: the first of a study."""


class Space(NamedTuple):
    """One way to place the rows of a dataset on the unit sphere."""

    name: str
    run: str | None
    heads: Mapping[int, nn.Module | None]
    """Epoch → head, ascending; None is the identity."""
    selected: int
    """The epoch whose neighbours and means are shown."""

    def directions(
        self, features: FeatureSet, rows: Int[Tensor, " some"], epoch: int | None = None
    ) -> Float64[Tensor, "some width"]:
        """Unit vectors of some rows at an epoch, by default at the selected one; a row of zeros stays zero."""
        head = self.heads[self.selected if epoch is None else epoch]
        embedded = features.features[rows] if head is None else embed(head, features.features, rows)
        return norms_and_directions(embedded)[1]


def shown_losses(view: StudyView, dataset: str) -> tuple[int, dict[Loss, Record]] | None:
    """A seed, and the run of each loss with that seed; None if no loss has finished a run.

    It is the seed that most losses have finished; of equal ones the smallest. Heads of more than one epoch are kept for
    seed 0 alone.
    """
    by_seed: dict[int, dict[Loss, Record]] = {}
    for loss in view.losses[:MOST_LOSSES]:
        for seed, row in view.runs(dataset, loss).items():
            by_seed.setdefault(seed, {})[loss] = row
    if not by_seed:
        return None
    seed = min(by_seed, key=lambda seed: (-len(by_seed[seed]), seed))
    return seed, by_seed[seed]


def spaces(
    layout: Layout, features: FeatureSet, runs: Mapping[Loss, Record], configs: Mapping[str, Record]
) -> Iterator[Space]:
    """The frozen features, then each run. Raises CacheError for a file of heads that cannot be read."""
    yield Space(FROZEN, None, {0: None}, 0)
    for loss, row in runs.items():
        run, selected = str(row["run"]), int(row["selected_epoch"])
        config = RunConfig.from_json(configs[run])
        states: dict[int, Mapping[str, Tensor]] = {selected: _tensors(layout.head(run))}
        if layout.heads(run).exists():
            states = {**heads_of(_tensors(layout.heads(run))), **states}
        width = features.features.shape[1]
        heads = {
            epoch: _head(config, width, state, layout, run)
            for epoch, state in sorted(states.items())
            if epoch in kept_epochs(list(states), selected)
        }
        yield Space(loss.base, run, heads, selected)


def kept_epochs(epochs: list[int], selected: int) -> list[int]:
    """At most MOST_EPOCHS of them, with the first, the last and the selected one: of the others the latest."""
    needed = {min(epochs), max(epochs), selected}
    others = sorted(set(epochs) - needed, reverse=True)
    return sorted({*needed, *others[: MOST_EPOCHS - len(needed)]})


def nearest_rows(
    directions: Float64[Tensor, "rows width"], queries: Int[Tensor, " queries"]
) -> Int[np.ndarray, "queries k"]:
    """The places of the nearest other rows of each query, nearest first, ranked as in `lossgauge.retrieval`."""
    count = min(NEIGHBORS, len(directions) - 1)
    counts = torch.full((len(queries),), count)
    blocks = neighbor_blocks(against_each_other(directions), queries, counts=counts)
    return np.concatenate([block.columns[:, :count].numpy() for block in blocks])


def _tensors(path: Path) -> dict[str, Tensor]:
    try:
        tensors: dict[str, Tensor] = load_file(path)
    except (OSError, SafetensorError) as error:
        raise damaged(path, str(error)) from None
    return tensors


def _head(
    config: RunConfig, width: int, state: Mapping[str, Tensor], layout: Layout, run: str
) -> nn.Module:
    head = head_of(config, width)
    try:
        head.load_state_dict(dict(state))
    except RuntimeError as error:
        raise damaged(layout.run(run), f"its head does not fit: {error}") from None
    return head
