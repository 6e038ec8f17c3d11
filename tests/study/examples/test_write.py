"""What a study keeps for its page, recomputed from the heads and compared with what was planted in the data."""

from __future__ import annotations

import base64
import shutil
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from lossgauge.data.embeddings import load
from lossgauge.data.features import centered
from lossgauge.diagnostics.references import FROZEN
from lossgauge.errors import DataError
from lossgauge.heads import LinearHead
from lossgauge.plan.yaml_file import parse_plan
from lossgauge.results.examples import DISAGREEMENT, HARDEST, POSITION_UNIT, read_examples
from lossgauge.results.layout import EXAMPLE_FILES, Layout
from lossgauge.results.reader import read_study
from lossgauge.study.examples import write
from lossgauge.study.run.run_log import heads_of
from lossgauge.study.runner import run_study
from lossgauge.study.schedule.code_hash import LOOP, reached
from lossgauge.training import embed
from tests.support.finished import once
from tests.support.studies import Quiet, small_plan, vectors_plan

MISLABELLED, TWINS, SINGLE = 120, (4, 5), 77
"""A row of class 0 that lies in class 1; two classes in one place; a class of one test row."""


def write_planted(path: Path) -> None:
    generator = np.random.default_rng(0)
    labels = np.repeat(np.arange(6), 40)
    places = np.where(labels == TWINS[1], TWINS[0], labels)
    rows = 0.6 * generator.normal(size=(240, 12)) + 4 * np.eye(6, 12)[places]
    split = np.where(np.arange(240) % 2 == 1, "train", "test")
    labels[MISLABELLED], rows[MISLABELLED] = 0, rows[42:80:2].mean(axis=0)
    labels[200], rows[200] = SINGLE, -4 * np.eye(12)[9]
    np.savez(
        path,
        embeddings=rows.astype(np.float32),
        labels=labels,
        split=split,
        ids=[f"item <{row}>" for row in range(240)],
    )


def asked(place: Path, *overrides: str):
    plan = ("losses=triplet,scl", "seeds=2", "epochs=2", *overrides)
    return vectors_plan(place / "planted.npz", *plan)


@pytest.fixture(scope="session")
def made(tmp_path_factory) -> Path:
    """A folder with planted vectors and a finished study of them. To be read only."""

    def make(place: Path) -> None:
        write_planted(place / "planted.npz")
        assert run_study(asked(place), place / "study", progress=Quiet()).failed == 0

    return once(tmp_path_factory, "examples", make)


@pytest.fixture(scope="module")
def view(made):
    return read_study(made / "study")


@pytest.fixture(scope="module")
def examples(view):
    return view.files.examples("embeddings:planted.npz")


@pytest.fixture(scope="module")
def spaces(made, view, examples) -> dict[tuple[int, int], np.ndarray]:
    """(space, epoch) → unit vectors of the whole dataset, from the files of heads."""
    features = centered(load(made / "planted.npz"))
    every = torch.arange(len(features.features))
    found = {(0, 0): features.features.double()}
    layout = Layout(made / "study")
    for number, space in enumerate(examples.about.spaces):
        if space.run is not None:
            for epoch, state in heads_of(load_file(layout.heads(space.run))).items():
                head = LinearHead(12, 8)
                head.load_state_dict(state)
                found[number, epoch] = embed(head, features.features, every).double()
    return {key: (of / of.norm(dim=1, keepdim=True)).numpy() for key, of in found.items()}


def labels_of(examples) -> dict[int, int]:
    return dict(zip(*(examples.rows[name].to_pylist() for name in ("row", "label")), strict=True))


def test_the_planted_row_is_the_hardest_query_and_ids_are_those_of_the_file(examples):
    hardest = [one for one in examples.queries.to_pylist() if one["kind"] == HARDEST]
    assert hardest[0]["query"] == MISLABELLED
    ids = dict(zip(*(examples.rows[name].to_pylist() for name in ("row", "id")), strict=True))
    assert ids[MISLABELLED] == f"item <{MISLABELLED}>"
    assert labels_of(examples)[200] == SINGLE
    assert examples.about.images == "absent"
    assert dict(examples.thumbnails) == {}
    assert [space.name for space in examples.about.spaces] == [FROZEN, "triplet", "scl"]


