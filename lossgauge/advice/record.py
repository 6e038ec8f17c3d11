"""The answer: a record, and its sentences."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Iterator
from dataclasses import dataclass

import yaml

from lossgauge.terminal import wrapped
from lossgauge.types import Record


@dataclass(frozen=True)
class Sentence:
    """One part of the answer."""

    topic: str
    text: str


@dataclass(frozen=True)
class WinningRun:
    """The run that stands for the answer: the one of the lowest seed of the best loss."""

    dataset: str
    loss: str
    """As the study names it."""
    seed: int
    folder: str
    """With `head.safetensors` and the tables of the run."""


@dataclass(frozen=True)
class Advice:
    """The answer to "which loss for this data". It prints as text."""

    data: str
    goal: str
    minutes: float
    train: str
    """`train`; `keep` the frozen features, which are better; `equivalent`; `open`."""
    loss: str
    """The name of the loss to take if a head is trained."""
    settings: Record
    """Of the loss, with `learning_rate`, `batch_size` and `sampler`."""
    clear: bool
    """Whether the loss is clearly better than every other one that was run with seeds."""
    runner_up: str | None
    sentences: tuple[Sentence, ...]
    yaml: str
    """A study of this loss, for `lossgauge study`."""
    code: str
    """The loss in Python."""
    run: WinningRun
    study: str
    """The folder of the finalists' study."""
    study_file: str
    """The file with `yaml`."""
    page: str | None
    complete: bool
    """Whether all that was planned was done; False after an interruption."""
    failed: int
    """Runs of finalists that failed: the page has their errors."""
    seconds: float

    def lines(self) -> Iterator[str]:
        """The answer for a terminal."""
        for sentence in self.sentences:
            yield from wrapped(f"{sentence.topic}: {sentence.text}")
        yield ""
        yield from self.code.splitlines()
        yield f"study file: {self.study_file}"
        # its name is enough: each loss is in the study of the finalists once
        command = ("lossgauge", "head", self.study, "--loss", self.loss)
        yield f"take its head along: {shlex.join(command)}"
        yield from self._without_a_head()
        if self.page is not None:
            yield f"report: {self.page}"

    def _without_a_head(self) -> Iterator[str]:
        """The command for the frozen features, where the answer is that they are as good: centered as the study measured them."""
        if self.train not in ("keep", "equivalent"):
            return
        plan = yaml.safe_load(self.yaml)
        if plan.get("head") == "residual":
            yield "or the model as it is, without an adapter"
            return
        command = ["lossgauge", "embed", *plan["datasets"], "--frozen", "--head", "head"]
        for key, option in (
            ("embeddings_name", "--embeddings-name"),
            ("labels_name", "--labels-name"),
        ):
            command += [option, plan[key]] if key in plan else []
        yield f"or the frozen features, minus the mean that head/ has: {shlex.join([*command, '--out', 'frozen.npz'])}"

    def __str__(self) -> str:
        return "\n".join(self.lines())

    @property
    def plain(self) -> Record:
        """As JSON can represent it."""
        return dataclasses.asdict(self)
