"""README.md of an exported model: what it is, which texts pass through what, what was measured of it beside the model without it, and how it is loaded.

The first lines are those that the Hugging Face hub reads: https://huggingface.co/docs/hub/model-cards
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64

from lossgauge.deployment.costs import IntervalOf
from lossgauge.deployment.manifest import Manifest
from lossgauge.deployment.sentences import head_form, name_and_settings, threshold_lines
from lossgauge.diagnosis.ranked import over_queries
from lossgauge.diagnosis.sentences import points, shown_share
from lossgauge.stats.intervals import Interval
from lossgauge.terminal import one_line

FILE = "README.md"
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")


class Compared(NamedTuple):
    """One number with the head and without it; intervals are over new queries, that of the change is paired by query."""

    title: str
    with_head: Interval
    without: Interval
    change: Interval


def compared(
    title: str,
    after: Float64[np.ndarray, " queries"],
    before: Float64[np.ndarray, " queries"],
    interval_of: IntervalOf = over_queries,
) -> Compared:
    """From the values of the same queries, each in [0, 1]."""
    return Compared(title, *map(interval_of, (after, before, after - before)))


def model_card(
    of: Manifest,
    numbers: Sequence[Compared],
    cautions: Sequence[str] = (),
    narrow: Sequence[str] = (),
) -> str:
    """The text of the file; `cautions` are what the export warned of, `narrow` says what a narrower head is compared with."""
    return "\n".join([*_front(of), "", *_body(of, numbers, cautions, narrow), ""])


def _front(of: Manifest) -> Iterator[str]:
    yield from ("---", "library_name: sentence-transformers", "pipeline_tag: sentence-similarity")
    yield from ("tags:", "- sentence-transformers", "- sentence-similarity", "- feature-extraction")
    model = of.backbone.identity.get("model", "")
    if _HUB_NAME.fullmatch(model):
        yield f"base_model: {model}"
    yield "---"


def _body(
    of: Manifest, numbers: Sequence[Compared], cautions: Sequence[str], narrow: Sequence[str]
) -> Iterator[str]:
    trained, base = of.trained, _code(of.backbone.identity.get("model") or of.backbone.name)
    of_pairs = of.measured.documents is not None
    loss, settings = name_and_settings(trained.loss)
    yield f"# An adapter on {base}"
    yield ""
    yield (
        f"{base}, which stays as it was, and behind it {head_form(of)}: {of.head.feature_width} numbers in, {of.head.embedding_size} of length 1 "
        f"out. Trained with the loss {_code(loss)}{f' ({_code(settings)})' if settings else ''} on {_code(trained.dataset)}, seed {trained.seed}, "
        f"epoch {trained.epoch}, by lossgauge {of.lossgauge}."
    )
    yield ""
    yield f"- Base model: {base}"
    yield f"- Sides: {_sides(of, of_pairs)}"
    yield f"- Why this run: {one_line(trained.chosen)}"
    yield from (f"- Note: {one_line(caution)}" for caution in cautions)
    yield ""
    yield "## Measured"
    yield ""
    rows = f"{of.measured.test_rows:,} test rows"
    if of_pairs:
        rows = f"{of.measured.test_rows:,} test queries among {of.measured.documents:,} documents"
    yield f"{rows} ({one_line(trained.protocol)} split). ± is a 95 % interval over new queries; the change is paired by query, in points."
    yield ""
    yield "| | this model | without the adapter | change |"
    yield "|---|---|---|---|"
    for one in numbers:
        yield (
            f"| {one.title} | {shown_share(one.with_head)} | {shown_share(one.without)} | {points(one.change)} |"
        )
    yield ""
    yield from (f"- {line}" for line in narrow)
    yield from (f"- {line}" for line in threshold_lines(of.thresholds, of_pairs=of_pairs))
    yield ""
    yield "## Use"
    yield ""
    yield "```python"
    yield "from sentence_transformers import SentenceTransformer"
    yield ""
    yield 'model = SentenceTransformer("PATH_OF_THIS_FOLDER")'
    if of_pairs:
        yield 'queries = model.encode_query(["a question"])'
        yield 'documents = model.encode_document(["a passage", "another one"])'
        yield "print(model.similarity(queries, documents))"
    else:
        yield 'print(model.encode(["a text", "another one"]))'
    yield "```"


def _sides(of: Manifest, of_pairs: bool) -> str:
    if not of_pairs:
        return "all texts pass through the adapter."
    if of.head.sides == "both":
        return "queries and documents pass through the adapter, so an index must be embedded with this model."
    documents = "the base model, of length 1"
    if of.head.centered:
        documents = "the base model, minus the mean of its training texts, of length 1"
    return f"only queries pass through the adapter (`encode_query`); documents are embeddings of {documents} (`encode_document`, `encode`)."


def _code(text: str) -> str:
    """A name as code on one line; its own backticks would end it."""
    return f"`{one_line(text).replace('`', chr(39))}`"
