"""An exported head inside other libraries, in the libraries themselves."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
import torch

from lossgauge.deployment.export import export_head
from lossgauge.deployment.head import load_head
from lossgauge.deployment.onnx_model import as_onnx
from lossgauge.deployment.sentence_transformers_modules import sentence_transformers_modules
from lossgauge.errors import CacheError, MissingExtra


@pytest.fixture(params=["linear", "mlp"])
def head(request, place, exported):
    return load_head(place.head) if request.param == "linear" else exported.head


@pytest.fixture
def rows(place) -> torch.Tensor:
    with np.load(place.vectors) as arrays:
        return torch.from_numpy(arrays["embeddings"])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_sentence_transformers_saves_and_loads_it(head, rows, tmp_path):
    library = pytest.importorskip(
        "sentence_transformers", reason="pip install 'lossgauge[sentence-transformers]'"
    )
    from sentence_transformers.sentence_transformer.modules import BoW

    # the smallest first module: each of 24 words is one number of the embedding
    words = [f"w{number}" for number in range(24)]
    first = BoW(words, word_weights=dict.fromkeys(words, 1.0), cumulative_term_frequency=True)
    modules = sentence_transformers_modules(head)
    library.SentenceTransformer(modules=[first, *modules], device="cpu").save(str(tmp_path / "st"))
    texts = ["w0 w3 w3", "w23", "w5 w6 w7 w8"]
    counts = torch.tensor([[text.split().count(word) for word in words] for text in texts])
    again = library.SentenceTransformer(str(tmp_path / "st"), device="cpu")
    encoded = torch.from_numpy(np.asarray(again.encode(texts, show_progress_bar=False)))
    assert torch.allclose(encoded, head(counts.float()), atol=1e-6)
    given = {"sentence_embedding": rows}
    for module in modules:
        given = module(given)
    assert (given["sentence_embedding"] - head(rows)).abs().max() < 1e-6
    kinds = [part["type"] for part in json.loads((tmp_path / "st" / "modules.json").read_text())]
    assert not any("lossgauge" in kind for kind in kinds)


def test_onnxruntime_gives_the_same_embeddings(head, rows):
    runtime = pytest.importorskip("onnxruntime", reason="pip install 'lossgauge[onnx]'")
    pytest.importorskip("onnx", reason="pip install 'lossgauge[onnx]'")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    session = runtime.InferenceSession(as_onnx(head), options, providers=["CPUExecutionProvider"])
    for part in (rows, rows[:1], head.center[None]):
        (embeddings,) = session.run(None, {"features": part.numpy()})
        assert np.abs(embeddings - head(part).numpy()).max() < 1e-6
    assert session.get_outputs()[0].name == "embeddings"


def test_the_file_beside_the_weights_is_verified_too(place, tmp_path):
    pytest.importorskip("onnx", reason="pip install 'lossgauge[onnx]'")
    export_head(place.linear, tmp_path / "head", loss="triplet", seed=1, onnx=True)
    path = tmp_path / "head" / "head.onnx"
    assert path.read_bytes() == as_onnx(load_head(tmp_path / "head"))
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    with pytest.raises(CacheError, match=r"head.onnx is damaged"):
        load_head(tmp_path / "head")


def test_without_the_libraries_an_error_names_the_pip_install(place, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    monkeypatch.setitem(sys.modules, "sentence_transformers.sentence_transformer.modules", None)
    with pytest.raises(MissingExtra, match=r"lossgauge\[onnx\]"):
        export_head(place.linear, tmp_path / "head", onnx=True)
    with pytest.raises(MissingExtra, match=r"lossgauge\[sentence-transformers\]"):
        sentence_transformers_modules(load_head(place.head))
    assert not (tmp_path / "head").exists()
