"""Arguments that several commands have, and the words that a shell completes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

STUDIES = (
    "author-conventions",
    "claims",
    "demo",
    "dose",
    "few-labels",
    "negatives",
    "paper",
    "samplers",
    "small-batch",
    "two-losses",
    "weights-or-directions",
    "width",
    "wordnet",
)
BACKBONES = ("efficientnet-lite0", "pixels", "clip-vit-b32", "vit-b32-in21k", "minilm-l6")
FORMATS = ("parquet", "csv", "mlflow", "wandb", "tensorboard")
VERDICTS = ("supported", "contradicted", "mixed", "undecided", "not tested")
GOALS = ("top1", "ranking", "diversity", "speed")
"""For shell completion only. The lists that the program uses are in their own modules, which take a second to load."""


def completes(*words: str) -> Callable[[], list[str]]:
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


def study_folder(folder: Path) -> Path:
    """The study inside a folder of `lossgauge advise`; any other folder as it is."""
    inside = folder / "study"
    holds = [os.path.isfile(place / "study.json") for place in (folder, inside)]
    return inside if holds == [False, True] else folder


Folder = Annotated[
    Path, typer.Argument(help="The folder of a study, or of `advise`.", callback=study_folder)
]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="Show only the result, without progress and warnings.")
]
