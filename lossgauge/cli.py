"""The command line: parse, call, print. Heavy imports wait until a command needs them."""

from __future__ import annotations

import re
import sys
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, cast

import typer

from lossgauge.errors import InputError, LossgaugeError, nearest
from lossgauge.terminal import one_line, safe

if TYPE_CHECKING:
    from lossgauge.types import Results

app = typer.Typer(
    help="A wind tunnel for metric-learning losses: what each does to your embedding space, with evidence.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)

cache_app = typer.Typer(help="What is in the cache of features.", no_args_is_help=True)
app.add_typer(cache_app, name="cache")

INTERRUPTED, WRONG = 130, 2
"""Exit codes: stopped by Ctrl-C; a mistake that the message names."""
Download = Annotated[
    bool, typer.Option(help="Fetch from the Hugging Face hub what is not on this machine.")
]
Folder = Annotated[Path, typer.Argument(help="The folder of a study.")]


def say(line: str, *, err: bool = False) -> None:
    """Print one line. All that a command prints goes through here, and a study's progress through the same `safe`."""
    typer.echo(safe(line), err=err)


@app.command(
    epilog="Examples: `lossgauge study demo` · `lossgauge study paper --set epochs=10 --set seeds=2` · "
    "`lossgauge study demo --set losses=triplet,my_loss.py:Pull --out mine`"
)
def study(
    source: Annotated[
        str,
        typer.Argument(metavar="NAME|FILE", help="A built-in study (demo, paper) or a YAML file."),
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of the results; lossgauge-results/NAME if not given."),
    ] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a key of the study file."),
    ] = None,
    jobs: Annotated[int, typer.Option(help="Runs at a time, each in a process of its own.")] = 1,
    engine: Annotated[
        str, typer.Option(help="local: processes on this machine; ray: a Ray cluster.")
    ] = "local",
    device: Annotated[
        str, typer.Option(help="cpu, or cuda: one GPU is shared by all jobs of a machine.")
    ] = "cpu",
    cpus: Annotated[
        float | None,
        typer.Option(help="Cores of one run; the machine's shared out if not given."),
    ] = None,
    gpus: Annotated[
        float, typer.Option(help="GPUs of one run on a Ray cluster, a fraction too.")
    ] = 0.0,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Say what would be run, how long it takes and how large it gets."
        ),
    ] = False,
    download: Download = False,
) -> None:
    """Train every loss on every dataset from every seed, and write the report.

    Stopped with Ctrl-C, the same command goes on where it was.
    """
    folder = out or Path("lossgauge-results") / Path(source).stem
    try:
        from rich.console import Console

        from lossgauge.plan.yaml_file import load_plan
        from lossgauge.study.engines import Resources
        from lossgauge.study.progress_bars import watcher

        plan = load_plan(source, overrides=setting or ())
        resources = Resources(engine, jobs, device, cpus, gpus)
        with watcher(Console(stderr=True)) as progress:
            if dry_run:
                from lossgauge.study.forecast import forecast

                expected = forecast(
                    plan, folder, progress=progress, download=download, resources=resources
                )
            else:
                from lossgauge.study.runner import run_study

                outcome = run_study(
                    plan, folder, progress=progress, download=download, resources=resources
                )
        page = None if dry_run else _write_report(folder)
    except KeyboardInterrupt:
        where = (
            f"what is done is in {folder}"
            if (folder / "study.json").is_file()
            else "no run was begun, and features go on from their last whole shard"
        )
        say("", err=True)
        say(f"stopped; {where}. The same command goes on:", err=True)
        say(f"  {_same_command()}", err=True)
        raise typer.Exit(INTERRUPTED) from None
    if dry_run:
        for line in expected.grid:
            say(line)
        say(f"{expected.runs} runs, {expected.there} of them done in {folder}")
        spread = (
            f", with {jobs} jobs {_duration(expected.seconds / jobs)} at best" if jobs > 1 else ""
        )
        say(f"about {_duration(expected.seconds)} one after the other{spread}")
        say(f"about {expected.bytes / 1e6:,.1f} MB")
        return
    say(f"{outcome.done} runs done, {outcome.reused} were there, {outcome.failed} failed")
    say(f"report: {page}")
    if outcome.failed:
        raise typer.Exit(1)


