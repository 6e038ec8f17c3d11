"""The paper's tables and figures as files: the numbers against the study's, and names that are hostile in each format."""

from __future__ import annotations

import math
import shutil
import string
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path

import pandas as pd
import pytest
from markdown_it import MarkdownIt
from pylatexenc.latex2text import (
    LatexNodes2Text,
    MacroTextSpec,
    get_default_latex_context_db,
)
from pylatexenc.latexwalker import LatexWalker

from lossgauge.errors import InputError
from lossgauge.export import export_paper
from lossgauge.report.paper import output
from lossgauge.report.paper.csv import cell, csv_table
from lossgauge.report.paper.figures import curve, curves_figure, tradeoff_figure
from lossgauge.report.paper.latex import escape, latex
from lossgauge.report.paper.markdown import code, markdown
from lossgauge.report.paper.tables import paper_tables, tables_of
from lossgauge.results import reader
from lossgauge.results.view import BASELINE, StudyView
from tests.support.command_line import assert_refused, run_cli
from tests.support.made_up_study import make_results
from tests.support.planted_studies import planted_study
from tests.support.waiting import PATIENCE

HOSTILE = (
    '=HYPERLINK("http:x","y").py:Pull',
    "@a|b`c``d<img src=x onerror=alert(1)>[l](http:x)*_~.py:Pull",
    "\\input{etc}%$^{}#&_~--\"'`.py:Pull",
    "+é日本\U0001f600\u202eabc.py:Pull",
)


@pytest.fixture(scope="module")
def view() -> StudyView:
    return StudyView(make_results(tuned=True))


@pytest.fixture(scope="module")
def hostile() -> StudyView:
    """The made-up study, with four losses of hostile names on a dataset of one."""
    names = dict(zip(("contrastive", "triplet", "n_pair", "scl"), HOSTILE, strict=True))
    made = make_results(("=digits|`$",), tuple(names))
    rows = [
        [{**row, "base": names.get(row["base"], row["base"])} for row in part]
        for part in (made.summaries, made.epochs, made.failures)
    ]
    plan = {**made.plan, "losses": [{"name": name, "settings": {}} for name in HOSTILE]}
    return StudyView(made._replace(summaries=rows[0], epochs=rows[1], failures=rows[2], plan=plan))


def test_csv_opens_in_pandas_with_the_numbers_of_the_study(view, tmp_path):
    for name, columns in tables_of(view).items():
        path = tmp_path / f"{name}.csv"
        path.write_bytes(csv_table(view, name).encode())
        table = pd.read_csv(path).set_index(["dataset", "loss"])
        assert len(table) == len(table.index.unique())
        for dataset in view.datasets:
            for loss in (*view.losses_and_tuned, BASELINE):
                title = f"{loss.base}, tuned" if loss.tuned else loss.base
                if not view.runs(dataset, loss):
                    continue
                row = table.loc[dataset, title]
                assert row["seeds"] == len(view.runs(dataset, loss))
                for column in columns:
                    found = view.interval(dataset, loss, column.name)
                    of_row = row[column.name], row[f"{column.name}_half_width"]
                    wanted = (found.mean, found.half_width) if found else (None, None)
                    for number, expected in zip(of_row, wanted, strict=True):
                        assert number == expected if expected is not None else math.isnan(number)
            frozen = next(
                r for r in view.references(dataset) if r["reference"] == "frozen features"
            )
            if name == "variance":
                assert table.loc[dataset, "frozen features"]["test_intra"] == frozen["intra"]


def test_markdown_and_latex_have_the_cells_of_the_page(view):
    tables = list(paper_tables(view))
    assert [(of.name, of.dataset) for of in tables[:4]] == [
        ("retrieval", "digits"),
        ("variance", "digits"),
        ("greediness", "digits"),
        ("retrieval", "orl-faces"),
    ]
    text = markdown(tables, ["tradeoff.svg"])
    html = MarkdownIt("gfm-like", {"linkify": False}).render(text)
    assert html.count("<table>") == len(tables)
    parsed = pd.read_html(html) if shutil.which("lxml") else None
    assert parsed is None or len(parsed) == len(tables)
    of = view.interval("digits", view.losses[1], "recall_at_1")
    shown = f"{100 * of.mean:.1f}", f"± {100 * of.half_width:.1f}"
    row = next(line for line in text.splitlines() if line.startswith("| `triplet` |"))
    assert all(part in row for part in shown)
    assert "| R@1 (%) | MAP@R (%) |" in text
    assert '<img src="tradeoff.svg"' in html
    in_latex = latex(tables, [("tradeoff.pdf", "Of 95 %")])
    row = next(line for line in in_latex.splitlines() if line.startswith("triplet &"))
    assert shown[0] in row
    assert rf"$\pm$ {shown[1][2:]}" in row
    assert r"\includegraphics[width=\linewidth]{tradeoff.pdf}" in in_latex
    best = [row.name for row in tables[0].table.rows if row.cells and row.cells[0].leads]
    bold = [line.split(" &")[0] for line in _table(in_latex, 0) if r" & \textbf{" in line]
    assert best
    assert bold == [escape(name) for name in best]


