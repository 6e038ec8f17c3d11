"""The command line: parse, call, print. Heavy imports wait until a command needs them."""

from __future__ import annotations

import os
import re
import shlex
import sys
import time
from collections.abc import Callable, Iterable
from functools import partial
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, cast

import typer

from lossgauge import __version__, startup, stopping
from lossgauge.errors import InputError, LossgaugeError, nearest
from lossgauge.terminal import one_line, safe, wrapped

if TYPE_CHECKING:
    from lossgauge.results.view import StudyView

WRONG, FAILED = 2, 1
"""Exit codes: 2 for a mistake of the user, named in the message; 1 for a failed run or a broken rule."""

STUDIES = ("author-conventions", "claims", "demo", "paper", "two-losses")
BACKBONES = ("efficientnet-lite0", "pixels", "clip-vit-b32", "vit-b32-in21k")
FORMATS = ("parquet", "csv", "mlflow", "wandb", "tensorboard")
GOALS = ("top1", "ranking", "diversity", "speed")
VERDICTS = ("supported", "contradicted", "mixed", "undecided", "not tested")
"""For shell completion only. The lists that the program uses are in their own modules, which take a second to load."""

app = typer.Typer(
    help="Measure what each metric-learning loss does to your embedding space.",
    epilog="Start with `lossgauge study demo`: seven losses on two real datasets, with a report in about two minutes.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
cache_app = typer.Typer(help="Show, verify and delete cached features.", no_args_is_help=True)
app.add_typer(cache_app, name="cache")


def _completes(*words: str) -> Callable[[], list[str]]:
    """Completion of an argument to one of `words`."""
    return lambda: list(words)


Download = Annotated[
    bool, typer.Option(help="Download missing data and weights from the Hugging Face hub.")
]
ClaimsFiles = Annotated[
    list[Path] | None,
    typer.Option(
        "--claims",
        metavar="FILE",
        help="A YAML file with claims of your own. May be given several times.",
    ),
]
EmbeddingsName = Annotated[
    str, typer.Option(help="Name of the array or column with the embeddings.")
]
LabelsName = Annotated[str, typer.Option(help="Name of the array or column with the labels.")]
Folder = Annotated[Path, typer.Argument(help="The folder of a study.")]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="Show only the result, without progress and warnings.")
]


def say(line: str, *, err: bool = False) -> None:
    """Print one line. Everything that a command prints goes through here, and progress through the same `safe`."""
    typer.echo(safe(line), err=err)


