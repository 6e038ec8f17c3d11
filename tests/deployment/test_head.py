"""An exported head against its run, against a loop, and against files that were changed."""

from __future__ import annotations

import json
import math
import shutil

import numpy as np
import pytest
import torch

import lossgauge as lg
from lossgauge.deployment.export import export_head, notes_of, notes_on
from lossgauge.deployment.head import CENTER, WEIGHTS, load_head, write_head
from lossgauge.errors import CacheError, DataError, InputError, StudyError
from lossgauge.files import write_json
from lossgauge.results.layout import Layout
from lossgauge.results.reader import read_head, read_run, read_study
from lossgauge.results.writer import Store
from tests.deployment.conftest import Place


def by_hand(head, row: np.ndarray) -> list[float]:
    """The embedding of one row, number by number, from the tensors on disk."""
    layers = [(layer.weight.double(), layer.bias.double()) for layer in head.layers.values()]
    values = [float(x) - float(c) for x, c in zip(row, head.center.double(), strict=True)]
    for number, (weight, bias) in enumerate(layers):
        values = [
            sum(w * v for w, v in zip(line.tolist(), values, strict=True)) + b
            for line, b in zip(weight, bias.tolist(), strict=True)
        ]
        if number < len(layers) - 1:
            values = [max(0.0, value) for value in values]
    length = math.sqrt(sum(value**2 for value in values))
    return [value / length for value in values]


def rows_of(place: Place) -> torch.Tensor:
    with np.load(place.vectors) as arrays:
        return torch.from_numpy(arrays["embeddings"])


def test_embeddings_are_those_of_a_loop(place, exported):
    rows = rows_of(place)
    for head in (lg.load_head(place.head), exported.head):
        embeddings = head(rows)
        assert embeddings.dtype == torch.float32
        for row in (0, 7, 311):
            assert embeddings[row].tolist() == pytest.approx(by_hand(head, rows[row]), abs=1e-6)


@pytest.mark.parametrize("study", ["linear", "mlp"])
def test_embeddings_have_the_similarities_that_the_run_measured(study, place, tmp_path):
    folder = getattr(place, study)
    exported = export_head(folder, tmp_path / "head", loss="triplet", seed=0)
    view = read_study(folder)
    queries = view.queries(exported.head.manifest.trained.run)
    embeddings = lg.load_head(tmp_path / "head")(rows_of(place)).double()
    for kind in ("right", "wrong"):
        query, other = (queries[name].to_pylist() for name in ("query", f"nearest_{kind}"))
        now = (embeddings[query] * embeddings[other]).sum(dim=1)
        then = queries[f"nearest_{kind}_similarity"].to_numpy()
        assert np.abs(now.numpy() - then).max() < 1e-6
    row = next(r for r in view.results.summaries if r["run"] == exported.head.manifest.trained.run)
    assert exported.head.manifest.measured.map_at_r == pytest.approx(row["map_at_r"], abs=1e-12)
    assert exported.head.manifest.trained.epoch == row["selected_epoch"]


def test_the_center_is_that_of_the_study_only_where_it_centers(place, exported):
    rows = rows_of(place)
    trains = rows[0::2].double().mean(dim=0).float()
    assert torch.equal(load_head(place.head).center, trains)
    assert load_head(place.head).manifest.head.centered
    assert not exported.head.center.any()
    assert not exported.head.manifest.head.centered


