"""The tables of docs/claims-measured.md from a finished `lossgauge study claims`.   python -m benchmarks.claims_study FOLDER COMMIT

python -m benchmarks.claims_study FOLDER COMMIT     writes the tables beside this file, then the page
python -m benchmarks.claims_study                   writes the page again, from the tables
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from lossgauge.claims.sensitivity import Movement, movements
from lossgauge.claims.sentences import shares, summary, turning
from lossgauge.claims.statements import CLAIMS
from lossgauge.claims.verdicts import Verdict
from lossgauge.machine import usable_cores
from lossgauge.report.text.not_training import sentences
from lossgauge.report.text.predictors import predictors
from lossgauge.report.text.ranks import ranks
from lossgauge.results.reader import read_study
from lossgauge.results.tables import StudyTables
from lossgauge.results.view import StudyView

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "claims-measured.md"
KEPT = ("runs", "trials", "tuned", "references")
"""Tables of the study that are committed as they are."""
MADE = ("verdicts", "turning", "headlines", "ranks", "predictors", "machine")
"""Tables that the page shows."""


def made(view: StudyView, commit: str) -> dict[str, pa.Table]:
    """What the page shows, as tables of text."""
    moves = [move for dataset in view.datasets for move in movements(view, dataset)]
    return {
        "verdicts": pa.Table.from_pylist([row for move in moves for row in _verdicts(move)]),
        "turning": pa.Table.from_pylist(
            [
                {
                    "claim": move.claim.key,
                    "dataset": move.dataset,
                    "shares": shares(move.combinations),
                    "turning": turning(move.flips),
                }
                for move in moves
            ]
        ),
        "headlines": pa.Table.from_pylist(
            [
                {"dataset": dataset, "headline": ". ".join(sentences(view, dataset)) + "."}
                for dataset in view.datasets
            ]
        ),
        "ranks": pa.Table.from_pylist(_ranks(view)),
        "predictors": pa.Table.from_pylist(_predictors(view)),
        "machine": pa.Table.from_pylist(_machine(view, commit)),
    }


def _machine(view: StudyView, commit: str) -> list[dict[str, str]]:
    environment = {
        **view.environment,
        "date": date.today().strftime("%d %B %Y").lstrip("0"),
        "commit": commit,
        "cores": usable_cores(),
    }
    return [{"key": str(key), "value": str(value)} for key, value in environment.items()]


def _verdicts(move: Movement) -> Iterator[dict[str, object]]:
    settings: list[tuple[str, Verdict]] = [("default", move.default)]
    settings += [("tuned", move.tuned)] if move.tuned else []
    settings += [(f"× {factor:g}", verdict) for factor, verdict in move.at_factors]
    for setting, verdict in settings:
        yield {
            "claim": move.claim.key,
            "words": move.claim.words,
            "dataset": move.dataset,
            "setting": setting,
            "verdict": verdict.status,
            "effect": summary(verdict),
            "reason": verdict.reason,
        }


def _ranks(view: StudyView) -> list[dict[str, str]]:
    return [
        {"by": table.title, "loss": name, **dict(zip(table.datasets, cells, strict=True))}
        for table in ranks(view)
        for name, cells in table.rows
    ]


def _predictors(view: StudyView) -> list[dict[str, object]]:
    return [
        {
            "kind": table.kind,
            "words": table.words,
            "points": ", ".join(f"{count} on {dataset}" for dataset, count in table.points.items()),
            "diagnostic": title,
            "epoch": epoch,
            "mean": cell and cell.mean,
            "shown": f"{cell.text} ({cell.range})" if cell else "—",
        }
        for table in predictors(view)
        for title, cells in table.rows
        for epoch, cell in zip(table.epochs, cells, strict=True)
    ]


def page(tables: dict[str, pa.Table]) -> str:
    """The page, from the tables alone."""
    rows = {name: table.to_pylist() for name, table in tables.items()}
    machine = {row["key"]: row["value"] for row in rows["machine"]}
    return (
        "\n\n".join(
            [
                "# The claims, measured",
                _INTRODUCTION.format(**{key: machine.get(key, "—") for key in _SHOWN}),
                "## Is training worth it?",
                *(f"- **{row['dataset']}**: {row['headline']}" for row in rows["headlines"]),
                "## Claim by claim",
                _VERDICTS_NOTE,
                *_by_claim(rows["verdicts"], rows["turning"]),
                "## Ranks",
                _RANKS_NOTE,
                _table(list(rows["ranks"][0]), [list(row.values()) for row in rows["ranks"]]),
                "## Which diagnostic goes with retrieval?",
                _PREDICTORS_NOTE,
                *_by_kind(rows["predictors"]),
                "## The tables",
                _TABLES_NOTE,
            ]
        )
        + "\n"
    )


_SHOWN = ("date", "commit", "cores", "machine", "torch", "python")
_INTRODUCTION = """\
The verdicts of `lossgauge study claims` on the paper's claims ([what each says](claims.md)), measured on {date} at commit {commit}: {cores} cores, {machine}; torch {torch}, Python {python}.
They are about heads on frozen features of EfficientNet-Lite0, on sets that are not those of the paper."""
_VERDICTS_NOTE = """\
A verdict for each dataset: with the settings of the losses' own papers, tuned, and with the margin (or the temperature) of every loss multiplied. The difference of a
claim with one contrast stands beside it."""
_RANKS_NOTE = """\
1 is the best. "2–4": second, third or fourth, because other losses are not clearly better or worse. All ranks of a dataset hold together with 95 %."""
_PREDICTORS_NOTE = """\
Spearman's rank correlation of a diagnostic on the training side with the final MAP@R, over losses and settings: the mean of the datasets, and in brackets its range if one
dataset is left out."""
_TABLES_NOTE = """\
`benchmarks/claims_study` contains the tables of the study (`runs`, `trials`, `tuned`, `references`) and those of this page, as Parquet files. `python -m benchmarks.claims_study`
writes this page again."""


def _by_claim(verdicts: Sequence[dict[str, str]], turns: Sequence[dict[str, str]]) -> Iterator[str]:
    settings = list(dict.fromkeys(row["setting"] for row in verdicts))
    for claim in CLAIMS:
        of_claim = [row for row in verdicts if row["claim"] == claim.key]
        if not of_claim:
            continue
        yield f"**{claim.key}. {claim.words}**"
        datasets = dict.fromkeys(row["dataset"] for row in of_claim)
        cells = {(row["dataset"], row["setting"]): row for row in of_claim}
        yield _table(
            ["dataset", *settings],
            [
                [dataset, *(_cell(cells.get((dataset, setting))) for setting in settings)]
                for dataset in datasets
            ],
        )
        moved = [
            f"- {row['dataset']}: {row['shares']} pairs of settings; {row['turning'] or 'no pair changes sides'}"
            for row in turns
            if row["claim"] == claim.key and row["shares"] != "none"
        ]
        if moved:
            yield "\n".join(moved)


def _cell(row: dict[str, str] | None) -> str:
    if row is None:
        return "—"
    return f"{row['verdict']} {row['effect']}".strip()


def _by_kind(rows: Sequence[dict[str, str]]) -> Iterator[str]:
    for words in dict.fromkeys(row["words"] for row in rows):
        of_kind = [row for row in rows if row["words"] == words]
        epochs = list(dict.fromkeys(row["epoch"] for row in of_kind))
        yield f"**{words[0].upper()}{words[1:]}** (points: {of_kind[0]['points']})"
        shown = {(row["diagnostic"], row["epoch"]): row["shown"] for row in of_kind}
        diagnostics = dict.fromkeys(row["diagnostic"] for row in of_kind)
        yield _table(
            ["diagnostic", *epochs],
            [[name, *(shown[name, epoch] for epoch in epochs)] for name in diagnostics],
        )


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def read() -> dict[str, pa.Table]:
    return {name: pq.read_table(HERE / f"{name}.parquet") for name in MADE}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("   ")[0])
    parser.add_argument("folder", type=Path, nargs="?", help="of a finished study")
    parser.add_argument("commit", nargs="?", help="that its runs were trained with")
    folder, commit = (getattr(parser.parse_args(), name) for name in ("folder", "commit"))
    if folder is not None and commit is None:
        parser.error("name the commit that the runs were trained with")
    if folder is not None:
        view = read_study(folder).portable()
        study = StudyTables(view)
        tables = {name: pa.concat_tables(study.chunks(name)) for name in KEPT} | made(view, commit)
        for name, table in tables.items():
            pq.write_table(table, HERE / f"{name}.parquet", compression="zstd")
    PAGE.write_text(page(read()), encoding="utf-8")


if __name__ == "__main__":
    main()
