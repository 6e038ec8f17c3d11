"""Names that hold code, markup or control characters, in each place where a name is shown. Prints its counts."""

import csv
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from lossgauge import cli
from lossgauge.errors import PlanError
from lossgauge.export import export_study
from lossgauge.plan.yaml_file import parse_plan
from lossgauge.report.output import write_page
from lossgauge.results.reader import read_study
from lossgauge.results.view import StudyView
from lossgauge.study.progress_bars import Bars, Lines
from lossgauge.study.runner import run_study
from lossgauge.terminal import one_line, safe
from tests.support.waiting import wait_for

CODE = (
    "<script>alert(1)</script>", "</script><script>alert(1)</script >", "<img src=x onerror=alert(1)>",
    '"><svg onload=alert(1)>', "' onmouseover='alert(1)", "javascript:alert(1)", "<!--", "-->", "]]>",
    "&lt;b&gt;", "&amp;amp;", "<b>bold</b>", "{{7*7}}", "{% raw %}", "{#", "${7*7}", "#{7*7}", "`id`",
    "$(id)", "; rm -rf .", "| cat", "&& id", "%s%n%d", "%(name)s", "{0}", "{task.percentage}",
    "my_[draft]", "[bold red]x[/bold red]", "[/]", "[link=x]y[/link]", ":smile:", "=1+1", "+1", "-1", "@SUM(A1)",
    "=cmd|'calc'!A1", "' OR 1=1 --", "'; DROP TABLE runs; --", "a,b;c", 'a"b', "a'b", "..", ".hidden",
    "CON", "a b  c", "~", "*", "?", "#", "\\", "\\x1b", "null", "true", "1e5", "NaN", "__init__", "a=b", "a: b", "- a",
)  # fmt: skip
UNSEEN = ("a\u202eb", "\u2066a\u2069", "a\u200bb", "\ufeffa", "a\u00adb", "a\u2028b")
CONTROL = (
    "\x1b[2J", "\x1b]0;owned\x07", "\x1b[31mred", "\x9b31m", "a\bb", "a\rb", "a\nb", "a\tb", "\x07", "\x7f", "\x1b(0",
    "\x1bP1$r\x1b\\", "\x1b[?1049h", "a\n::error::b",
)  # fmt: skip
NAMES = (*CODE, *UNSEEN)
ALL = (*NAMES, *CONTROL)

PULL = "def pull(z, y):\n    return -((y[:, None] == y) * (z @ z.T)).mean()\n"
FAILS = "def pull(z, y):\n    raise ValueError({name!r})\n"


