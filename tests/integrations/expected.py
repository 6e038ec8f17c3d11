"""What a tracker should hold of a study, read from its folder by the plainest loop there is."""

import math

from lossgauge.files import read_json, read_rows

CLOCK = ("seconds", "step_milliseconds", "probe_milliseconds", "probe_share")
NAMES = ("run", "dataset", "loss", "base", "variant", "seed", "setting", "factor", "epoch")


def tracked(folder):
    """Rows of study.json that are done and no trials."""
    rows = read_json(folder / "study.json")["runs"]
    return [
        row for row in rows if row["variant"] != "trial" and (folder / "runs" / row["run"]).is_dir()
    ]


def is_number(value):
    return not isinstance(value, str | bool | type(None)) and math.isfinite(value)


def group(column):
    if column[:6] == "train_" or column[:5] == "test_":
        return "variance"
    if column in ("r_precision", "map_at_r") or column[:10] == "recall_at_":
        return "retrieval"
    return "greediness"


def epoch_numbers(folder, run):
    """(metric, epoch) → value."""
    found = {}
    for row in read_rows(folder / "runs" / run / "epochs.parquet"):
        for column, value in row.items():
            if column not in (*CLOCK, *NAMES) and is_number(value):
                found[f"{group(column)}/{column}", row["epoch"]] = value
    return found


def summary_numbers(folder, row):
    """What stands under `summary/` and `timing/`."""
    place = folder / "runs" / row["run"]
    summary = read_json(place / "summary.json")
    found = {
        f"summary/{column}": value
        for column, value in {**summary, "epochs_planned": row["epochs_planned"]}.items()
        if column not in CLOCK and is_number(value)
    }
    timing = read_json(place / "timing.json")
    return found | {f"timing/{column}": value for column, value in timing.items()}


def config(folder, run):
    return read_json(folder / "runs" / run / "config.json")
