"""From a finished run of a study to the folder of an exported head: loaded, measured again, written."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

from torch import Tensor, nn

from lossgauge import __version__
from lossgauge.backbones import load_backbone
from lossgauge.backbones.sentence_model import SentenceModel
from lossgauge.data import needs_backbone
from lossgauge.data.features import centered
from lossgauge.deployment.backbone import difference_of
from lossgauge.deployment.choice import Choice, choose
from lossgauge.deployment.cost_sentences import narrow_lines, raw_words
from lossgauge.deployment.costs import Costs, costs, principal_directions
from lossgauge.deployment.head import CENTER, ExportedHead, check_replaceable, module_of, write_head
from lossgauge.deployment.manifest import (
    BackboneRecord,
    HeadRecord,
    Manifest,
    MeasuredRecord,
    OperatingRecord,
    ThresholdsRecord,
    TrainedRecord,
)
from lossgauge.deployment.model_card import Compared, compared, model_card
from lossgauge.deployment.pair_export import PairsOfHead, pairs_of_head
from lossgauge.deployment.sentence_transformers_modules import (
    check_new,
    check_text_backbone,
    write_sentence_transformer,
)
from lossgauge.deployment.sentences import export_lines
from lossgauge.diagnosis.over_pairs import Classes, thresholds_of
from lossgauge.diagnosis.source import from_arrays
from lossgauge.diagnostics.pair_thresholds import PairThresholds
from lossgauge.diagnostics.references import CENTERED, FROZEN
from lossgauge.diagnostics.thresholds import Thresholds
from lossgauge.errors import DataError, InputError
from lossgauge.heads import Normalized, ResidualHead
from lossgauge.plan.backbone import BackbonePlan
from lossgauge.portable import portable
from lossgauge.results.layout import Layout
from lossgauge.results.reader import read_head, read_study
from lossgauge.results.view import StudyView
from lossgauge.stats.intervals import known
from lossgauge.stats.number_format import counted, shown
from lossgauge.study.prepare import dataset_features
from lossgauge.study.progress import Progress
from lossgauge.study.run.measure import ranked
from lossgauge.study.schedule.run_config import source_of
from lossgauge.training import embed
from lossgauge.types import Backbone, FeatureSet, Record

VERSIONS = frozenset({"torch", "pillow", "transformers", "format"})
"""Parts of the identity of features that may differ from the study's: the measurements show whether it matters."""

SAME = 1e-3
"""R@1 and MAP@R of the exported head and of the run may differ by this much: another machine rounds otherwise."""


class HeadExport(NamedTuple):
    """What was exported. `str` of it is the text of `lossgauge head`."""

    folder: Path
    head: ExportedHead
    costs: Costs
    compared: tuple[Compared, ...]
    """Of queries and documents: the numbers of the test queries beside those of the raw model. Empty for other data."""
    notes: tuple[str, ...]
    """What a user should know before the head is used."""
    model: Path | None = None
    """The folder of the whole model for sentence-transformers, if it was asked for."""
    replaced: bool = False
    """Whether the folder had an earlier head."""

    def lines(self) -> list[str]:
        return list(export_lines(self))

    def __str__(self) -> str:
        return "\n".join(self.lines())