def test_what_is_loaded_is_what_was_written(place, tmp_path):
    first = load_head(place.head)
    tensors = {
        CENTER: first.center,
        **read_head(Layout(place.linear), first.manifest.trained.run),
    }
    second = write_head(tmp_path / "again", first.manifest, tensors)
    assert second.manifest == first.manifest
    assert second.state_dict().keys() == first.state_dict().keys()
    pairs = zip(first.parameters(), second.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert not any(parameter.requires_grad for parameter in second.parameters())
    again = (tmp_path / "again" / WEIGHTS).read_bytes()
    assert again == (place.head / WEIGHTS).read_bytes()


def test_a_flipped_byte_of_the_weights_is_an_error(head_folder):
    content = bytearray((head_folder / WEIGHTS).read_bytes())
    content[-5] ^= 1
    (head_folder / WEIGHTS).write_bytes(content)
    with pytest.raises(CacheError, match=r"SHA-256 differs.*export the head again"):
        load_head(head_folder)


def test_an_edited_manifest_is_an_error(head_folder):
    path = head_folder / "manifest.json"
    path.write_text(path.read_text().replace('"linear"', '"mlp"'))
    with pytest.raises(CacheError, match=r"not match its checksum.*export the head again"):
        load_head(head_folder)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"format": 2}, DataError, "is of format 2"),
        ({"of": "run"}, DataError, "is not the manifest of a head"),
        ({"head": {}}, CacheError, "head.kind"),
        ({"extra": 1}, CacheError, "extra"),
        ({"files": {}}, CacheError, "does not list"),
    ],
)
def test_a_manifest_that_no_export_writes_is_an_error(change, error, words, head_folder):
    path = head_folder / "manifest.json"
    record = json.loads(path.read_text())
    record.pop("sha256")
    write_json(path, {**record, **change})
    with pytest.raises(error, match=words):
        load_head(head_folder)


def test_a_manifest_of_an_earlier_version_is_read_and_shares_are_checked(head_folder):
    path = head_folder / "manifest.json"
    record = json.loads(path.read_text())
    record.pop("sha256")
    later = [n for n in record["measured"] if n.endswith("mrr_at_10") or "found_at_" in n]
    assert len(later) == 8
    kept = {name: value for name, value in record["measured"].items() if name not in later}
    write_json(path, {**record, "measured": kept})
    assert load_head(head_folder).manifest.measured.found_at_10 is None
    write_json(path, {**record, "measured": {**kept, "found_at_10": 1.5}})
    with pytest.raises(CacheError, match="found_at_10"):
        load_head(head_folder)


def test_weights_of_another_form_than_the_manifest_are_an_error(head_folder):
    path = head_folder / "manifest.json"
    record = json.loads(path.read_text())
    record.pop("sha256")
    record["head"]["embedding_size"] = 9
    write_json(path, record)
    with pytest.raises(CacheError, match="its tensors are not those of the head"):
        load_head(head_folder)


def test_a_folder_without_a_head_is_an_error_that_says_how_to_get_one(place, tmp_path):
    with pytest.raises(DataError, match="holds no head"):
        load_head(tmp_path)
    with pytest.raises(DataError, match=r"it is a study: write one with `lossgauge head"):
        load_head(place.linear)
    with pytest.raises(InputError, match="must be a path"):
        load_head(3)  # type: ignore[arg-type]


def test_features_that_do_not_fit_are_an_error(place):
    head = load_head(place.head)
    with pytest.raises(InputError, match=r"takes \(rows, 24\) features"):
        head(torch.zeros(3, 23))
    with pytest.raises(InputError, match="takes"):
        head(torch.zeros(24))
    with pytest.raises(InputError, match="must be floats, got int64"):
        head(torch.zeros(2, 24, dtype=torch.int64))
    assert head(torch.zeros(2, 24, dtype=torch.float64)).dtype == torch.float32
    assert head(torch.zeros(0, 24)).shape == (0, 8)


def test_only_an_earlier_head_is_replaced(place, tmp_path):
    target = tmp_path / "head"
    export_head(place.linear, target, loss="scl", seed=0)
    export_head(place.linear, target, loss="triplet", seed=0)
    assert load_head(target).manifest.trained.loss == "triplet"
    (target / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match=r"mine.txt is not part of the earlier head"):
        export_head(place.linear, target)
    other = tmp_path / "other"
    other.mkdir()
    (other / "photo.jpg").touch()
    with pytest.raises(InputError, match="neither empty nor an earlier head"):
        export_head(place.linear, other)
    with pytest.raises(InputError, match="is a file"):
        export_head(place.linear, other / "photo.jpg")
    assert [path.name for path in other.iterdir()] == ["photo.jpg"]