def _say_version(asked: bool) -> bool:
    if asked:
        say(f"lossgauge {__version__}")
        raise typer.Exit
    return asked


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_say_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Options that come before a command."""


@app.command(
    epilog="Examples: `lossgauge study demo` · `lossgauge study paper --set epochs=10 --set seeds=2` · "
    "`lossgauge study demo --set losses=triplet,my_loss.py:Pull --out mine`"
)
def study(
    source: Annotated[
        str,
        typer.Argument(
            metavar="NAME|FILE",
            help="A built-in study (demo, paper) or a YAML file.",
            autocompletion=_completes(*STUDIES),
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for the results. Default: lossgauge-results/NAME."),
    ] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Change a key of the study file, such as epochs=10 or tune.trials=20. May be given several times.",
        ),
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(
            help="Number of runs at the same time, with one thread each. Default: the number of cores."
        ),
    ] = None,
    engine: Annotated[
        str,
        typer.Option(
            help="Where the runs are done. local: on this machine; ray: on a Ray cluster.",
            autocompletion=_completes("local", "ray"),
        ),
    ] = "local",
    device: Annotated[
        str,
        typer.Option(
            help="cpu or cuda. With cuda, all jobs on one machine share its GPU.",
            autocompletion=_completes("cpu", "cuda"),
        ),
    ] = "cpu",
    cpus: Annotated[
        float | None,
        typer.Option(help="Number of threads of one run. Default: 1."),
    ] = None,
    gpus: Annotated[
        float, typer.Option(help="Number of GPUs of one run on a Ray cluster; may be a fraction.")
    ] = 0.0,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Train nothing; show the runs, and estimate their time and disk space.",
        ),
    ] = False,
    minutes: Annotated[
        float | None,
        typer.Option(
            help="Start no run that would end after this many minutes. The same command continues the study."
        ),
    ] = None,
    quiet: Quiet = False,
    download: Download = False,
) -> None:
    """Train every loss on every dataset with every seed, and write the report.

    After Ctrl-C, run the same command again: it continues where it stopped.
    """
    began = time.monotonic()
    folder = out or Path("lossgauge-results") / Path(source).stem
    stopping.describe = partial(_stopped_study, folder, dry_run=dry_run)
    with startup.imports():
        from lossgauge.plan.yaml_file import load_plan

    # a mistake in the file is said before torch is imported, which takes a second or more
    plan = load_plan(source, overrides=setting or ())
    with startup.imports():
        from lossgauge.report.text.result_table import result_lines
        from lossgauge.study.engines import Resources
        from lossgauge.study.forecast import forecast
        from lossgauge.study.progress_bars import show_progress
        from lossgauge.study.runner import run_study
        from lossgauge.study.sentences import forecast_lines, outcome_line
        from lossgauge.study.time_limit import TimeLimit

    if dry_run and minutes is not None:
        raise InputError("--minutes has no effect with --dry-run; leave it out")
    limit = TimeLimit(minutes, began=began)
    resources = Resources(engine, jobs, device, cpus, gpus)
    with stopping.orderly():
        with show_progress(quiet=quiet) as progress:
            if dry_run:
                expected = forecast(
                    plan, folder, progress=progress, download=download, resources=resources
                )
            else:
                outcome = run_study(
                    plan,
                    folder,
                    progress=progress,
                    download=download,
                    resources=resources,
                    limit=limit,
                )
        written = None if dry_run else _write_report(folder)
    if written is None:
        for line in forecast_lines(expected, folder):
            say(line)
        return
    view, page = written
    say(outcome_line(outcome, minutes))
    for line in result_lines(view):
        say(line)
    say(f"report: {page}")
    if outcome.failed:
        raise typer.Exit(FAILED)


@app.command(
    epilog="Examples: `lossgauge report lossgauge-results/demo` · `lossgauge report FOLDER --out page.html` · "
    "`lossgauge report FOLDER --format latex --figures pdf`"
)
def report(
    folder: Folder,
    out: Annotated[
        Path | None,
        typer.Option(
            help="The HTML file to write. Default: report.html in the study's folder. With --format or --figures, a "
            "folder; default: export/paper in the study's folder."
        ),
    ] = None,
    own: ClaimsFiles = None,
    formats: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            help="Write the paper's tables instead: md, latex or csv. May be given several times.",
            autocompletion=_completes("md", "latex", "csv"),
        ),
    ] = None,
    figures: Annotated[
        list[str] | None,
        typer.Option(
            help="Write the paper's figures instead: pdf, svg or png. May be given several times.",
            autocompletion=_completes("pdf", "svg", "png"),
        ),
    ] = None,
    full: Annotated[
        bool, typer.Option("--full", help="Unfold all parts of the page, not only the answer.")
    ] = False,
) -> None:
    """Write the report of a study again, or its tables and figures for a paper, from the runs that are done so far."""
    if formats or figures:
        if own:
            raise InputError("--claims has no effect with --format and --figures; leave it out")
        say(f"written: {_write_paper(folder, out, formats or [], figures or [])}")
        return
    say(f"report: {_write_report(folder, out, own, full=full)[1]}")


@app.command(
    epilog="Examples: `lossgauge claims lossgauge-results/demo` · `lossgauge claims FOLDER --claims my_claims.yaml --fail-on contradicted` · "
    "`lossgauge claims FOLDER OTHER`"
)
def claims(
    folders: Annotated[
        list[Path],
        typer.Argument(
            metavar="FOLDER",
            help="The folder of a study; several compare the verdicts of their studies.",
        ),
    ],
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the records as one JSON list.")
    ] = False,
    own: ClaimsFiles = None,
    fail_on: Annotated[
        list[str] | None,
        typer.Option(
            metavar="VERDICT",
            help="End with exit code 1 if any claim has this verdict: supported, contradicted, mixed, undecided or "
            "'not tested'. May be given several times.",
            autocompletion=_completes(*VERDICTS),
        ),
    ] = None,
) -> None:
    """Test the paper's claims, and your own, on the runs of a study: on each dataset and over all.

    With several folders, show the verdicts of the studies side by side, and what differs between their plans.
    """
    import json

    with startup.imports():
        from lossgauge.claims.across_studies import across_studies, plan_differences
        from lossgauge.claims.own_claims import claims_of, read_claims
        from lossgauge.claims.record_lines import across_lines, record_lines
        from lossgauge.claims.records import all_records
        from lossgauge.claims.verdicts import STATUSES
        from lossgauge.results.reader import read_study

    for verdict in fail_on or ():
        if verdict not in STATUSES:
            near = nearest(verdict, STATUSES)
            raise InputError(f"--fail-on takes a verdict, got {verdict!r}{near}")
    plans = [claim for file in own or () for claim in read_claims(file)]
    names, views = list(map(str, folders)), [read_study(folder) for folder in folders]
    for view in views:
        _say_damage(view)
    records = [all_records(view, claims_of(view, plans)) for view in views]
    lines: Iterable[str]
    if as_json:
        plain = [
            {"study": name, **record.plain}
            for name, of_study in zip(names, records, strict=True)
            for record in of_study
        ]
        lines = json.dumps(plain, indent=1).splitlines()
    elif len(folders) == 1:
        lines = record_lines(records[0])
    else:
        lines = across_lines(across_studies(records), names, plan_differences(views))
    for line in lines:
        say(line)
    if {record.verdict for of_study in records for record in of_study} & set(fail_on or ()):
        raise typer.Exit(FAILED)


@app.command(
    epilog="Examples: `lossgauge compare results/before results/after` · `lossgauge compare FOLDER OTHER --json`"
)
def compare(
    first: Folder,
    second: Annotated[Path, typer.Argument(help="The folder of another study of the same data.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
    own: ClaimsFiles = None,
) -> None:
    """Compare two studies of the same data: plans, versions, each loss's retrieval and geometry, and verdicts.

    Differences are the second study minus the first, with 95 % intervals, paired where the studies allow it.
    """
    import json

    with startup.imports():
        from lossgauge.claims.own_claims import read_claims
        from lossgauge.report.comparison import compare as compare_views
        from lossgauge.results.reader import read_study

    plans = [claim for file in own or () for claim in read_claims(file)]
    views = [read_study(folder) for folder in (first, second)]
    for view in views:
        _say_damage(view)
    with stopping.orderly():
        found = compare_views(views[0], views[1], (str(first), str(second)), plans)
    for line in json.dumps(found.plain, indent=1).splitlines() if as_json else found.lines():
        say(line)


@app.command(epilog="Example: `lossgauge status lossgauge-results/demo`")
def status(folder: Folder) -> None:
    """Show how many runs are done, running, failed and waiting, and the time left. Also works while the study runs."""
    with startup.imports():
        from lossgauge.study.sentences import status_lines
        from lossgauge.study.status import read_status

    for line in status_lines(read_status(folder)):
        say(line)


@app.command(
    epilog="Examples: `lossgauge watch lossgauge-results/demo` · `lossgauge watch FOLDER --port 8000`"
)
def watch(
    folder: Folder,
    port: Annotated[
        int | None, typer.Option(help="A port of this machine. Default: a free one.")
    ] = None,
) -> None:
    """Show the report in a browser while the study runs, on this machine only. Ctrl-C ends it.

    It may be started before the study, and it changes nothing in its folder.
    """
    with startup.imports():
        from lossgauge.watch.server import watch as serve

    serve(folder, port, say)


@app.command(
    epilog="Examples: `lossgauge export lossgauge-results/demo --to csv` · `lossgauge export results --to mlflow`"
)
def export(
    folder: Folder,
    to: Annotated[
        str,
        typer.Option(
            help="parquet, csv, mlflow, wandb or tensorboard.", autocompletion=_completes(*FORMATS)
        ),
    ] = "parquet",
    out: Annotated[
        Path | None,
        typer.Option(help="Where to write. Default: export/FORMAT in the study's folder."),
    ] = None,
    quote_formulas: Annotated[
        bool,
        typer.Option(
            "--quote-formulas",
            help="csv only: put an apostrophe before text that a spreadsheet would run as a formula "
            "(it begins with = + - @, a tab or a line end).",
        ),
    ] = False,
) -> None:
    """Write the tables of a study for other tools."""
    with startup.imports():
        from lossgauge.export import export_study, exporter_to
        from lossgauge.results.reader import read_study

    exporter_to(to, quote_formulas=quote_formulas)  # before the study is read, which may take long
    view = read_study(folder)
    _say_damage(view)
    with stopping.orderly():
        place = export_study(view, to, out, quote_formulas=quote_formulas)
    say(f"exported: {place}")


@app.command(
    epilog="Examples: `lossgauge head lossgauge-results/demo --dataset digits` · `lossgauge head FOLDER --loss triplet --seed 0 --out head --onnx`"
)
def head(
    folder: Folder,
    out: Annotated[Path, typer.Option(help="The folder to write.")] = Path("head"),
    dataset: Annotated[
        str | None, typer.Option(help="The dataset, if the study has several.")
    ] = None,
    loss: Annotated[
        str | None,
        typer.Option(
            help="The loss, as the report names it. Default: the best by validation, else by the test side."
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(help="The seed. Default: the best by validation, else the first."),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            metavar="folder:PATH|embeddings:PATH",
            help="Where the dataset lies now, if it is not where the study found it.",
        ),
    ] = None,
    width: Annotated[
        int | None,
        typer.Option(
            help="Export a narrower head: so many principal directions of the embeddings. Default: all."
        ),
    ] = None,
    onnx: Annotated[bool, typer.Option("--onnx", help="Also write head.onnx.")] = False,
    quiet: Quiet = False,
    download: Download = False,
) -> None:
    """Export a trained head: its weights with a manifest; and show its score thresholds and what its width costs.

    The data of the study, or their features in the cache, must be on this machine.
    """
    stopping.describe = _stopped
    with startup.imports():
        from lossgauge.deployment.export import export_head
        from lossgauge.results.reader import read_study
        from lossgauge.study.progress_bars import show_progress

    view = read_study(folder)
    _say_damage(view)
    with stopping.orderly(), show_progress(quiet=quiet) as progress:
        exported = export_head(
            view,
            out,
            dataset=dataset,
            loss=loss,
            seed=seed,
            data=data,
            width=width,
            onnx=onnx,
            download=download,
            progress=progress,
        )
    for line in exported.lines():
        say(line)


@app.command(
    epilog="Examples: `lossgauge embed folder:photos --head head --out photos.npz` · `lossgauge embed embeddings:features.npy --head head "
    "--backbone efficientnet-lite0`"
)
def embed(
    data: Annotated[
        str,
        typer.Argument(
            help="folder:PATH with images, embeddings:PATH with features, or a name from `lossgauge datasets`."
        ),
    ],
    head_folder: Annotated[
        Path, typer.Option("--head", help="The folder that `lossgauge head` wrote.")
    ] = Path("head"),
    out: Annotated[Path, typer.Option(help="The .npz file to write.")] = Path("embeddings.npz"),
    backbone: Annotated[
        str | None,
        typer.Option(
            help="The head's backbone, if it has another place here; or the one that the rows of embeddings:PATH come from.",
            autocompletion=_completes(*BACKBONES),
        ),
    ] = None,
    embeddings_name: EmbeddingsName = "embeddings",
    labels_name: LabelsName = "labels",
    quiet: Quiet = False,
    download: Download = False,
) -> None:
    """Apply an exported head to images or features, and write the embeddings with their labels and ids."""
    stopping.describe = _stopped_features
    with startup.imports():
        from lossgauge.deployment.embedding import embed_data
        from lossgauge.deployment.head import load_head
        from lossgauge.study.progress_bars import show_progress

    loaded = load_head(head_folder)
    with stopping.orderly(), show_progress(quiet=quiet) as progress:
        written = embed_data(
            loaded,
            data,
            out,
            backbone=backbone,
            embeddings_name=embeddings_name,
            labels_name=labels_name,
            download=download,
            progress=progress,
        )
    for note in written.notes:
        say(f"note: {note}")
    labels = "labels" if written.has_labels else "no labels"
    say(
        f"embeddings: {written.path} ({written.row_count:,} rows of {written.embedding_size} numbers, {labels})"
    )


@app.command(epilog="Example: `lossgauge schema > study.schema.json`")
def schema() -> None:
    """Print the JSON Schema of study files. An editor uses it to complete and check YAML."""
    import json

    with startup.imports():
        from lossgauge.plan.yaml_file import schema as study_schema

    for line in json.dumps(study_schema(), indent=1).splitlines():
        say(line)


@app.command(epilog="Example: `lossgauge losses`")
def losses() -> None:
    """List the losses with their settings."""
    with startup.imports():
        from lossgauge.losses.registry import LOSSES, loss_class, settings_of

    for name in LOSSES:
        made = loss_class(name)
        say(f"{name:12} {(sys.modules[made.__module__].__doc__ or '').splitlines()[0]}")
        say(" " * 13 + ", ".join(f"{key}{known}" for key, known in settings_of(name).items()))
        if aliases := getattr(made, "aliases", ()):
            say(" " * 13 + f"also named {', '.join(aliases)}")
    say(
        "my_loss.py:Pull   your own loss in a file: a class or a function (embeddings, labels) -> scalar"
    )


@app.command(epilog="Example: `lossgauge datasets`")
def datasets() -> None:
    """List the datasets: the place of each on this machine, or how to get it."""
    with startup.imports():
        from lossgauge.data import describe_datasets

    for text in describe_datasets():
        for line in wrapped(text):
            say(line)


@app.command(
    epilog="Examples: `lossgauge features fashion-mnist` · `lossgauge features digits --backbone pixels` · "
    "`lossgauge features folder:photos --backbone hf:./my-vit`"
)
def features(
    dataset: Annotated[
        str, typer.Argument(help="A name from `lossgauge datasets`, or folder:PATH.")
    ],
    backbone: Annotated[
        str,
        typer.Option(
            help="efficientnet-lite0, pixels, clip-vit-b32, vit-b32-in21k, hf:MODEL (a folder or a name on "
            "the Hugging Face hub), or your own, as my_backbone.py:Model.",
            autocompletion=_completes(*BACKBONES),
        ),
    ] = "efficientnet-lite0",
    dtype: Annotated[str | None, typer.Option(help="fp32 or bf16, for hf models.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu or cuda, for hf models.")] = None,
    quiet: Quiet = False,
    download: Download = False,
    refresh: Annotated[
        bool, typer.Option(help="Extract the features again, even if the cache has them.")
    ] = False,
) -> None:
    """Extract the features of a dataset into the cache. Features in the cache are used as they are."""
    stopping.describe = _stopped_features
    with startup.imports():
        from lossgauge.backbones import load_backbone
        from lossgauge.data import load_dataset
        from lossgauge.data.features import features as extract
        from lossgauge.study.progress_bars import show_progress

    given: dict[str, Any] = {
        key: value for key, value in (("dtype", dtype), ("device", device)) if value
    }
    with stopping.orderly(), show_progress(quiet=quiet) as progress:
        extracted = extract(
            load_dataset(dataset, download=download),
            load_backbone(backbone, download=download, **given),
            refresh=refresh,
            progress=partial(progress.features, dataset),
        )
    rows, width = extracted.features.shape
    say(
        f"{dataset}: {rows} rows of {width} features by {backbone}, {extracted.protocol} split "
        f"{len(extracted.train)}/{len(extracted.test)}, fingerprint {extracted.fingerprint[:12]}"
    )
    for words in extracted.notes:
        say(f"{dataset}: {words}")


@cache_app.command("ls", epilog="Example: `lossgauge cache ls`")
def list_cache() -> None:
    """List the entries of the cache with their sizes."""
    with startup.imports():
        from lossgauge.data.cache import default_cache, entries

    listed = entries(default_cache())
    for entry in listed:
        rows = "?" if entry.rows is None else f"{entry.rows:,}"
        say(f"{entry.folder.name}  {entry.bytes / 1e6:,.1f} MB  {rows} rows  {entry.what}")
    total = sum(entry.bytes for entry in listed)
    count = f"{len(listed)} {'entry' if len(listed) == 1 else 'entries'}"
    say(f"{count}, {total / 1e6:,.1f} MB in {default_cache()}")


@cache_app.command(epilog="Example: `lossgauge cache verify`")
def verify(
    names: Annotated[
        list[str] | None,
        typer.Argument(help="Names of entries, or the beginning of names. Default: all entries."),
    ] = None,
) -> None:
    """Read every byte of the cache, and show the damaged entries."""
    with startup.imports():
        from lossgauge.data.cache import verify as verify_entry
        from lossgauge.errors import CacheError

    damaged = 0
    for folder in _cached(names):
        try:
            verify_entry(folder)
            say(f"ok       {folder.name}")
        except CacheError as error:
            damaged += 1
            say(f"DAMAGED  {folder.name}: {error}")
    if damaged:
        raise typer.Exit(FAILED)


@cache_app.command(
    "rm", epilog="Examples: `lossgauge cache rm digits` · `lossgauge cache rm --all`"
)
def remove_cached(
    names: Annotated[
        list[str] | None, typer.Argument(help="Names of entries, or the beginning of names.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Delete all entries.")] = False,
) -> None:
    """Delete entries of the cache. Features are extracted again when a study needs them."""
    with startup.imports():
        from lossgauge.data.cache import remove

    if everything == bool(names):
        raise InputError(
            "name the entries to delete, or give --all (not both); `lossgauge cache ls` lists the entries"
        )
    for folder in _cached(names):
        remove(folder)
        say(f"deleted {folder.name}")


def _cached(names: list[str] | None) -> list[Path]:
    """Folders of the entries whose names begin with one of `names`; all entries without names."""
    with startup.imports():
        from lossgauge.data.cache import default_cache, entries

    folders = [entry.folder for entry in entries(default_cache())]
    for name in names or ():
        if not name or not any(folder.name.startswith(name) for folder in folders):
            raise InputError(
                f"the cache has no entry {name!r}{nearest(name, [f.name for f in folders])}"
            )
    return [f for f in folders if not names or any(f.name.startswith(name) for name in names)]


@app.command(
    epilog="Examples: `lossgauge check triplet` · `lossgauge check my_loss.py:Pull` · `lossgauge check embeddings.npz`"
)
def check(
    target: Annotated[
        str,
        typer.Argument(
            help="The name of a loss; or a file with embeddings and labels (npz, npy, safetensors, parquet), or a "
            "folder of such files."
        ),
    ],
    embeddings_name: EmbeddingsName = "embeddings",
    labels_name: LabelsName = "labels",
) -> None:
    """Check that a loss keeps the rules of all losses; or embeddings, as `lossgauge diagnose` does.

    Exit code 1 if a loss breaks a rule. Findings about embeddings are printed and do not change the exit code.
    """
    if target.endswith((".npz", ".npy", ".safetensors", ".parquet")) or Path(target).is_dir():
        diagnose(Path(target), embeddings_name=embeddings_name, labels_name=labels_name)
    else:
        _check_loss(target)


@app.command(
    epilog="Examples: `lossgauge diagnose embeddings.npz` · `lossgauge diagnose before.npz --against after.npz --page page.html` · "
    "`lossgauge diagnose x.npy --json --fail-on act`"
)
def diagnose(
    embeddings: Annotated[
        Path,
        typer.Argument(
            help="A file with embeddings, and labels if there are any (npz, npy, safetensors, parquet), or a folder of "
            "such files."
        ),
    ],
    against: Annotated[
        Path | None,
        typer.Option(
            help="The same rows in another file: show what changed, and which queries got worse."
        ),
    ] = None,
    embeddings_name: EmbeddingsName = "embeddings",
    labels_name: LabelsName = "labels",
    queries: Annotated[
        int | None,
        typer.Option(
            help="Number of rows to search for among all. Default: all where that takes seconds, else at least 128."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Draws the samples.")] = 0,
    engine: Annotated[
        str,
        typer.Option(
            help="Where the files of a folder are read. local: on this machine; ray: on a Ray cluster.",
            autocompletion=_completes("local", "ray"),
        ),
    ] = "local",
    as_json: Annotated[
        bool, typer.Option("--json", help="Print all numbers and findings as JSON.")
    ] = False,
    page: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write an HTML page.")
    ] = None,
    fail_on: Annotated[
        str | None,
        typer.Option(
            metavar="LEVEL",
            help="End with exit code 1 if a finding has this level or a worse one: watch or act.",
            autocompletion=_completes("watch", "act"),
        ),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Measure stored embeddings: retrieval, geometry, thresholds, hubs, confusable classes, suspicious labels, copies.

    Labels are not needed, but much is measured with labels only.
    """
    import json

    stopping.describe = _stopped
    if fail_on not in (None, "watch", "act"):
        raise InputError(f"--fail-on takes watch or act, got {fail_on!r}")
    with startup.imports():
        from lossgauge.diagnosis.measure import diagnose as measure
        from lossgauge.diagnosis.progress_bar import show_rows
        from lossgauge.health.finding import reached

    if page is not None:
        with startup.imports():  # with plotly, which takes a second
            from lossgauge.diagnosis.page import write_diagnosis
            from lossgauge.report.output import check_replaceable

        check_replaceable(page, option="--page")
    with stopping.orderly(), show_rows(quiet=quiet) as progress:
        found = measure(
            embeddings,
            against=against,
            embeddings_name=embeddings_name,
            labels_name=labels_name,
            queries=queries,
            seed=seed,
            engine=engine,
            progress=progress,
        )
    for line in json.dumps(found.plain, indent=1).splitlines() if as_json else found.lines():
        say(line)
    if page is not None:
        say(f"page: {write_diagnosis(found, page)}", err=as_json)
    last = found.against.after if found.against is not None else found
    if fail_on is not None and reached(last.findings, cast(Any, fail_on)):
        raise typer.Exit(FAILED)


