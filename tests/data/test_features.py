import dataclasses
import multiprocessing
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lossgauge.backbones import load_backbone
from lossgauge.data import load_dataset
from lossgauge.data.features import centered, default_cache, features
from lossgauge.errors import CacheError, DataError


@pytest.fixture
def digits():
    return load_dataset("digits")


def extract(images, cache, **settings):
    return features(images, load_backbone("pixels"), cache=cache, **settings)


def test_features_are_those_of_the_backbone_in_the_order_of_the_dataset(digits, tmp_path):
    found = extract(digits, tmp_path)
    assert found.features.shape == (1797, 64)
    for row in (0, 255, 256, 1796):
        expected = torch.from_numpy(np.array(digits.read(row), dtype=np.float32).ravel() / 255)
        torch.testing.assert_close(found.features[row], expected)
    assert found.labels.tolist() == digits.labels.tolist()


def test_the_second_time_nothing_is_extracted_and_a_refresh_extracts_anew(digits, tmp_path):
    seen = []
    extract(digits, tmp_path, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (1797, 1797)
    seen.clear()
    again = extract(digits, tmp_path, progress=lambda done, total: seen.append(done))
    assert seen == []
    torch.testing.assert_close(again.features, extract(digits, tmp_path, refresh=True).features)


def test_other_images_make_another_entry(digits, tmp_path):
    extract(digits, tmp_path)
    extract(dataclasses.replace(digits, digest="another"), tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


def test_another_split_uses_the_same_features_under_another_fingerprint(digits, tmp_path):
    one = extract(digits, tmp_path)
    two = extract(dataclasses.replace(digits, train=digits.test, test=digits.train), tmp_path)
    assert len(list(tmp_path.iterdir())) == 1
    assert one.fingerprint != two.fingerprint


@pytest.mark.parametrize("name", ["features.safetensors", "manifest.json"])
@pytest.mark.parametrize("place", [0, 1, 100, -2])
def test_a_flipped_byte_anywhere_is_found_and_the_file_is_named(digits, tmp_path, name, place):
    extract(digits, tmp_path)
    (path,) = tmp_path.glob(f"*/{name}")
    content = bytearray(path.read_bytes())
    content[place] ^= 0x10
    path.write_bytes(content)
    with pytest.raises(CacheError, match="is damaged") as caught:
        extract(digits, tmp_path)
    assert str(path) in str(caught.value)
    assert "--refresh" in str(caught.value)


@pytest.mark.parametrize("name", ["features.safetensors", "manifest.json"])
def test_a_file_cut_short_or_gone_is_found(digits, tmp_path, name):
    extract(digits, tmp_path)
    (path,) = tmp_path.glob(f"*/{name}")
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(CacheError, match="is damaged"):
        extract(digits, tmp_path)
    path.unlink()
    with pytest.raises(CacheError, match="is damaged"):
        extract(digits, tmp_path)
    extract(digits, tmp_path, refresh=True)
    extract(digits, tmp_path)


def test_an_entry_of_other_images_under_this_name_is_not_believed(digits, tmp_path):
    extract(digits, tmp_path)
    (ours,) = tmp_path.iterdir()
    other = dataclasses.replace(digits, digest="another")
    extract(other, tmp_path)
    (theirs,) = set(tmp_path.iterdir()) - {ours}
    for name in ("features.safetensors", "manifest.json"):
        (ours / name).write_bytes((theirs / name).read_bytes())
    with pytest.raises(CacheError, match="tells of other images"):
        extract(digits, tmp_path)


def test_an_image_that_cannot_be_read_leaves_nothing_behind(digits, tmp_path):
    def read(row):
        if row == 700:
            raise DataError("image 700 is no image")
        return digits.read(row)

    with pytest.raises(DataError, match="image 700"):
        extract(dataclasses.replace(digits, read=read), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_images_of_two_sizes_are_refused_by_a_backbone_that_needs_one(digits, tmp_path):
    def read(row):
        return Image.new("L", (9, 8)) if row >= 256 else digits.read(row)

    with pytest.raises(DataError, match=r"one size, got \(8, 8\) and, for 256 of digits, \(8, 9\)"):
        extract(dataclasses.replace(digits, read=read), tmp_path)


@pytest.mark.parametrize("name", ["features.safetensors", "manifest.json"])
def test_a_lost_file_is_the_one_that_is_named(digits, tmp_path, name):
    extract(digits, tmp_path)
    (path,) = tmp_path.glob(f"*/{name}")
    path.unlink()
    with pytest.raises(CacheError) as caught:
        extract(digits, tmp_path)
    assert str(caught.value).startswith(f"{path} is damaged")


def test_a_refresh_that_fails_leaves_the_old_entry(digits, tmp_path):
    before = extract(digits, tmp_path)

    def read(row):
        raise DataError("no image")

    with pytest.raises(DataError, match="no image"):
        extract(dataclasses.replace(digits, read=read), tmp_path, refresh=True)
    assert torch.equal(extract(digits, tmp_path).features, before.features)
    assert len(list(tmp_path.iterdir())) == 1


def test_a_cache_that_cannot_be_written_is_named(digits, tmp_path):
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(CacheError, match=r"cache cannot be written .* LOSSGAUGE_CACHE"):
        extract(digits, tmp_path / "cache")


def _extract_at_once(cache: str) -> float:
    found = extract(load_dataset("digits"), Path(cache))
    return float(found.features.double().sum())


def test_two_processes_at_once_end_with_one_good_entry(tmp_path):
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        sums = pool.map(_extract_at_once, [str(tmp_path)] * 2)
    assert sums[0] == sums[1]
    assert len(list(tmp_path.iterdir())) == 1


def test_centering_takes_the_training_mean_from_every_row(digits, tmp_path):
    found = extract(digits, tmp_path)
    moved = centered(found)
    torch.testing.assert_close(
        moved.features[found.train].mean(0), torch.zeros(64), atol=1e-6, rtol=0
    )
    torch.testing.assert_close(
        found.features - moved.features, (found.features - moved.features)[:1].expand(1797, -1)
    )
    assert moved.identity["centered"] == "training mean"


def test_the_cache_is_where_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.setenv("LOSSGAUGE_CACHE", str(tmp_path / "here"))
    assert default_cache() == tmp_path / "here"