@app.command(
    epilog="Examples: `lossgauge report lossgauge-results/demo` · `lossgauge report FOLDER --out page.html`"
)
def report(
    folder: Folder,
    out: Annotated[
        Path | None,
        typer.Option(help="The page to write, where not report.html in the folder."),
    ] = None,
) -> None:
    """Write the report of a study's folder anew, from what is done so far."""
    say(f"report: {_write_report(folder, out)}")


@app.command(epilog="Example: `lossgauge status lossgauge-results/demo`")
def status(folder: Folder) -> None:
    """Say what of a study is done, running, failed and waiting, and how long it still takes. Works while it runs."""
    from lossgauge.study.status import read_status

    found = read_status(folder)
    for state in ("done", "running", "failed", "waiting"):
        say(f"{state:8} {len(getattr(found, state))}")
    unnamed = found.expected - sum(
        map(len, (found.done, found.running, found.failed, found.waiting))
    )
    if unnamed > 0:
        say(f"{'ahead':8} {unnamed} (a search has still to name them)")
    for run, (epoch, epochs) in found.running.items():
        say(f"running: {run}: epoch {epoch} of {epochs}")
    for run, error in found.failed.items():
        say(f"failed: {run}: {one_line(error)}")
    if found.seconds_left is not None:
        say(f"about {_duration(found.seconds_left)} left")
    elif not found.at_work and (found.waiting or found.failed or unnamed > 0):
        say("no study is at work here; the same study command goes on")


def _duration(seconds: float) -> str:
    """`40 s`, `12 min`, `3.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _same_command() -> str:
    import shlex

    return shlex.join(["lossgauge", *sys.argv[1:]])


@app.command(
    epilog="Examples: `lossgauge export lossgauge-results/demo --to csv` · `lossgauge export results --to mlflow`"
)
def export(
    folder: Folder,
    to: Annotated[
        str, typer.Option(help="parquet, csv, mlflow, wandb or tensorboard.")
    ] = "parquet",
    out: Annotated[
        Path | None,
        typer.Option(help="Where to; export/FORMAT in the study's folder if not given."),
    ] = None,
    quote_formulas: Annotated[
        bool,
        typer.Option(
            "--quote-formulas",
            help="In csv: an apostrophe before text that a spreadsheet would run (= + - @, tab, return).",
        ),
    ] = False,
) -> None:
    """Write a study's tables for other tools."""
    from lossgauge.export import export_study
    from lossgauge.results.store import Store

    _say_damage(Store(folder).load())
    say(f"exported: {export_study(folder, to, out, quote_formulas=quote_formulas)}")


@app.command(epilog="Example: `lossgauge schema > study.schema.json`")
def schema() -> None:
    """Print the JSON Schema of a study file, for editors that complete and check YAML."""
    import json

    from lossgauge.plan.yaml_file import schema as of_studies

    for line in json.dumps(of_studies(), indent=1).splitlines():
        say(line)


@app.command()
def losses() -> None:
    """List the losses with their settings."""
    from lossgauge.losses.registry import LOSSES, loss_class, settings_of

    for name in LOSSES:
        made = loss_class(name)
        say(f"{name:12} {(sys.modules[made.__module__].__doc__ or '').splitlines()[0]}")
        say(" " * 13 + ", ".join(f"{key}{known}" for key, known in settings_of(name).items()))
        if aliases := getattr(made, "aliases", ()):
            say(" " * 13 + f"also named {', '.join(aliases)}")
    say(
        "my_loss.py:Pull   a loss of your own: a class or a function (embeddings, labels) -> scalar"
    )


@app.command()
def datasets() -> None:
    """List the datasets: where each was found, or where it was looked for and how to get it."""
    from lossgauge.data import describe_datasets

    for found in describe_datasets():
        say(found)


