"""A head as an ONNX model: features in, embeddings out, any number of rows. The graph is written node by node.

Operators of opset 17 (https://onnx.ai/onnx/operators/), so that every runtime since 2022 reads it.
"""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
from torch import Tensor

from lossgauge.deployment.head import CENTER, ExportedHead
from lossgauge.errors import MissingExtra

NAME = "head.onnx"
INPUT, OUTPUT = "features", "embeddings"
OPSET, IR_VERSION = 17, 8
LEAST_NORM = 1e-12
"""A row of zeros stays zero, as in `lossgauge.sphere`."""


def check_onnx() -> Any:
    """The library `onnx`. Raises MissingExtra if it is not installed."""
    try:
        return importlib.import_module("onnx")
    except ImportError:
        raise MissingExtra("head.onnx needs onnx: pip install 'lossgauge[onnx]'") from None


def as_onnx(head: ExportedHead) -> bytes:
    """The bytes of a checked ONNX model of the head. Raises MissingExtra without `onnx`.

    Input `features`, float32 (rows, feature width); output `embeddings`, float32 (rows, embedding size).
    """
    onnx = check_onnx()
    make = onnx.helper
    weights: dict[str, Tensor | None] = {CENTER: head.center, "least_norm": None}
    nodes = [make.make_node("Sub", [INPUT, CENTER], ["centered"])]
    last = "centered"
    for name, layer in head.layers.items():
        weights |= {f"{name}.weight": layer.weight, f"{name}.bias": layer.bias}
        parts = [last, f"{name}.weight", f"{name}.bias"]
        nodes.append(make.make_node("Gemm", parts, [name], transB=1))
        last = name
        if name == "hidden":
            nodes.append(make.make_node("Relu", [last], ["active"]))
            last = "active"
    nodes += [
        make.make_node("ReduceL2", [last], ["norm"], axes=[1], keepdims=1),
        make.make_node("Max", ["norm", "least_norm"], ["length"]),
        make.make_node("Div", [last, "length"], [OUTPUT]),
    ]
    graph = make.make_graph(
        nodes,
        "lossgauge head",
        [_rows(onnx, INPUT, head.feature_width)],
        [_rows(onnx, OUTPUT, head.embedding_size)],
        [onnx.numpy_helper.from_array(_array(value), name) for name, value in weights.items()],
    )
    model = make.make_model(
        graph,
        producer_name="lossgauge",
        opset_imports=[make.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
    )
    onnx.checker.check_model(model, full_check=True)
    content: bytes = model.SerializeToString()
    return content


def _rows(onnx: Any, name: str, width: int) -> Any:
    return onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["rows", width])


def _array(value: Tensor | None) -> np.ndarray:
    """In float32; without a tensor the smallest length that a row is divided by."""
    if value is None:
        return np.array(LEAST_NORM, np.float32)
    return value.detach().cpu().numpy().astype(np.float32)
