import json
import re

import numpy as np
import pytest

from lossgauge.diagnosis.measure import diagnose
from lossgauge.errors import InputError
from tests.diagnosis.tables import table


def rotated(rows, seed=0):
    turn, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(rows.shape[1],) * 2))
    return rows @ turn


def test_a_rotation_changes_nothing():
    rows, labels = table()
    of = diagnose(rows.astype(float), labels, against=3 * rotated(rows.astype(float))).against
    assert of.recall_at[1].mean == 0
    assert of.recall_at[1].missing == "no query changes"
    assert of.new_neighbors.mean < 0.01
    assert of.cka == pytest.approx(1)
    assert (len(of.got_worse), len(of.got_better), of.classes_worse) == (0, 0, ())
    assert of.thresholds.eer.mean == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("queries", [None, 150])
def test_what_changed_equals_a_loop_over_queries(queries):
    rows, labels = table(noise=0.7)
    other = rows + 0.5 * np.random.default_rng(1).normal(size=rows.shape).astype(np.float32)
    before = diagnose(rows, labels, against=other, queries=queries)
    of, after = before.against, diagnose(other, labels, queries=queries)
    assert of.after.ranked == after.ranked
    hits = {}
    for one in (before, after):
        for row, near in zip(one.search.rows, one.search.neighbors, strict=True):
            hits.setdefault(row, []).append(labels[near[0]] == labels[row])
    worse = {row for row, (was, now) in hits.items() if was and not now}
    assert set(of.got_worse.tolist()) == worse
    assert set(of.got_better.tolist()) == {
        row for row, (was, now) in hits.items() if now and not was
    }
    change = np.mean([float(now) - float(was) for was, now in hits.values()])
    assert of.recall_at[1].mean == pytest.approx(change)
    assert of.recall_at[1].excludes_zero
    assert of.recall_at[1].mean == pytest.approx(
        after.ranked[0].recall_at[1].mean - before.ranked[0].recall_at[1].mean
    )
    fresh = [
        len(set(a) - set(b)) / 10
        for a, b in zip(
            after.search.neighbors.tolist(), before.search.neighbors.tolist(), strict=True
        )
    ]
    assert of.new_neighbors.mean == pytest.approx(np.mean(fresh))
    assert len(of.moved) == np.count_nonzero(fresh)
    assert fresh[np.flatnonzero(before.search.rows == of.moved[0])[0]] == max(fresh)
    for one in of.classes_worse:
        own = [pair for row, pair in hits.items() if labels[row] == one.label]
        assert (one.before, one.after) == tuple(np.mean(own, axis=0))
    assert (of.map_at_r is None) == (queries is not None)
    one, two = (centered_products(z) for z in (rows, other))
    cross = np.linalg.norm(one[0].T @ two[0]) ** 2 / (one[1] * two[1])
    assert of.cka == pytest.approx(cross, rel=1e-6)


def centered_products(rows):
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    unit = unit - unit.mean(axis=0)
    return unit, np.linalg.norm(unit.T @ unit)


def test_tables_of_other_widths_are_compared_and_shown(tmp_path):
    rows, labels = table(noise=0.7)
    np.savez(tmp_path / "a.npz", embeddings=rows, labels=labels)
    np.savez(tmp_path / "b.npz", embeddings=rows[:, :5])
    of = diagnose(tmp_path / "a.npz", against=tmp_path / "b.npz")
    assert of.against.after.ranked
    text = str(of)
    assert f"against {tmp_path / 'b.npz'}:" in text
    assert "paired by query" in text
    assert "got worse" in text
    last = next(line for line in text.splitlines() if line.startswith("  intra "))
    assert re.search(r"  effective rank [\d.]+ → [\d.]+  ", last)
    assert re.search(r"  never found \d+\.\d\s% → \d+\.\d\s%  EER \d+\.\d\s% → \d+\.\d\s%$", last)
    assert (
        json.loads(json.dumps(of.plain, allow_nan=False))["against"]["recall_at"]["1"]["mean"] < 0
    )


def test_without_labels_only_what_moved_is_compared():
    rows, _ = table()
    whole = diagnose(rows, against=rows[:, ::-1].copy())
    of = whole.against
    assert of.recall_at == {}
    assert of.new_neighbors.mean == 0
    assert of.cka == pytest.approx(1)
    assert not len(of.moved)
    assert "0.0\u00a0% of the nearest rows are new; CKA 1.000\n" in str(whole)


def test_other_rows_are_refused(tmp_path):
    rows, labels = table()
    ids = np.arange(200).astype(str)

    def write(name, rows, labels, ids):
        np.savez(tmp_path / name, embeddings=rows, labels=labels, ids=ids)
        return tmp_path / name

    first = write("a.npz", rows, labels, ids)
    with pytest.raises(InputError, match=r"the same rows, got 200 in .* and 199 in"):
        diagnose(first, against=write("b.npz", rows[1:], labels[1:], ids[1:]))
    with pytest.raises(InputError, match=r"row 0 has id 0 and .*row 0 has id 199: sort both alike"):
        diagnose(first, against=write("b.npz", rows, labels, ids[::-1]))
    with pytest.raises(InputError, match=r"has label "):
        diagnose(first, against=write("b.npz", rows, labels[::-1], ids))
    with pytest.raises(InputError, match=r"names of the classes may differ; give both the same"):
        diagnose(first, against=write("b.npz", rows, labels + 1, ids))
    # text of the same classes, numbered in another way
    words = np.array([f"{label:02}x" for label in labels])
    second = write("b.npz", rows, words, ids)
    assert diagnose(second, against=write("c.npz", rows, words, ids)).against.cka == pytest.approx(
        1
    )