def loss_of(name: str) -> str:
    return f"{name}.py:pull"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A study whose losses have these names, every eighth of which fails; and what a log and a terminal showed."""
    place = tmp_path_factory.mktemp("names")
    log, terminal = StringIO(), StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOSSGAUGE_CACHE", str(place / "cache"))
        patch.chdir(place)
        for number, name in enumerate(NAMES):
            path = place / f"{name}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(FAILS.format(name=name) if number % 8 == 7 else PULL)
        plan = {
            "question": " ".join(NAMES),
            "datasets": ["digits"],
            "backbone": "pixels",
            "losses": [{"name": loss_of(name)} for name in NAMES],
            "seeds": 1,
            "epochs": 1,
            "batch_size": 256,
            "learning_rate": 0.001,
            "embedding_size": 4,
        }
        plan = parse_plan(json.dumps(plan))
        with Lines(Console(file=log, width=500)) as lines:
            run_study(plan, place / "study", progress=lines)
        console = Console(file=terminal, width=500, force_terminal=True, color_system=None)
        with Bars(console) as bars:  # those that failed fail again
            run_study(plan, place / "study", progress=bars)
    return place / "study", log.getvalue(), terminal.getvalue()


def unseen(text: str) -> set[str]:
    """Characters that a terminal obeys, but for ends of lines."""
    return {c for c in text if safe(c) != c} - {"\n"}


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, tuple[str, ...]]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, tuple(sorted(name for name, _ in attrs))))

    def handle_data(self, data):
        self.text.append(data)


@pytest.mark.slow
def test_names_are_shown_and_never_obeyed_wherever_they_are(made, tmp_path, capsys, monkeypatch):
    folder, log, terminal = made
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    losses = {loss_of(name) for name in NAMES}
    failing = {loss_of(name) for name in NAMES[7::8]}
    counts: dict[str, int] = {}

    def count(place: str, right: int, of: int) -> None:
        counts[place] = right
        assert right == of, place

    # log lines, and a progress bar
    assert unseen(log) == set()
    shown = [line for line in log.splitlines() if re.match(r"\[\d+/", line)]
    found = [loss for loss in losses if any(one_line(f" {loss} ") in f" {s} " for s in shown)]
    count("log line", len(found), len(NAMES))
    assert unseen(re.sub(r"\x1b\[[\d;?]*[A-Za-z]|\r", "", terminal)) == set()
    count("bar and error", sum(one_line(loss) in terminal for loss in failing), len(failing))

    # folders, JSON and Parquet
    study = json.loads((folder / "study.json").read_text(encoding="utf-8"))
    count("JSON", len(losses & {run["loss"] for run in study["runs"]}), len(NAMES))
    names = [path.name for path in folder.glob("runs/*")]
    count(
        "folder", sum(re.fullmatch(r"[A-Za-z0-9_.+=-]+", n) is not None for n in names), len(names)
    )
    export_study(folder, "parquet", tmp_path / "parquet")
    rows = pq.read_table(tmp_path / "parquet" / "runs.parquet")["loss"].to_pylist()
    count("Parquet", len(set(rows) & (losses - failing)), len(losses - failing))

    # CSV, as it is and for a spreadsheet
    for quoted in (False, True):
        export_study(folder, "csv", tmp_path / "csv", quote_formulas=quoted)
        with (tmp_path / "csv" / "runs.csv").open(newline="", encoding="utf-8") as file:
            cells = {row["loss"] for row in csv.DictReader(file)}
        expected = {
            safe(f"'{loss}" if quoted and loss[0] in "=+-@" else loss) for loss in losses - failing
        }
        count(f"CSV{', quoted' * quoted}", len(cells & expected), len(expected))

    # trackers
    export_study(folder, "tensorboard", tmp_path / "tensorboard")
    events = list((tmp_path / "tensorboard").rglob("events.*"))
    count("TensorBoard", len(events), len(rows))

    # the page: no tag and no attribute that a harmless study's page has not
    results, text = read_study(folder).results, ""
    shown_losses = sorted(losses - failing)
    for start in range(0, len(shown_losses), 12):  # a page compares each loss with each other
        few = {"untrained", *shown_losses[start : start + 12]}
        part = results._replace(
            summaries=[row for row in results.summaries if row["loss"] in few],
            epochs=[row for row in results.epochs if row["loss"] in few],
            failures=results.failures[start : start + 12],
        )
        page = write_page(StudyView(part), tmp_path / "page.html").read_text(encoding="utf-8")
        tags = _Tags()
        tags.feed(page)
        kinds = {tag for tag, _ in tags.found}
        attributes = {name for _, names in tags.found for name in names}
        assert not kinds & {"img", "iframe", "object", "embed", "base"}
        assert not {name for name in attributes if name.startswith("on")}
        text += " ".join(tags.text)
    count("HTML", sum(safe(name) in text for name in NAMES), len(NAMES))

    with capsys.disabled():
        print(f"\n{len(NAMES)} names, {len(failing)} of losses that fail: {counts}")


@pytest.mark.slow
def test_control_characters_are_refused_in_a_plan_and_shown_in_every_message(
    made, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("LOSSGAUGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    refused = 0
    for name in CONTROL:
        base = {
            "datasets": ["digits"],
            "seeds": 1,
            "epochs": 1,
            "batch_size": 8,
            "learning_rate": 1,
        }
        try:
            parse_plan(json.dumps({**base, "losses": [{"name": loss_of(name)}]}))
        except PlanError:
            refused += 1
    said = 0
    for name in ALL:
        for arguments in (
            ("study", name),
            ("study", "demo", "--set", f"losses={name}"),
            ("report", name),
            ("status", name),
            ("export", name),
            ("export", str(made[0]), "--to", name),
            ("check", loss_of(name)),
            ("check", f"{name}.npz"),
            ("features", name),
            ("features", f"folder:{name}"),
            ("cache", "rm", name),
            (f"--{name}",),
        ):
            monkeypatch.setattr(sys, "argv", ["lossgauge", *arguments])
            with pytest.raises(SystemExit) as ended:
                cli.main()
            out, err = capsys.readouterr()
            if ended.value.code in (0, None):
                continue  # `-1` and others may be options, or text of a plan
            assert ended.value.code in (1, 2), arguments
            assert unseen(out + err) == set(), arguments
            assert len(err.splitlines()) <= 1, (arguments, err)
            said += 1
    labels = [name.encode("utf-8", "replace").decode() for name in ALL for _ in range(3)]
    rows = np.random.default_rng(0).normal(size=(len(labels), 8)).astype(np.float32)
    np.savez(tmp_path / "labels.npz", embeddings=rows, labels=np.array(labels))
    monkeypatch.setattr(sys, "argv", ["lossgauge", "check", "labels.npz"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert unseen("".join(capsys.readouterr())) == set()
    with capsys.disabled():
        print(
            f"\n{len(ALL)} names: {said} messages, each one line of characters that are seen; "
            f"{refused} of {len(CONTROL)} with control characters refused in a plan"
        )


SCREEN = """
import json, sys
from pathlib import Path
from rich.console import Console
from lossgauge.cli.program import say
from lossgauge.study.progress_bars import progress_on
names = json.loads(Path(sys.argv[1]).read_text())
say("begin")
for name in names:
    say(f"say {name}|")