def export_head(
    study: StudyView | Path,
    out: Path,
    *,
    dataset: str | None = None,
    loss: str | None = None,
    seed: int | None = None,
    data: str | None = None,
    width: int | None = None,
    onnx: bool = False,
    model: Path | None = None,
    download: bool = False,
    progress: Progress | None = None,
) -> HeadExport:
    """Export the head of a finished run of a study into the folder `out`, which is new, empty or an earlier export.

    `choose` says which run is taken where `dataset`, `loss` or `seed` is not given. The features of the dataset are needed, from the
    cache or extracted again: for the mean of the training side, for score thresholds and costs, and to measure the head
    again. `data` is the place of the dataset, if it is not the one in the study. `width` keeps so many principal directions of the
    embeddings; it costs nothing, because they are put into the last layer. `onnx` adds head.onnx. `model` is a new folder for a whole model of sentence-transformers: a
    backbone for texts with the head behind it. Raises a
    LossgaugeError, and writes nothing, if the run kept no head, if the data or the backbone are not those of the study, or if the
    head does not measure as its run did.
    """
    replaced = check_replaceable(out.resolve())
    if onnx:
        from lossgauge.deployment.onnx_model import check_onnx

        check_onnx()
    if model is not None:
        check_new(model)
    view = study if isinstance(study, StudyView) else read_study(study)
    if view.files is None:
        raise InputError("a head is exported from the folder of a study: use read_study")
    choice = choose(view, dataset=dataset, loss=loss, seed=seed)
    config = view.files.configs[choice.row["run"]]
    tensors = read_head(Layout(view.files.folder), choice.row["run"])
    features, backbone, settings = _features(
        view, choice, config, data, download, progress or Progress()
    )
    notes = _check_features(config, features, choice)
    of_study = centered(features) if "centered" in config["features"] else features
    center = _mean(features, of_study)
    form = HeadRecord(
        kind=config["head"],
        feature_width=features.features.shape[1],
        hidden_size=config["hidden_size"],
        embedding_size=config["embedding_size"],
        rank=config.get("rank"),
        sides=config.get("sides") or "both",
        centered=of_study is not features,
    )
    if model is not None:
        check_text_backbone(backbone, features.backbone)
    embeddings = _embedded(form, tensors, of_study)
    measured = _measured(view, choice, embeddings, of_study)
    if width is not None and width != form.embedding_size:
        form, tensors = narrowed(form, tensors, embeddings.train, width)
        embeddings = _embedded(form, tensors, of_study)
        measured = measured.model_copy(update=embeddings.retrieval())
    manifest = Manifest(
        lossgauge=__version__,
        backbone=BackboneRecord(
            name=features.backbone,
            settings=settings,
            identity={} if backbone is None else dict(backbone.identity),
        ),
        head=form,
        trained=TrainedRecord(
            dataset=choice.dataset,
            protocol=features.protocol,
            fingerprint=features.fingerprint,
            loss=portable(choice.loss),
            settings=portable(str(choice.row["settings"])),
            seed=choice.seed,
            epoch=int(choice.row["selected_epoch"]),
            run=str(choice.row["run"]),
            chosen=portable(choice.reason),
        ),
        measured=measured,
        thresholds=threshold_record(embeddings.thresholds()),
        files={},
    )
    costed = embeddings.costs(of_study)
    of_pairs = features.pairs is not None
    beside = embeddings.beside_raw(of_study) if of_pairs or model is not None else []
    others: dict[str, bytes] = {}
    every = {CENTER: center, **tensors}
    if onnx:
        from lossgauge.deployment.onnx_model import NAME, as_onnx

        others[NAME] = as_onnx(ExportedHead(manifest, every))
    head = write_head(out, manifest, every, others)
    cautions = [portable(choice.caution)] * bool(choice.caution)
    cautions += notes_of(manifest, costed, residual=config["head"] == "residual")
    without_head = f"lossgauge embed DATA --frozen --head {shlex.quote(str(out))}"
    if cautions:
        notes.append(
            f"`{without_head}` writes {'the embeddings of the raw model' if of_pairs else 'the frozen features'}, without this head"
        )
    cautions += _note_on_centering(view, manifest, f"{without_head} --center")
    if model is not None:
        assert isinstance(backbone, SentenceModel)  # check_text_backbone
        narrow = [] if form.reduced_from is None else list(narrow_lines(costed))
        card = model_card(head.manifest, beside, cautions, narrow)
        write_sentence_transformer(head, backbone, model, card)
    numbers = tuple(beside) if of_pairs else ()
    return HeadExport(out, head, costed, numbers, (*cautions, *notes), model, replaced)