@app.command(
    epilog="Examples: `lossgauge advise folder:photos` · `lossgauge advise embeddings:x.npz --goal top1 --minutes 5` · "
    "`lossgauge advise digits --dry-run`"
)
def advise(
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA",
            help="folder:PATH, embeddings:PATH, the path of a manifest (.csv), or a name from `lossgauge datasets`.",
        ),
    ],
    minutes: Annotated[
        float, typer.Option(help="Time for all of it: features, search and report.")
    ] = 10.0,
    goal: Annotated[
        str,
        typer.Option(
            help="What the loss should be best in. ranking: MAP@R; top1: R@1; diversity: variance inside classes at an "
            "equivalent MAP@R; speed: few epochs.",
            autocompletion=_completes(*GOALS),
        ),
    ] = "ranking",
    backbone: Annotated[
        str,
        typer.Option(
            help="For images: as in `lossgauge features`.", autocompletion=_completes(*BACKBONES)
        ),
    ] = "efficientnet-lite0",
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for the results. Default: lossgauge-results/advise-NAME."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Train nothing; show what would be tried.")
    ] = False,
    quiet: Quiet = False,
    download: Download = False,
) -> None:
    """Which loss for this data, with which settings, or none: an answer within minutes, with its evidence.

    After Ctrl-C, run the same command again: it continues where it stopped.
    """
    import json
    import time

    began = time.monotonic()
    best: list[str] = []
    stopping.describe = partial(_stopped_advice, best)
    with startup.imports():
        from lossgauge.advice.clock import Clock
        from lossgauge.advice.phases import advise as answer
        from lossgauge.advice.phases import default_folder
        from lossgauge.advice.preparation import prepare_question
        from lossgauge.advice.question import Question, check_question
        from lossgauge.advice.words import forecast_lines
        from lossgauge.study.progress_bars import show_progress

    question = Question(data, cast(Any, goal), minutes, backbone)
    check_question(question)
    folder = out or default_folder(data)
    with stopping.orderly():
        if dry_run:
            with show_progress(quiet=quiet) as progress:
                prepared = prepare_question(
                    question,
                    folder,
                    clock=Clock(began, minutes),
                    progress=progress,
                    download=download,
                    dry_run=True,
                )
            for line in forecast_lines(question, prepared, folder):
                say(line)
            return
        found = answer(
            question,
            folder,
            show=partial(show_progress, quiet=quiet),
            download=download,
            began=began,
            keep=lambda words: best.__setitem__(slice(None), [words]),
        )
    for line in json.dumps(found.plain, indent=1).splitlines() if as_json else found.lines():
        say(line)
    if found.failed:
        raise typer.Exit(FAILED)


