"""Backbones by name and by a user's file."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lossgauge.backbones import BACKBONES, backbone_class, load_backbone
from lossgauge.errors import InputError
from lossgauge.settings import settings_of
from lossgauge.types import Backbone

EXAMPLE = Path(__file__).parents[2] / "examples" / "my_backbone.py"


@pytest.fixture
def write(tmp_path):
    """Write a file with a class `Model` of that body; its name on the command line."""

    def write(prepare="torch.ones(3)", extract="batch.float()", rest="", name="Model"):
        path = tmp_path / "mine.py"
        path.write_text(
            "import torch\n"
            f"class Model:\n"
            f"    def prepare(self, image):\n        return {prepare}\n"
            f"    def extract(self, batch):\n        return {extract}\n"
            f"    {rest}\n"
        )
        return f"{path}:{name}"

    return write


def test_the_names_are_listed():
    names = {"efficientnet-lite0", "pixels", "clip-vit-b32", "vit-b32-in21k", "minilm-l6"}
    assert set(BACKBONES) == names


def test_an_unknown_name_is_told_the_nearest_and_the_other_ways():
    with pytest.raises(
        InputError, match=r"'clip-vit-b23' \(did you mean 'clip-vit-b32'\?\); for another model"
    ):
        load_backbone("clip-vit-b23")
    with pytest.raises(InputError, match="hf: needs a model"):
        load_backbone("hf:")
    with pytest.raises(InputError, match=r"unknown backbone 'hff:x/y' \(did you mean 'hf:'"):
        load_backbone("hff:x/y")


def test_the_settings_of_a_backbone_are_those_of_its_constructor_with_its_defaults():
    assert settings_of(backbone_class("pixels")) == ({}, False)
    assert settings_of(backbone_class("efficientnet-lite0")).defaults == {"side": 64}
    hub = {"dtype": "fp32", "device": "cpu", "download": False, "revision": "main"}
    assert settings_of(backbone_class("clip-vit-b32")).defaults == hub
    of_texts = {"pooling": None, "max_length": None, "prompt": None}
    for name in ("minilm-l6", "hf:facebook/dinov2-small"):
        assert settings_of(backbone_class(name)).defaults == hub | of_texts
    assert settings_of(backbone_class(f"{EXAMPLE}:Model")).defaults == {"cells": 8}
    with pytest.raises(InputError, match=r"has no setting 'revison' \(did you mean 'revision'"):
        load_backbone("clip-vit-b32", revison="main")


def test_the_example_is_a_backbone_with_the_mean_colours_of_its_cells():
    backbone = load_backbone(f"{EXAMPLE}:Model", cells=2)
    assert isinstance(backbone, Backbone)
    pixels = np.random.default_rng(0).integers(0, 256, (8, 6, 3), dtype=np.uint8)
    found = backbone.extract(backbone.prepare(Image.fromarray(pixels))[None])
    cells = pixels.reshape(2, 4, 2, 3, 3).mean(axis=(1, 3)).transpose(2, 0, 1).reshape(1, -1)
    # Pillow rounds each mean to a byte
    np.testing.assert_allclose(found, cells / 255, atol=1 / 255)


def test_name_and_identity_are_filled_in():
    backbone = load_backbone(f"{EXAMPLE}:Model", cells=4)
    assert backbone.name == "my_backbone.py:Model"
    assert backbone.identity == {
        "file": hashlib.sha256(EXAMPLE.read_bytes()).hexdigest(),
        "settings": '{"cells": 4}',
    }


def test_a_backbone_may_name_itself_and_what_it_depends_on(write):
    backbone = load_backbone(write(rest="name = 'own'; identity = {'weights': 12}"))
    assert backbone.name == "own"
    assert backbone.identity["weights"] == "12"
    assert {"file", "settings"} < set(backbone.identity)


def test_a_function_may_make_the_backbone_with_settings_of_its_own(tmp_path, write):
    write()
    path = tmp_path / "mine.py"
    path.write_text(path.read_text() + "\ndef build(side, **more):\n    return Model()\n")
    assert load_backbone(f"{path}:build", side=3, anything=4).identity["settings"] == (
        '{"anything": 4, "side": 3}'
    )
    with pytest.raises(InputError, match="needs the setting 'side'"):
        load_backbone(f"{path}:build")


def test_a_module_is_set_to_evaluate_and_leaves_no_graph(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "import torch\n"
        "class Model(torch.nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.network = torch.nn.Sequential(torch.nn.Linear(3, 64), torch.nn.Dropout(0.5))\n"
        "    def prepare(self, image):\n        return torch.ones(3)\n"
        "    def extract(self, batch):\n        return self.network(batch)\n"
    )
    backbone = load_backbone(f"{path}:Model")
    one, two = (backbone.extract(torch.ones(4, 3)) for _ in range(2))
    assert torch.equal(one, two)
    assert not one.requires_grad


@pytest.mark.parametrize(
    ("extract", "got"),
    [
        ("batch.half()", r"for 2 images it returned float16 of shape \(2, 3\)"),
        ("batch[:, :, None]", r"float32 of shape \(2, 3, 1\)"),
        ("batch[:1]", r"float32 of shape \(1, 3\)"),
        ("batch.mean()", r"float32 of shape \(\)"),
        ("batch.numpy()", "it returned ndarray"),
        ("None", "it returned NoneType"),
    ],
)
def test_features_of_a_wrong_type_or_shape_are_refused(write, extract, got):
    backbone = load_backbone(write(extract=extract))
    with pytest.raises(InputError, match=f"extract of mine.py:Model must return float32 .*{got}"):
        backbone.extract(torch.ones(2, 3))


def test_what_is_prepared_must_be_a_tensor(write):
    with pytest.raises(
        InputError, match=r"prepare of mine\.py:Model must return a tensor, got list"
    ):
        load_backbone(write(prepare="[1]")).prepare(Image.new("L", (2, 2)))


def test_each_mistake_in_a_file_is_told_in_one_sentence(tmp_path, write):
    with pytest.raises(InputError, match=r"there is no file 'nowhere\.py'"):
        load_backbone("nowhere.py:Model")
    with pytest.raises(InputError, match=r"no class or function 'Modle' \(did you mean 'Model'"):
        load_backbone(write(name="Modle"))
    with pytest.raises(InputError, match=r"gives a Model without extract\(\)"):
        load_backbone(write(rest="extract = None"))
    with pytest.raises(InputError, match=r"identity of mine\.py:Model must be a dict of text"):
        load_backbone(write(rest="identity = 'a'"))
    with pytest.raises(InputError, match="has no settings, got 'side'"):
        load_backbone(write(), side=3)
    with pytest.raises(InputError, match="cannot be created: FileNotFoundError"):
        load_backbone(write(rest="def __init__(self): open('/nowhere/weights')"))
    (tmp_path / "broken.py").write_text("1 / 0")
    with pytest.raises(InputError, match="fails on import: ZeroDivisionError"):
        load_backbone(f"{tmp_path / 'broken.py'}:Model")
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(InputError, match=r"must end in \.py"):
        load_backbone(f"{tmp_path / 'notes.txt'}:Model")