def narrowed(
    form: HeadRecord, tensors: Mapping[str, Tensor], train: Tensor, width: int
) -> tuple[HeadRecord, dict[str, Tensor]]:
    """A head whose embeddings are the `width` leading principal directions of its embeddings `train`.

    The rotation is a part of the last layer: normalising V(Wx + b) gives the direction of V z, whatever the length of Wx + b is. Raises
    InputError for a width that the head does not have.
    """
    if not 1 <= width <= form.embedding_size:
        raise InputError(f"width must be from 1 to {form.embedding_size}, got {width}")
    rotation = principal_directions(train)[:, :width].T
    if form.sides == "query":
        raise InputError(
            f"width {width} needs a head for both sides: documents are the features themselves here, of width "
            f"{form.embedding_size}; train with sides: both"
        )
    if form.kind == "residual":
        layer = make_linear(form, tensors)
        tensors = {"linear.weight": layer.weight, "linear.bias": layer.bias}
        form = form.model_copy(update={"kind": "linear", "rank": None})
    last = {name: tensors[f"linear.{name}"] for name in ("weight", "bias")}
    turned = {
        f"linear.{name}": (rotation @ tensor.double()).to(tensor.dtype)
        for name, tensor in last.items()
    }
    record = form.model_copy(update={"embedding_size": width, "reduced_from": form.embedding_size})
    return record, {**tensors, **turned}


def make_linear(form: HeadRecord, tensors: Mapping[str, Tensor]) -> nn.Linear:
    """A residual head as one layer."""
    head = module_of(form)
    head.load_state_dict(tensors)
    return cast(ResidualHead, head).as_linear()


class _Embeddings(NamedTuple):
    """Of both sides of the split, with the classes of the test side."""

    train: Tensor
    test: Tensor
    labels: Tensor

    def retrieval(self) -> dict[str, float]:
        now = ranked(self.test, self.labels)
        return {"recall_at_1": now.recall_at[1], "map_at_r": now.map_at_r}

    def thresholds(self) -> Thresholds | None:
        source = from_arrays(self.test, self.labels)
        classes = Classes.of(source)
        return thresholds_of(source, classes, seed=0) if classes.usable else None

    def costs(self, features: FeatureSet) -> Costs:
        """By R@1, beside those of the features themselves."""
        raw = (
            embed(Normalized(), features.features, rows) for rows in (features.train, features.test)
        )
        return costs(self.train, self.test, self.labels, raw=(next(raw), next(raw)))

    def beside_raw(self, features: FeatureSet) -> list[Compared]:
        """R@1 and MAP@R beside those of the features of the test side."""
        spaces = (self.test, features.features[features.test])
        now, raw = (ranked(space, self.labels, per_query=True).per_query for space in spaces)
        assert now is not None
        assert raw is not None
        ranks = (of.first_right_rank == 1 for of in (now, raw))
        first, before = (hit.astype(float) for hit in ranks)
        return [compared("R@1", first, before), compared("MAP@R", now.ap_at_r, raw.ap_at_r)]


def _embedded(
    form: HeadRecord, tensors: Mapping[str, Tensor], features: FeatureSet
) -> _Embeddings | PairsOfHead:
    if features.pairs is not None:
        return pairs_of_head(form, tensors, features)
    module = module_of(form)
    module.load_state_dict(tensors)
    module.eval().requires_grad_(False)
    train, test = (
        embed(module, features.features, rows) for rows in (features.train, features.test)
    )
    return _Embeddings(train, test, features.labels[features.test])


