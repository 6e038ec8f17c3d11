"""Commands that answer a question about your data: `advise`, `diagnose`, `check`."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from lossgauge import startup, stopping
from lossgauge.cli.arguments import (
    BACKBONES,
    GOALS,
    Download,
    EmbeddingsName,
    LabelsName,
    Quiet,
    completes,
)
from lossgauge.cli.last_lines import advice_stopped, stopped
from lossgauge.cli.program import FAILED, app, say
from lossgauge.errors import InputError


@app.command(
    rich_help_panel="Answers about your data",
    epilog="Examples: `lossgauge advise folder:photos` · `lossgauge advise embeddings:x.npz --goal top1 --minutes 5` · "
    "`lossgauge advise digits --dry-run`",
)
def advise(
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA",
            help="folder:PATH, embeddings:PATH, pairs:PATH (queries and documents), the path of a manifest (.csv), or a name from `lossgauge datasets`.",
        ),
    ],
    minutes: Annotated[
        float, typer.Option(help="Time for all of it: features, search and report.")
    ] = 10.0,
    goal: Annotated[
        str,
        typer.Option(
            help="What the loss should be best in. ranking: MAP@R, or nDCG@10 of queries and documents; top1: R@1; diversity: variance inside classes at an "
            "equivalent MAP@R; speed: few epochs.",
            autocompletion=completes(*GOALS),
        ),
    ] = "ranking",
    backbone: Annotated[
        str,
        typer.Option(
            help="For images and texts: as in `lossgauge features`. Default for texts: minilm-l6.",
            autocompletion=completes(*BACKBONES),
        ),
    ] = "efficientnet-lite0",
    embeddings_name: EmbeddingsName = "embeddings",
    labels_name: LabelsName = "labels",
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for the results. Default: lossgauge-results/advise-NAME, with -GOAL for a goal other than ranking."
        ),
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
    import time

    began = time.monotonic()
    best: list[str] = []
    stopping.describe = partial(advice_stopped, best)
    with startup.imports():
        from lossgauge.advice.clock import Clock
        from lossgauge.advice.phases import advise as answer
        from lossgauge.advice.phases import default_folder
        from lossgauge.advice.preparation import prepare_question
        from lossgauge.advice.question import Question, check_question
        from lossgauge.advice.words import forecast_lines
        from lossgauge.study.progress_bars import show_progress

    question = Question(data, cast(Any, goal), minutes, backbone, embeddings_name, labels_name)
    check_question(question)
    folder = out or default_folder(data, goal)
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


@app.command(
    rich_help_panel="Answers about your data",
    epilog="Examples: `lossgauge diagnose embeddings.npz` · `lossgauge diagnose before.npz --against after.npz --page page.html` · "
    "`lossgauge diagnose queries.npz --corpus corpus.npz --judgements qrels.tsv` · `lossgauge diagnose x.npy --json --fail-on act`",
)
def diagnose(
    embeddings: Annotated[
        Path,
        typer.Argument(
            help="A file with embeddings, and labels if there are any (npz, npy, safetensors, parquet), or a folder of "
            "such files."
        ),
    ],
    corpus: Annotated[
        Path | None,
        typer.Option(
            help="A second file, of documents: the rows of the first are queries that are searched in it."
        ),
    ] = None,
    judgements: Annotated[
        Path | None,
        typer.Option(
            metavar="QRELS",
            help="With --corpus: which documents are right. qrels of TREC or BEIR, or a table (csv, parquet, jsonl) with query, "
            "document and grade; both are named by the ids in their files, or by row numbers.",
        ),
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option(
            help="The same rows in another file: show what changed, and which queries got worse."
        ),
    ] = None,
    against_corpus: Annotated[
        Path | None,
        typer.Option(help="With --corpus and --against: the same documents of the other model."),
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
            autocompletion=completes("local", "ray"),
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
            autocompletion=completes("watch", "act"),
        ),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Measure stored embeddings: retrieval, geometry, thresholds, hubs, confusable classes, suspicious labels, copies.

    Labels are not needed, but much is measured with labels only. With --corpus: nDCG@10, Recall, the modality gap, and the queries
    that fail.
    """

    stopping.describe = stopped
    if fail_on not in (None, "watch", "act"):
        raise InputError(f"--fail-on takes watch or act, got {fail_on!r}")
    for option, path in (("--judgements", judgements), ("--against-corpus", against_corpus)):
        if path is not None and corpus is None:
            raise InputError(f"{option} needs a second file, of documents: give --corpus")
    with startup.imports():
        from lossgauge.diagnosis.measure import diagnose as measure
        from lossgauge.diagnosis.progress_bar import show_rows
        from lossgauge.health.finding import reached

    if page is not None:
        with startup.imports():  # with plotly, which takes a second
            from lossgauge.diagnosis.page import write_diagnosis
            from lossgauge.diagnosis.two_tables.page import write_retrieval_diagnosis
            from lossgauge.report.output import check_replaceable

        check_replaceable(page, option="--page")
    with stopping.orderly(), show_rows(quiet=quiet) as progress:
        found = cast(Any, measure)(  # what it returns depends on whether there is a corpus
            embeddings,
            corpus=corpus,
            judgements=judgements,
            against=against,
            against_corpus=against_corpus,
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
        write: Any = write_diagnosis if corpus is None else write_retrieval_diagnosis
        say(f"page: {write(found, page)}", err=as_json)
    last = found.against.after if found.against is not None else found
    if fail_on is not None and reached(last.findings, cast(Any, fail_on)):
        raise typer.Exit(FAILED)


@app.command(
    rich_help_panel="Losses, datasets and cache",
    epilog="Examples: `lossgauge check triplet` · `lossgauge check my_loss.py:Pull` · `lossgauge check embeddings.npz` · `lossgauge check pairs:questions.jsonl`",
)
def check(
    target: Annotated[
        str,
        typer.Argument(
            help="The name of a loss; a file with embeddings and labels (npz, npy, safetensors, parquet), or a "
            "folder of such files; or pairs:PATH or texts:PATH."
        ),
    ],
    embeddings_name: EmbeddingsName = "embeddings",
    labels_name: LabelsName = "labels",
) -> None:
    """Check that a loss keeps the rules of all losses; embeddings, as `lossgauge diagnose` does; or a file of texts: its counts and notes.

    Exit code 1 if a loss breaks a rule. Findings about embeddings are printed and do not change the exit code.
    """
    if target.startswith(("pairs:", "texts:")):
        _check_texts(target)
    elif target.endswith((".npz", ".npy", ".safetensors", ".parquet")) or Path(target).is_dir():
        diagnose(Path(target), embeddings_name=embeddings_name, labels_name=labels_name)
    else:
        _check_loss(target)


def _check_texts(name: str) -> None:
    with startup.imports():
        from lossgauge.data import PAIRS, check_dataset_name, pairs, texts

    check_dataset_name(name)
    kind, _, path = name.partition(":")
    found = (pairs if f"{kind}:" == PAIRS else texts).load(Path(path))
    if found.pairs is None:
        counted = f"{len(found.labels):,} texts of {len(found.class_names):,} classes"
    else:
        counted = pairs.counts(found.pairs)
    say(
        f"{name}: {counted}; {found.protocol} split, {len(found.train):,} for training and {len(found.test):,} for testing"
    )
    for words in found.notes:
        say(f"note: {words}")


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