def test_a_run_that_kept_no_head_is_an_error_that_says_the_fix(place, tmp_path):
    """As studies of older versions: the run is whole, but its manifest lists no head."""
    folder = tmp_path / "study"
    shutil.copytree(place.linear, folder)
    run = next(iter(sorted(path.name for path in (folder / "runs").iterdir())))
    old, layout = read_run(Layout(place.linear), run), Layout(folder)
    store = Store(folder)
    tables = {name: store.table(run, name) for name in ("epochs", "steps", "classes", "queries")}
    names = ("config", "summary", "timing", "environment")
    records = {name: json.loads(layout.record(run, name).read_text()) for name in names}
    for record in records.values():
        record.pop("sha256")
    store.publish(run, records=records, tables=tables)
    with pytest.raises(StudyError, match=r"kept no head.safetensors.*--out and a new folder"):
        export_head(folder, tmp_path / "head", loss=old.config["loss"], seed=old.config["seed"])
    assert not (tmp_path / "head").exists()


def test_data_that_changed_since_the_study_is_an_error(place, tmp_path):
    with np.load(place.vectors) as arrays:
        given = dict(arrays)
    other = given | {"embeddings": given["embeddings"] + np.float32(1e-3)}
    np.savez(tmp_path / "vectors.npz", **other)
    with pytest.raises(DataError, match=r"are not those of the study: its embeddings is"):
        export_head(place.linear, tmp_path / "head", data=f"embeddings:{tmp_path}/vectors.npz")
    np.savez(tmp_path / "vectors.npz", **given | {"labels": given["labels"][::-1]})
    with pytest.raises(DataError, match="is not the data of the study"):
        export_head(place.linear, tmp_path / "head", data=f"embeddings:{tmp_path}/vectors.npz")
    with pytest.raises(InputError, match=r"so it is embeddings:PATH, got 'digits'"):
        export_head(place.linear, tmp_path / "head", data="digits")


def test_the_data_may_have_moved(place, tmp_path):
    moved = tmp_path / "elsewhere" / "renamed.npz"
    moved.parent.mkdir()
    shutil.copy(place.vectors, moved)
    exported = export_head(place.linear, tmp_path / "head", data=f"embeddings:{moved}")
    assert exported.head.manifest.trained.dataset == "embeddings:vectors.npz"
    shutil.copytree(place.linear, tmp_path / "study")
    path = tmp_path / "study" / "study.json"
    record = json.loads(path.read_text())
    record.pop("sha256")
    record["plan"]["datasets"] = ["embeddings:/nowhere/vectors.npz"]
    write_json(path, record)
    with pytest.raises(DataError, match=r"--data embeddings:PATH"):
        export_head(tmp_path / "study", tmp_path / "head")


def test_a_head_that_measures_otherwise_than_its_run_is_not_exported(place, tmp_path, monkeypatch):
    from lossgauge.deployment import export

    def turned(layout, run):
        tensors = read_head(layout, run)
        return {name: tensor.flip(0) ** 3 for name, tensor in tensors.items()}

    monkeypatch.setattr(export, "read_head", turned)
    with pytest.raises(DataError, match="does not measure as in its study"):
        export_head(place.linear, tmp_path / "head")
    assert not (tmp_path / "head").exists()