def _features(
    view: StudyView,
    choice: Choice,
    config: Record,
    data: str | None,
    download: bool,
    progress: Progress,
) -> tuple[FeatureSet, Backbone | None, dict[str, Any]]:
    """The features that the run was trained on, not centered; and its backbone with its settings."""
    planned = _planned_name(view.plan, source_of(choice.dataset, config.get("labels")))
    name = planned if data is None else data
    if name.partition(":")[0] != planned.partition(":")[0] or (":" not in name and name != planned):
        raise InputError(
            f"--data is another place of {planned}, so it is {planned.partition(':')[0]}:PATH, got {name!r}"
        )
    backbone, settings = None, {}
    if needs_backbone(name):
        of_dataset = _backbone_plan(view.plan, planned)
        settings = dict(of_dataset.settings)
        backbone = load_backbone(of_dataset.name, download=download, **settings)
    try:
        features = dataset_features(
            name,
            backbone,
            split=view.plan.get("split"),
            sample=view.plan.get("sample"),
            embeddings_name=view.plan.get("embeddings_name", "embeddings"),
            labels_name=view.plan.get("labels_name", "labels"),
            progress=progress,
            download=download,
        )
    except DataError as error:
        if data is not None or ":" not in planned:
            raise
        kind = planned.partition(":")[0]
        raise DataError(
            f"{error}; the export needs the data of the study: if they have moved, name their place with --data {kind}:PATH"
        ) from None
    return features, backbone, settings


def _planned_name(plan: Record, dataset: str) -> str:
    """The dataset as the plan names it: `folder:/data/photos` for `folder:photos`."""
    for name in plan.get("datasets", ()):
        kind, colon, path = str(name).partition(":")
        places = (Path(path).name, Path(path).resolve().name) if colon else ()
        if name == dataset or dataset in (f"{kind}:{place}" for place in places):
            return str(name)
    raise InputError(f"the plan of the study does not name the dataset {dataset!r}")


def _backbone_plan(plan: Record, dataset: str) -> BackbonePlan:
    entry = plan["backbone"]
    if isinstance(entry, Mapping) and "name" not in entry:
        entry = entry[dataset]
    return BackbonePlan.model_validate({"name": entry} if isinstance(entry, str) else entry)


def _check_features(config: Record, features: FeatureSet, choice: Choice) -> list[str]:
    """Notes on other versions. DataError if the features are not those that the run was trained on."""
    if features.fingerprint != config["fingerprint"]:
        raise DataError(
            f"{choice.dataset} is not the data of the study: its rows, labels or split differ; give the place of the "
            "same data with --data, or run the study again"
        )
    trained, now = (
        {k: v for k, v in of.items() if k not in ("centered", "dataset")}
        for of in (config["features"], features.identity)
    )
    versions = [
        f"{key} {now.get(key)} here, {trained.get(key)} in the study"
        for key in sorted(VERSIONS & (trained.keys() | now.keys()))
        if trained.get(key) != now.get(key)
    ]
    if difference := difference_of(
        {k: v for k, v in trained.items() if k not in VERSIONS},
        {k: v for k, v in now.items() if k not in VERSIONS},
    ):
        raise DataError(
            f"the features of {choice.dataset} are not those of the study: {difference}; use that backbone and those "
            "data, or run the study again"
        )
    return [f"the features were extracted with other versions: {', '.join(versions)}"] * bool(
        versions
    )


def _mean(features: FeatureSet, of_study: FeatureSet) -> Tensor:
    """What `centered` subtracts; zeros where the study does not center."""
    if of_study is features:
        return features.features.new_zeros(features.features.shape[1])
    return features.features[features.train].double().mean(dim=0).to(features.features.dtype)


def _measured(
    view: StudyView, choice: Choice, embeddings: _Embeddings | PairsOfHead, features: FeatureSet
) -> MeasuredRecord:
    """Retrieval now. DataError if it is not that of the run."""
    values = embeddings.retrieval()
    for name, value in values.items():
        then = known(choice.row.get(name))
        if then is not None and abs(value - then) > SAME:
            raise DataError(
                f"the head of run {choice.row['run']} does not measure as in its study: {name} is {value:.4f} here and was "
                f"{then:.4f}; the features on this machine are not those of the study"
            )
    frozen = next((r for r in view.references(choice.dataset) if r["reference"] == FROZEN), {})
    return MeasuredRecord(
        **values,
        **{f"frozen_{name}": known(frozen.get(name)) for name in values},
        test_rows=len(features.test),
        documents=None if features.pairs is None else len(features.pairs.corpus),
    )