def _check_loss(name: str) -> None:
    with startup.imports():
        from lossgauge.losses.registry import loss_maker
        from lossgauge.testing import contract

    loss = loss_maker(name, {}, class_count=4, embedding_size=16)()
    broken = 0
    for finding in contract(loss):
        broken += finding.problem is not None
        say(
            f"{'ok    ' if finding.problem is None else 'BROKEN'}  {finding.rule}"
            + (f": {finding.problem}" if finding.problem else "")
        )
    if broken:
        raise typer.Exit(FAILED)


def _write_report(
    folder: Path, out: Path | None = None, own: list[Path] | None = None, *, full: bool = False
) -> tuple[StudyView, Path]:
    """The study, and where its page is."""
    with startup.imports():
        from lossgauge.claims.own_claims import read_claims
        from lossgauge.report.output import check_replaceable, write_page
        from lossgauge.results.reader import read_study

    if out is not None:
        check_replaceable(out)
    claims = [claim for file in own or () for claim in read_claims(file)]
    view = read_study(folder)
    _say_damage(view)
    with stopping.orderly():
        return view, write_page(view, out or folder / "report.html", claims, full=full)


def _write_paper(folder: Path, out: Path | None, formats: list[str], figures: list[str]) -> Path:
    with startup.imports():
        from lossgauge.export import export_paper
        from lossgauge.report.paper.output import check_paper
        from lossgauge.results.reader import read_study

    check_paper(formats, figures)  # before the study is read, which may take long
    view = read_study(folder)
    _say_damage(view)
    with stopping.orderly():
        return export_paper(view, out, formats=formats, figures=figures)