with progress_on(Console(stderr=True)) as bars:
    for name in names:
        bars.warning("bar", f"{name}|")
say("end of it")
sys.stdin.read()
"""


@pytest.mark.slow
def test_a_real_terminal_shows_every_name_and_keeps_its_title_and_colours(tmp_path, capsys):
    tmux = shutil.which("tmux")
    if tmux is None:
        pytest.skip("no tmux here: apt-get install tmux")
    (tmp_path / "names.json").write_text(json.dumps(ALL))
    (tmp_path / "screen.py").write_text(SCREEN)
    call = [tmux, "-S", str(tmp_path / "socket"), "-f", "/dev/null"]
    command = f"{sys.executable} {tmp_path / 'screen.py'} {tmp_path / 'names.json'}"
    start = ["new-session", "-d", "-x", "200", "-y", "400", command]
    subprocess.run([*call, "-u", *start], check=True, cwd=Path(__file__).parents[2])
    try:

        def screen() -> str:
            capture = [*call, "capture-pane", "-p", "-e", "-S", "-"]
            return subprocess.run(capture, capture_output=True, text=True).stdout

        wait_for(lambda: "end of it" in screen())
        shown = screen()
        about = subprocess.run(
            [*call, "display-message", "-p", "#{pane_title} #{alternate_on} #{window_bell_flag}"],
            capture_output=True,
            text=True,
        ).stdout
    finally:
        subprocess.run([*call, "kill-server"], check=True)
    lines = set(shown.splitlines())
    said = [name for name in ALL if f"say {safe(name)}|" in lines]
    barred = [name for name in ALL if f"bar: {one_line(name + '|')}" in lines]
    assert "\x1b" not in shown  # -e gives colours, and there are none
    assert "owned" not in about
    assert about.split()[-2:] == ["0", "0"]
    assert (len(said), len(barred)) == (len(ALL), len(ALL))
    with capsys.disabled():
        print(f"\n{len(ALL)} names on a terminal: {len(said)} said, {len(barred)} beside bars")
