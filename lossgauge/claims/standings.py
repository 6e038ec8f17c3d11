"""Which rows stand for a loss of the paper: as it is in the plan, tuned, and at each multiple of a setting."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Literal, NamedTuple

from lossgauge.types import Record, Results

SETTINGS = ("margin", "temperature", "scale")
"""The order in which settings of one loss stand; at a common factor the first that a loss has is meant."""


class Standing(NamedTuple):
    """A loss at one of its settings on one dataset."""

    title: str
    kind: Literal["default", "tuned", "sensitivity"]
    setting: str | None
    """What was multiplied; None unless the kind is `sensitivity`."""
    factor: float | None
    by_seed: Mapping[int, Record]
    """Seed → summary row."""


class Standings(NamedTuple):
    """What is there of the paper's losses on one dataset."""

    dataset: str
    protocol: str | None
    """How the split was made; None where the rows do not say."""
    by_loss: Mapping[str, tuple[Standing, ...]]
    """Plain name → as in the plan, then by setting and factor, then tuned."""
    absent: Mapping[str, str]
    """Plain name → why nothing stands for it, where the study tells more than that it has no such loss."""

    def default(self) -> dict[str, Mapping[int, Record]]:
        """The losses as they are in the plan."""
        return self._of(lambda standing: standing.kind == "default")

    def tuned(self) -> dict[str, Mapping[int, Record]]:
        """The losses with their tuned settings; only those that have any."""
        return self._of(lambda standing: standing.kind == "tuned")

    def at_factor(self, factor: float) -> dict[str, Mapping[int, Record]]:
        """Each loss with its first setting at that multiple; only those that have such a run."""
        return self._of(lambda standing: standing.factor == factor)

    def factors(self) -> list[float]:
        """Every multiple that some loss has a run of, ascending."""
        found = {s.factor for standings in self.by_loss.values() for s in standings}
        return sorted(factor for factor in found if factor is not None)

    def _of(self, wanted: Callable[[Standing], bool]) -> dict[str, Mapping[int, Record]]:
        return {
            loss: chosen[0].by_seed
            for loss, standings in self.by_loss.items()
            if (chosen := [standing for standing in standings if wanted(standing)])
        }


def variant_of(row: Record) -> str:
    """`default`, `tuned` or `sensitivity`; `default` where a row does not say."""
    return str(row.get("variant") or "default")


def base_of(row: Record) -> str:
    """The loss as the plan names it; its own title where a row does not say."""
    return str(row.get("base") or row["loss"])


def standings(results: Results, dataset: str, losses: Iterable[str]) -> Standings:
    """What stands for each of `losses`, by plain name or by title in the plan, on a dataset.

    A plan that has `triplet(margin=0.1)` alone has it stand for `triplet`; of two such, and no plain one,
    neither does.
    """
    rows = [
        row
        for row in [*results.summaries, *results.sensitivity]
        if row["dataset"] == dataset and row.get("loss")
    ]
    failed = [row for row in results.failures if row.get("dataset") == dataset and row.get("loss")]
    found, absent = {}, {}
    for loss in dict.fromkeys(losses):
        bases = {base for row in [*rows, *failed] if loss in (base := base_of(row), _plain(base))}
        if len(bases) > 1 and loss not in bases:
            absent[loss] = f"{loss} is there as {' and as '.join(sorted(bases))}: not clear which"
            continue
        base = loss if loss in bases else next(iter(bases), loss)
        if of_base := _standings([row for row in rows if base_of(row) == base]):
            found[loss] = of_base
        if base in {base_of(row) for row in failed} and not _has_default(of_base):
            absent[loss] = f"no run of {base} came to its end"
    return Standings(dataset, _protocol(results, dataset), found, absent)


def _standings(rows: Iterable[Record]) -> tuple[Standing, ...]:
    by_key: dict[tuple[str, str, str, float], dict[int, Record]] = {}
    for row in rows:
        factor = row.get("factor")
        number = float(factor) if isinstance(factor, int | float) else 0.0
        key = (variant_of(row), str(row["loss"]), str(row.get("setting") or ""), number)
        by_key.setdefault(key, {})[int(row["seed"])] = row
    made = [_standing(*key, by_seed) for key, by_seed in by_key.items()]
    return tuple(sorted(made, key=_place))


def _standing(
    variant: str, title: str, setting: str, factor: float, by_seed: Mapping[int, Record]
) -> Standing:
    if variant == "sensitivity":
        return Standing(title, "sensitivity", setting, factor, by_seed)
    return Standing(title, "tuned" if variant == "tuned" else "default", None, None, by_seed)


def _place(standing: Standing) -> tuple[object, ...]:
    kinds = ("default", "sensitivity", "tuned")
    setting = standing.setting or ""
    place = SETTINGS.index(setting) if setting in SETTINGS else len(SETTINGS)
    return kinds.index(standing.kind), place, setting, standing.factor or 0.0, standing.title


def _has_default(found: tuple[Standing, ...]) -> bool:
    return any(standing.kind == "default" for standing in found)


def _plain(base: str) -> str:
    return base.partition("(")[0]


def _protocol(results: Results, dataset: str) -> str | None:
    rows = [*results.summaries, *results.references]
    said = {str(r["protocol"]) for r in rows if r["dataset"] == dataset and r.get("protocol")}
    return said.pop() if len(said) == 1 else None
