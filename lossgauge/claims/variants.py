"""Which rows stand for a loss of the paper: as it is in the plan, tuned, and at each multiple of a setting."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Literal, NamedTuple

from lossgauge.types import Record, Results

SETTINGS = ("margin", "temperature", "scale")
"""The order in which settings of one loss stand; at a common factor the first that a loss has is meant."""


_GAPS = {
    "": "{loss} has no run {kind}",
    "failed": "every run of {loss} {kind} failed",
    "waiting": "no run of {loss} {kind} has finished yet",
}


_ABSENT = {"failed": "no run of {base} came to its end", "waiting": "{base} has not finished yet"}


class LossVariant(NamedTuple):
    """A loss at one of its settings on one dataset."""

    title: str
    kind: Literal["default", "tuned", "sensitivity"]
    setting: str | None
    """What was multiplied; None unless the kind is `sensitivity`."""
    factor: float | None
    by_seed: Mapping[int, Record]
    """Seed → summary row; empty where no such run came to its end."""
    gap: str = ""
    """Why it is empty: `failed` or `waiting`; empty where there is a run."""

    @property
    def runs(self) -> tuple[str, ...]:
        """Names of its runs, where they have any: at two settings they may be the same ones."""
        names = [row.get("run") for _, row in sorted(self.by_seed.items())]
        return tuple(str(name) for name in names) if all(names) else ()


class LossVariants(NamedTuple):
    """What is there of the paper's losses on one dataset."""

    dataset: str
    protocol: str | None
    """How the split was made; None where the rows do not say."""
    by_loss: Mapping[str, tuple[LossVariant, ...]]
    """Plain name → as in the plan, then by setting and factor, then tuned."""
    absent: Mapping[str, str]
    """Plain name → why nothing stands for it, where the study tells more than that it has no such loss."""

    def default(self) -> dict[str, Mapping[int, Record]]:
        """The losses as they are in the plan."""
        return self._of(lambda variant: variant.kind == "default")

    def tuned(self) -> dict[str, Mapping[int, Record]]:
        """The losses with their tuned settings; only those that have any."""
        return self._of(lambda variant: variant.kind == "tuned")

    def at_factor(self, factor: float) -> dict[str, Mapping[int, Record]]:
        """Each loss with its first setting at that multiple; only those that have such a run."""
        return self._of(lambda variant: variant.factor == factor)

    def factors(self) -> list[float]:
        """Every multiple that some loss has a run of, ascending."""
        found = {s.factor for variants in self.by_loss.values() for s in variants if s.by_seed}
        return sorted(factor for factor in found if factor is not None)

    def absent_tuned(self) -> dict[str, str]:
        """Plain name → why there is no tuned run, for every loss."""
        return {
            loss: self._why(loss, lambda variant: variant.kind == "tuned", "tuned")
            for loss in self._names()
        }

    def absent_at(self, factor: float) -> dict[str, str]:
        """Plain name → why there is no run at that multiple, for every loss."""
        return {
            loss: self._why(loss, lambda variant: variant.factor == factor, f"at × {factor:g}")
            for loss in self._names()
        }

    def _of(self, wanted: Callable[[LossVariant], bool]) -> dict[str, Mapping[int, Record]]:
        # the first alone: where a loss failed at its margin, its scale does not stand for it
        return {
            loss: first.by_seed
            for loss in self.by_loss
            if (first := self._first(loss, wanted)) is not None and first.by_seed
        }

    def _first(self, loss: str, wanted: Callable[[LossVariant], bool]) -> LossVariant | None:
        return next((s for s in self.by_loss.get(loss, ()) if wanted(s)), None)

    def _why(self, loss: str, wanted: Callable[[LossVariant], bool], kind: str) -> str:
        first = self._first(loss, wanted)
        return _GAPS[first.gap if first else ""].format(loss=loss, kind=kind)

    def _names(self) -> list[str]:
        return list(dict.fromkeys([*self.by_loss, *self.absent]))


