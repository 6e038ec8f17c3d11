"""Features on their way to the workers."""

from __future__ import annotations

import torch

from lossgauge.study.engines.features_file import read_features_file, write_features_file
from tests.support.studies import fake_features


def test_sides_that_are_the_same_rows_come_back_as_such(tmp_path):
    features = fake_features(8)
    same = features._replace(test=features.train)
    write_features_file(same, tmp_path / "features.safetensors")
    found = read_features_file(tmp_path / "features.safetensors")
    assert torch.equal(found.train, same.train)
    assert torch.equal(found.test, same.train)
    assert torch.equal(found.features, same.features)
