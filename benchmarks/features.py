"""EfficientNet-Lite0 at 64 pixels: the network alone, the whole path from image bytes, and onnxruntime.

The images are real: FashionMNIST where it is installed, else the digits of scikit-learn.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import onnxruntime
import torch
from torch import Tensor, nn

from benchmarks.clock import side_by_side
from lossgauge.backbones.efficientnet_lite0 import EfficientNetLite0
from lossgauge.data import load_dataset
from lossgauge.data.extraction import BATCH
from lossgauge.data.extraction_jobs import extract_rows
from lossgauge.errors import DataError

IMAGES = 1024


def measure() -> dict[str, Any]:
    backbone = EfficientNetLite0()
    try:
        images = load_dataset("fashion-mnist")
    except DataError:
        images = load_dataset("digits")
    images = replace(images, ids=images.ids[:IMAGES], labels=images.labels[:IMAGES])
    batch = torch.stack([backbone.prepare(images.read(row)) for row in range(BATCH)])
    run = _onnx(backbone)
    times = side_by_side(
        {"network": lambda: backbone.extract(batch), "onnxruntime": lambda: run(batch)}
    )
    rates = {name: 1e3 * BATCH / milliseconds for name, milliseconds in times.items()}
    agreement = float((run(batch) - backbone.extract(batch)).abs().max())
    paths, networks = [], []
    for _ in range(9):  # in short turns: this is about their ratio
        paths.append(_rate(lambda: list(extract_rows(images, backbone, jobs=1)), IMAGES))
        networks.append(
            _rate(lambda: [backbone.extract(batch) for _ in range(IMAGES // BATCH)], IMAGES)
        )
    rates["path"], rates["network beside it"] = median(paths), median(networks)
    share = median(path / network for path, network in zip(paths, networks, strict=True))
    print(
        f"\nfeatures of {images.name}, images/s: network {rates['network']:.0f}, onnxruntime "
        f"{rates['onnxruntime']:.0f} (largest difference {agreement:.1e}); the whole path "
        f"{rates['path']:.0f} = {share:.0%} of the network in the same minute",
        flush=True,
    )
    return {**rates, "path_share": share, "largest_difference": agreement}


def _rate(work: Callable[[], object], images: int) -> float:
    began = time.perf_counter()
    work()
    return images / (time.perf_counter() - began)


def _onnx(backbone: EfficientNetLite0) -> Callable[[Tensor], Tensor]:
    """The same network and weights in onnxruntime, from scaled pixels to features."""

    class Features(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = backbone.network

        def forward(self, images: Tensor) -> Tensor:
            return self.network.features(images)

    example = torch.zeros(BATCH, 3, backbone.side, backbone.side)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "lite0.onnx"
        torch.onnx.export(Features().eval(), (example,), path, dynamo=True, verbose=False)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        # else its idle threads spin through the other's turn
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def run(batch: Tensor) -> Tensor:
        scaled = (batch.float() - 127) / 128
        return torch.from_numpy(session.run(None, {name: scaled.numpy()})[0])

    return run
