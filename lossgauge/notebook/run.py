"""Run a study, forecast it, or load its features, from Python: the work of the command line, without its output."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from lossgauge.advice.question import Goal
from lossgauge.advice.record import Advice
from lossgauge.errors import InputError
from lossgauge.notebook.study import Study
from lossgauge.plan.yaml_file import load_plan
from lossgauge.study.engines import Resources
from lossgauge.study.forecast import Forecast
from lossgauge.study.progress import Progress
from lossgauge.study.progress_bars import show_progress
from lossgauge.study.time_limit import TimeLimit
from lossgauge.types import FeatureSet


def run_study(
    study: str | Path | Mapping[str, Any],
    *,
    set: Mapping[str, Any] | None = None,
    out: str | Path | None = None,
    jobs: int | None = None,
    engine: str = "local",
    device: str = "cpu",
    cpus: float | None = None,
    gpus: float = 0.0,
    download: bool = False,
    minutes: float | None = None,
    progress: bool | Progress = True,
) -> Study:
    """Run a study, write its report, and load it. What is done already is not done again.

    `study` is a built-in name (`demo`, `paper`), a YAML file, or a dict with the keys of such a file. `set` changes
    some of its keys, with dots for nested ones: `{"epochs": 10, "tune.trials": 20}`. Results go to `out`, by default
    lossgauge-results/NAME. `progress` is True for bars or lines, False for silence, or a `Progress` of your own.
    With `minutes`, no run is started that would end later; the same call continues. The other arguments are the options of
    `lossgauge study`.

    A failed run is a row of `failures`; the other runs continue. Raises a LossgaugeError for a mistake in the study,
    and if no dataset can be used.
    """
    from lossgauge.report.output import write_page
    from lossgauge.study.runner import run_study as run

    folder = _folder(study, out)
    limit = TimeLimit(minutes)
    with _shown(progress) as shown:
        run(
            load_plan(study, set or {}),
            folder,
            progress=shown,
            download=download,
            resources=Resources(engine, jobs, device, cpus, gpus),
            limit=limit,
        )
    loaded = Study(folder)
    write_page(loaded.view, folder / "report.html")
    return loaded


def load_study(folder: str | Path, *, frames: str | None = None) -> Study:
    """The study in a folder, as it is now: runs that end later are not in it.

    Every file of every finished run is verified; a damaged run is a row of `failures`. `frames` is the library of
    the data frames: `pandas`, `polars`, or by default the first of them that is installed. Raises StudyError if the
    folder holds no study, and MissingExtra if the named library is not installed.
    """
    if not isinstance(folder, str | Path):
        raise InputError(f"a study's folder must be a path, got {folder!r}")
    return Study(Path(folder), frames=frames)


def forecast(
    study: str | Path | Mapping[str, Any],
    *,
    set: Mapping[str, Any] | None = None,
    out: str | Path | None = None,
    jobs: int | None = None,
    engine: str = "local",
    device: str = "cpu",
    cpus: float | None = None,
    gpus: float = 0.0,
    download: bool = False,
    progress: bool | Progress = False,
) -> Forecast:
    """Number of runs, seconds and bytes of a study, before it runs. Takes seconds, and writes nothing.

    The arguments are those of `run_study`; runs that are done in `out` are not counted in the seconds.
    """
    from lossgauge.study.forecast import forecast as forecast_of

    with _shown(progress) as shown:
        return forecast_of(
            load_plan(study, set or {}),
            _folder(study, out),
            progress=shown,
            download=download,
            resources=Resources(engine, jobs, device, cpus, gpus),
        )


def advise(
    data: str,
    *,
    goal: Goal = "ranking",
    minutes: float = 10.0,
    backbone: str = "efficientnet-lite0",
    embeddings_name: str = "embeddings",
    labels_name: str = "labels",
    out: str | Path | None = None,
    jobs: int | None = None,
    download: bool = False,
    progress: bool | Progress = True,
) -> Advice:
    """Which loss for this data, with which settings, or none: an answer within so many minutes.

    `data` is `folder:PATH`, `embeddings:PATH`, the path of a manifest, or the name of a dataset. `goal` is `ranking` (MAP@R),
    `top1` (R@1), `diversity` (variance inside classes, among losses whose MAP@R is equivalent to the best) or `speed` (few
    epochs). `backbone` is for images, `embeddings_name` and `labels_name` for the arrays or columns of embeddings. The answer prints as text; `plain` is a dict, `run` the run with the head, `settings` those of the loss. Results go
    to `out`, by default lossgauge-results/advise-NAME (advise-NAME-GOAL for another goal than ranking); the same call continues what was interrupted. Raises a LossgaugeError for a wrong
    argument, and for data with which nothing can be compared.
    """
    from lossgauge.advice.phases import advise as answer
    from lossgauge.advice.phases import default_folder
    from lossgauge.advice.question import Question

    if not isinstance(data, str):
        raise InputError(f"data must be text such as folder:photos or digits, got {data!r}")
    _shown(progress)
    return answer(
        Question(data, goal, minutes, backbone, embeddings_name, labels_name),
        default_folder(data, goal) if out is None else Path(out),
        show=lambda: _shown(progress),
        jobs=jobs,
        download=download,
    )


def load_features(
    dataset: str,
    backbone: str = "efficientnet-lite0",
    *,
    download: bool = False,
    refresh: bool = False,
    progress: bool | Progress = True,
    **settings: Any,
) -> FeatureSet:
    """Frozen features of a dataset, with labels and split: from the cache, else extracted into it.

    `dataset` is a name that `lossgauge datasets` lists, or `folder:PATH`. `backbone` is `pixels`,
    `efficientnet-lite0`, `clip-vit-b32`, `vit-b32-in21k`, `hf:MODEL` or `my_backbone.py:Model`, with its `settings`.
    `features` is float32 (rows × width); `train` and `test` are row numbers. Raises InputError for an unknown name,
    DataError for missing or damaged data, CacheError for a damaged cache.
    """
    from lossgauge.backbones import load_backbone
    from lossgauge.data import load_dataset
    from lossgauge.data.features import features

    with _shown(progress) as shown:
        return features(
            load_dataset(dataset, download=download),
            load_backbone(backbone, download=download, **settings),
            refresh=refresh,
            progress=partial(shown.features, dataset),
        )


def _folder(study: str | Path | Mapping[str, Any], out: str | Path | None) -> Path:
    if out is not None:
        return Path(out)
    if not isinstance(study, str | Path | Mapping):
        raise InputError(f"a study must be a name, a YAML file or a dict, got {study!r}")
    return Path("lossgauge-results") / ("study" if isinstance(study, Mapping) else Path(study).stem)


def _shown(progress: bool | Progress) -> Progress:
    if not isinstance(progress, bool | Progress):
        raise InputError(f"progress must be True, False or a lossgauge.Progress, got {progress!r}")
    return progress if isinstance(progress, Progress) else show_progress(quiet=not progress)