def test_settings_stand_once_where_the_name_alone_says_which_loss_it_is():
    scl, two = "scl(learning_rate=0.001, temperature=0.2)", "triplet(margin=0.1)"
    of_study = planted_study({scl: 0.7, two: 0.6, "triplet": 0.5})
    first, *others = paper_tables(of_study)
    assert {row.name for row in first.table.rows} == {"scl", two, "triplet"}
    assert first.settings == (("scl", "learning_rate=0.001, temperature=0.2"),)
    assert not any(of.settings for of in others)
    assert "Settings: `scl`: `learning_rate=0.001, temperature=0.2`." in markdown([first])
    assert r"Settings: scl: learning\_rate=0.001, temperature=0.2.}" in latex([first])


def _table(text: str, number: int) -> list[str]:
    return text.split(r"\begin{table}")[number + 1].splitlines()


def test_no_name_is_markup_in_markdown(hostile):
    html = MarkdownIt("gfm-like", {"linkify": False}).render(markdown(paper_tables(hostile)))
    assert "<img" not in html
    assert "<a " not in html
    assert html.count("<table>") == 3
    for name in ("@a|b`c``d&lt;img src=x onerror=alert(1)&gt;[l](http:x)*_~.py:Pull",):
        assert f"<code>{name}</code>" in html
    assert "\\u202eabc" in html
    for table in html.split("<table>")[1:]:
        head, *rows = table.split("<tr>")[1:]
        assert {row.count("<td") for row in rows} == {head.count("<th")}
    assert code("`") == "`` ` ``"


@pytest.mark.parametrize("name", [string.printable.strip(), *HOSTILE[:3]])
def test_a_name_in_latex_is_printed_as_it_is(name):
    known = get_default_latex_context_db()
    symbols = {"less": "<", "greater": ">", "bar": "|", "quotedbl": '"', "asciicircum": "^"}
    symbols |= {"quotesingle": "'", "asciigrave": "`"}
    macros = [MacroTextSpec(f"text{macro}", of) for macro, of in symbols.items()]
    known.add_context_category("symbols", prepend=True, macros=macros)
    walker = LatexWalker(escape(name), tolerant_parsing=False)
    to_text = LatexNodes2Text(known, strict_latex_spaces=True)
    assert to_text.nodelist_to_text(walker.get_latex_nodes()[0]) == name


def test_latex_has_only_letters_that_every_engine_knows(hostile):
    text = latex(paper_tables(hostile))
    assert all(character.isascii() or character <= "\u017f" for character in text)
    assert "U+65E5U+672CU+1F600" in text
    assert r"\input" not in text
    LatexWalker(text, tolerant_parsing=False).get_latex_nodes()  # braces and environments match


@pytest.mark.slow
def test_latex_compiles(view, hostile, tmp_path):
    if shutil.which("pdflatex") is None:
        pytest.skip("no TeX here")
    for number, of in enumerate((view, hostile)):
        folder = tmp_path / str(number)
        export_paper(of, folder, formats=["latex"], figures=["pdf"])
        (folder / "paper.tex").write_text(
            "\\documentclass{article}\n\\usepackage[T1]{fontenc}\n\\usepackage{booktabs, graphicx}\n"
            "\\begin{document}\n\\input{tables}\n\\end{document}\n"
        )
        command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
        done = subprocess.run(command, cwd=folder, capture_output=True, timeout=PATIENCE)
        assert "{tradeoff-1" in (folder / "tables.tex").read_text()
        assert done.returncode == 0, done.stdout.decode(errors="replace")[-2000:]
        assert (folder / "paper.pdf").stat().st_size > 10_000


def test_no_cell_of_a_csv_is_a_formula(hostile, tmp_path):
    (tmp_path / "t.csv").write_bytes(csv_table(hostile, "retrieval").encode())
    table = pd.read_csv(tmp_path / "t.csv")
    texts = [str(text) for name in ("dataset", "loss", "settings") for text in table[name].dropna()]
    assert not [text for text in texts if text.startswith(("=", "+", "-", "@", "\t", "\r", "＝"))]
    assert "'=digits|`$" in texts
    assert f"'{HOSTILE[0]}" in texts
    assert all("\u202e" not in text for text in texts)
    assert [cell(text) for text in ("a=b", "-1", "\tx", "＠x")] == ["a=b", "'-1", "'\\tx", "'＠x"]