@app.command(
    epilog="Examples: `lossgauge features fashion-mnist` · `lossgauge features digits --backbone pixels` · "
    "`lossgauge features folder:photos --backbone hf:./my-vit`"
)
def features(
    dataset: Annotated[
        str, typer.Argument(help="A name that `lossgauge datasets` lists, or folder:PATH.")
    ],
    backbone: Annotated[
        str,
        typer.Option(
            help="efficientnet-lite0, pixels, clip-vit-b32, vit-b32-in21k, hf:MODEL (a folder or a name on "
            "the hub), or my_backbone.py:Model."
        ),
    ] = "efficientnet-lite0",
    dtype: Annotated[str | None, typer.Option(help="fp32 or bf16, for hf models.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu or cuda, for hf models.")] = None,
    download: Download = False,
    refresh: Annotated[bool, typer.Option(help="Extract anew, whatever the cache holds.")] = False,
) -> None:
    """Extract the features of a dataset into the cache, or say that they are there."""
    from rich.console import Console

    from lossgauge.backbones import load_backbone
    from lossgauge.data import load_dataset
    from lossgauge.data.features import features as extract
    from lossgauge.study.progress_bars import watcher

    given: dict[str, Any] = {
        key: value for key, value in (("dtype", dtype), ("device", device)) if value
    }
    with watcher(Console(stderr=True)) as progress:
        found = extract(
            load_dataset(dataset, download=download),
            load_backbone(backbone, download=download, **given),
            refresh=refresh,
            progress=lambda done, total: progress.features(dataset, done, total),
        )
    rows, width = found.features.shape
    say(
        f"{dataset}: {rows} rows of {width} features by {backbone}, {found.protocol} split "
        f"{len(found.train)}/{len(found.test)}, fingerprint {found.fingerprint[:12]}"
    )
    for words in found.notes:
        say(f"{dataset}: {words}")


@cache_app.command("ls", epilog="Example: `lossgauge cache ls`")
def list_cache() -> None:
    """List what is in the cache, with its size."""
    from lossgauge.data.cache import default_cache, entries

    found = entries(default_cache())
    for entry in found:
        rows = "?" if entry.rows is None else f"{entry.rows:,}"
        say(f"{entry.folder.name}  {entry.bytes / 1e6:,.1f} MB  {rows} rows  {entry.what}")
    total = sum(entry.bytes for entry in found)
    say(f"{len(found)} entries, {total / 1e6:,.1f} MB in {default_cache()}")


@cache_app.command(epilog="Example: `lossgauge cache verify`")
def verify(
    names: Annotated[
        list[str] | None, typer.Argument(help="Entries by name, or the begin of it; all if none.")
    ] = None,
) -> None:
    """Read every byte of the cache and say which files are not what was written."""
    from lossgauge.data.cache import verify as verify_entry
    from lossgauge.errors import CacheError

    bad = 0
    for folder in _cached(names):
        try:
            verify_entry(folder)
            say(f"ok       {folder.name}")
        except CacheError as error:
            bad += 1
            say(f"DAMAGED  {folder.name}: {error}")
    if bad:
        raise typer.Exit(1)


