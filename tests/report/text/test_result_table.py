"""The table that a study ends with, in a terminal of 80 columns."""

from __future__ import annotations

from lossgauge.report.text.result_table import result_lines
from lossgauge.results.view import BASELINE, Loss, StudyView
from tests.support.made_up_study import make_results, no_results


def test_each_dataset_has_its_losses_with_both_measures_and_the_gain():
    view = StudyView(make_results())
    lines = list(result_lines(view))
    assert max(map(len, lines)) <= 80
    start = next(n for n, line in enumerate(lines) if line.startswith("orl-faces"))
    assert lines[start].split() == [
        "orl-faces",
        "R@1",
        "%",
        "MAP@R",
        "%",
        "R@1",
        "gain",
        "MAP@R",
        "gain",
    ]
    names = [line.split()[0] for line in lines[start + 1 : start + 10]]
    assert names == [*(loss.base for loss in view.losses), "untrained", "frozen"]
    triplet = next(line for line in lines[start:] if line.startswith("triplet"))
    over = view.interval("orl-faces", Loss("triplet", "triplet"), "recall_at_1")
    gain = view.difference("orl-faces", Loss("triplet", "triplet"), BASELINE, "map_at_r")
    assert over is not None
    assert gain is not None
    cells = triplet[24:]
    assert cells[:14].split() == [f"{100 * over.mean:.1f}", "±", f"{100 * over.half_width:.1f}"]
    assert cells[42:].split() == [f"{100 * gain.mean:+.1f}", "±", f"{100 * gain.half_width:.1f}"]


def test_a_long_name_is_shortened_and_one_seed_has_no_interval():
    results = make_results(losses=("triplet", "scl"), seeds=(0,), datasets=("d",))
    long = "a/quite_a_long_file_name_of_mine.py:Pull"
    for r in [*results.summaries, *results.epochs]:
        if r["base"] == "scl":
            r["base"] = r["loss"] = long
    lines = list(result_lines(StudyView(results)))
    assert max(map(len, lines)) <= 80
    (own,) = (line for line in lines if "Pull" in line)
    assert own.startswith("quite_a_lon…")
    assert own[23] == " "
    assert not any("±" in line for line in lines[:-2])
    assert lines[-1] == "of gains over new seeds: d"


def test_a_loss_without_a_number_has_a_dash_and_nothing_has_no_table():
    results = make_results(losses=("triplet",), datasets=("d",))
    for r in results.summaries:
        r["map_at_r"] = None
    line = next(li for li in result_lines(StudyView(results)) if li.startswith("triplet"))
    assert line[38:52].strip() == "—"
    assert list(result_lines(StudyView(no_results()))) == []
