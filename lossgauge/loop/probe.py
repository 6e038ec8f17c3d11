"""`lg.Probe`: what a loss does in your own training loop, in four added lines.

    probe = lg.Probe(optimizer, loss=criterion)
    z = probe.embeddings(model(images), labels)
    criterion(z, labels).backward(); optimizer.step()
    probe.epoch(test_z, test_labels)

`docs/probe.md` defines the columns of its rows.
"""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from torch import Tensor, nn

from lossgauge.diagnostics.probe import TOGETHER
from lossgauge.diagnostics.probe import Probe as StepRecorder
from lossgauge.distributed.gathered_loss import Gathered
from lossgauge.errors import InputError, RunError, nearest
from lossgauge.loop.hooks import after_evaluation, after_forward, unwrapped_loss
from lossgauge.loop.inputs import check_embeddings, check_labels, check_value, output_embeddings
from lossgauge.loop.optimizers import WatchedOptimizer, checksums, unwrapped
from lossgauge.loop.recorder import LoopRecorder, is_recomputed
from lossgauge.loop.records import Update
from lossgauge.loop.rows import Rows
from lossgauge.losses.base import Loss
from lossgauge.types import Evaluation, Record, Step

if TYPE_CHECKING:
    from lossgauge.health.finding import Finding
    from lossgauge.loop.findings import Space

OnNan = Literal["raise", "leave-out", "record"]
Reader = Callable[[tuple[Any, ...], Tensor], Evaluation]


