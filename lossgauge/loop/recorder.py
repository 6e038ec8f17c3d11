"""From the hooks of a training loop to updates: which call of a loss, which gradient and which update belong together.

A *part* is one call of `probe.embeddings`, a *call* is one call of a loss, a *pass* is one backward pass, and an update is what
the passes since the last one lead to. Nothing here waits for a GPU, and nothing is put between the embeddings and the loss:
views would change the order in which gradients are added, so the bits of the trained weights.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from lossgauge.errors import InputError
from lossgauge.loop.hooks import is_in_backward, tensors_in
from lossgauge.loop.inputs import as_rows, labels_among
from lossgauge.loop.optimizers import WatchedOptimizer
from lossgauge.loop.parameter_gradients import widest
from lossgauge.loop.records import Arrival, Call, Part, Update
from lossgauge.types import Evaluation

MOST_PARTS = 64
"""Calls of `probe.embeddings` without a call of the loss, or updates skipped in a row, after which it is an error."""

_ON_ONE_THREAD = 2**18
"""Numbers in a gradient up to which one compiled pass on one thread is faster than six operations of torch."""


@dataclass
class _Pass:
    """One backward pass while it runs."""

    task: int
    factors: list[tuple[Call, Tensor]] = field(default_factory=list)
    arrivals: list[tuple[Part, Arrival]] = field(default_factory=list)


class LoopRecorder:
    """Gathers what the hooks see, and gives `on_update` each complete update."""

    def __init__(
        self,
        optimizers: Sequence[WatchedOptimizer],
        *,
        every: int,
        scaler: Any,
        on_update: Callable[[Update], None],
    ) -> None:
        self.optimizers = optimizers
        self.epoch = 1
        self.step = 0
        """Updates so far, and those that were seen to be skipped."""
        self.updated = False
        """Whether an optimiser has been stepped at all."""
        self._every, self._scaler, self._on_update = every, scaler, on_update
        self._recording = True
        self._group: list[Part] = []
        self._calls: list[Call] = []
        self._pass: _Pass | None = None
        self._passes: list[_Pass] = []
        self._stepped: list[WatchedOptimizer] = []
        self._ever_stepped: set[WatchedOptimizer] = set()
        self._in_closure = False
        self._arrived = self._came_through_loss = False
        self._without_parameters = self._called_alone = False
        self._lost: str | None = None
        """Why the last batch gave its update no gradient, while none has ever arrived."""
        self._empty_update: str | None = None
        """The same, where the parameters had no gradient at all: an update by another loss has some."""
        self._skipped_in_a_row = 0

    @property
    def is_recording(self) -> bool:
        """Whether the current update will be a row."""
        return self._recording

    # --- forward

    def start_batch(self) -> None:
        """Before the embeddings of a batch: end what the last batch has begun."""
        if self._stepped and not self._in_closure:
            self._commit()
        if self._arrived or not self._recording:
            return
        if self._calls:
            raise InputError(_NO_GRADIENT if self._without_parameters else _NO_BACKWARD)
        if self._empty_update is not None:
            raise InputError(self._empty_update)

    def take_embeddings(self, embeddings: Tensor, labels: Tensor | None) -> None:
        """Watch the gradient of these embeddings."""
        part = Part(len(embeddings), as_rows(embeddings.detach()), labels)
        if self._calls:  # the loss of the last group has been called, so a new batch begins
            self._group, self._calls = [], []
        self._group.append(part)
        if len(self._group) > MOST_PARTS:
            raise InputError(_NO_LOSS)
        embeddings.register_hook(lambda gradient: self._gradient_arrived(part, gradient))

    def take_value(
        self,
        loss: int,
        inputs: Sequence[Any],
        value: Tensor,
        evaluation: Evaluation | None,
        gradient_multiple: int = 1,
    ) -> None:
        """Watch the gradient of a loss value; it belongs to the embeddings among the inputs, else to the whole batch."""
        if (
            not self._group
        ):  # of another loop, perhaps with another probe; told where the rows are read
            self._called_alone = True
            return
        parts = [part for part in self._group if _is_among(part, inputs)] or list(self._group)
        size = sum(part.size for part in parts)
        if gradient_multiple > 1 and evaluation is not None and evaluation.anchor_value is not None:
            size = len(evaluation.anchor_value)  # the rows of the other ranks, too
        # with several parts, or with other rows, which label belongs to which row is not known
        one = len(parts) == 1 and parts[0].labels is not None and _is_among(parts[0], inputs)
        labels = labels_among(inputs, parts[0].size) if one else None
        if one and labels is parts[0].labels:
            labels = None  # nothing to compare
        call = Call(loss, value.detach(), size, evaluation, gradient_multiple, labels)
        for part in parts:
            part.calls.append(call)
        self._calls.append(call)
        value.register_hook(lambda factor: self._factor_arrived(call, factor))

    # --- backward

    def _factor_arrived(self, call: Call, factor: Tensor) -> None:
        if self._recording:
            self._current_pass().factors.append((call, factor.detach().reshape(())))

    def _gradient_arrived(self, part: Part, gradient: Tensor) -> None:
        if self._recording and part.embeddings is not None:
            with torch.no_grad():
                arrival = arrival_of(as_rows(gradient.detach()), part.embeddings)
            self._current_pass().arrivals.append((part, arrival))

    def _current_pass(self) -> _Pass:
        task = torch._C._current_graph_task_id()
        if self._pass is None or self._pass.task != task:
            self._drop_cleared()
            self._pass = _Pass(task)
            for watched in self.optimizers:
                watched.before_backward()
            # The gradients of parameters are complete when backward ends. DDP and FSDP queue their last work in the
            # same way and perhaps later than this, so ours is queued once more when its turn comes.
            queue = torch.autograd.Variable._execution_engine.queue_callback
            queue(lambda: queue(self._end_pass))
        return self._pass

    def _end_pass(self) -> None:
        done, self._pass = self._pass, None
        if done is None:
            return
        if not any(watched.got_gradients() for watched in self.optimizers):
            self._without_parameters = True  # torch.autograd.grad, for a penalty on a gradient
            return
        self._without_parameters = False
        self._check_connected(done)
        for call, factor in done.factors:
            call.factor = factor if call.factor is None else call.factor + factor
        for part, arrival in done.arrivals:
            part.arrival = arrival if part.arrival is None else _both(part, part.arrival, arrival)
        self._passes.append(done)
        factors = [(call.loss, factor) for call, factor in done.factors]
        for watched in self.optimizers:
            watched.after_backward(factors)

    def _check_connected(self, done: _Pass) -> None:
        """InputError if the first backward pass shows that the embeddings and the loss do not belong together."""
        if done.factors and not done.arrivals and not self._arrived:
            raise InputError(
                "no gradient reached the embeddings: the loss was computed from another tensor, or from a detached one. "
                "Give the loss what probe.embeddings returned"
            )
        if done.arrivals and not done.factors and not self._came_through_loss:
            raise InputError(
                "the gradient of the embeddings did not come through the loss that the probe watches, so its scale is "
                "not known: give lg.Probe(loss=...) the module that is called, or call what probe.loss(function) returned"
            )
        self._arrived = self._arrived or bool(done.arrivals)
        self._came_through_loss = self._came_through_loss or bool(done.factors)

    # --- update

    def before_step(self, watched: WatchedOptimizer, *, has_closure: bool) -> None:
        """Just before an optimiser updates its parameters, or calls its closure."""
        self._in_closure = has_closure
        if not has_closure:
            self._take_step(watched)

    def after_step(self, watched: WatchedOptimizer) -> None:
        """Just after an update: with a closure, the gradients did not exist before."""
        if self._in_closure:
            self._in_closure = False
            self._take_step(watched)

    def _take_step(self, watched: WatchedOptimizer) -> None:
        if watched in self._stepped:  # another optimiser does not take part in each update
            self._commit()
        watched.note_rate()
        if self._recording:
            watched.before_update(self._scaler)
        self._stepped.append(watched)
        self._ever_stepped.add(watched)
        self.updated = True
        if len(self._stepped) == len(self.optimizers):
            self._commit()

    def end(self) -> None:
        """End what the last batch has begun: before the rows are read."""
        if self._stepped and not self._in_closure:
            self._commit()
        self._drop_cleared()

    def _drop_cleared(self) -> None:
        """Gradients that were cleared without an update: a step that a GradScaler has skipped, or the loop itself."""
        if not self._passes or self._stepped:
            return
        cleared = [watched.is_cleared() for watched in self.optimizers if watched.factors]
        if not cleared or not all(cleared):
            return
        if (
            self._in_closure
        ):  # an optimiser that evaluates its closure several times: the last time counts
            self._passes = []
            for watched in self.optimizers:
                watched.take()
            return
        self._skipped_in_a_row += 1
        self._commit(skipped=True)
        if self._skipped_in_a_row > MOST_PARTS and not self.updated:
            raise InputError(_NO_STEP)

    def _commit(self, *, skipped: bool = False) -> None:
        if not skipped:
            self._skipped_in_a_row = 0
            self._check_update()
        self._group, self._calls = (self._group, self._calls) if skipped else ([], [])
        passes, self._passes = self._passes, []
        stepped, self._stepped = self._stepped, []
        taken = [watched.take() for watched in (self.optimizers if skipped else stepped)]
        step = self.step
        self.step += 1
        recorded, self._recording = self._recording, self.step % self._every == 0
        if recorded and passes:
            calls = _unique(call for done in passes for call, _ in done.factors)
            parts = _unique(part for done in passes for part, _ in done.arrivals)
            for part in parts:
                part.let_go()
            self._on_update(Update(step, self.epoch, parts, calls, taken, skipped))

    def _check_update(self) -> None:
        """Whether a batch was followed by an update without any gradient. Once a gradient has arrived, a loop may skip backward.

        Gradients may be those of another loss, or left from before the probe: that is told only where the rows are read.
        """
        if not self._group or self._arrived:
            return
        self._lost = (
            _NO_GRADIENT if self._without_parameters else _NO_BACKWARD if self._calls else _NO_LOSS
        )
        if not any(watched.has_gradients() for watched in self.optimizers):
            self._empty_update = self._lost

    def never_stepped(self) -> list[int]:
        """The places of the optimisers that made no update although another one did."""
        if not self.updated:
            return []
        return [
            place
            for place, watched in enumerate(self.optimizers)
            if watched not in self._ever_stepped
        ]

    def missing(self) -> str | None:
        """What a loop has not done that has led to no row; None if nothing is wrong."""
        if self._without_parameters and not self._arrived:
            return _NO_GRADIENT
        if self._arrived:
            return None if self.updated else _NO_STEP
        if self._lost is not None:
            return self._lost
        if self._calls:
            return _NO_BACKWARD
        if self._group:
            return _NO_LOSS
        return _NO_EMBEDDINGS if self._called_alone else None


_NO_EMBEDDINGS = (
    "the loss was called, but no embeddings were given before: call z = probe.embeddings(z, labels) between the model and "
    "the loss, or give lg.Probe model=, the module whose output the loss uses"
)
_NO_LOSS = (
    "embeddings were given but no call of the loss was seen: call the loss that lg.Probe(loss=...) was given, or what "
    "probe.loss(function) returned"
)
_NO_BACKWARD = "the loss was called but no backward pass through it was seen: call backward() on its value before the next batch"
_NO_GRADIENT = (
    "backward() gave no gradient to a parameter of the optimizer: give lg.Probe the optimizer that updates the model that "
    "made the embeddings"
)
_NO_STEP = (
    "backward() was called but no step of the optimizer was seen: call optimizer.step(), and give lg.Probe the optimizer "
    "that is stepped"
)


def arrival_of(gradient: Tensor, embeddings: Tensor) -> Arrival:
    """The norms of a gradient at embeddings, and of its part across them; in float32 at least.

    A row of zeros has no direction: its whole gradient is across.
    """
    number = torch.promote_types(gradient.dtype, torch.float32)
    at, rows = gradient.to(number), embeddings.to(number)
    on_cpu = at.device.type == "cpu"
    if not on_cpu or at.numel() > _ON_ONE_THREAD:
        numbers = _in_torch(at, rows, added_in=number if on_cpu else widest(at))
        if not on_cpu or all(_SAFE[0] < most < _SAFE[1] for most in numbers[::2].amax(1).tolist()):
            return Arrival(gradient, numbers)
    from lossgauge.kernels.gradient_rows import gradient_rows

    return Arrival(gradient, gradient_rows(at, rows))


_SAFE = (1e-6, 1e18)
"""Largest norms whose squares, and those of much shorter rows, fit into float32; beyond it the kernel adds in float64."""


def _in_torch(
    at: Float[Tensor, "batch width"], rows: Float[Tensor, "batch width"], *, added_in: torch.dtype
) -> Float[Tensor, "3 batch"]:
    lengths = torch.linalg.vector_norm(rows, dim=1, dtype=added_in)
    divisors = lengths.clamp_min(torch.finfo(rows.dtype).tiny)
    along = torch.linalg.vecdot(at, rows).div_(divisors).div_(divisors)
    across = torch.addcmul(at, rows, along[:, None], value=-1)
    norms, tangent_norms = (
        torch.linalg.vector_norm(of, dim=1, dtype=added_in) for of in (at, across)
    )
    return torch.stack((norms, tangent_norms, lengths))


def _both(part: Part, one: Arrival, other: Arrival) -> Arrival:
    """The sum of two gradients, where backward was called for each loss alone."""
    if part.embeddings is None or one.gradient is None or other.gradient is None:
        return other
    with torch.no_grad():
        return arrival_of(one.gradient + other.gradient, part.embeddings)


def is_recomputed() -> bool:
    """Whether a forward call is one of gradient checkpointing inside backward: its first call was seen already."""
    return is_in_backward()


def _is_among(part: Part, inputs: Sequence[Any]) -> bool:
    rows = part.embeddings
    return rows is not None and any(
        tensor.data_ptr() == rows.data_ptr() and len(tensor) == len(rows)
        for tensor in tensors_in(list(inputs))
        if tensor.ndim and tensor.numel() == rows.numel()
    )


def _unique(values: Any) -> list[Any]:
    return list({id(value): value for value in values}.values())
