"""Claims of a user, from a study file or from a file of claims, as statements about one study."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from lossgauge.claims.statements import CLAIMS, Claim, Contrast
from lossgauge.errors import PlanError, nearest
from lossgauge.losses.registry import LOSSES
from lossgauge.plan.claim import ClaimPlan, ClaimsFile
from lossgauge.plan.loss import UNTRAINED
from lossgauge.plan.overrides import plain
from lossgauge.plan.problems import in_words
from lossgauge.plan.yaml_file import read_model
from lossgauge.portable import without_folders
from lossgauge.results.columns import COLUMNS
from lossgauge.results.view import StudyView

NONE_OF_PAIRS = "The paper's claims are about classes; none is tested here."
"""Of a study of queries and documents."""


def claims_of(view: StudyView, own: Sequence[ClaimPlan] = ()) -> tuple[Claim, ...]:
    """The paper's claims, then those of the study's file, then `own`; of queries and documents without the paper's.

    Raises PlanError for an own claim about an unknown loss or column, with the nearest name, and for a column that no run of
    the study has.
    """
    of_study = [ClaimPlan.model_validate(claim) for claim in view.plan.get("claims") or ()]
    made = statements([*of_study, *own], _names(view))
    measured = {name for row in view.results.summaries for name in row}
    for claim in made:
        column = claim.contrasts[0].column
        if measured and column not in measured:
            near = nearest(column, sorted(measured & COLUMNS.keys()))
            raise PlanError(f"{claim.key}: no run of this study has the column {column!r}{near}")
    return made if view.of_pairs else (*CLAIMS, *made)


def _names(view: StudyView) -> list[str]:
    """Titles of the losses of the plan, and their names without settings."""
    return [*view.planned_names, *view.planned_names.values()]


def read_claims(source: str | Path | Sequence[Mapping[str, Any]]) -> list[ClaimPlan]:
    """The claims of a YAML file, or of a list of dicts with its keys. Raises PlanError, in one line, for anything else."""
    if isinstance(source, str | Path):
        return list(read_model(Path(source), ClaimsFile).claims)
    try:
        return list(ClaimsFile.model_validate({"claims": plain(source)}).claims)
    except ValidationError as error:
        raise PlanError(in_words(error, "the claims")) from None


def statements(plans: Iterable[ClaimPlan], planned: Iterable[str]) -> tuple[Claim, ...]:
    """Claims that can be tested on a study with the `planned` losses, by title or name; their keys are `own 1`, `own 2`, …

    Raises PlanError for an unknown loss or column, with the nearest name. A loss of this package that the study does not
    have is known: its claims are not tested.
    """
    titles = list(dict.fromkeys(planned))
    return tuple(
        _statement(plan, f"own {number}", titles) for number, plan in enumerate(plans, start=1)
    )


def _statement(plan: ClaimPlan, key: str, titles: Sequence[str]) -> Claim:
    if plan.column not in COLUMNS:
        titled = [name for name, of in COLUMNS.items() if of.title == plan.column]
        near = f" (did you mean {titled[0]!r}?)" if titled else nearest(plan.column, COLUMNS)
        raise PlanError(f"{key} ({plan.claim!r}): unknown column {plan.column!r}{near}")
    left, right = (
        tuple(_loss(loss, plan, key, titles) for loss in group)
        for group in (plan.losses, plan.than)
    )
    contrast = Contrast(left, right, plan.column, plan.direction)
    return Claim(key, plan.claim, (contrast,), protocol=plan.split)


def _loss(name: str, plan: ClaimPlan, key: str, titles: Sequence[str]) -> str:
    """The loss as the study names it: a file may be given with its folders or without."""
    if name in (*titles, *LOSSES, UNTRAINED):
        return name
    same = [title for title in titles if without_folders(title) == without_folders(name)]
    if len(same) == 1:
        return same[0]
    if (
        name.partition("(")[0] in LOSSES
    ):  # of this package, with settings that this study does not have
        return name
    known = dict.fromkeys([*titles, *LOSSES, UNTRAINED])
    raise PlanError(f"{key} ({plan.claim!r}): unknown loss {name!r}{nearest(name, known)}")