class Probe:
    """Records one row for each update of the parameters, and one for each epoch.

    `optimizer` is the one whose updates are rows, or a list of them; `loss` is a module, a list or a dict of modules whose
    values are added up. The gradient at the embeddings is that of the sum, in units of the first loss. `model`, if the loss
    calls it inside itself, is the module whose output is the embeddings. `every=n` records each n-th update. `scaler` is
    needed for a scaler that does not call `optimizer.step` itself. `on_nan` says what a number that is not finite does:
    `raise` (RunError before the update; on a GPU up to 32 updates late), `leave-out` (no row) or `record` (a row with None).
    The last two let the optimizer make its update, and `findings` names the first such step.

    Without an optimizer it is called with each `lg.Step` instead. Nothing waits for a GPU in between: numbers are computed
    for 32 updates together. The trained weights are the same to the bit.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer | Sequence[torch.optim.Optimizer] | None = None,
        *,
        loss: nn.Module | Sequence[nn.Module] | Mapping[str, nn.Module] | None = None,
        model: nn.Module | None = None,
        every: int = 1,
        scaler: Any = None,
        on_nan: OnNan = "raise",
    ) -> None:
        if isinstance(every, bool) or not isinstance(every, int) or every < 1:
            raise InputError(f"every must be a whole number of updates from 1, got {every!r}")
        if on_nan not in get_args(OnNan):
            raise InputError(f"unknown on_nan {on_nan!r}{nearest(str(on_nan), get_args(OnNan))}")
        given = [] if optimizer is None else _several(optimizer)
        self.losses: list[str] = []
        """The names of the losses, the first one first."""
        self.epochs: list[Record] = []
        """One row for each call of `epoch`."""
        self._watched = [WatchedOptimizer(unwrapped(one)) for one in given]
        self._steps = StepRecorder()
        self._rows = Rows(self.losses)
        self._recorder = LoopRecorder(
            self._watched, every=every, scaler=scaler, on_update=self._take_update
        )
        self._on_nan = on_nan
        self._modules: list[nn.Module | None] = []
        """Of each loss; None for a function."""
        self._model = model
        self._remove: list[Callable[[], None]] = []
        self._space: Space | None = None
        self._batch: tuple[Tensor, Tensor] | None = None
        """What the first loss was called with last: embeddings and labels."""
        self._at_first: dict[int, Tensor] | None = None
        """Of parameters of losses that are in no optimizer of the probe: what their values were at the first batch."""
        self._told = False
        self._left_out: list[Record] = []
        """Rows that are not finite, with `on_nan="leave-out"`."""
        for watched in self._watched:
            self._watch_steps(watched)
        if model is not None:
            if not isinstance(model, nn.Module):
                raise InputError(f"model must be a torch module, got {type(model).__name__}")
            self._remove.append(after_forward(model, self._model_returned))
        for name, module in _named(loss):
            self._add_loss(module, name)
        if not self._watched and (model is not None or loss is not None):
            raise InputError(
                "the probe needs the optimizer: its updates are the rows, as in lg.Probe(optimizer, loss=criterion)"
            )

    # --- in the training loop

    def embeddings(self, embeddings: Tensor, labels: Any = None) -> Tensor:
        """`embeddings` unchanged, whose gradient will be recorded; `labels` are one integer for each row, if there are any.

        Call it between the model and the loss, once for each micro-batch. Raises InputError for embeddings without a graph,
        for labels that do not fit, and if the last batch never reached the loss, `backward` or `optimizer.step`.
        """
        if torch.compiler.is_compiling():
            result: Tensor = torch.compiler.disable(self._embeddings)(embeddings, labels)
            return result
        return self._embeddings(embeddings, labels)

    def _embeddings(self, embeddings: Tensor, labels: Any) -> Tensor:
        if not self._watched:
            raise InputError(
                "this probe has no optimizer: create it with lg.Probe(optimizer, loss=criterion)"
            )
        if not self.losses:
            raise InputError(
                "the probe knows no loss: create it with lg.Probe(optimizer, loss=criterion), or for a plain function "
                "use criterion = probe.loss(function)"
            )
        if is_recomputed():
            return embeddings
        self._recorder.start_batch()
        if self._at_first is None:
            self._at_first = checksums(self._modules, self._optimizers)
        if self._recorder.is_recording:
            shared = any(_rank_count(module) > 1 for module in self._modules)
            check_embeddings(embeddings, may_be_empty=shared)
            numbers = None if labels is None else check_labels(labels, embeddings)
            self._recorder.take_embeddings(embeddings, numbers)
        return embeddings

    def loss(self, function: Callable[..., Any], name: str | None = None) -> Callable[..., Any]:
        """A plain function as a loss that the probe watches: call the result instead. A module is watched itself."""
        if isinstance(function, nn.Module):
            self._add_loss(function, name)
            return function
        if not callable(function):
            raise InputError(
                f"a loss must be a function or a module, got {type(function).__name__}"
            )
        number = self._add_loss(None, name or getattr(function, "__name__", "loss"))

        @functools.wraps(function)
        def watched(*args: Any, **kwargs: Any) -> Any:
            value = function(*args, **kwargs)
            self._loss_returned(number, (*args, *kwargs.values()), value, None)
            return value

        return watched

    def epoch(self, embeddings: Any, labels: Any) -> Record:
        """The row of an epoch, also kept in `epochs`: geometry and retrieval of these rows, and the updates before it.

        Call it after each epoch with the embeddings of the test side, and before the first one for the row of epoch 0.
        Geometry is that of the rows as they are, retrieval is by cosine similarity. Computed on a CPU.
        """
        from lossgauge.batch import as_batch
        from lossgauge.diagnostics.variance import geometry
        from lossgauge.loop.findings import Space
        from lossgauge.ranking.scores import norms_and_directions
        from lossgauge.study.run.measure import geometry_columns, ranked, retrieval_columns

        rows, numbers = as_batch(embeddings, labels)
        rows, numbers = rows.detach().cpu(), numbers.cpu()
        self._recorder.end()
        space = geometry(rows, numbers)
        _, directions = norms_and_directions(rows)
        self._space = Space(geometry(directions, numbers), rows.shape[1])
        started = self._recorder.step > 0
        row = {
            "epoch": self._recorder.epoch if started else 0,
            "step": self._recorder.step,
            **geometry_columns(space),
            **retrieval_columns(ranked(rows, numbers)),
        }
        self.epochs.append(row)
        self._recorder.epoch += started
        return row

    # --- what was recorded

    @property
    def rows(self) -> list[Record]:
        """One row for each recorded update. Raises InputError, with the reason, if a loop has led to none."""
        if not self._watched:
            return self._steps.rows
        self._recorder.end()
        self._settle()
        rows = self._rows.rated()
        if not any(not row["skipped"] or row["not_finite"] for row in rows) and (
            reason := self._recorder.missing()
        ):
            raise InputError(reason)
        return rows

    @property
    def frame(self) -> Any:
        """`rows` as a data frame of pandas if it is installed, otherwise of polars."""
        import pyarrow as pa

        from lossgauge.results.frames import as_frame, frame_library

        table = pa.Table.from_pylist(self.rows)
        for place, column in enumerate(table.schema):
            if pa.types.is_null(column.type):
                table = table.set_column(place, column.name, table[place].cast(pa.float64()))
        return as_frame(table, frame_library())

    def findings(self) -> list[Finding]:
        """What the rows and the last epoch say about the training and the space, the worst first."""
        from lossgauge.loop.findings import findings

        return findings(
            self.rows,
            losses=self.losses,
            modules=self._modules,
            model=self._model,
            optimizers=self._optimizers,
            at_first=self._at_first or {},
            batch=self._batch,
            space=self._space,
            left_out=self._left_out,
            never_stepped=self._recorder.never_stepped(),
            without_rate=min((watched.update_count for watched in self._watched), default=0)
            if not any(watched.had_rate for watched in self._watched)
            else 0,
            relabelled=self._rows.relabelled,
        )

    def report(self, path: str | Path) -> Path:
        """Write a page with the curves of the rows, the epochs and the findings; its path. Makes missing folders."""
        from lossgauge.loop.page import write_report

        return write_report(self.rows, self.epochs, self.findings(), self.losses, Path(path))

    def log_to(self, tracker: str, folder: str | Path | None = None, name: str = "probe") -> str:
        """Write rows and epochs to `tensorboard`, `wandb` or `mlflow` as one run; where it is, in words.

        `folder` is `lossgauge-probe/<tracker>` in the current folder by default, and is made. Raises MissingExtra if the library is not installed.
        """
        from lossgauge.loop.tracking import log_to

        return log_to(tracker, self.rows, self.epochs, losses=self.losses, folder=folder, name=name)

    def close(self) -> None:
        """Take all hooks away. The rows stay."""
        for remove in self._remove:
            remove()
        self._remove = []

    # --- with lg.Step

    def __call__(self, step: Step) -> None:
        """Record a step of a loop that reports itself: call it after `backward` and before the optimiser's update.

        Raises InputError if the embeddings are not rows of floats.
        """
        if self._watched:
            raise InputError(
                "a probe with an optimizer sees the steps itself; lg.Step is for lg.Probe() without one"
            )
        self._steps(step)

    def finish(self) -> None:
        """With `lg.Step`: compute the ratios to g₀ from fewer than ten steps."""
        self._steps.finish()

    # --- hooks

    @property
    def _optimizers(self) -> list[torch.optim.Optimizer]:
        return [watched.optimizer for watched in self._watched]

    def _watch_steps(self, watched: WatchedOptimizer) -> None:
        def before(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            closure = args[1] if len(args) > 1 else kwargs.get("closure")
            self._recorder.before_step(watched, has_closure=closure is not None)

        def after(*_: Any) -> None:
            self._recorder.after_step(watched)

        optimizer = watched.optimizer
        self._remove.append(optimizer.register_step_pre_hook(before).remove)
        self._remove.append(optimizer.register_step_post_hook(after).remove)

    def _add_loss(self, module: nn.Module | None, name: str | None) -> int:
        number = len(self.losses)
        name = name or _name_of(module)
        if name in self.losses:
            name = f"{name}_{number + 1}"
        self.losses.append(name)
        self._modules.append(module)
        if module is None:
            return number
        of_model = {id(p) for p in self._model.parameters()} if self._model is not None else set()
        own = {id(parameter) for parameter in module.parameters()} - of_model
        for watched in self._watched:
            watched.loss_parameters |= own
        plain = unwrapped_loss(module)
        if isinstance(plain, Loss | Gathered):

            def evaluated(inputs: tuple[Any, ...], evaluation: Evaluation) -> None:
                self._loss_returned(
                    number, inputs, evaluation.value, evaluation, _rank_count(plain)
                )

            self._remove.append(after_evaluation(plain, evaluated))
            return number
        reader = _reader_for(plain)

        def returned(inputs: tuple[Any, ...], output: Any) -> None:
            self._loss_returned(number, inputs, output, reader)

        self._remove.append(after_forward(module, returned))
        return number

    def _loss_returned(
        self,
        number: int,
        inputs: tuple[Any, ...],
        value: Any,
        known: Evaluation | Reader | None,
        gradient_multiple: int = 1,
    ) -> None:
        if not self._recorder.is_recording or is_recomputed():
            return
        value = check_value(value, self.losses[number])
        if not value.requires_grad:
            return  # an evaluation
        evaluation = known if isinstance(known, Evaluation) else None
        if evaluation is None and callable(known):
            with torch.no_grad():
                evaluation = known(inputs, value.detach())
        if evaluation is not None:  # without its graph, which would stay in memory
            evaluation = evaluation._replace(value=evaluation.value.detach())
        if number == 0:
            self._batch = _embeddings_and_labels(inputs)
        self._recorder.take_value(number, inputs, value, evaluation, gradient_multiple)

    def _model_returned(self, inputs: tuple[Any, ...], output: Any) -> None:
        if is_recomputed() or not torch.is_grad_enabled():
            return
        embeddings = output_embeddings(output)
        if embeddings.requires_grad:
            self._embeddings(embeddings, None)

    # --- rows

    def _take_update(self, update: Update) -> None:
        self._rows.add(update)
        on_cpu = all(call.value.device.type == "cpu" for call in update.calls)
        if self._rows.waiting >= TOGETHER or (
            self._on_nan == "raise" and on_cpu and not _all_finite(update)
        ):
            self._settle()

    def _settle(self) -> None:
        for row in self._rows.settle():
            bad = row["not_finite"]
            if bad is None or row["skipped"]:
                continue
            if self._on_nan == "raise":
                raise RunError(
                    f"step {row['step']}: {bad} is not finite; lower the learning rate, or give lg.Probe "
                    "on_nan='record' or 'leave-out' to go on"
                )
            if self._on_nan == "leave-out":
                self._rows.remove(row)
                self._left_out.append(row)
        if self._rows.unclear_scale and not self._told:
            self._told = True
            warnings.warn(
                "the loss is scaled, and the probe does not know by what before the update, so clipped gradients are "
                "None: give lg.Probe(scaler=...) the scaler",
                stacklevel=2,
            )


def _several(values: Any) -> list[Any]:
    return list(values) if isinstance(values, list | tuple) else [values]


def _named(loss: Any) -> Iterable[tuple[str | None, nn.Module]]:
    """The losses with their names; None where the class gives one."""
    if loss is None:
        return []
    pairs = (
        list(loss.items())
        if isinstance(loss, Mapping)
        else [(None, module) for module in _several(loss)]
    )
    for _, module in pairs:
        if not isinstance(module, nn.Module):
            raise InputError(
                f"loss must be a torch module, got {type(module).__name__}; for a plain function use "
                "criterion = probe.loss(function), and call criterion"
            )
    return pairs


def _name_of(module: nn.Module | None) -> str:
    if module is None:
        return "loss"
    plain: Any = unwrapped_loss(module)
    if isinstance(plain, Gathered):
        plain = plain.loss
    kind = type(plain).__name__
    return kind if isinstance(plain, nn.Module) else getattr(plain, "__name__", kind)


def _rank_count(module: nn.Module | None) -> int:
    """The ranks whose rows a loss compares with each other: 1 unless it is a gathered one."""
    plain = None if module is None else unwrapped_loss(module)
    return plain.gradient_multiple if isinstance(plain, Gathered) else 1


def _reader_for(criterion: nn.Module) -> Reader | None:
    """What reads the terms of another library's loss; None for the gradient side only."""
    if find_spec("lossgauge.loop.foreign_terms") is None:
        return None
    reader: Reader | None = import_module("lossgauge.loop.foreign_terms").reader_for(criterion)
    return reader


def _embeddings_and_labels(inputs: tuple[Any, ...]) -> tuple[Tensor, Tensor] | None:
    """The inputs of a loss, if they are embeddings and one integer for each row; None for any others."""
    match inputs:
        case (Tensor() as embeddings, Tensor() as labels) if (
            embeddings.ndim == 2
            and labels.numel() == len(labels) == len(embeddings)
            and not labels.is_floating_point()
        ):
            return embeddings.detach(), labels
    return None


def _all_finite(update: Update) -> bool:
    """Of an update on a CPU, where reading a number costs little."""
    if update.skipped or any(
        of.found_inf is not None and bool(of.found_inf) for of in update.optimizers
    ):
        return True
    return all(math.isfinite(call.value) for call in update.calls) and all(
        # one sum for all: where it overflows, the rows are looked at, and nothing is wrong
        math.isfinite(part.arrival.numbers.sum())
        for part in update.parts
        if part.arrival is not None
    )
