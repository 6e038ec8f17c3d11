"""Features as workers get them are those that the study has."""

import torch

from lossgauge.study.handover import hand_over, take_over
from tests.study.test_grid import fake_features


def test_what_is_taken_over_is_what_was_handed_over(tmp_path):
    features = fake_features(classes=5, disjoint=True)
    features = features._replace(features=features.features.T.contiguous().T)  # not in row order
    hand_over(features, tmp_path / "new" / "features.safetensors")
    found = take_over(tmp_path / "new" / "features.safetensors")
    for name, value in features._asdict().items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(getattr(found, name), value), name
            assert getattr(found, name).dtype == value.dtype
        else:
            assert getattr(found, name) == value, name