def _say_damage(view: StudyView) -> None:
    """Print one line for each run that is left out because one of its files is damaged."""
    for line in view.damage:
        say(f"left out: {line}", err=True)


# The last line of a command that a signal stops. A signal handler must not import anything, so these do not.


def _stopped() -> str:
    return f"stopped. To start again, run the same command: {_command()}"


def _stopped_features() -> str:
    return f"stopped; finished shards of features are kept. To continue, run the same command: {_command()}"


def _stopped_study(folder: Path, *, dry_run: bool) -> str:
    if dry_run:
        return _stopped()
    done = (
        f"finished runs are kept in {folder}"
        if os.path.isfile(folder / "study.json")
        else "no run has started; finished parts of the features are kept"
    )
    return safe(f"stopped; {done}. To continue, run the same command: {_command()}")


def _stopped_advice(best: list[str]) -> str:
    so_far = f"the best so far is {best[0]}" if best else "no trial has ended"
    return safe(f"stopped; {so_far}. To continue, run the same command: {_command()}")


def _command() -> str:
    return safe(shlex.join(["lossgauge", *sys.argv[1:]]))


def main() -> None:
    """Entry point: a user's mistake is one line and exit code 2, never a traceback."""
    stopping.describe = _stopped
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            # an encoding without τ must not stop a command
            stream.reconfigure(errors="backslashreplace")
    try:
        _check_arguments(sys.argv[1:])
        sys.exit(app(prog_name="lossgauge", standalone_mode=False))
    except LossgaugeError as error:
        _fail(str(error))
    except _WrongUse as error:
        # called without arguments, typer shows the help and gives no message
        words = error.format_message().rstrip(".")
        for kind in ("integer", "number"):
            words = words.replace(*_not_a(kind))
        _fail(words, hint="; --help shows the arguments and options")
    except OSError as error:
        # a name that is too long, a folder without read permission: not a bug
        _fail(f"{error.filename or 'a file'}: {error.strerror or error}")