def test_neighbors_are_those_of_a_loop_over_the_selected_head(examples, spaces):
    labels = labels_of(examples)
    test = sorted(labels)
    shown = {(one["space"], one["query"]): [] for one in examples.neighbors.to_pylist()}
    for one in examples.neighbors.to_pylist():
        shown[one["space"], one["query"]].append(one)
    for (space, query), neighbors in shown.items():
        rows = spaces[space, 0 if space == 0 else 2]
        order = sorted((-(rows[query] @ rows[other]), other) for other in test if other != query)
        assert [one["row"] for one in neighbors] == [other for _, other in order[:5]]
        assert [one["rank"] for one in neighbors] == [1, 2, 3, 4, 5]
        for one, (similarity, other) in zip(neighbors, order, strict=False):
            assert one["is_right"] == (labels[other] == labels[query])
            assert one["similarity"] == pytest.approx(-similarity, abs=1e-6)


def test_each_query_has_the_spaces_that_the_page_shows(examples, view):
    found = {(one["space"], one["query"]) for one in examples.neighbors.to_pylist()}
    for one in examples.queries.to_pylist():
        pair = one["kind"] == DISAGREEMENT
        of = {one["right"], one["wrong"]} if pair else {0, 1, 2}
        assert {(space, one["query"]) for space in of} <= found
        if pair:
            tables = [
                view.files.queries(examples.about.spaces[s].run)
                for s in (one["right"], one["wrong"])
            ]
            hits = [
                dict(zip(t["query"].to_pylist(), t["hit_at_1"].to_pylist(), strict=True))
                for t in tables
            ]
            assert [of_run[one["query"]] for of_run in hits] == [True, False]


def test_the_map_keeps_the_distances_of_a_plane_of_largest_variance(examples, spaces):
    table = examples.positions.to_pylist()
    test = sorted(labels_of(examples))
    for number, space in enumerate(examples.about.spaces):
        assert space.epochs == ([0] if number == 0 else [0, 1, 2])
        pooled = np.concatenate([spaces[number, epoch][test] for epoch in space.epochs])
        centered_rows = pooled - pooled.mean(axis=0)
        _, _, right = np.linalg.svd(centered_rows, full_matrices=False)
        flat = (centered_rows @ right[:2].T).reshape(len(space.epochs), len(test), 2)
        for at, epoch in enumerate(space.epochs):
            rows = [one for one in table if (one["space"], one["epoch"]) == (number, epoch)]
            assert [one["row"] for one in rows] == test
            shown = np.array([[one["x"], one["y"]] for one in rows]) / POSITION_UNIT
            for one in (3, 50):
                expected = np.linalg.norm(flat[at] - flat[at, one], axis=1)
                found = np.linalg.norm(shown - shown[one], axis=1)
                np.testing.assert_allclose(found, expected, atol=2 / POSITION_UNIT)
            share = flat[at].var(axis=0).sum() / spaces[number, epoch][test].var(axis=0).sum()
            assert space.shares[at] == pytest.approx(share, abs=1e-6)


def test_cosines_of_class_means_are_those_of_a_loop_and_the_twins_are_side_by_side(
    examples, spaces
):
    labels = labels_of(examples)
    about = examples.about
    assert (sorted(about.classes), about.class_count) == ([0, 1, 2, 3, 4, 5, SINGLE], 7)
    places = [about.classes.index(label) for label in TWINS]
    assert abs(places[0] - places[1]) == 1
    assert examples.cosines.num_rows == 3 * 7 * 6 // 2
    for one in examples.cosines.to_pylist():
        rows = spaces[one["space"], 0 if one["space"] == 0 else 2]
        means = [
            sum(rows[row] for row, label in labels.items() if label == of)
            for of in (one["label"], one["other"])
        ]
        cosine = means[0] @ means[1] / np.sqrt((means[0] @ means[0]) * (means[1] @ means[1]))
        assert one["cosine"] == pytest.approx(cosine, abs=1e-6)


def files_of(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.iterdir()}


