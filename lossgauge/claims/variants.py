"""The runs of each loss, by variant: with the settings of the plan, tuned, and at each multiple of a setting."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Literal, NamedTuple

from lossgauge.results.view import StudyView
from lossgauge.types import Record

SETTINGS = ("margin", "temperature", "scale")
"""The order of the settings of one loss. At a common factor, the first setting that a loss has is multiplied."""


_GAPS = {
    "": "{loss} has no run {kind}",
    "failed": "every run of {loss} {kind} failed or is damaged",
    "waiting": "no run of {loss} {kind} has finished yet",
}
_ABSENT = {
    "failed": "every run of {base} failed or is damaged",
    "waiting": "{base} has not finished yet",
}


class LossVariant(NamedTuple):
    """A loss at one of its settings on one dataset."""

    title: str
    kind: Literal["default", "tuned", "sensitivity"]
    setting: str | None
    """What was multiplied; None unless the kind is `sensitivity`."""
    factor: float | None
    by_seed: Mapping[int, Record]
    """Seed → summary row; empty where no such run has finished."""
    gap: str = ""
    """Why it is empty: `failed` or `waiting`; empty where there is a run."""

    @property
    def runs(self) -> tuple[str, ...]:
        """Names of its runs, where they have any: at two settings they may be the same ones."""
        names = [row.get("run") for _, row in sorted(self.by_seed.items())]
        return tuple(str(name) for name in names) if all(names) else ()


class LossVariants(NamedTuple):
    """What a study has of some losses on one dataset."""

    dataset: str
    protocol: str | None
    """How the split was made; None where the rows do not say."""
    by_loss: Mapping[str, tuple[LossVariant, ...]]
    """Name → as in the plan, then by setting and factor, then tuned."""
    absent: Mapping[str, str]
    """Name → why it has no runs, if the reason is another than that the study has no such loss."""

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
        factors = {v.factor for variants in self.by_loss.values() for v in variants if v.by_seed}
        return sorted(factor for factor in factors if factor is not None)

    def absent_tuned(self) -> dict[str, str]:
        """Name → why there is no tuned run, for every loss."""
        return {
            loss: self._why(loss, lambda variant: variant.kind == "tuned", "with tuned settings")
            for loss in self._names()
        }

    def absent_at(self, factor: float) -> dict[str, str]:
        """Name → why there is no run at that multiple, for every loss."""
        return {
            loss: self._why(loss, lambda variant: variant.factor == factor, f"at × {factor:g}")
            for loss in self._names()
        }

    def _of(self, wanted: Callable[[LossVariant], bool]) -> dict[str, Mapping[int, Record]]:
        # only the first: if a loss failed at its margin, its scale does not replace it
        return {
            loss: first.by_seed
            for loss in self.by_loss
            if (first := self._first(loss, wanted)) is not None and first.by_seed
        }

    def _first(self, loss: str, wanted: Callable[[LossVariant], bool]) -> LossVariant | None:
        return next((v for v in self.by_loss.get(loss, ()) if wanted(v)), None)

    def _why(self, loss: str, wanted: Callable[[LossVariant], bool], kind: str) -> str:
        first = self._first(loss, wanted)
        return _GAPS[first.gap if first else ""].format(loss=loss, kind=kind)

    def _names(self) -> list[str]:
        return list(dict.fromkeys([*self.by_loss, *self.absent]))


def loss_variants(view: StudyView, dataset: str, losses: Iterable[str]) -> LossVariants:
    """What the study has of each of `losses`, by name or by title in the plan, on a dataset.

    If `triplet(margin=0.1)` is the only triplet in the plan, it is used as `triplet`. If there are two, and no plain
    one, neither is used.
    """
    view.check_one_split()
    results = view.results
    rows = [row for row in (*results.summaries, *results.sensitivity) if row["dataset"] == dataset]
    searches = [{**row, "variant": "tuned"} for row in results.tuned if row.get("error")]
    lost = [
        (gap, row)
        for gap, of_gap in (
            ("failed", [*results.failures, *searches]),
            ("waiting", results.waiting),
        )
        for row in of_gap
        if row["dataset"] == dataset and row["variant"] != "trial"
    ]
    planned = {view.planned_loss(row) for row in (*rows, *(row for _, row in lost))}
    by_loss, absent = {}, {}
    for loss in dict.fromkeys(losses):
        bases = {of.base for of in planned if loss in (of.base, of.name)}
        if len(bases) > 1 and loss not in bases:
            absent[loss] = (
                f"the study has {' and '.join(sorted(bases))}: it is not clear which one is meant by {loss}"
            )
            continue
        base = loss if loss in bases else next(iter(bases), loss)
        if variants := _variants_of(
            [row for row in rows if row["base"] == base],
            [(gap, row) for gap, row in lost if row["base"] == base],
        ):
            by_loss[loss] = variants
            default = next((v for v in variants if v.kind == "default"), None)
            if default is not None and default.gap:
                absent[loss] = _ABSENT[default.gap].format(base=base)
    return LossVariants(dataset, _protocol(view, dataset), by_loss, absent)


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
    variants = [
        _variant(*key, by_seed, "" if by_seed else gaps[key]) for key, by_seed in by_key.items()
    ]
    return tuple(sorted(variants, key=_place))


def _key(row: Record) -> tuple[str, str, str, float]:
    """Variant, title, setting and factor."""
    return row["variant"], row["loss"], row.get("setting") or "", row.get("factor") or 0.0


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


def _protocol(view: StudyView, dataset: str) -> str | None:
    rows = [*view.results.summaries, *view.references(dataset)]
    said = {str(r["protocol"]) for r in rows if r["dataset"] == dataset and r.get("protocol")}
    return said.pop() if len(said) == 1 else None
