"""The names that are a promise."""

import subprocess
import sys
from importlib.metadata import version

import numpy as np
import pytest
import torch

import lossgauge as lg


def test_the_seven_losses_in_their_order():
    assert tuple(lg.LOSSES) == (
        "contrastive",
        "triplet",
        "n_pair",
        "info_nce",
        "arcface",
        "scl",
        "ccl",
    )


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("contrastive", {"margin": 1.0}),
        ("triplet", {"margin": 0.2}),
        ("n_pair", {"temperature": 1.0}),
        ("info_nce", {"temperature": 0.1}),
        ("arcface", {"class_count": 10, "embedding_size": 16, "margin": 0.5, "scale": 64.0}),
        ("scl", {"temperature": 0.1}),
        (
            "ccl",
            {
                "class_count": 10,
                "embedding_size": 16,
                "margin": 0.2,
                "scale": 32.0,
                "center_weight": 1.0,
            },
        ),
    ],
)
def test_each_loss_gives_a_differentiable_scalar_and_an_evaluation(name, settings):
    loss = lg.load_loss(name, **settings)
    assert isinstance(loss, torch.nn.Module)
    embeddings = torch.nn.functional.normalize(torch.randn(30, 16)).requires_grad_()
    labels = torch.arange(30) % 10
    value = loss(embeddings, labels)
    assert value.shape == ()
    value.backward()
    assert embeddings.grad.abs().sum() > 0
    e = loss.evaluate(embeddings, labels)
    assert e.value == value
    assert 0 <= e.active_count <= e.term_count
    assert e.skipped_anchors == 0
    assert e.anchor_value.shape == e.anchor_weight.shape == (30,)
    assert e.pull >= 0
    assert e.push >= 0


@pytest.mark.parametrize("kind", [torch.tensor, np.array], ids=["tensor", "array"])
def test_geometry_and_retrieval_take_tensors_and_arrays(kind):
    rows = kind([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8]])
    labels = kind([0, 0, 1, 1])
    g = lg.geometry(rows, labels)
    assert g.intra == pytest.approx(
        0.1
    )  # class 0: ‖(0.2, −0.6)/2‖² = 0.1; class 1: ‖(0.6, 0.2)/2‖² = 0.1
    assert g.inter == pytest.approx(1.2**2 + 0.6**2)
    assert g.offset == pytest.approx(0.3**2 + 0.6**2)
    assert g.spacing_cv == 0
    assert g.margin == pytest.approx(1.8**0.5 - 2 * 0.1**0.5)
    assert g.effective_rank > 1
    assert g.per_class["intra"].tolist() == pytest.approx([0.1, 0.1])
    assert g.per_class[1].nearest == 0
    r = lg.retrieval(rows, labels)
    assert r.recall_at == {1: 1, 2: 1, 4: 1, 8: 1}
    assert 0 <= r.map_at_r <= r.r_precision <= 1
    assert (r.query_count, r.skipped_count) == (4, 0)


def test_a_wrong_attribute_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        lg.nothing  # noqa: B018
    assert "geometry" in dir(lg)


def test_every_public_name_is_there_and_explains_itself():
    for name in lg.__all__:
        value = getattr(lg, name)
        assert name in ("LOSSES", "__version__") or value.__doc__, name
    members = {key: value for key, value in vars(lg.Study).items() if not key.startswith("_")}
    assert [key for key, value in members.items() if not value.__doc__] == []


def test_the_version_is_that_of_the_package():
    assert lg.__version__ == version("lossgauge")


def test_importing_the_package_imports_nothing_else():
    code = (
        "import sys; before = set(sys.modules); import lossgauge; print(*set(sys.modules) - before)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) <= {"lossgauge", "__future__"}
