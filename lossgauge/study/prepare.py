"""What a study needs before its first run: a plan without contradictions, and the features of each dataset."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from lossgauge.backbones import load_backbone
from lossgauge.claims.own_claims import statements
from lossgauge.data import (
    EMBEDDINGS,
    PAIRS,
    TOY,
    check_dataset_name,
    load_dataset,
    needs_backbone,
    toy,
)
from lossgauge.data.class_balanced import sampled_features, sampled_images
from lossgauge.data.embeddings import load as load_embeddings
from lossgauge.data.features import centered, fingerprint_of, identity_of, is_cached
from lossgauge.data.features import features as features_of
from lossgauge.data.pairs import load as load_pairs
from lossgauge.data.samplers import (
    m_per_class_notes,
    share_without_positive,
    warning_of_anchors_without_positive,
)
from lossgauge.errors import DataError, InputError, MissingExtra, PlanError, nearest
from lossgauge.losses.pairs import weights_pairs_of_samples
from lossgauge.losses.registry import ALL_LOSSES, LOSSES, drawn_terms, loss_class, loss_maker
from lossgauge.plan.study import Plan
from lossgauge.portable import portable
from lossgauge.results.writer import Store
from lossgauge.study.fit_to_data import batch_notes, check_fit, fit_notes
from lossgauge.study.progress import Progress
from lossgauge.study.run.measure import references
from lossgauge.study.run.pair_batches import mined_negatives, mined_shares
from lossgauge.study.run.setup import as_measured, batches_of, check_memory, pair_batches_of
from lossgauge.study.schedule.run_config import RunConfig, embedding_size, train_count, with_labels
from lossgauge.study.schedule.runs import variants
from lossgauge.study.schedule.search import SOME_CLASSES, check_space, import_optuna
from lossgauge.types import Backbone, FeatureSet, ImageSet, Record


def check_plan(plan: Plan, *, download: bool = False) -> dict[str, Backbone]:
    """The backbone of each dataset; raises for a wrong name or setting before anything is written.

    `download` lets a backbone fetch weights that are not on this machine.
    """
    for name in plan.datasets:
        try:
            check_dataset_name(name)
        except InputError as error:
            raise PlanError(str(error)) from None
    for name in plan.backbone if isinstance(plan.backbone, dict) else ():
        if name not in plan.datasets:
            raise PlanError(
                f"backbone names a dataset that is not in the study: {name!r}"
                f"{nearest(name, plan.datasets)}"
            )
        if not needs_backbone(name):
            raise PlanError(
                f"backbone: {name} takes none, because its rows are already features; remove this entry"
            )
    statements(plan.claims, [name for loss in plan.losses for name in (loss.title, loss.name)])
    if plan.tune is not None:
        import_optuna()
    _check_files([loss.name for loss in plan.losses if ":" in loss.name])
    for loss in plan.losses:
        for at in (loss.at({}), *(at for at, _ in variants(loss.at({}), plan.sensitivity))):
            size = plan.embedding_size
            made = loss_maker(at.name, at.fixed, class_count=SOME_CLASSES, embedding_size=size)()
            if plan.memory_of(loss) and not getattr(made, "takes_memory", False):
                raise PlanError(_no_memory(loss.title))
        if plan.tune is not None:
            check_space(loss, plan)
        if (loss.sampler or plan.sampler) == "drawn":
            drawn_terms(loss.name)
        _check_form(loss.name, of_pairs=plan.of_pairs)
    if plan.sensitivity and not any(
        list(variants(loss.at({}), plan.sensitivity)) for loss in plan.losses
    ):
        raise PlanError(
            "sensitivity has no effect, because no loss has a margin, temperature or scale; leave it out"
        )
    images = [name for name in plan.datasets if needs_backbone(name)]
    named = {dataset: plan.backbone_of(dataset) for dataset in images}
    loaded = {
        backbone.title: load_backbone(backbone.name, download=download, **backbone.settings)
        for backbone in named.values()
    }
    return {dataset: loaded[backbone.title] for dataset, backbone in named.items()}


def _check_form(name: str, *, of_pairs: bool) -> None:
    """PlanError for a loss that is not defined for the data of the study."""
    loss = loss_class(name)
    if of_pairs and not getattr(loss, "pair_form", False):
        able = [of for of in LOSSES if getattr(loss_class(of), "pair_form", False)]
        raise PlanError(
            f"the loss {name} needs classes and has no form for queries and documents; use one of {', '.join(able)}"
        )
    if not of_pairs and not getattr(loss, "square_form", True):
        raise PlanError(
            f"the loss {name} needs queries and documents, and this study has classes; use a dataset pairs:PATH"
        )


def _no_memory(title: str) -> str:
    able = [name for name in ALL_LOSSES if weights_pairs_of_samples(loss_class(name))]
    return (
        f"{title} cannot use a memory: it needs a loss that weights pairs of labelled rows, and does not count a row for "
        f"itself; use memory: 0 for it, or one of {', '.join(able)}"
    )


def _check_files(names: list[str]) -> None:
    """PlanError if two losses from files of the user have the same name: a report could not distinguish them."""
    shown: dict[str, str] = {}
    for name in names:
        short = Path(name).name
        if shown.setdefault(short, name) != name:
            raise PlanError(
                f"losses {shown[short]!r} and {name!r} would have the same name in the report, {short}; rename one of the files"
            )


Extract = Callable[[str, ImageSet, Backbone], FeatureSet]
"""Gives the features of a dataset of that name."""


def prepare(
    plan: Plan,
    *,
    progress: Progress,
    download: bool = False,
    extract: Extract | None = None,
    jobs: int | None = None,
    on_images: Callable[[ImageSet, Backbone], None] = lambda *_: None,
    settings_are_final: bool = True,
) -> tuple[list[FeatureSet], list[Record]]:
    """The features of each dataset; and rows for `Results.left_out`: what was left out or is doubtful, and why.

    `download` lets datasets and weights be fetched that are not on this machine. `extract` replaces `features`, and
    `jobs` limits its processes. `on_images` gets the images of each dataset that has some, before their features.
    Without `settings_are_final`, runs will have other sizes than the plan, so whether these fit is not checked.
    Raises LossgaugeError for a wrong plan, and if no dataset can be used; writes nothing but the cache of features.
    """
    backbones = check_plan(plan, download=download)
    prepared: list[FeatureSet] = []
    left_out: list[Record] = []
    errors: dict[str, str] = {}
    for name in plan.datasets:
        try:
            features = _load(plan, name, backbones, progress, download, extract, jobs, on_images)
        except (DataError, MissingExtra) as error:
            errors[name] = str(error)
            left_out.append(_left_out(name, str(error), "whole"))
            # only beside a dataset that can be used: else the final error says it too
            if prepared:
                progress.left_out(name, str(error))
            continue
        for other, words in errors.items() if not prepared else ():
            progress.left_out(other, words)
        if features.pairs is None and plan.of_pairs:
            raise PlanError(f"{name} has classes, not queries and documents")
        if plan.center_features:
            features = centered(features)
        for words in features.notes:
            progress.warning(name, words)
        left_out += [_left_out(name, words, "part") for words in features.notes]
        for of in _with_labels(plan, features):
            shown = name if of.labelled is None else of.dataset
            if settings_are_final:
                check_fit(plan, of)
            notes = [*_sampler_notes(plan, of), *fit_notes(plan, of)]
            warning = _warning(plan, of)
            if settings_are_final:
                rows = len(as_measured(of, _first_config(plan, of)).train)
                notes += batch_notes(plan, of, rows)
            _check_memories(plan, of)
            for words in (*notes, *([warning] if warning else [])):
                progress.warning(shown, words)
            left_out += [_left_out(shown, words, "part") for words in notes]
            prepared.append(of)
    if not prepared:
        reasons = "; ".join(f"{name}: {words}" for name, words in errors.items())
        raise DataError(f"{NONE_USABLE}{reasons}")
    titles = [features.dataset for features in prepared]
    if twice := {title for title in titles if titles.count(title) > 1}:
        raise PlanError(
            f"two datasets have the same name, {twice.pop()}; rename one of the folders or files"
        )
    return prepared, left_out


NONE_USABLE = "no dataset of the study can be used: "
"""How the error begins if no dataset is left; the reasons follow."""


def _with_labels(plan: Plan, features: FeatureSet) -> list[FeatureSet]:
    """A dataset for each entry of `labels`. Raises PlanError if a class has too few rows for it."""
    of_each = [
        features if entry.form is None else with_labels(features, entry.form)
        for entry in plan.labels
    ]
    for of in of_each:
        try:
            train_count(of)
        except InputError as error:
            raise PlanError(f"{features.dataset}: {error}") from None
    return of_each


def _left_out(name: str, words: str, extent: str) -> Record:
    """A row that may be shown to others: it does not say where the data lie on this machine."""
    kind, _, path = name.partition(":")
    below = [Path(path).parent, Path(path).resolve().parent] if path else []
    shown = f"{kind}:{Path(path).name or Path(path).resolve().name}" if path else name
    return {"dataset": shown, "reason": portable(words, *below), "extent": extent}


def write_dataset_record(plan: Plan, features: FeatureSet, store: Store) -> None:
    """Write the record of a dataset, unless it exists already: the references cost a search of neighbours."""
    known = {
        "dataset": features.dataset,
        "backbone": features.backbone,
        "protocol": features.protocol,
        "fingerprint": features.fingerprint,
        "features": dict(features.identity),
        "train_samples": train_count(features),
        "test_samples": len(features.test),
        "embedding_size": embedding_size(plan, features),
    }
    if features.pairs is not None:
        # in an older study, this reference or its queries are missing
        known["centered"] = "each side, with its queries"
    if not store.has_dataset(features.dataset, known):
        found = references(features, width=embedding_size(plan, features))
        record = {**known, "references": found.rows}
        store.write_dataset(features.dataset, record, found.frozen_queries, found.centered_queries)


def _load(
    plan: Plan,
    name: str,
    backbones: dict[str, Backbone],
    progress: Progress,
    download: bool,
    extract: Extract | None,
    jobs: int | None,
    on_images: Callable[[ImageSet, Backbone], None],
) -> FeatureSet:
    return dataset_features(
        name,
        backbones.get(name),
        split=plan.split,
        embeddings_name=plan.embeddings_name,
        labels_name=plan.labels_name,
        progress=progress,
        download=download,
        extract=extract,
        jobs=jobs,
        sample=plan.sample,
        on_images=on_images,
    )


def dataset_features(
    name: str,
    backbone: Backbone | None,
    *,
    split: str | None,
    embeddings_name: str,
    labels_name: str,
    progress: Progress,
    download: bool = False,
    extract: Extract | None = None,
    jobs: int | None = None,
    sample: int | None = None,
    on_images: Callable[[ImageSet, Backbone], None] = lambda images, backbone: None,
) -> FeatureSet:
    """The features of one dataset, not centered; the other arguments are keys of a study file and those of `prepare`.

    Data whose rows are features already need no backbone.
    """
    if name.startswith(EMBEDDINGS):
        rows = load_embeddings(
            Path(name.removeprefix(EMBEDDINGS)),
            embeddings_name=embeddings_name,
            labels_name=labels_name,
            split=split,
        )
        return rows if sample is None else sampled_features(rows, sample)
    if name.startswith(TOY):
        rows = toy.load(name.removeprefix(TOY))
        return rows if sample is None else sampled_features(rows, sample)
    if name.startswith(PAIRS) and not needs_backbone(name):
        vectors = load_pairs(Path(name.removeprefix(PAIRS)), split=split)
        if isinstance(vectors, FeatureSet):
            return vectors if sample is None else sampled_features(vectors, sample)
    if backbone is None:
        raise InputError(f"{name} has images or texts, and these need a backbone")
    images = load_dataset(name, download=download, split=split)
    whole = None
    if sample is not None:
        whole, images = _cached(images, backbone), sampled_images(images, sample)
    on_images(images, backbone)
    if sample is not None and whole is not None:
        # as if the sample had been extracted: its runs are the same
        return sampled_features(whole, sample)._replace(
            fingerprint=fingerprint_of(images),
            identity=identity_of(images, backbone),
        )
    if extract is not None:
        return extract(name, images, backbone)
    return features_of(images, backbone, jobs=jobs, progress=partial(progress.features, name))


def _cached(images: ImageSet, backbone: Backbone) -> FeatureSet | None:
    """The features of all images, if the cache has them."""
    if not is_cached(images, backbone):
        return None
    features = features_of(images, backbone)
    return features if len(features.labels) == len(images.ids) else None


def _sampler_notes(plan: Plan, features: FeatureSet) -> list[str]:
    """What M-per-class batches round or leave out of a dataset, and what mining leaves out or would name wrongly."""
    if features.pairs is not None:
        return _mining_notes(plan, features)
    if plan.sampler != "m_per_class":
        return []
    try:
        return m_per_class_notes(
            features.labels[as_measured(features, _first_config(plan, features)).train],
            batch_size=plan.batch_size,
            samples_per_class=plan.samples_per_class,
            small_classes=plan.small_classes,
            class_names=features.class_names,
        )
    except InputError as error:
        raise PlanError(f"{features.dataset}, sampler {plan.sampler}: {error}") from None


def _first_config(plan: Plan, features: FeatureSet) -> RunConfig:
    return RunConfig.trained(plan, features, plan.losses[0].at({}), plan.seeds[0])


def _mining_notes(plan: Plan, features: FeatureSet) -> list[str]:
    if isinstance(plan.negatives, str):
        return []
    ranks = {"from_rank": plan.negatives.from_rank, "to_rank": plan.negatives.to_rank}
    band = f"hard negatives of ranks {ranks['from_rank'] + 1} to {ranks['to_rank']}"
    of = mined_shares(
        features,
        mined_negatives(features, features.train, **ranks),
        max_similarity=plan.negatives.max_similarity,
        **ranks,
    )
    notes = [f"{band}: {of.without:.1%} of the training queries have none that is left"]
    if of.false is not None:
        notes.append(
            f"{band}: if only one right document of each query were known, {of.false:.1%} of them would be false negatives"
        )
    return notes


def _check_memories(plan: Plan, features: FeatureSet) -> None:
    """PlanError if a loss would remember more rows than a run, or a trial of its search, trains on."""
    for loss in plan.losses:
        if plan.memory_of(loss):
            configs = [RunConfig.trained(plan, features, loss.at({}), plan.seeds[0])]
            if plan.tune is not None:
                configs.append(RunConfig.trial(plan, features, loss.at({})))
            for config in configs:
                try:
                    check_memory(config, as_measured(features, config))
                except InputError as error:
                    raise PlanError(f"{features.dataset}, {loss.title}: {error}") from None


def _warning(plan: Plan, features: FeatureSet) -> str | None:
    """What to know, before training, about the batches that this plan draws from a dataset.

    Raises PlanError if they cannot be drawn, or if no validation slice can be cut.
    """
    first = _first_config(plan, features)
    configs = [first]
    for loss in plan.losses[1:]:  # one may have its own sampler and batch size
        own = RunConfig.trained(plan, features, loss.at({}), plan.seeds[0])
        if all((own.sampler, own.batch_size) != (of.sampler, of.batch_size) for of in configs):
            configs.append(own)
    if plan.tune is not None:
        # its slice takes rows away: the rest may not be enough for what the sampler asks for
        configs.append(RunConfig.trial(plan, features, plan.losses[0].at({})))
    batches = []
    for config in configs:
        try:
            rows = as_measured(features, config)
            if rows.pairs is not None:
                pair_batches_of(config, rows)(1)
                continue
            drawn = batches_of(config, rows)(1)
        except DataError as error:
            raise PlanError(f"{features.dataset}: {error}") from None
        except InputError as error:
            raise PlanError(f"{features.dataset}, sampler {config.sampler}: {error}") from None
        if config is first:
            batches = [features.labels[batch] for batch in drawn]
    if plan.sampler == "drawn" or features.pairs is not None:
        return None  # each anchor has its own partners
    return warning_of_anchors_without_positive(share_without_positive(batches))
