"""Commands about a trained head outside of its study: `head`, `embed`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lossgauge import startup, stopping
from lossgauge.cli.arguments import (
    BACKBONES,
    Download,
    EmbeddingsName,
    Folder,
    LabelsName,
    Quiet,
    completes,
)
from lossgauge.cli.last_lines import features_stopped, stopped
from lossgauge.cli.program import app, say, say_damage


@app.command(
    rich_help_panel="A trained head",
    epilog="Examples: `lossgauge head lossgauge-results/demo --dataset digits` · `lossgauge head FOLDER --loss triplet --seed 0 --out head --onnx`",
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
            help="The loss, as the report names it, or without its settings if that is unique. Default: the best by validation, else by the test side."
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(help="The seed. Default: the best by validation, else the first."),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            metavar="folder:PATH|embeddings:PATH|pairs:PATH",
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
    model: Annotated[
        Path | None,
        typer.Option(
            "--sentence-transformers",
            help="Also write a whole model for sentence-transformers into this new folder: the backbone for texts and the head.",
        ),
    ] = None,
    quiet: Quiet = False,
    download: Download = False,
) -> None:
    """Export a trained head: its weights with a manifest; and show its score thresholds and what its width costs.

    The data of the study, or their features in the cache, must be on this machine.
    """
    stopping.describe = stopped
    with startup.imports():
        from lossgauge.deployment.export import export_head
        from lossgauge.results.reader import read_study
        from lossgauge.study.progress_bars import show_progress

    view = read_study(folder)
    say_damage(view)
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
            model=model,
            download=download,
            progress=progress,
        )
    for line in exported.lines():
        say(line)


@app.command(
    rich_help_panel="A trained head",
    epilog="Examples: `lossgauge embed folder:photos --head head --out photos.npz` · `lossgauge embed folder:photos --frozen --out photos.npz` · `lossgauge embed embeddings:features.npy --head head "
    "--backbone efficientnet-lite0` · `lossgauge embed pairs:my-beir --head head --out found.npz` · `lossgauge embed texts:passages.csv --head head --side document` · `lossgauge embed pairs:questions.jsonl --frozen --center --out centered.npz` · `lossgauge embed texts:passages.csv --frozen --side document "
    "--center-of centered-documents.npz --out passages.npz`",
)
def embed(
    data: Annotated[
        str,
        typer.Argument(
            help="folder:PATH with images, texts:PATH (labels are not needed), pairs:PATH, embeddings:PATH with features, or a name from "
            "`lossgauge datasets`."
        ),
    ],
    head_folder: Annotated[
        Path | None,
        typer.Option("--head", help="The folder that `lossgauge head` wrote. Default: head."),
    ] = None,
    frozen: Annotated[
        bool,
        typer.Option(
            "--frozen",
            help="Write the features of the backbone, of length 1, and apply no head. With --head, minus the mean that the head subtracts.",
        ),
    ] = False,
    center: Annotated[
        bool,
        typer.Option(
            "--center",
            help="Subtract the mean of the embeddings, and make them of length 1 again: each side minus its own (queries of pairs: that of the training queries, as in a study). The mean is stored as the array mean.",
        ),
    ] = False,
    center_of: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Subtract the mean that an earlier file with --center has: for new queries or passages. Of both sides, X.npz stands for X-queries.npz and X-documents.npz.",
        ),
    ] = None,
    side: Annotated[
        str | None,
        typer.Option(
            help="What all rows are: query or document, where the head or the prompts differ. Of pairs:PATH, only this side is written; without it, both are.",
            autocompletion=completes("query", "document"),
        ),
    ] = None,
    out: Annotated[
        Path,
        typer.Option(
            help="The .npz file to write. Of pairs:PATH without --side: X-queries.npz, X-documents.npz and X-qrels.tsv for X.npz."
        ),
    ] = Path("embeddings.npz"),
    backbone: Annotated[
        str | None,
        typer.Option(
            help="The head's backbone, if it has another place here; with --frozen, the one to use (default: efficientnet-lite0 for images, minilm-l6 for texts); or the one that the rows of embeddings:PATH come from.",
            autocompletion=completes(*BACKBONES),
        ),
    ] = None,
    embeddings_name: EmbeddingsName = "embeddings",
    labels_name: LabelsName = "labels",
    quiet: Quiet = False,
    download: Download = False,
) -> None:
    """Apply an exported head to images, texts or features, and write the embeddings with their labels and ids.

    With --frozen, write the normalised features without a head. Queries and documents go to a file each, with the ids of a BEIR folder, and
    the judgements of the test queries beside them: `lossgauge diagnose X-queries.npz --corpus X-documents.npz --judgements X-qrels.tsv`.
    """
    stopping.describe = features_stopped
    with startup.imports():
        from lossgauge.deployment.embedding import embed_data, embed_pairs
        from lossgauge.deployment.head import load_head
        from lossgauge.deployment.sentences import (
            embedded_lines,
            embedded_pairs_lines,
            frozen_line,
            head_line,
        )
        from lossgauge.plan.study import names_pairs
        from lossgauge.study.progress_bars import show_progress

    place = Path("head") if head_folder is None and not frozen else head_folder
    loaded = None if place is None else load_head(place)
    if loaded is None or frozen:
        manifest = None if loaded is None else loaded.manifest
        say(
            frozen_line(
                manifest, place, of_pairs=names_pairs(data), centers=center or center_of is not None
            )
        )
    else:
        say(f"head: {place} ({head_line(loaded.manifest)})")
    with stopping.orderly(), show_progress(quiet=quiet) as progress:
        if names_pairs(data) and side is None:
            pairs = embed_pairs(
                loaded,
                data,
                out,
                backbone=backbone,
                frozen=frozen,
                center=center,
                center_of=center_of,
                download=download,
                progress=progress,
            )
            lines = embedded_pairs_lines(pairs)
        else:
            written = embed_data(
                loaded,
                data,
                out,
                backbone=backbone,
                embeddings_name=embeddings_name,
                labels_name=labels_name,
                side=side,
                frozen=frozen,
                center=center,
                center_of=center_of,
                download=download,
                progress=progress,
            )
            lines = embedded_lines(written)
    for line in lines:
        say(line)