@cache_app.command(
    "rm", epilog="Examples: `lossgauge cache rm digits` · `lossgauge cache rm --all`"
)
def remove_cached(
    names: Annotated[
        list[str] | None, typer.Argument(help="Entries by name, or the begin of it.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="All entries.")] = False,
) -> None:
    """Delete entries of the cache; features are extracted anew when they are next asked for."""
    from lossgauge.data.cache import remove

    if everything == bool(names):
        raise InputError("say which entries to delete, or --all: lossgauge cache ls lists them")
    for folder in _cached(names):
        remove(folder)
        say(f"deleted {folder.name}")


def _cached(names: list[str] | None) -> list[Path]:
    """Folders of the entries whose names begin so; all without names."""
    from lossgauge.data.cache import default_cache, entries

    folders = [entry.folder for entry in entries(default_cache())]
    for name in names or ():
        if not name or not any(folder.name.startswith(name) for folder in folders):
            raise InputError(
                f"no entry of the cache is named {name!r}{nearest(name, [f.name for f in folders])}"
            )
    return [f for f in folders if not names or any(f.name.startswith(name) for name in names)]


@app.command(
    epilog="Examples: `lossgauge check triplet` · `lossgauge check my_loss.py:Pull` · `lossgauge check embeddings.npz`"
)
def check(
    target: Annotated[
        str,
        typer.Argument(
            help="A loss, or a file of embeddings and labels: npz, npy, safetensors, parquet, a folder of them."
        ),
    ],
    embeddings_name: Annotated[
        str, typer.Option(help="The array or column of embeddings.")
    ] = "embeddings",
    labels_name: Annotated[str, typer.Option(help="The array or column of labels.")] = "labels",
) -> None:
    """Check a loss against the contract of losses, or embeddings for bad signs."""
    if target.endswith((".npz", ".npy", ".safetensors", ".parquet")) or Path(target).is_dir():
        _check_embeddings(Path(target), embeddings_name, labels_name)
    else:
        _check_loss(target)


def _check_loss(name: str) -> None:
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
        raise typer.Exit(1)


def _check_embeddings(path: Path, embeddings_name: str, labels_name: str) -> None:
    from lossgauge.batch import as_batch
    from lossgauge.data.embeddings import read_embeddings
    from lossgauge.diagnostics.health import signs
    from lossgauge.diagnostics.variance import geometry
    from lossgauge.ranking.metrics import retrieval
    from lossgauge.ranking.scores import norms_and_directions

    given = read_embeddings(path, embeddings_name=embeddings_name, labels_name=labels_name)
    embeddings, labels = as_batch(given.embeddings, given.labels)
    norms, directions = norms_and_directions(embeddings)
    normalized = bool((norms - 1).abs().max() <= 1e-3)
    found = geometry(embeddings, labels)
    ranked = retrieval(embeddings, labels, similarity="cosine" if normalized else "dot")
    bad = signs(found if normalized else geometry(directions, labels), given.class_names)
    for words in given.notes:
        say(words)
    say(
        f"{found.sample_count} rows of {found.class_count} classes"
        + (f", {found.singleton_count} of one sample" if found.singleton_count else "")
    )
    say(
        f"R@1 {ranked.recall_at[1]:.1%}  MAP@R {ranked.map_at_r:.1%}  intra {_short(found.intra)}  "
        f"inter {_short(found.inter)}  offset {_short(found.offset)}  effective rank {found.effective_rank:.1f}"
    )
    if not normalized:
        say(
            f"row norms lie between {float(norms.min()):.3g} and {float(norms.max()):.3g}: "
            "R@1 and MAP@R are by dot products, the signs below are those of the normalised rows"
        )
    zeros = (norms == 0).nonzero().flatten()
    if len(zeros):
        say(
            f"{len(zeros)} of {len(norms)} rows are all zeros, the first is row {int(zeros[0])}: they have no direction"
        )
    for sign in bad:
        say(f"{sign.words}: {sign.evidence}. Try: {sign.remedy}.")
    if not bad:
        say("no bad sign seen")


def _short(value: float) -> str:
    """Three decimals where they show it, else three digits and a power of ten."""
    return f"{value:.3f}" if value == 0 or 1e-3 <= value < 1e5 else f"{value:.2e}"


def _write_report(folder: Path, out: Path | None = None) -> Path:
    from lossgauge.report.output import check_replaceable, write_page
    from lossgauge.results.store import Store

    if out is not None:
        check_replaceable(out)
    results = Store(folder).load()
    _say_damage(results)
    return write_page(results, out or folder / "report.html")


def _say_damage(results: Results) -> None:
    """A line for each run that is left out because a file of it is damaged."""
    from lossgauge.files import AGAIN

    for row in (*results.failures, *results.trials):
        if (error := row.get("error")) and AGAIN in error:
            say(f"left out: {error}", err=True)


def main() -> None:
    """Entry point: a user's mistake is one line and exit code 2, never a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(
                errors="backslashreplace"
            )  # an encoding that lacks τ stops no command
    try:
        _check_arguments(sys.argv[1:])
        sys.exit(app(standalone_mode=False))
    except LossgaugeError as error:
        _fail(str(error))
    except _WrongUse as error:
        # with no arguments at all the help is there already, and there is no message
        _fail(error.format_message().rstrip("."), hint="; --help lists what it takes")
    except OSError as error:
        # a name that is too long, a folder that may not be read: no mistake of the program's
        _fail(f"{error.filename or 'a file'}: {error.strerror or error}")


_WrongUse = cast(type[typer.BadParameter], typer.BadParameter.__mro__[1])
"""An unknown option, a missing argument. Typer may bring a click of its own, so it is taken from there."""


def _fail(words: str, *, hint: str = "") -> NoReturn:
    if words:
        say(f"lossgauge: {one_line(words)}{hint}", err=True)
    sys.exit(WRONG)


def _check_arguments(arguments: list[str]) -> None:
    """InputError where one is empty, which would stand for the working folder or for every name."""
    for before, argument in zip(["", *arguments], arguments, strict=False):
        option = re.match(r"(--[\w-]+)=$", argument)
        if not argument or option:
            after = f"the argument after {before!r}" if before else "the first argument"
            name = option[1] if option else before if before.startswith("-") else after
            raise InputError(f"{name} is empty: give a value, or leave it out")
        try:
            argument.encode()
        except UnicodeEncodeError:
            raise InputError(
                f"{argument!r} is not UTF-8: rename the file or folder, or give another name"
            ) from None