def variant_of(row: Record) -> str:
    """`default`, `tuned` or `sensitivity`; `default` where a row does not say."""
    return str(row.get("variant") or "default")


def base_of(row: Record) -> str:
    """The loss as the plan names it; its own title where a row does not say."""
    return str(row.get("base") or row["loss"])


def loss_variants(results: Results, dataset: str, losses: Iterable[str]) -> LossVariants:
    """What stands for each of `losses`, by plain name or by title in the plan, on a dataset.

    A plan that has `triplet(margin=0.1)` alone has it stand for `triplet`; of two such, and no plain one,
    neither does.
    """
    rows = [
        row
        for row in [*results.summaries, *results.sensitivity]
        if row["dataset"] == dataset and row.get("loss")
    ]
    searches = [{**row, "variant": "tuned"} for row in results.tuned if row.get("error")]
    lost = [
        (gap, row)
        for gap, of_gap in (
            ("failed", [*results.failures, *searches]),
            ("waiting", results.waiting),
        )
        for row in of_gap
        if row.get("dataset") == dataset and row.get("loss") and variant_of(row) != "trial"
    ]
    found, absent = {}, {}
    for loss in dict.fromkeys(losses):
        there = [*rows, *(row for _, row in lost)]
        bases = {base for row in there if loss in (base := base_of(row), _plain(base))}
        if len(bases) > 1 and loss not in bases:
            absent[loss] = f"{loss} is there as {' and as '.join(sorted(bases))}: not clear which"
            continue
        base = loss if loss in bases else next(iter(bases), loss)
        if of_base := _variants_of(
            [row for row in rows if base_of(row) == base],
            [(gap, row) for gap, row in lost if base_of(row) == base],
        ):
            found[loss] = of_base
            default = next((s for s in of_base if s.kind == "default"), None)
            if default is not None and default.gap:
                absent[loss] = _ABSENT[default.gap].format(base=base)
    return LossVariants(dataset, _protocol(results, dataset), found, absent)


def _variants_of(
    rows: Iterable[Record], lost: Iterable[tuple[str, Record]]
) -> tuple[LossVariant, ...]:
    by_key: dict[tuple[str, str, str, float], dict[int, Record]] = {}
    for row in rows:
        by_key.setdefault(_key(row), {})[int(row["seed"])] = row
    gaps: dict[tuple[str, str, str, float], str] = {}
    for gap, row in lost:
        by_key.setdefault(_key(row), {})
        gaps[_key(row)] = gap
    made = [
        _variant(*key, by_seed, "" if by_seed else gaps[key]) for key, by_seed in by_key.items()
    ]
    return tuple(sorted(made, key=_place))


def _key(row: Record) -> tuple[str, str, str, float]:
    factor = row.get("factor")
    number = float(factor) if isinstance(factor, int | float) else 0.0
    return variant_of(row), str(row["loss"]), str(row.get("setting") or ""), number


def _variant(
    variant: str,
    title: str,
    setting: str,
    factor: float,
    by_seed: Mapping[int, Record],
    gap: str,
) -> LossVariant:
    if variant == "sensitivity":
        return LossVariant(title, "sensitivity", setting, factor, by_seed, gap)
    kind: Literal["default", "tuned"] = "tuned" if variant == "tuned" else "default"
    return LossVariant(title, kind, None, None, by_seed, gap)


def _place(variant: LossVariant) -> tuple[object, ...]:
    kinds = ("default", "sensitivity", "tuned")
    setting = variant.setting or ""
    place = SETTINGS.index(setting) if setting in SETTINGS else len(SETTINGS)
    return kinds.index(variant.kind), place, setting, variant.factor or 0.0, variant.title


def _plain(base: str) -> str:
    return base.partition("(")[0]


def _protocol(results: Results, dataset: str) -> str | None:
    rows = [*results.summaries, *results.references]
    said = {str(r["protocol"]) for r in rows if r["dataset"] == dataset and r.get("protocol")}
    return said.pop() if len(said) == 1 else None
