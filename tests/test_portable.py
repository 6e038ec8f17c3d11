from pathlib import Path

import pytest

from lossgauge.portable import portable, portable_results
from tests.support.made_up_study import make_results


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/home/ann/pets/cat/1.jpg cannot be read", "1.jpg cannot be read"),
        ("folder:/home/ann/pets: no", "folder:pets: no"),
        ("'/home/ann/my.py:Pull' and (/a/b)", "'my.py:Pull' and (b)"),
        ("no file: '/mnt/my disk, (new)/a b.jpg'", "no file: 'a b.jpg'"),
        ("/home/ann/ holds nothing", "… holds nothing"),
        ("see https://www.cs.toronto.edu/~kriz/cifar.html", None),
        ("hf:facebook/dinov2-small, data/pets/1.jpg, ~/data, ./a/b, 1/2 and a / b / c", None),
        ("in /usr alone", None),
    ],
)
def test_absolute_paths_are_cut_and_nothing_else(text, expected):
    assert portable(text) == (text if expected is None else expected)


def test_a_path_below_a_known_folder_is_cut_there_whatever_is_in_its_name(tmp_path, monkeypatch):
    odd = Path("/mnt/my disk, (new)")
    assert portable(f"{odd}/pets/cat/1.jpg is none", odd) == "pets/cat/1.jpg is none"
    monkeypatch.chdir(tmp_path)
    assert portable(f"{tmp_path}/pets/1.jpg") == "pets/1.jpg"
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert portable("/a/b/c") == "c"


def test_losses_of_two_files_of_one_name_stay_two():
    renamed = {"scl": "/a/own.py:Pull", "ccl": "/b/own.py:Pull", "triplet": "/c/d/other.py:Push"}
    results = make_results(losses=tuple(renamed), seeds=(0,))
    for row in (*results.summaries, *results.epochs):
        row["loss"] = renamed.get(row["loss"], row["loss"])
    found = portable_results(results)
    names = {row["loss"] for row in found.summaries}
    assert names == {"untrained", "/a/own.py:Pull", "/b/own.py:Pull", "other.py:Push"}
    assert len(found.epochs) == len(results.epochs)
    assert found.left_out == [{"dataset": "cars196", "reason": "not found under cars196"}]