def test_figures_show_the_means_and_intervals_of_the_study(view):
    figure = tradeoff_figure(view, "orl-faces")
    axes = figure.axes[0]
    drawn = {container.get_label(): container for container in axes.containers}
    for loss in view.losses:
        line, _, bars = drawn[loss.base]
        x, y = (view.interval("orl-faces", loss, c) for c in ("compaction_epochs", "test_intra"))
        assert line.get_xydata()[0] == pytest.approx([x.mean, y.mean])
        ends = bars[-1].get_segments()[0]
        assert ends[:, 1] == pytest.approx([y.low, y.high])
    assert len({line[0].get_marker() for line in drawn.values()}) == len(view.losses)
    left, right = axes.get_xlim()
    assert left < min(view.interval("orl-faces", of, "compaction_epochs").low for of in view.losses)
    assert left < right / 2 + 1e-9
    figure = curves_figure(view, "orl-faces")
    intra = figure.axes[0]
    assert intra.get_title("left") == "intra"
    triplet = next(line for line in intra.lines if line.get_label() == "triplet")
    rows = view.epochs("orl-faces", next(of for of in view.losses if of.base == "triplet"))
    for epoch, mean in triplet.get_xydata():
        values = [row["test_intra"] for row in rows if row["epoch"] == epoch]
        assert mean == pytest.approx(sum(values) / len(values))
    scl = next(of for of in view.losses if of.base == "scl")
    assert [epoch for epoch, _ in curve(view, "digits", scl, "recall_at_1")] == list(
        range(0, 31, 2)
    )


def test_tables_are_the_same_each_time_and_show_the_figures_that_are_written(
    hostile, tmp_path, monkeypatch
):
    monkeypatch.setattr(output, "save", lambda figure, path: path.write_text(path.suffix))
    export_paper(hostile, tmp_path / "one", formats=["md", "csv", "latex"], figures=["svg"])
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert names == [
        *("curves-1-digits.svg", "export.json", "greediness.csv", "retrieval.csv"),
        *("tables.md", "tables.tex", "tradeoff-1-digits.svg", "variance.csv"),
    ]
    assert "](tradeoff-1-digits.svg)" in (tmp_path / "one/tables.md").read_text()
    assert "includegraphics" not in (tmp_path / "one/tables.tex").read_text()  # LaTeX reads no SVG
    export_paper(hostile, tmp_path / "two", formats=["csv", "latex"], figures=["pdf"])
    for name in ("greediness.csv", "retrieval.csv", "variance.csv"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert "{tradeoff-1-digits.pdf}" in (tmp_path / "two/tables.tex").read_text()


@pytest.mark.slow
def test_figures_are_the_same_each_time_and_hold_no_markup(hostile, tmp_path):
    for folder in ("one", "two"):
        export_paper(hostile, tmp_path / folder, figures=["svg", "pdf", "png"])
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes(), path.name
    for path in (tmp_path / "one").glob("*.svg"):
        tags = {node.tag.rpartition("}")[2] for node in ET.parse(path).iter()}
        assert not tags & {"script", "foreignObject", "image", "a"}


def test_the_command_writes_a_folder_and_replaces_only_its_own(view, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(reader, "read_study", lambda _: view)
    done = run_cli("report", "study", "--format", "md", "--format", "csv", "--out", "paper")
    assert (done.returncode, done.stdout) == (0, f"written: {tmp_path / 'paper'}\n")
    assert run_cli("report", "study", "--format", "md", "--out", "paper").returncode == 0
    assert sorted(path.name for path in Path("paper").iterdir()) == ["export.json", "tables.md"]
    Path("paper/notes.txt").write_text("mine")
    again = run_cli("report", "study", "--format", "md", "--out", "paper")
    assert_refused(again, "notes.txt", "move the file away")
    assert Path("paper/notes.txt").read_text() == "mine"
    wrong = run_cli("report", "study", "--format", "tex")
    assert_refused(wrong, "unknown format 'tex'", "latex")
    wrong = run_cli("report", "study", "--figures", "jpg")
    assert_refused(wrong, "unknown kind of figure 'jpg'")
    wrong = run_cli("report", "study", "--format", "md", "--claims", "x.yaml")
    assert_refused(wrong, "--claims has no effect")


def test_without_matplotlib_the_error_names_the_install(view, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"pip install 'lossgauge\[figures\]'"):
        export_paper(view, tmp_path / "paper", figures=["pdf"])
    assert not (tmp_path / "paper").exists()
    assert export_paper(view, tmp_path / "paper", formats=["md"]).is_dir()


def test_nothing_to_write_is_an_error(view, tmp_path):
    with pytest.raises(InputError, match="name a format"):
        export_paper(view, tmp_path / "paper")
    with pytest.raises(InputError, match="need a folder to write to"):
        export_paper(view, formats=["md"])
    assert tradeoff_figure(view, "cars196") is None
    assert curves_figure(view, "cars196") is None
