"""The section "Your data": its numbers against loops, its words, and itself in a browser with hostile names."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from lossgauge.report.class_table import ClassRow, RowLabels, rows_of_tables
from lossgauge.report.figures.class_distances import class_distances
from lossgauge.report.page import page
from lossgauge.report.your_data import your_data
from lossgauge.report.your_data_content import LONGEST, classes_shown, plain
from lossgauge.results.examples import (
    DISAGREEMENT,
    HARDEST,
    ORDINARY,
    read_examples,
    table_of,
)
from lossgauge.results.layout import Layout
from lossgauge.results.reader import read_study
from lossgauge.results.writer import Store
from tests.support.browser import HOSTILE, Reader


def queries(generator: np.random.Generator, labels: dict[int, int]) -> pa.Table:
    """Made-up answers of one seed to the queries `labels`."""
    rows = sorted(labels)
    return pa.table(
        {
            "query": pa.array(rows, pa.int32()),
            "label": [labels[row] for row in rows],
            "hit_at_1": generator.random(len(rows)) < 0.5,
            "ap_at_r": generator.random(len(rows)),
            "nearest_wrong": pa.array(
                [
                    int(generator.choice([o for o in labels if labels[o] != labels[r]]))
                    for r in rows
                ],
                pa.int32(),
            ),
        }
    )


def test_class_rows_are_those_of_a_loop_and_the_planted_confusion_comes_first():
    generator = np.random.default_rng(0)
    labels = {row: (3, 8, 20)[min(row % 4, 2)] for row in range(100, 140)}
    tables = [queries(generator, labels) for _ in range(2)]
    # 8 is always taken for 20
    for at, table in enumerate(tables):
        of = table.to_pydict()
        for place, row in enumerate(of["query"]):
            if labels[row] == 8:
                of["hit_at_1"][place], of["nearest_wrong"][place] = False, 103
        tables[at] = pa.table(of)
    assert labels[103] == 20
    single = 150
    every = {**labels, single: 50}
    spreads = [
        [{"label": label, "intra": 0.1 * (seed + 1), "nearest": 3} for label in (3, 8, 20)]
        for seed in range(2)
    ]
    found = rows_of_tables(
        tables, spreads, RowLabels(np.array(list(every)), np.array(list(every.values())))
    )
    assert [row.label for row in found] == [3, 8, 20, 50]
    for row in found[:3]:
        answers = [one for of in tables for one in of.to_pylist() if one["label"] == row.label]
        assert (row.size, len(answers)) == ({3: 10, 8: 10, 20: 20}[row.label], 2 * row.size)
        assert row.recall_at_1 == pytest.approx(np.mean([one["hit_at_1"] for one in answers]))
        assert row.ap_at_r == pytest.approx(np.mean([one["ap_at_r"] for one in answers]))
        assert row.intra == pytest.approx(0.15)
        counts = Counter(every[one["nearest_wrong"]] for one in answers if not one["hit_at_1"])
        expected = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
        assert [(one.label, one.share) for one in row.confused] == [
            (label, pytest.approx(count / len(answers))) for label, count in expected
        ]
    assert found[1].confused == ((20, 1.0),)
    assert (found[3].size, found[3].recall_at_1, found[3].confused) == (1, None, ())


def test_classes_without_a_wrong_query_are_confused_with_none():
    table = pa.table(
        {
            "query": pa.array([0, 1], pa.int32()),
            "label": [5, 5],
            "hit_at_1": [True, True],
            "ap_at_r": [1.0, 1.0],
            "nearest_wrong": pa.array([2, 2], pa.int32()),
        }
    )
    (row, _) = rows_of_tables([table], [], RowLabels(np.array([0, 1, 2]), np.array([5, 5, 6])))
    assert (row.recall_at_1, row.intra, row.confused) == (1.0, None, ())


def test_of_more_than_1000_classes_those_with_the_lowest_ap_are_shown():
    ap = np.random.default_rng(0).permutation(1_500) / 1_500
    rows = [ClassRow(n, 2, 0.5, None if n == 7 else ap[n], None, None, ()) for n in range(1_500)]
    hardest = sorted((n for n in range(1_500) if n != 7), key=lambda n: ap[n])
    assert classes_shown(rows, None) == sorted(hardest[:1_000])
    assert classes_shown(rows[:1_000], None) == list(range(1_000))


def test_a_name_on_the_page_is_cut_and_shows_its_control_characters():
    assert plain("x" * 300) == "x" * (LONGEST - 1) + "…"
    assert plain("a\u202eb\x1b") == r"a\u202eb\x1b"
    assert plain("y" * LONGEST) == "y" * LONGEST


@pytest.fixture
def folder(small_study, tmp_path) -> Path:
    return Path(shutil.copytree(small_study, tmp_path / "study"))


def content_of(html: str) -> list[dict]:
    return [of for block in Reader(html).json if "spaces" in (of := json.loads(block))]


def test_the_page_shows_the_queries_that_were_kept_with_their_rows(small_study):
    view = read_study(small_study)
    examples = view.files.examples("digits")
    html = page(view)
    (content,) = content_of(html)
    assert [space["name"] for space in content["spaces"]] == ["frozen features", "triplet", "ccl"]
    (section,) = your_data(view)
    assert section.chosen in (1, 2)
    assert section.epochs == (0, 1, 2)
    assert "small pictures of your data" in section.facts[0]
    ids = dict(zip(*(examples.rows[name].to_pylist() for name in ("row", "id")), strict=True))
    shown = {
        kind: [content["ids"][card["query"]] for card in content["cards"][kind]]
        for kind in (HARDEST, DISAGREEMENT, ORDINARY)
    }
    for kind, found in shown.items():
        kept = [one["query"] for one in examples.queries.to_pylist() if one["kind"] == kind]
        assert found == [ids[row] for row in kept]
    neighbors = sorted(
        (one for one in examples.neighbors.to_pylist() if one["space"] == 1),
        key=lambda one: one["rank"],
    )
    for card in content["cards"][HARDEST]:
        name = content["ids"][card["query"]]
        expected = [ids[one["row"]] for one in neighbors if ids[one["query"]] == name]
        assert [content["ids"][row] for row in card["nearest"][1]] == expected
    # every row of the map has a class and an id
    rows = content["map"]["rows"]
    assert len(rows) == 600
    assert max(rows) < len(content["ids"]) == len(content["row_classes"])
    distances = class_distances(examples)
    assert np.isnan(distances[:, range(10), range(10)]).all()
    first = examples.cosines.to_pylist()[0]
    one, other = (examples.about.classes.index(first[name]) for name in ("label", "other"))
    assert distances[0, one, other] == distances[0, other, one] == 1 - first["cosine"]


def test_without_examples_the_page_has_the_classes_and_says_what_is_missing(folder):
    shutil.rmtree(folder / "examples")
    view = read_study(folder)
    (section,) = your_data(view)
    assert "were not recorded" in section.facts[0]
    (content,) = content_of(page(view))
    assert "cards" not in content
    assert content["classes"] == [str(digit) for digit in range(10)]
    shutil.rmtree(Layout(folder).run(view.results.summaries[-1]["run"]))
    (section,) = your_data(read_study(folder))
    assert section.facts == (
        "Pictures, map and class distances are added when all runs have ended.",
    )


@pytest.mark.parametrize("name", ["record.json", "thumbnails.json", "positions.parquet"])
def test_damaged_examples_are_named_and_the_rest_is_shown(folder, name):
    path = Layout(folder).examples("digits") / name
    path.write_bytes(path.read_bytes()[:-1] + b" ")
    (section,) = your_data(read_study(folder))
    assert "a file is damaged" in section.facts[0]
    assert section.class_count == 10


def write_hostile(layout: Layout, *, classes: int) -> None:
    """Examples of as many classes, with names that break out, are long, or are written from right to left."""
    examples = read_examples(layout, "digits")
    assert examples is not None
    names = [HOSTILE, "x" * 300, "\u202eevil", "🦜 parrot", "שלום", "a&amp;b <i>"]
    row = examples.rows["row"].to_numpy()
    label = np.arange(len(row)) % classes
    about = examples.about.model_copy(
        update={
            "class_names": {str(n): f"{names[n % 6]}{n}" for n in range(classes)},
            "classes": list(range(min(classes, 40))),
            "class_count": classes,
        }
    )
    tables = {
        "rows": table_of(
            "rows",
            [
                {
                    "row": int(r),
                    "label": int(of),
                    "id": None if name is None else f"{name} {HOSTILE}",
                }
                for r, of, name in zip(row, label, examples.rows["id"].to_pylist(), strict=True)
            ],
        ),
        **{name: getattr(examples, name) for name in ("queries", "neighbors", "positions")},
        "cosines": table_of(
            "cosines",
            [
                {"space": space, "label": one, "other": other, "cosine": 0.5}
                for space in range(3)
                for one in about.classes
                for other in range(one)
            ],
        ),
    }
    thumbnails = {key: of.model_dump() for key, of in examples.thumbnails.items()}
    Store(layout.folder).write_examples(
        "digits",
        records={"record": about.model_dump(), "thumbnails": {"images": thumbnails}},
        tables=tables,
    )


def open_all(tab) -> None:
    tab.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    tab.wait_for_selector("[data-panels='3']")
    tab.wait_for_selector("[data-heat] .heatmaplayer")


@pytest.mark.browser
def test_a_browser_shows_pictures_map_classes_and_distances(small_study, tmp_path, visit):
    path = tmp_path / "page.html"
    path.write_text(page(read_study(small_study)), encoding="utf-8")
    tab = (seen := visit(path, width=1366)).tab
    # nothing is drawn before its part is opened
    assert tab.locator(".data-panel .plot-container").count() == 0
    pictures = tab.locator("[data-cards=hardest] .data-card")
    assert pictures.count() == 8
    check_the_alt_texts(tab)
    open_all(tab)
    check_the_choice_changes_pictures_and_classes(tab)
    check_the_slider_moves_the_rows(tab)
    check_the_search_and_the_pointer(tab)
    check_the_table_sorts_and_filters(tab)
    assert tab.evaluate("document.documentElement.scrollWidth") <= 1366
    assert seen.troubles == []


@pytest.mark.browser
@pytest.mark.slow
def test_hostile_names_and_900_classes_break_nothing(folder, tmp_path, visit):
    write_hostile(Layout(folder), classes=900)
    path = tmp_path / "page.html"
    path.write_text(page(read_study(folder)), encoding="utf-8")
    tab = (seen := visit(path, width=390, scheme="dark")).tab
    open_all(tab)
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390
    assert tab.locator(".data-classes tbody tr").count() == 200
    assert "900 of 900 classes, the first 200 are shown" in tab.locator("[data-count]").inner_text()
    tab.locator("[data-filter]").fill(HOSTILE.lower())
    assert tab.locator(".data-classes tbody tr").count() == 150
    assert HOSTILE in tab.locator(".data-classes tbody th").first.inner_text()
    assert tab.locator("[data-heat] .xtick text").first.text_content().startswith("</script><img")
    assert "\u202e" not in tab.locator("#your-data").inner_text()
    assert tab.locator("img[src='x']").count() == 0
    assert seen.troubles == []


def check_the_alt_texts(tab) -> None:
    card = tab.locator("[data-cards=hardest] .data-card").first
    alts = card.locator("img").evaluate_all("all => all.map((one) => one.alt)")
    assert len(alts) == 6
    first = card.locator(".data-tile").nth(1).get_attribute("class")
    right = "right" if "right" in first else "wrong"
    assert alts[0].startswith("query of class ")
    assert alts[0].endswith(f": {right}")
    assert alts[1].endswith(f": {right}")
    assert all(card.locator(".data-tile small").all_inner_texts())  # each has the name of its class
    assert (
        card.locator(".data-tile.wrong b").all_inner_texts()
        == ["✗"] * card.locator(".data-tile.wrong").count()
    )


TITLES = """[...document.querySelectorAll('[data-cards=hardest] .data-line')].map(
    (line) => [...line.children].map((tile) => tile.firstElementChild.title))"""


def check_the_choice_changes_pictures_and_classes(tab) -> None:
    content = json.loads(tab.locator("script[data-data-set]").text_content())
    for space in (0, 1, 2):
        tab.locator("[data-choice]").select_option(str(space))
        cards = content["cards"]["hardest"]
        expected = [[content["ids"][row] for row in card["nearest"][space]] for card in cards]
        assert tab.evaluate(TITLES) == expected
        shown = tab.locator(".data-classes tbody tr td:nth-child(4)").all_inner_texts()
        expected = sorted(content["spaces"][space]["table"]["ap"])
        assert shown == [f"{100 * value:.1f} %" for value in expected]


def points_of(tab) -> list[float]:
    return tab.evaluate("[...document.querySelectorAll('.data-panel')[1].data[0].x]")


def check_the_slider_moves_the_rows(tab) -> None:
    last = points_of(tab)
    tab.locator("[data-epoch]").evaluate(
        "one => { one.value = 0; one.dispatchEvent(new Event('input')); }"
    )
    assert points_of(tab) != last
    assert tab.locator("output").inner_text() == "0"
    tab.locator("[data-epoch]").evaluate(
        "one => { one.value = one.max; one.dispatchEvent(new Event('input')); }"
    )
    assert points_of(tab) == last


def check_the_search_and_the_pointer(tab) -> None:
    tab.locator("[data-class]").fill("7")
    faint = tab.evaluate(
        "document.querySelectorAll('.data-panel')[1].data[0].marker.opacity.filter((one) => one < 0.5).length"
    )
    assert faint == 540
    tab.locator("[data-class]").fill("")
    tab.locator(".data-panel").nth(1).scroll_into_view_if_needed()
    point = tab.locator(".data-panel").nth(1).locator(".points path").first.bounding_box()
    tab.mouse.move(point["x"] + point["width"] / 2, point["y"] + point["height"] / 2)
    tab.wait_for_function("document.querySelectorAll('.data-panel')[2].data[1].x.length === 1")


def check_the_table_sorts_and_filters(tab) -> None:
    head = tab.locator(".data-classes th[data-column=name]")
    head.locator("button").press("Enter")
    assert head.get_attribute("aria-sort") == "ascending"
    names = tab.locator(".data-classes tbody th")
    assert names.all_inner_texts() == [str(digit) for digit in range(10)]
    head.locator("button").click()
    assert names.all_inner_texts() == [str(digit) for digit in reversed(range(10))]
    tab.locator("[data-filter]").fill("3")
    assert names.all_inner_texts() == ["3"]
    tab.locator("[data-filter]").fill("")