def threshold_record(of: Thresholds | PairThresholds | None) -> ThresholdsRecord | None:
    """Of `lossgauge.diagnosis`, as the manifest keeps them."""
    if of is None:
        return None
    return ThresholdsRecord(
        at_far=tuple(
            OperatingRecord(
                far=point.far,
                threshold=point.threshold if math.isfinite(point.threshold) else None,
                tpr=point.tpr.mean,
                tpr_half_width=point.tpr.half_width,
            )
            for point in of.at_far
        ),
        eer=of.eer.mean,
        eer_half_width=of.eer.half_width,
        eer_threshold=of.eer_threshold,
        intervals_over=of.eer.over,
        genuine_pairs=of.genuine_count,
        impostor_pairs=of.impostor_count,
    )


def notes_of(manifest: Manifest, of: Costs, *, residual: bool) -> list[str]:
    """What to know of a head that is no better than the features; `residual` as it was trained, since a narrower one is linear."""
    form = manifest.head
    if residual and manifest.trained.epoch == 0:
        cut = f", cut to {counted(form.embedding_size, 'principal direction')}"
        return [
            f"the run picked epoch 0, before any training, where an adapter changes nothing: this is {raw_words(of)}{cut if form.reduced_from else ''}"
        ]
    if form.reduced_from is not None and manifest.measured.documents is not None:
        return notes_on_width(of)
    return notes_on(manifest.measured)  # of classes by MAP@R: R@1 may be full with any head


def notes_on(measured: MeasuredRecord) -> list[str]:
    """A note if the features alone retrieve as well."""
    if measured.documents is not None:
        with_head, without = measured.ndcg_at_10, measured.frozen_ndcg_at_10
        words = "the raw model has no lower nDCG@10 than this adapter: use it as it is, without the adapter"
    else:
        with_head, without = measured.map_at_r, measured.frozen_map_at_r
        words = "the frozen features without any head have no lower MAP@R than this head: normalise them and use them as they are"
    return [] if with_head is None or without is None or with_head > without else [words]


def _note_on_centering(view: StudyView, manifest: Manifest, command: str) -> list[str]:
    """A note, with the `command` to take, if the raw model minus the mean of each side retrieves as well, by what the study measured of it."""
    head = manifest.measured.ndcg_at_10
    rows = view.references(manifest.trained.dataset)
    level = next(
        (known(row.get("ndcg_at_10")) for row in rows if row["reference"] == CENTERED), None
    )
    if head is None or level is None or level < head:
        return []
    form = manifest.head
    every = f" with all {form.feature_width:,} numbers" if form.reduced_from else ""
    return [
        f"centering the raw model, without this head, gives nDCG@10 {shown(level, 'percent')}{every}, no less than the {shown(head, 'percent')} of this head: "
        f"`{command}` writes these embeddings"
    ]


def notes_on_width(of: Costs) -> list[str]:
    """A note on a narrower head if the raw model retrieves as well: cut to the same width, or else with all its numbers."""
    head = of.widths[0]
    without = {row.width: row.reduced for row in of.raw}
    if not without:
        return []
    full = max(without)
    if head.width < full and without[head.width] >= head.reduced:
        return [
            f"{of.metric} is no lower with the raw model cut to {counted(head.width, 'principal direction')} than with this head: leave the head out"
        ]
    if without[full] >= head.reduced:
        return [
            f"{of.metric} is no lower with all {full:,} numbers of the raw model than with this head of {head.width:,}: the head only makes them fewer"
        ]
    return []
