"""What is seen while a study runs: a terminal and a log, with names that hold markup and escapes."""

import io

import pytest
from rich.console import Console

from lossgauge.study.progress import EVENTS, Progress, ProgressGroup
from lossgauge.study.progress_bars import Bars, Lines, Pace, progress_on, show_progress, title
from lossgauge.study.schedule.run_config import RunConfig
from lossgauge.study.schedule.runs import Run
from tests.support.studies import fake_features, small_plan

NAMES = (
    "my_[draft].py:Pull",
    "[bold red]x[/bold red]",
    "[/]",
    "[link=file:///]x",
    ":smile:.py:Pull",
    "\x1b[2J\x1b]0;owned\a",
    "a\u202eb",
    "{task.percentage}",
    "a\nb",
)


def made(name: str, **more: object) -> Run:
    plan = small_plan(datasets="digits", losses="triplet", epochs=3)
    config = RunConfig.trained(plan, fake_features(dataset="digits"), plan.losses[0], 4)
    variant = "trial" if more else "default"
    return Run(config, plan.losses[0], name, name, variant, more)


def watched(kind: type[Bars] | type[Lines], name: str) -> str:
    """All that is written of a study whose loss, dataset and errors have this name."""
    output = io.StringIO()
    console = Console(file=output, force_terminal=kind is Bars, width=300, color_system=None)
    run = made(name)
    with kind(console) as progress:
        progress.features(name, 0, 2)
        progress.features(name, 2, 2)
        progress.left_out(name, f"no {name}")
        progress.warning(name, f"doubtful {name}")
        progress.reused(run)
        progress.study(3)
        progress.start(run)
        progress.epoch(run, 1)
        if isinstance(progress, Bars):
            progress._progress.refresh()
        progress.failed(run, f"Error: {name}")
        progress.start(run)
        progress.end(run, {"recall_at_1": 0.5})
    return output.getvalue()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", [Bars, Lines])
def test_a_name_is_shown_letter_by_letter_and_obeyed_by_nothing(kind, name):
    newline = r"\n" if kind is Bars else " "
    shown = name.translate({0x1B: r"\x1b", 7: r"\x07", 0x202E: r"\u202e", 10: newline})
    text = watched(kind, name)
    assert f"features of {shown}" in text
    assert f"{shown.replace(chr(92) + 'n', ' ')} is left out: no " in text
    assert "owned\a" not in text
    assert "\x1b[2J" not in text
    assert "\u202e" not in text
    if kind is Bars:
        assert f"digits · {shown} · seed 4" in text


def test_lines_count_and_tell_the_time_that_is_left(monkeypatch):
    clock = iter([0.0, 10.0, 20.0])
    monkeypatch.setattr("lossgauge.study.progress_bars.time.monotonic", lambda: next(clock))
    output = io.StringIO()
    lines = Lines(Console(file=output, width=300))
    lines.reused(made("triplet"))
    lines.study(4)
    lines.end(made("triplet"), {"recall_at_1": 0.75})
    lines.failed(made("triplet"), "no\nluck")
    assert output.getvalue().splitlines() == [
        "4 runs, 1 reused",
        "[2/4] digits · triplet · seed 4, R@1 75.0% (10 s, about 20 s left)",
        "[3/4] digits · triplet · seed 4 failed: no luck (20 s, about 10 s left)",
    ]


def test_runs_that_are_reused_later_are_told_before_the_next_one():
    output = io.StringIO()
    lines = Lines(Console(file=output, width=300))
    lines.reused(made("triplet"))
    lines.study(4)
    lines.reused(made("triplet"))
    lines.end(made("triplet"), {})
    lines.end(made("triplet"), {})
    told = [line.partition(" (")[0] for line in output.getvalue().splitlines()]
    run = "digits · triplet · seed 4"
    assert told == ["4 runs, 1 reused", "1 more reused", f"[3/4] {run}", f"[4/4] {run}"]


def test_features_are_told_at_the_end_and_now_and_then(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("lossgauge.study.progress_bars.time.monotonic", lambda: now[0])
    output = io.StringIO()
    lines = Lines(Console(file=output, width=300))
    lines.features("digits", 10, 50)
    for seconds, done in ((4, 20), (7, 30), (1, 40), (8, 50)):
        now[0] += seconds
        lines.features("digits", done, 50)
    assert output.getvalue().splitlines() == [
        "features of digits: 10 of 50 rows, 0 rows/s",
        "features of digits: 30 of 50 rows, 2 rows/s, about 11 s left",
        "features of digits: 50 of 50 rows, 2 rows/s",
    ]


def test_the_rate_counts_what_was_done_since_the_begin(monkeypatch):
    clock = iter([5.0, 5.0, 9.0])
    monkeypatch.setattr("lossgauge.study.progress_bars.time.monotonic", lambda: next(clock))
    pace = Pace(100)
    assert pace.rate(100) == 0.0
    assert pace.rate(120) == 5.0


def test_a_run_is_called_by_its_dataset_loss_and_seed_or_trial():
    assert title(made("triplet")) == "digits · triplet · seed 4"
    assert title(made("triplet", trial=7)) == "digits · triplet · trial 7"


def test_bars_are_for_terminals_and_lines_for_the_rest():
    assert isinstance(progress_on(Console(file=io.StringIO(), force_terminal=True)), Bars)
    assert isinstance(progress_on(Console(file=io.StringIO())), Lines)
    dumb = Console(file=io.StringIO(), force_terminal=True, _environ={"TERM": "dumb"})
    assert isinstance(progress_on(dumb), Lines)


@pytest.mark.parametrize(("widgets", "kind"), [(True, Bars), (False, Lines)])
def test_a_notebook_has_bars_if_it_can_draw_them(monkeypatch, widgets, kind):
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    monkeypatch.setattr(
        "lossgauge.study.progress_bars.find_spec", lambda name: object() if widgets else None
    )
    progress = show_progress()
    assert type(progress) is kind
    if kind is Lines:
        assert not progress._console.is_jupyter


def test_silence_is_silent(capsys):
    with show_progress(quiet=True) as progress:
        run = made("triplet")
        progress.features("digits", 1, 2)
        progress.left_out("digits", "it is not here")
        progress.warning("digits", "small")
        progress.study(1)
        progress.reused(run)
        progress.start(run)
        progress.epoch(run, 1)
        progress.end(run, {})
        progress.failed(run, "no luck")
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", "")


def test_a_group_passes_every_event_to_each_member_in_order():
    seen: list[tuple[str, str, tuple[object, ...]]] = []

    class Keeps(Progress):
        def __init__(self, name: str) -> None:
            for event in EVENTS:
                setattr(self, event, lambda *given, e=event: seen.append((name, e, given)))

    group = ProgressGroup([Keeps("a"), Keeps("b")])
    run = made("triplet")
    group.features("digits", 1, 2)
    group.failed(run, "no luck")
    assert seen == [
        (name, event, given)
        for event, given in (("features", ("digits", 1, 2)), ("failed", (run, "no luck")))
        for name in ("a", "b")
    ]
    assert len(EVENTS) == 10
