"""`lossgauge head` and `lossgauge embed` as a person meets them, and the same from Python."""

from __future__ import annotations

import numpy as np
import pytest

import lossgauge as lg
from tests.support.command_line import assert_refused, run_cli


@pytest.fixture(autouse=True)
def desk(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_from_a_study_to_embeddings(place, tmp_path):
    done = run_cli("head", place.linear, "--loss", "triplet", "--seed", 1)
    assert done.returncode == 0, done.stderr
    for words in (
        "triplet, seed 1, epoch 3, on embeddings:vectors.npz: 24 features (none (given embeddings)) to 8 numbers",
        "chosen: triplet as asked; seed 1 as asked",
        "measured again, as in its run: R@1",
        "threshold: one class from a cosine of",
        "at most 1 in 1,000 pairs of two classes pass",
        "R@1, principal directions",
        "head: head (head.safetensors, manifest.json)",
    ):
        assert words in done.stdout
    done = run_cli("embed", f"embeddings:{place.vectors}")
    assert done.returncode == 0, done.stderr
    first, note, last = done.stdout.splitlines()
    assert first.startswith("head: head (triplet, seed 1, epoch 3, on embeddings:vectors.npz: 24")
    assert note.startswith("note: the head was trained on embeddings:vectors.npz")
    assert last == "embeddings: embeddings.npz (360 rows of 8 numbers, labels)"
    with np.load("embeddings.npz") as table:
        assert table["embeddings"].shape == (360, 8)
    done = run_cli("embed", f"embeddings:{place.vectors}", "--center", "--out", "c.npz")
    assert done.stdout.splitlines()[-2:] == [
        "embeddings: c.npz (360 rows of 8 numbers, labels, minus the mean of 360 rows)",
        "center later rows with the same mean: --center-of c.npz",
    ]
    done = run_cli("diagnose", "embeddings.npz", "--quiet")
    assert done.returncode == 0, done.stderr
    # R@1 of all rows, both sides: the file is what other commands read
    assert "360 rows of 6 classes, width 8" in done.stdout


def test_the_default_is_the_best_loss_and_it_says_why(place):
    done = run_cli("head", place.mlp, "--out", "mine", "--width", 4)
    assert "triplet is the only loss with all its seeds; seed 0 is its only one" in done.stdout
    assert (
        "two layers with 12 hidden units (8 reduced to their principal directions)" in done.stdout
    )
    assert lg.load_head("mine").embedding_size == 4
    again = run_cli("head", place.mlp, "--out", "mine", "--width", 4).stdout
    assert "head: mine (head.safetensors, manifest.json; replaced an earlier head)" in again


def test_mistakes_are_one_line(place, tmp_path):
    assert_refused(run_cli("head", tmp_path), "does not contain a study")
    assert_refused(run_cli("head", place.linear, "--loss", "tripplet"), "did you mean 'triplet'")
    assert_refused(run_cli("embed", "digits"), "head holds no head", "lossgauge head STUDY_FOLDER")
    assert_refused(run_cli("embed", "digits", "--head", place.head), "needs no backbone")
    assert_refused(
        run_cli("embed", f"embeddings:{place.vectors}", "--head", place.head, "--out", "x.csv"),
        "written as .npz",
    )


def test_a_study_exports_its_head_in_python(place):
    exported = lg.load_study(place.linear).export_head("head", loss="scl")
    head = lg.load_head("head")
    assert head.manifest == exported.head.manifest
    assert str(exported).startswith("scl, seed 0, epoch 3, on embeddings:vectors.npz")
    assert exported.costs.widths[0].width == 8