def test_a_narrower_head_gives_the_principal_directions(place, tmp_path):
    whole = load_head(place.head)
    exported = export_head(place.linear, tmp_path / "head", loss="triplet", seed=1, width=3)
    rows = rows_of(place)
    train = whole(rows[0::2]).double().numpy()
    # another way to the same directions: the right singular vectors of the training rows
    directions = np.linalg.svd(train, full_matrices=False)[2][:3]
    expected = whole(rows).double().numpy() @ directions.T
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    now = exported.head(rows).double().numpy()
    signs = np.sign((now * expected).sum(axis=0))  # an eigenvector has no sign
    assert np.abs(now - expected * signs).max() < 1e-5
    assert exported.head.manifest.head.reduced_from == 8
    wide = export_head(place.linear, tmp_path / "wide", loss="triplet", seed=1)
    of_width = {row.width: row for row in wide.costs.widths}
    assert of_width.keys() == {8}
    assert [row.width for row in wide.costs.raw] == [24, 8]
    assert [row.width for row in exported.costs.raw] == [24, 3]
    centered = rows.double().numpy() - rows[0::2].double().numpy().mean(axis=0)
    raw = centered / np.linalg.norm(centered, axis=1, keepdims=True)
    cut = (raw @ np.linalg.svd(raw[0::2])[2][:3].T)[1::2]
    cut /= np.linalg.norm(cut, axis=1, keepdims=True)
    with np.load(place.vectors) as arrays:
        labels = arrays["labels"][1::2]
    right = labels[(cut @ cut.T - 3 * np.eye(len(cut))).argmax(axis=1)] == labels
    assert exported.costs.raw[1].reduced == pytest.approx(right.mean(), abs=1e-12)
    words = (
        f"{100 * right.mean():.1f}\u00a0% with the frozen features cut to 3 principal directions"
    )
    assert words in str(exported)
    assert "at 8 numbers" not in str(wide)
    assert "8 reduced to their principal directions" in str(exported)
    with pytest.raises(InputError, match="width must be from 1 to 8, got 9"):
        export_head(place.linear, tmp_path / "head", width=9)


def test_thresholds_are_those_of_the_pairs(place):
    """FAR and TPR at the stored threshold, counted over all pairs of the test side."""
    manifest = load_head(place.head).manifest
    with np.load(place.vectors) as arrays:
        tests = arrays["split"] == "test"
        rows, labels = arrays["embeddings"][tests], arrays["labels"][tests]
    z = load_head(place.head)(torch.from_numpy(rows)).double().numpy()
    first, second = np.triu_indices(len(z), k=1)
    similarity, same = (z @ z.T)[first, second], labels[first] == labels[second]
    assert manifest.thresholds is not None
    assert manifest.thresholds.genuine_pairs == same.sum()
    for point in manifest.thresholds.at_far:
        assert point.threshold is not None
        passed = similarity >= point.threshold - 1e-9
        assert (passed & ~same).sum() / (~same).sum() <= point.far + 1e-3
        assert (passed & same).sum() / same.sum() == pytest.approx(point.tpr, abs=1e-3)


def test_untrained_and_tuned_heads_have_a_form_too(place, tmp_path):
    exported = export_head(place.linear, tmp_path / "head", loss="untrained", seed=0)
    assert exported.head.manifest.trained.epoch == 0
    assert exported.head(rows_of(place)).shape == (360, 8)


@pytest.mark.parametrize(
    ("with_head", "frozen", "told"),
    [(0.5, 0.6, True), (0.5, 0.5, True), (0.6, 0.5, False), (0.6, None, False), (None, 0.5, False)],
)
def test_a_head_that_is_no_better_than_the_features_says_so(with_head, frozen, told, place):
    measured = load_head(place.head).manifest.measured
    update = {"map_at_r": with_head, "frozen_map_at_r": frozen}
    notes = notes_on(measured.model_copy(update=update))
    assert ["use them as they are" in note for note in notes] == [True] * told


def test_an_adapter_of_epoch_0_is_called_the_raw_model(exported):
    """A run with `selection: best-validation` may pick it; a linear head of epoch 0 is random."""
    manifest = exported.head.manifest
    trained = manifest.trained.model_copy(update={"epoch": 0})
    narrow = manifest.head.model_copy(update={"reduced_from": 24})
    of = manifest.model_copy(update={"trained": trained})
    (note,) = notes_of(of, exported.costs, residual=True)
    assert note.endswith("where an adapter changes nothing: this is the frozen features")
    cut = notes_of(of.model_copy(update={"head": narrow}), exported.costs, residual=True)
    assert cut[0].endswith("the frozen features, cut to 8 principal directions")
    for manifest, residual in ((of, False), (exported.head.manifest, True)):
        notes = notes_of(manifest, exported.costs, residual=residual)
        assert notes == notes_on(manifest.measured)
