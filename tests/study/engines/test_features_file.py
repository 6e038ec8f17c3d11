import pytest
import torch

from lossgauge.errors import CacheError
from lossgauge.study.engines.features_file import read_features_file, write_features_file
from lossgauge.types import FeatureSet


@pytest.fixture(params=["without groups", "with groups"])
def features(request):
    return FeatureSet(
        dataset="d",
        backbone="b",
        features=torch.arange(24.0).reshape(4, 6).T,  # not in row order
        labels=torch.arange(6) % 3,
        train=torch.arange(3),
        test=torch.arange(3, 6),
        protocol="halves",
        fingerprint="f",
        identity={"weights": "w"},
        groups=torch.arange(6) // 2 if request.param == "with groups" else None,
    )


def test_features_are_taken_over_as_they_were_handed_over(features, tmp_path):
    write_features_file(features, tmp_path / "x.safetensors")
    taken = read_features_file(tmp_path / "x.safetensors")
    for ours, theirs in zip(features, taken, strict=True):
        assert ours.equal(theirs) if isinstance(ours, torch.Tensor) else ours == theirs


def test_every_bit_of_handed_over_features_counts(features, tmp_path):
    path = tmp_path / "x.safetensors"
    write_features_file(features, path)
    content = path.read_bytes()
    silent = []
    for place in range(len(content)):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        try:
            taken = read_features_file(path)
        except CacheError:
            continue
        same = all(
            ours.equal(theirs) if isinstance(ours, torch.Tensor) else ours == theirs
            for ours, theirs in zip(features, taken, strict=True)
        )
        if not same:
            silent.append(place)
    assert not silent
