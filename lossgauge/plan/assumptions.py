"""Settings that the paper does not publish, and our values: every report shows them as our choice."""

from __future__ import annotations

from lossgauge.plan.backbone import BackbonePlan
from lossgauge.plan.study import Plan
from lossgauge.types import Record


def assumptions(plan: Plan) -> Record:
    """Each setting that arXiv 2601.21450 does not publish → our value and the reason.

    Of queries and documents, which the paper does not have: what the study does where a reader may expect something else.
    """
    if plan.of_pairs:
        return {**_of_pairs(plan), **_tuning(plan)}
    settings = {
        "backbone": f"{_backbones(plan)}: the checkpoint of the paper's ViT-B/32 is not public, that of this network is",
        "features": "minus the mean of the training rows, so that the direction all images share does not "
        "look like a class structure"
        if plan.center_features
        else "unchanged, as the backbone gives them",
        "head": f"{_head(plan)}, then L2 normalisation",
        "loss settings": _settings(plan),
        "reducer": "the mean over all valid terms, for every loss",
        "sampler": f"{_SAMPLERS[plan.sampler]}, the same for every loss of a seed; a remainder is dropped{_memory(plan)}",
        "splits": "official if they exist, class-disjoint for orl-faces (20 people for training, 20 for testing), "
        "first half of each class for digits",
        "selection": _selection(plan),
        "active, term rule": "a term above 1e-6",
        "active, gradient rule": "a sample whose gradient is above 1 % of the median of the first ten steps",
    }
    return {**settings, **_tuning(plan)}


def _of_pairs(plan: Plan) -> Record:
    sides = {
        "both": "queries and documents pass through it",
        "query": "only queries pass through it, documents keep their embeddings",
    }
    start = "; before training it changes nothing, so the start is the raw model"
    # vectors need no backbone, and texts name theirs: the default is for images
    backbone = f"{_backbones(plan)}, frozen" if "backbone" in plan.model_fields_set else ""
    return {
        **({"backbone": backbone} if backbone else {}),
        "head": f"{_head(plan)}, then L2 normalisation"
        + (f"{start}; {sides[plan.sides]}" if plan.head == "residual" else ""),
        "loss settings": f"{'also tuned' if plan.tune is not None else 'not tuned'}: as in the settings column; if the study file "
        "gives no value, the default of the loss's own paper or common use",
        "hard negatives": _negatives(plan),
        "batches": "random queries without two equal texts, the same for every loss of a seed; a remainder is dropped. The other "
        "documents of a batch are negatives too",
        "split": "by query: queries that share a right document are on one side, unless your data say their own split",
        "ranking": "every test query is ranked against all documents of the data, those of training queries too",
        "selection": _selection(plan),
        "active, term rule": "a term above 1e-6",
        "active, gradient rule": "a row whose gradient is above 1 % of the median of the first ten steps",
    }


def _negatives(plan: Plan) -> str:
    if plan.negatives == "none":
        return "none"
    if plan.negatives == "given":
        return "those in the data"
    of = plan.negatives
    return (
        f"{of.per_query} for each query and batch, drawn from ranks {of.from_rank + 1} to {of.to_rank} of the raw model, less similar "
        f"to the query than {of.max_similarity:g} times its right document"
    )


def _tuning(plan: Plan) -> Record:
    if plan.tune is None:
        return {}
    return {
        "tuning": f"{plan.tune.trials} trials of {plan.tune.epochs or plan.epochs} epochs for every loss, the first with "
        f"the loss as in the study file; {_SEARCHES[plan.tune.sampler]}; compared by {_METRICS[plan.selection_metric]} on "
        f"a validation slice of the training side ({_slice(plan)}), never on the test side; the chosen setting "
        "then runs with the seeds of the study, which no trial used"
    }


_SAMPLERS = {
    "random": "random batches",
    "m_per_class": "the same number of samples of each class of a batch",
    "stratified": "batches with a proportional share of each class",
    "stratified_kmeans": "batches with a proportional share of each k-means cell of the frozen features, in antithetic pairs",
    "dirichlet": "batches of unequal classes, with shares drawn from a Dirichlet distribution for each batch",
    "drawn": "each anchor with one random pair (half of them positive) or triplet, drawn from the whole training side",
}
_SEARCHES = {"tpe": "proposed by TPE (Optuna) in rounds of five", "random": "drawn at random"}
_METRICS = {"map_at_r": "MAP@R", "recall_at_1": "R@1", "ndcg_at_10": "nDCG@10"}


def _settings(plan: Plan) -> str:
    start = (
        "as in the settings column; if the study file gives no value, the default of the loss's own paper or "
        "common use. The settings of CCL are not public: 32, 0.2 and 1 are our defaults"
    )
    return f"{start}; also tuned" if plan.tune is not None else f"not tuned: {start}"


def _memory(plan: Plan) -> str:
    if not plan.memory:
        return ""
    return f"; the last {plan.memory:,} rows of earlier batches are further columns of the loss, without a gradient"


def _selection(plan: Plan) -> str:
    metric = _METRICS[plan.selection_metric]
    if plan.selection == "oracle":
        return f"the epoch with the best {metric} on the test side itself: the results are too good for a fair comparison"
    if plan.selection == "best-validation":
        return f"the epoch with the best {metric} on a validation slice of the training side ({_slice(plan)})"
    return "the last epoch: no epoch is selected by its test result"


def _slice(plan: Plan) -> str:
    share = f"{100 * plan.validation_share:g} %"
    if plan.of_pairs:
        return f"{share} of its queries"
    return f"{share} of its classes if test classes are unseen, else {share} of each class"


def _head(plan: Plan) -> str:
    if plan.head == "mlp":
        return (
            f"two layers with {plan.hidden_size} ReLU units between them, to {plan.embedding_size}"
        )
    if plan.head == "residual":
        return f"the features plus an update of rank {plan.rank}, which starts at 0"
    return f"one linear layer to {plan.embedding_size}, the smallest head"


def _backbones(plan: Plan) -> str:
    if isinstance(plan.backbone, BackbonePlan):
        return plan.backbone.title
    return ", ".join(
        f"{backbone.title} for {dataset}" for dataset, backbone in plan.backbone.items()
    )