def _not_a(kind: str) -> tuple[str, str]:
    """Words of pydantic, with which typer reads numbers, and ours."""
    wrong = f"Input should be a valid {kind}, unable to parse string as a{'n' * (kind == 'integer')} {kind}"
    return wrong, f"it must be a {'whole ' * (kind == 'integer')}number"


_WrongUse = cast(type[typer.BadParameter], typer.BadParameter.__mro__[1])
"""An unknown option or a missing argument. Typer may contain its own copy of click, so the class is taken from typer."""


def _fail(words: str, *, hint: str = "") -> NoReturn:
    if words:
        say(f"lossgauge: {one_line(words)}{hint}", err=True)
    sys.exit(WRONG)


def _check_arguments(arguments: list[str]) -> None:
    """InputError for an empty argument: it would mean the working folder, or every name."""
    for before, argument in zip(["", *arguments], arguments, strict=False):
        option = re.match(r"(--[\w-]+)=$", argument)
        if not argument or option:
            after = f"the argument after {before!r}" if before else "the first argument"
            name = option[1] if option else before if before.startswith("-") else after
            raise InputError(f"{name} is empty; give a value, or leave it out")
        try:
            argument.encode()
        except UnicodeEncodeError:
            raise InputError(
                f"{argument!r} is not valid UTF-8; rename the file or folder, or give another name"
            ) from None
