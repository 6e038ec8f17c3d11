"""Which queries a loss answers better, and which worse, than the raw model, with their texts."""

from __future__ import annotations

import numpy as np

from lossgauge.results.query_changes import LONGEST_TEXT, QueryChange, QueryChanges
from lossgauge.results.run_files import RunFiles
from lossgauge.results.view import Loss, StudyView
from lossgauge.results.writer import Store
from lossgauge.study.examples.hub import hub_of
from lossgauge.study.examples.row_source import RowSource
from lossgauge.types import FeatureSet

MOST_QUERIES = 10
"""Of each list."""

RANKED_BY = "ndcg_at_10"


def write_query_changes(
    view: StudyView, features: FeatureSet, source: RowSource, store: Store
) -> None:
    """Write the changes of the best loss of a dataset; nothing if no loss has finished a run. Raises DiskError."""
    means = {
        loss: of.mean
        for loss in view.losses
        if (of := view.interval(features.dataset, loss, RANKED_BY))
    }
    if not means or view.files is None:
        return
    best = max(means, key=lambda loss: means[loss])
    found = query_changes(view, view.files, features.dataset, best, source)
    found = found.model_copy(update={"hub": hub_of(features, source)})
    store.write_query_changes(features.dataset, found.model_dump())


def query_changes(
    view: StudyView, files: RunFiles, dataset: str, loss: Loss, source: RowSource
) -> QueryChanges:
    """nDCG@10 of each query, the mean over the seeds of `loss`, minus that of the raw model; of equal changes the earlier row."""
    frozen = files.frozen_queries(dataset)
    runs = view.settled_runs(dataset, loss)
    tables = [files.queries(str(runs[seed]["run"])) for seed in sorted(runs)]
    query = frozen["query"].to_numpy()
    before = frozen[RANKED_BY].to_numpy()
    after = np.mean([table[RANKED_BY].to_numpy() for table in tables], axis=0)
    # rounded: sums of equal numbers may differ in their last bit
    change = (after - before).round(12)
    order = np.lexsort([query, -change])

    def words(row: int) -> str:
        return "" if row < 0 else (source.words or source.id_of)(row)[:LONGEST_TEXT]

    def one(at: int) -> QueryChange:
        right, wrong = (
            int(tables[0][name][at].as_py()) for name in ("nearest_right", "nearest_wrong")
        )
        return QueryChange(
            query=words(int(query[at])),
            before=float(before[at]),
            after=float(after[at]),
            right=words(right),
            wrong=words(wrong),
        )

    rising = [at for at in order.tolist() if change[at] > 0]
    falling = [at for at in np.lexsort([query, change]).tolist() if change[at] < 0]
    return QueryChanges(
        dataset=dataset,
        loss=loss.base,
        seeds=len(runs),
        better_count=len(rising),
        worse_count=len(falling),
        query_count=len(query),
        better=[one(at) for at in rising[:MOST_QUERIES]],
        worse=[one(at) for at in falling[:MOST_QUERIES]],
    )
