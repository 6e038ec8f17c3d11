"""Commands about studies: `study`, `status`, `watch`, `report`, `claims`, `compare`, `export`."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lossgauge import startup, stopping
from lossgauge.cli.arguments import (
    FORMATS,
    STUDIES,
    VERDICTS,
    ClaimsFiles,
    Download,
    Folder,
    Quiet,
    completes,
    study_folder,
)
from lossgauge.cli.last_lines import study_stopped
from lossgauge.cli.program import FAILED, app, say, say_damage
from lossgauge.errors import InputError, nearest
from lossgauge.terminal import wrapped

if TYPE_CHECKING:
    from lossgauge.results.view import StudyView


@app.command(
    rich_help_panel="Studies",
    epilog="Examples: `lossgauge study demo` · `lossgauge study paper --set epochs=10 --set seeds=2` · "
    "`lossgauge study demo --set losses=triplet,my_loss.py:Pull --out mine`",
)
def study(
    source: Annotated[
        str,
        typer.Argument(
            metavar="NAME|FILE",
            help="A built-in study (demo, paper) or a YAML file.",
            autocompletion=completes(*STUDIES),
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
            autocompletion=completes("local", "ray"),
        ),
    ] = "local",
    device: Annotated[
        str,
        typer.Option(
            help="cpu or cuda. With cuda, all jobs on one machine share its GPU.",
            autocompletion=completes("cpu", "cuda"),
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
    stopping.describe = partial(study_stopped, folder, dry_run=dry_run)
    with startup.imports():
        from lossgauge.plan.yaml_file import load_plan

    # a mistake in the file is said before torch is imported, which takes a second or more
    plan = load_plan(source, overrides=setting or ())
    with startup.imports():
        from lossgauge.report.text.result_table import result_lines
        from lossgauge.report.text.short_answer import short_answer
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
    for sentence in short_answer(view):
        for line in wrapped(sentence):
            say(line)
    say(f"report: {page}")
    if outcome.failed:
        raise typer.Exit(FAILED)


@app.command(rich_help_panel="Studies", epilog="Example: `lossgauge status lossgauge-results/demo`")
def status(folder: Folder) -> None:
    """Show how many runs are done, running, failed and waiting, and the time left. Also works while the study runs."""
    with startup.imports():
        from lossgauge.study.sentences import status_lines
        from lossgauge.study.status import read_status

    for line in status_lines(read_status(folder)):
        say(line)


@app.command(
    rich_help_panel="Studies",
    epilog="Examples: `lossgauge watch lossgauge-results/demo` · `lossgauge watch FOLDER --port 8000`",
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
    rich_help_panel="Studies",
    epilog="Examples: `lossgauge report lossgauge-results/demo` · `lossgauge report FOLDER --out page.html` · "
    "`lossgauge report FOLDER --format latex --figures pdf`",
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
            help="Write the paper's tables instead: md, latex or csv; several as md,csv.",
            autocompletion=completes("md", "latex", "csv"),
        ),
    ] = None,
    figures: Annotated[
        list[str] | None,
        typer.Option(
            help="Write the paper's figures instead: pdf, svg or png; several as pdf,png.",
            autocompletion=completes("pdf", "svg", "png"),
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
        say(f"written: {_write_paper(folder, out, _words(formats), _words(figures))}")
        return
    say(f"report: {_write_report(folder, out, own, full=full)[1]}")


@app.command(
    rich_help_panel="Studies",
    epilog="Examples: `lossgauge claims lossgauge-results/demo` · `lossgauge claims FOLDER --claims my_claims.yaml --fail-on contradicted` · "
    "`lossgauge claims FOLDER OTHER`",
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
            autocompletion=completes(*VERDICTS),
        ),
    ] = None,
) -> None:
    """Test the paper's claims, and your own, on the runs of a study: on each dataset and over all.

    With several folders, show the verdicts of the studies side by side, and what differs between their plans.
    """

    with startup.imports():
        from lossgauge.claims.across_studies import across_studies, plan_differences
        from lossgauge.claims.own_claims import NONE_OF_PAIRS, claims_of, read_claims
        from lossgauge.claims.record_lines import across_lines, record_lines
        from lossgauge.claims.records import all_records
        from lossgauge.claims.verdicts import STATUSES
        from lossgauge.results.reader import read_study

    for verdict in fail_on or ():
        if verdict not in STATUSES:
            near = nearest(verdict, STATUSES)
            raise InputError(f"--fail-on takes a verdict, got {verdict!r}{near}")
    plans = [claim for file in own or () for claim in read_claims(file)]
    names, views = list(map(str, folders)), [read_study(study_folder(one)) for one in folders]
    for view in views:
        say_damage(view)
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
        of_pairs = [NONE_OF_PAIRS] if views[0].of_pairs else []
        lines = [*of_pairs, *record_lines(records[0])]
    else:
        lines = across_lines(across_studies(records), names, plan_differences(views))
    for line in lines:
        say(line)
    if {record.verdict for of_study in records for record in of_study} & set(fail_on or ()):
        raise typer.Exit(FAILED)


@app.command(
    rich_help_panel="Studies",
    epilog="Examples: `lossgauge compare results/before results/after` · `lossgauge compare FOLDER OTHER --json`",
)
def compare(
    first: Folder,
    second: Annotated[
        Path,
        typer.Argument(help="The folder of another study of the same data.", callback=study_folder),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
    own: ClaimsFiles = None,
) -> None:
    """Compare two studies of the same data: plans, versions, each loss's retrieval and geometry, and verdicts.

    Differences are the second study minus the first, with 95 % intervals, paired where the studies allow it.
    """

    with startup.imports():
        from lossgauge.claims.own_claims import read_claims
        from lossgauge.report.comparison import compare as compare_views
        from lossgauge.results.reader import read_study

    plans = [claim for file in own or () for claim in read_claims(file)]
    views = [read_study(folder) for folder in (first, second)]
    for view in views:
        say_damage(view)
    with stopping.orderly():
        found = compare_views(views[0], views[1], (str(first), str(second)), plans)
    for line in json.dumps(found.plain, indent=1).splitlines() if as_json else found.lines():
        say(line)


@app.command(
    rich_help_panel="Studies",
    epilog="Examples: `lossgauge export lossgauge-results/demo --to csv` · `lossgauge export results --to mlflow`",
)
def export(
    folder: Folder,
    to: Annotated[
        str,
        typer.Option(
            help="parquet, csv, mlflow, wandb or tensorboard.", autocompletion=completes(*FORMATS)
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
    say_damage(view)
    with stopping.orderly():
        place = export_study(view, to, out, quote_formulas=quote_formulas)
    say(f"exported: {place}")


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
    say_damage(view)
    with stopping.orderly():
        return view, write_page(view, out or folder / "report.html", claims, full=full)


def _words(values: list[str] | None) -> list[str]:
    """`--figures svg,png` as `--figures svg --figures png`."""
    return [word for value in values or () for word in value.split(",")]


def _write_paper(folder: Path, out: Path | None, formats: list[str], figures: list[str]) -> Path:
    with startup.imports():
        from lossgauge.export import export_paper
        from lossgauge.report.paper.output import check_paper
        from lossgauge.results.reader import read_study

    check_paper(formats, figures)  # before the study is read, which may take long
    view = read_study(folder)
    say_damage(view)
    with stopping.orderly():
        return export_paper(view, out, formats=formats, figures=figures)