def test_the_same_command_keeps_examples_repairs_damaged_ones_and_writes_missing_ones(
    made, tmp_path
):
    study = Path(shutil.copytree(made / "study", tmp_path / "study"))
    folder = Layout(study).examples("embeddings:planted.npz")
    first = files_of(folder)
    assert set(first) == {*EXAMPLE_FILES, "manifest.json"}
    assert run_study(asked(made), study, progress=Quiet()).done == 0
    assert files_of(folder) == first
    content = {name: of for name, (_, of) in first.items()}
    (folder / "neighbors.parquet").write_bytes(b"damaged")
    shutil.copytree(folder, tmp_path / "damaged")
    run_study(asked(made), study, progress=Quiet())
    assert {name: of for name, (_, of) in files_of(folder).items()} == content
    shutil.rmtree(study / "examples")  # as a study of an earlier version
    assert run_study(asked(made), study, progress=Quiet()).done == 0
    assert {name: of for name, (_, of) in files_of(folder).items()} == content


def test_a_problem_with_the_examples_is_a_warning_and_costs_no_run(made, tmp_path):
    study = Path(shutil.copytree(made / "study", tmp_path / "study"))
    shutil.rmtree(study / "examples")
    (study / "examples").write_text("a file where a folder belongs")
    watcher = Quiet()
    result = run_study(asked(made), study, progress=watcher)
    assert (result.reused, result.failed) == (6, 0)
    assert "will show no rows of the data" in watcher.warnings["study"]


def picture_of(examples, row: int) -> np.ndarray:
    data = base64.b64decode(examples.thumbnails[str(row)].data)
    return np.asarray(Image.open(BytesIO(data)))


def test_images_none_leaves_the_pictures_of_a_finished_study_out(finished_small_study, monkeypatch):
    monkeypatch.setenv("LOSSGAUGE_CACHE", str(finished_small_study.parent / "cache"))
    layout = Layout(finished_small_study)
    examples = read_examples(layout, "digits")
    assert examples is not None
    assert examples.about.images == "thumbnails"
    shown = {*examples.queries["query"].to_pylist(), *examples.neighbors["row"].to_pylist()}
    assert set(examples.thumbnails) == {str(row) for row in shown}
    assert examples.about.class_names == {str(digit): str(digit) for digit in range(10)}
    run_study(small_plan(images="none"), finished_small_study, progress=Quiet())
    without = read_examples(layout, "digits")
    assert without is not None
    assert (without.about.images, dict(without.thumbnails)) == ("none", {})
    assert without.neighbors == examples.neighbors


FOLDER = """
datasets: ["folder:{folder}"]
backbone: pixels
losses: [triplet]
seeds: 1
epochs: 1
batch_size: 8
learning_rate: 0.01
embedding_size: 4
"""


def test_pictures_are_those_of_their_rows_beside_a_corrupt_image_and_one_that_fails_later(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("LOSSGAUGE_CACHE", str(tmp_path / "cache"))
    generator = np.random.default_rng(0)
    pixels = {}
    for name in ("ant", "bee"):
        (tmp_path / "set" / name).mkdir(parents=True)
        for number in range(8):
            of = generator.integers(0, 256, (8, 8), dtype=np.uint8)
            Image.fromarray(of).save(tmp_path / "set" / name / f"{number}.png")
            pixels[f"{name}/{number}.png"] = of
    (tmp_path / "set" / "ant" / "3.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    draw = write.thumbnail

    def fails_once(image: Image.Image):
        if np.array_equal(np.asarray(image), pixels["bee/5.png"]):
            raise DataError(f"{tmp_path}/set/bee/5.png is not a readable image (planted)")
        return draw(image)

    monkeypatch.setattr(write, "thumbnail", fails_once)
    watcher = Quiet()
    plan = parse_plan(FOLDER.format(folder=tmp_path / "set"))
    assert run_study(plan, tmp_path / "study", progress=watcher).failed == 0
    examples = read_examples(Layout(tmp_path / "study"), "folder:set")
    assert examples is not None
    rows = examples.rows.to_pylist()
    shown = {one["id"]: one["row"] for one in rows if str(one["row"]) in examples.thumbnails}
    assert "ant/3.png" not in {one["id"] for one in rows}
    for name, row in shown.items():
        assert np.array_equal(picture_of(examples, row), pixels[name])
    assert [one.id for one in examples.about.left_out] == ["bee/5.png"]
    assert str(tmp_path) not in examples.about.left_out[0].reason
    assert "bee/5.png has no picture on the page" in watcher.warnings["folder:set"]


def test_what_a_page_shows_is_no_part_of_the_code_that_decides_a_run():
    assert not [file for file in reached({LOOP}) if "examples" in file]
