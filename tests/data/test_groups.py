"""Groups of rows stay on one side: of a split, and of a validation slice."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lossgauge.data.embeddings import load
from lossgauge.data.folder import load as load_folder
from lossgauge.data.groups import held_rows
from lossgauge.data.splits import choose_split, stratified, validation_slice
from lossgauge.errors import DataError
from tests.data.test_embeddings import KINDS, save
from tests.data.test_folder import listed, pets, write_manifest  # noqa: F401  # a fixture

LABELS = np.repeat([0, 1, 2, 3], 40)
PRODUCTS = np.arange(160) // 4
"""Four images of each product, ten products of each class."""


def assert_apart(groups, *sides):
    for place, one in enumerate(sides):
        for other in sides[:place]:
            assert not set(groups[one]) & set(groups[other])


@pytest.mark.parametrize("seed", range(3))
def test_a_product_is_on_one_side_and_each_class_is_halved(seed):
    train, test = stratified(LABELS, seed, PRODUCTS)
    assert sorted([*train, *test]) == list(range(160))
    assert_apart(PRODUCTS, train, test)
    assert np.bincount(LABELS[train]).tolist() == [20, 20, 20, 20]
    assert stratified(LABELS, seed, PRODUCTS)[0].tolist() == train.tolist()
    assert stratified(LABELS, seed + 1, PRODUCTS)[0].tolist() != train.tolist()


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 6)), min_size=1, max_size=60))
def test_no_group_is_on_both_sides_whatever_the_groups(rows):
    labels, groups = (np.array(column) for column in zip(*rows, strict=True))
    train, test = stratified(labels, 0, groups)
    assert sorted([*train, *test]) == list(range(len(rows)))
    assert_apart(groups, train, test)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=60))
def test_rows_that_are_their_own_groups_are_halved_as_without_groups(labels):
    labels = np.array(labels)
    train, _ = stratified(labels, 0, np.arange(len(labels)))
    sizes = np.unique(labels, return_counts=True)
    held = {label: int((labels[train] == label).sum()) for label in sizes[0]}
    assert held == {label: size // 2 for label, size in zip(*sizes, strict=True)}


def test_cameras_that_see_every_class_are_shared_out():
    generator = np.random.default_rng(0)
    cameras = generator.integers(0, 12, 160)
    held = held_rows(LABELS, cameras, wanted=np.full(4, 20.0), generator=generator)
    assert_apart(cameras, held, ~held)
    assert (abs(np.bincount(LABELS[held]) - 20) <= 6).all()


def test_a_given_split_with_a_group_on_both_sides_is_refused():
    trains = np.arange(160) % 2 == 0
    how = {"split": None, "seed": 0, "source": "x.npz"}
    with pytest.raises(DataError) as caught:
        choose_split(LABELS, trains, groups=PRODUCTS.astype(str), **how)
    assert str(caught.value) == (
        "a group must be on one side of a split, but the given split of x.npz has 2 rows of the group '0' on one side "
        "and 2 on the other (40 groups are on both): use split: stratified, or correct or remove the column group"
    )
    trains = PRODUCTS % 2 == 0
    assert choose_split(LABELS, trains, groups=PRODUCTS, **how).train.tolist() == list(
        np.flatnonzero(trains)
    )


def test_unseen_classes_that_share_a_group_with_seen_ones_are_refused():
    how = {"split": "class-disjoint", "seed": 0, "source": "x.npz"}
    assert choose_split(LABELS, None, groups=PRODUCTS, **how).protocol == "class-disjoint"
    with pytest.raises(
        DataError, match=r"the class-disjoint split of x\.npz has .* use split: strat"
    ):
        choose_split(LABELS, None, groups=np.arange(160) % 7, **how)


@pytest.mark.parametrize("is_disjoint", [False, True])
def test_a_validation_slice_keeps_products_together(is_disjoint):
    labels = np.concatenate([LABELS, LABELS + 4 * is_disjoint])
    groups = np.concatenate([PRODUCTS, PRODUCTS + 40])
    train, test = np.arange(160), np.arange(160, 320)
    rest, held = validation_slice(labels, train, test, share=0.4, groups=groups)
    assert sorted([*rest, *held]) == train.tolist()
    assert_apart(groups, rest, held)
    counts = np.bincount(labels[held], minlength=4)
    assert sorted(counts) == ([0, 0, 40, 40] if is_disjoint else [16, 16, 16, 16])


def test_whole_classes_that_share_a_camera_cannot_be_held_out():
    labels = np.concatenate([LABELS, LABELS + 4])
    cameras = np.tile(np.arange(160) % 2, 2)
    with pytest.raises(
        DataError, match=r"a validation slice of whole classes has .* use selection"
    ):
        validation_slice(labels, np.arange(160), np.arange(160, 320), share=0.4, groups=cameras)


ROWS = np.random.default_rng(0).normal(size=(160, 5)).astype(np.float32)
WORDS = np.array([f"product {number}" for number in PRODUCTS])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("groups", [PRODUCTS, WORDS], ids=["numbers", "text"])
def test_embeddings_have_groups_in_an_array_or_a_column(tmp_path, kind, groups):
    path = save(tmp_path / f"x.{kind}", ROWS, labels=LABELS, group=groups)
    found = load(path)
    assert_apart(groups, found.train.numpy(), found.test.numpy())
    assert found.groups is not None
    assert len(found.groups.unique()) == 40
    assert load(save(tmp_path / f"y.{kind}", ROWS, labels=LABELS)).groups is None


@pytest.mark.parametrize("name", ["manifest.csv", "manifest.parquet"])
def test_images_have_groups_in_a_manifest(pets, name):  # noqa: F811
    rows = [
        {**row, "group": f"g{place % 4 // 2}{row['label']}"}
        for place, row in enumerate(listed(pets))
    ]
    images = load_folder(write_manifest(pets, rows, name))
    assert images.groups.tolist() == [row["group"] for row in rows]
    assert_apart(images.groups, images.train, images.test)
    assert len(images.train) == len(images.test) == 6
    (pets / name).unlink()
    without = load_folder(pets)
    assert without.groups is None
    assert without.digest != images.digest


@pytest.mark.parametrize(
    ("groups", "words"),
    [
        (
            ["a", None] * 80,
            r"every row needs a group, as text or a whole number, got None in .*row 1",
        ),
        ([0.5] * 160, r"every row needs a group, as text or a whole number, got 0\.5 in .*row 0"),
    ],
)
def test_a_missing_group_is_named(tmp_path, groups, words):
    listed_rows = pa.FixedSizeListArray.from_arrays(ROWS.ravel(), 5)
    table = pa.table({"embeddings": listed_rows, "labels": LABELS, "group": groups})
    pq.write_table(table, tmp_path / "x.parquet")
    with pytest.raises(DataError, match=words):
        load(tmp_path / "x.parquet")
    with pytest.raises(DataError, match=r"but group has shape \(159,\)"):
        load(save(tmp_path / "x.npz", ROWS, labels=LABELS, group=PRODUCTS[1:]))
