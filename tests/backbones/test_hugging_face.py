"""Tiny towers with random weights, saved as transformers saves them, against transformers' own outputs."""

import json
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_image

from lossgauge.backbones import load_backbone
from lossgauge.errors import DataError, InputError, MissingExtra
from lossgauge.types import Backbone

transformers = pytest.importorskip(
    "transformers", reason="needs transformers: pip install 'lossgauge[hf]'"
)

TOWER = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 64,
    "patch_size": 32,
}
TEXT = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "vocab_size": 64,
    "max_position_embeddings": 8,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 1,
}
SQUARE = {"height": 64, "width": 64}


def clip():
    config = transformers.CLIPConfig(
        text_config=TEXT | {"projection_dim": 24},
        vision_config=TOWER | {"projection_dim": 24},
        projection_dim=24,
    )
    model = transformers.CLIPModel(config)
    processor = transformers.CLIPImageProcessorPil(size={"shortest_edge": 64}, crop_size=SQUARE)
    return model, processor, lambda pixels: model.get_image_features(pixels).pooler_output


def siglip():
    config = transformers.SiglipConfig(text_config=TEXT, vision_config=TOWER)
    model = transformers.SiglipModel(config)
    processor = transformers.SiglipImageProcessorPil(size=SQUARE)
    return model, processor, lambda pixels: model.get_image_features(pixels).pooler_output


def vit():
    config = transformers.ViTConfig(**TOWER, hidden_dropout_prob=0.5)
    model = transformers.ViTForImageClassification(config)
    processor = transformers.ViTImageProcessorPil(size=SQUARE)
    return model, processor, lambda pixels: model.vit(pixels).last_hidden_state[:, 0]


def dinov2():
    config = transformers.Dinov2Config(**TOWER | {"patch_size": 16, "mlp_ratio": 2})
    model = transformers.Dinov2Model(config)
    processor = transformers.BitImageProcessorPil(size={"shortest_edge": 72}, crop_size=SQUARE)
    return model, processor, lambda pixels: model(pixels).pooler_output


def convnext():
    config = transformers.ConvNextConfig(depths=[1, 1, 2, 1], hidden_sizes=[8, 16, 24, 40])
    model = transformers.ConvNextModel(config)
    processor = transformers.ConvNextImageProcessorPil(size={"shortest_edge": 64})
    return model, processor, lambda pixels: model(pixels).pooler_output


FAMILIES = {"clip": clip, "siglip": siglip, "vit": vit, "dinov2": dinov2, "convnext": convnext}
WIDTHS = {"clip": 24, "siglip": 32, "vit": 32, "dinov2": 32, "convnext": 40}


@pytest.fixture(scope="session")
def saved(tmp_path_factory):
    """Each family once: its folder, its processor, and what the model itself says of pixels."""
    made = {}
    for name, build in FAMILIES.items():
        torch.manual_seed(0)
        model, processor, outputs = build()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.normal_(std=0.2)  # layer scales start so small that no block would count
        folder = tmp_path_factory.mktemp("saved") / f"tiny-{name}"
        model.eval().save_pretrained(folder)
        processor.save_pretrained(folder)
        made[name] = (folder, processor, torch.inference_mode()(outputs))
    return made


@pytest.fixture
def folder(saved, tmp_path):
    """A copy of the ViT, to be spoiled."""
    return Path(shutil.copytree(saved["vit"][0], tmp_path / "tiny-vit"))


def photographs():
    flower = Image.fromarray(load_sample_image("flower.jpg"))
    return [
        flower,
        flower.crop((200, 100, 301, 167)),
        flower.crop((0, 0, 33, 90)),
        flower.convert("L"),
    ]


def extracted(backbone, images):
    return backbone.extract(torch.stack([backbone.prepare(image) for image in images]))


@pytest.mark.parametrize("family", FAMILIES)
def test_features_are_those_of_transformers_on_the_same_images(saved, family):
    folder, processor, outputs = saved[family]
    backbone = load_backbone(f"hf:{folder}")
    assert isinstance(backbone, Backbone)
    found = extracted(backbone, photographs())
    pixels = [
        processor(image.convert("RGB"), return_tensors="pt")["pixel_values"]
        for image in photographs()
    ]
    assert found.shape == (4, WIDTHS[family])
    assert found.dtype == torch.float32
    assert not found.requires_grad
    torch.testing.assert_close(found, outputs(torch.cat(pixels)), rtol=1e-5, atol=1e-5)
    assert backbone.width == WIDTHS[family]
    assert found.std(dim=0).min() > 1e-4  # the images are told apart


@pytest.mark.parametrize("family", FAMILIES)
def test_bf16_is_close_to_fp32(saved, family):
    folder, _, _ = saved[family]
    exact, short = (
        extracted(load_backbone(f"hf:{folder}", dtype=dtype), photographs())
        for dtype in ("fp32", "bf16")
    )
    assert short.dtype == torch.float32
    assert not torch.equal(short, exact)
    # eight bits of mantissa, through a few layers
    assert ((short - exact).norm(dim=1) < 0.05 * exact.norm(dim=1)).all()


def test_pixels_are_resized_and_scaled_as_the_processor_says(saved):
    """ViT's processor by hand."""
    image = photographs()[1]
    small = np.asarray(image.resize((64, 64), Image.Resampling.BILINEAR), dtype=np.float32)
    expected = torch.from_numpy((small / 255 - 0.5) / 0.5).permute(2, 0, 1)
    found = load_backbone(f"hf:{saved['vit'][0]}").prepare(image)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_an_image_of_any_mode_is_its_rgb_copy_on_white(saved, family):
    backbone = load_backbone(f"hf:{saved[family][0]}")
    flower = photographs()[1]
    for image in (flower.convert("L"), flower.convert("P"), flower.convert("CMYK")):
        assert torch.equal(backbone.prepare(image), backbone.prepare(image.convert("RGB")))
    clear = Image.new("RGBA", flower.size, (0, 0, 0, 0))
    white = Image.new("RGB", flower.size, "white")
    assert torch.equal(backbone.prepare(clear), backbone.prepare(white))


@pytest.mark.parametrize(
    ("family", "settings"),
    [
        (
            "clip",
            {
                "crop_size": 64,
                "do_center_crop": True,
                "do_normalize": True,
                "do_resize": True,
                "feature_extractor_type": "CLIPFeatureExtractor",
                "image_mean": [0.48145466, 0.4578275, 0.40821073],
                "image_std": [0.26862954, 0.26130258, 0.27577711],
                "resample": 3,
                "size": 64,
            },
        ),
        (
            "vit",
            {
                "do_normalize": True,
                "do_resize": True,
                "image_mean": [0.5, 0.5, 0.5],
                "image_std": [0.5, 0.5, 0.5],
                "size": 64,
            },
        ),
    ],
)
def test_settings_of_a_processor_from_before_transformers_5_are_understood(
    saved, tmp_path, family, settings
):
    old = Path(shutil.copytree(saved[family][0], tmp_path / "old"))
    (old / "preprocessor_config.json").write_text(json.dumps(settings))
    now, then = load_backbone(f"hf:{saved[family][0]}"), load_backbone(f"hf:{old}")
    for image in photographs():
        assert torch.equal(now.prepare(image), then.prepare(image))


def test_weights_in_shards_are_all_read_and_hashed(saved, tmp_path):
    whole, _, _ = saved["vit"]
    parts = Path(shutil.copytree(whole, tmp_path / "parts"))
    (parts / "model.safetensors").unlink()
    model = transformers.ViTForImageClassification.from_pretrained(whole)
    model.save_pretrained(parts, max_shard_size="40KB")
    shards = sorted(parts.glob("model-*.safetensors"))
    assert len(shards) > 1
    one, two = load_backbone(f"hf:{whole}"), load_backbone(f"hf:{parts}")
    assert torch.equal(extracted(one, photographs()), extracted(two, photographs()))
    assert one.identity["weights"] != two.identity["weights"]
    for shard in shards:
        content = shard.read_bytes()
        shard.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        assert load_backbone(f"hf:{parts}").identity["weights"] != two.identity["weights"]
        shard.write_bytes(content)
    shards[-1].unlink()
    with pytest.raises(DataError, match=f"names {shards[-1].name}, which is missing"):
        load_backbone(f"hf:{parts}")


def test_a_tower_saved_alone_is_taken_too(saved, tmp_path):
    folder, processor, outputs = saved["clip"]
    tower = transformers.CLIPVisionModelWithProjection.from_pretrained(folder)
    tower.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    backbone = load_backbone(f"hf:{tmp_path}")
    assert backbone.identity["kind"] == "clip_vision_model"
    image = photographs()[0]
    expected = outputs(processor(image, return_tensors="pt")["pixel_values"])
    torch.testing.assert_close(extracted(backbone, [image]), expected, rtol=1e-5, atol=1e-5)


def test_neither_torchvision_nor_timm_is_imported(saved):
    """Imports are watched as they are tried, so that one behind `try` is seen as well."""
    watched = """
import sys
tried = []
def watch(event, args):
    if event == "import" and args[0].partition(".")[0] in ("torchvision", "timm"):
        tried.append(args[0])
sys.addaudithook(watch)
sys.modules["torchvision"] = sys.modules["timm"] = None
from lossgauge import startup
startup.end_quickly()
with startup.imports():
    import torch
    from PIL import Image
    from lossgauge.backbones import load_backbone
for folder in sys.argv[1:]:
    backbone = load_backbone("hf:" + folder)
    backbone.extract(backbone.prepare(Image.new("RGB", (50, 40)))[None])
assert not tried, tried
"""
    folders = [str(folder) for folder, _, _ in saved.values()]
    done = subprocess.run(
        [sys.executable, "-c", watched, *folders], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_loading_says_nothing(saved, capfd):
    for folder, _, _ in saved.values():
        load_backbone(f"hf:{folder}")
    assert capfd.readouterr() == ("", "")


def test_the_identity_names_all_that_the_features_depend_on(folder):
    first = load_backbone(f"hf:{folder}").identity
    assert first["model"] == "tiny-vit"
    assert first["found"] == "folder"
    assert first["pooled"].startswith("last_hidden_state[:, 0]")
    assert first["transformers"] == transformers.__version__
    assert json.loads(first["preprocessing"])["image_processor_type"] == "ViTImageProcessor"
    assert load_backbone(f"hf:{folder}", dtype="bf16").identity == first | {"dtype": "bf16"}

    path = folder / "preprocessor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"resample": 3}))
    second = load_backbone(f"hf:{folder}").identity
    assert {key for key in first if first[key] != second[key]} == {"preprocessing"}

    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"layer_norm_eps": 1e-6}))
    third = load_backbone(f"hf:{folder}").identity
    assert {key for key in second if second[key] != third[key]} == {"config"}

    path = folder / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1  # safetensors itself cannot see it
    path.write_bytes(content)
    fourth = load_backbone(f"hf:{folder}").identity
    assert {key for key in third if third[key] != fourth[key]} == {"weights"}


def spoil_cut(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def spoil_nan(folder):
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    tensors["vit.layernorm.bias"][0] = float("nan")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def spoil_key(folder):
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    del tensors["vit.layernorm.bias"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def change(name, **values):
    def spoil(folder):
        path = folder / name
        path.write_text(json.dumps(json.loads(path.read_text()) | values))

    return spoil


def only_index(text):
    def spoil(folder):
        (folder / "model.safetensors").unlink()
        (folder / "model.safetensors.index.json").write_text(text)

    return spoil


def remove(name):
    return lambda folder: (folder / name).unlink()


@pytest.mark.parametrize(
    ("spoil", "error", "message"),
    [
        (spoil_cut, DataError, "weights in .* cannot be read into ViTModel: SafetensorError"),
        (spoil_nan, DataError, "weights in .* are damaged: a plain image gives NaN"),
        (spoil_key, DataError, "weights in .* lack layernorm.bias of ViTModel"),
        (change("config.json", hidden_size=16), DataError, "cannot be read into ViTModel"),
        (remove("model.safetensors"), DataError, "has no model.safetensors"),
        (remove("config.json"), DataError, "is not a model of transformers: it has no config.json"),
        (remove("preprocessor_config.json"), DataError, "has no image processor"),
        (
            lambda folder: (folder / "config.json").write_text("{"),
            DataError,
            "config.json is damaged: Invalid JSON",
        ),
        (
            lambda folder: (folder / "config.json").write_text(
                '{"a":' * 100_000 + "1" + "}" * 100_000
            ),
            DataError,
            "config.json is damaged: Invalid JSON: recursion limit",
        ),
        (
            lambda folder: (folder / "config.json").write_text('["model_type"]'),
            DataError,
            "config.json is damaged: Input should be",
        ),
        (change("config.json", model_type=["vit"]), DataError, "it has no model_type"),
        (change("config.json", hidden_size="wide"), DataError, "cannot be read into ViTModel"),
        (
            lambda folder: (folder / "model.safetensors").rename(folder / "model.fp16.safetensors"),
            DataError,
            "has no model.safetensors: it has model.fp16.safetensors, .*: rename it",
        ),
        (only_index('{"weight_map": {"a": 1}}'), DataError, "index.json is damaged: weight_map.a"),
        (only_index('{"weight_map": ["a"]}'), DataError, "index.json is damaged: weight_map"),
        (only_index("[" * 100_000), DataError, "index.json is damaged: Invalid JSON"),
        (
            only_index('{"weight_map": {"a": "../model.safetensors"}}'),
            DataError,
            "names '../model.safetensors', which is not a file beside it",
        ),
        (
            lambda folder: (folder / "config.json").write_text("{}"),
            DataError,
            "it has no model_type",
        ),
        (
            lambda folder: (folder / "preprocessor_config.json").write_text("{"),
            DataError,
            "image processor in .* cannot be created",
        ),
        (
            change("config.json", model_type="bert"),
            InputError,
            "holds a model of type 'bert', which is not supported",
        ),
        (
            change("config.json", transformers_weights="other.safetensors"),
            InputError,
            "remove transformers_weights",
        ),
        (
            change("preprocessor_config.json", size={"height": 96, "width": 96}),
            DataError,
            "image processor and the network in .* do not fit together: ValueError",
        ),
    ],
)
def test_a_spoilt_folder_is_told_in_one_sentence(folder, spoil, error, message):
    spoil(folder)
    with pytest.raises(error, match=message) as told:
        load_backbone(f"hf:{folder}")
    assert "\n" not in str(told.value)


def test_a_tower_without_its_pooling_head_is_refused(tmp_path):
    _, processor, _ = siglip()
    config = transformers.SiglipVisionConfig(**TOWER, vision_use_head=False)
    transformers.SiglipVisionModel(config).save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    with pytest.raises(InputError, match="without its pooling layer"):
        load_backbone(f"hf:{tmp_path}")


class Trap:
    """Unpickled, it leaves a file behind."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_a_pickle_is_not_opened(folder, tmp_path):
    (folder / "model.safetensors").unlink()
    torch.save({"vit.layernorm.bias": Trap(tmp_path / "opened")}, folder / "pytorch_model.bin")
    with pytest.raises(DataError, match="pickles, which are not read"):
        load_backbone(f"hf:{folder}")
    assert not (tmp_path / "opened").exists()


def test_code_that_comes_with_a_model_is_not_run(folder, tmp_path):
    (folder / "own.py").write_text(f"open({str(tmp_path / 'run')!r}, 'w')")
    change("config.json", auto_map={"AutoConfig": "own.A", "AutoModel": "own.B"})(folder)
    change("preprocessor_config.json", auto_map={"AutoImageProcessor": "own.C"})(folder)
    load_backbone(f"hf:{folder}")
    assert not (tmp_path / "run").exists()


@pytest.fixture
def cache(monkeypatch, tmp_path):
    """An empty cache of the hub, and no network."""

    def refuse(*arguments, **settings):
        raise AssertionError("the network was used")

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.delenv("LOSSGAUGE_WEIGHTS", raising=False)
    return tmp_path / "hub"


def test_a_name_on_the_hub_is_read_from_the_local_cache(saved, cache):
    commit = "0123456789" * 4
    place = cache / "models--openai--clip-vit-base-patch32"
    shutil.copytree(saved["clip"][0], place / "snapshots" / commit)
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text(commit)

    backbone = load_backbone("hf:openai/clip-vit-base-patch32")
    assert backbone.name == "hf:openai/clip-vit-base-patch32"
    assert backbone.identity["model"] == "openai/clip-vit-base-patch32"
    assert backbone.identity["found"] == f"hub, commit {commit}"
    # the short name is the same features
    named = load_backbone("clip-vit-b32")
    assert named.name == "clip-vit-b32"
    assert named.identity == backbone.identity
    assert load_backbone("clip-vit-b32", revision=commit).identity == backbone.identity
    with pytest.raises(DataError, match="at revision 'v2' is missing or incomplete in"):
        load_backbone("clip-vit-b32", revision="v2")


def test_what_is_not_in_the_cache_is_not_fetched_but_told(cache, monkeypatch):
    with pytest.raises(DataError) as told:
        load_backbone("hf:facebook/dinov2-small")
    assert str(told.value) == (
        "facebook/dinov2-small at revision 'main' is missing or incomplete in the folder 'facebook/dinov2-small' "
        f"and in the hub's cache ({cache}): fetch it with --download (download=True), or put its files into a "
        "folder 'facebook/dinov2-small' in LOSSGAUGE_WEIGHTS"
    )
    monkeypatch.setenv("LOSSGAUGE_WEIGHTS", "/nowhere")
    with pytest.raises(DataError, match=r"in LOSSGAUGE_WEIGHTS \(/nowhere\) and in the hub's"):
        load_backbone("vit-b32-in21k")
    with pytest.raises(DataError, match=r"no folder '\./typo', and it is not a name on the hub"):
        load_backbone("hf:./typo")


def test_download_asks_the_hub_for_safetensors_and_settings_alone(saved, cache, monkeypatch):
    asked = {}

    def fetch(repository, **settings):
        asked.update(settings, repository=repository)
        return str(saved["vit"][0])

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    load_backbone("vit-b32-in21k", download=True, revision="v1")
    assert asked["repository"] == "google/vit-base-patch32-224-in21k"
    assert asked["revision"] == "v1"
    assert asked["local_files_only"] is False
    assert not any("bin" in pattern or pattern == "*" for pattern in asked["allow_patterns"])

    def fail(repository, **settings):
        raise OSError("no route to host\nand much more")

    monkeypatch.setattr("huggingface_hub.snapshot_download", fail)
    with pytest.raises(DataError, match=r"cannot be fetched: OSError: no route to host$"):
        load_backbone("vit-b32-in21k", download=True)


def test_a_folder_of_weights_stands_in_for_the_hub(saved, cache, monkeypatch, tmp_path):
    shutil.copytree(saved["clip"][0], tmp_path / "weights" / "clip-vit-b32")
    shutil.copytree(saved["dinov2"][0], tmp_path / "weights" / "facebook" / "dinov2-small")
    monkeypatch.setenv("LOSSGAUGE_WEIGHTS", str(tmp_path / "weights"))
    backbone = load_backbone("clip-vit-b32")
    assert backbone.name == "clip-vit-b32"
    assert backbone.identity["model"] == "clip-vit-b32"
    assert backbone.identity["found"] == "folder of LOSSGAUGE_WEIGHTS"
    assert load_backbone("hf:facebook/dinov2-small").identity["kind"] == "dinov2"


def test_another_network_in_the_folder_of_a_vit_b32_is_refused(saved, cache, monkeypatch, tmp_path):
    shutil.copytree(saved["vit"][0], tmp_path / "clip-vit-b32")
    sixteen = Path(shutil.copytree(saved["vit"][0], tmp_path / "vit-b32-in21k"))
    change("config.json", patch_size=16)(sixteen)
    monkeypatch.setenv("LOSSGAUGE_WEIGHTS", str(tmp_path))
    with pytest.raises(InputError, match=r"clip-vit-b32 is a 'clip' .* holds a 'vit' with 32"):
        load_backbone("clip-vit-b32")
    with pytest.raises(InputError, match=r"vit-b32-in21k is a 'vit' .* holds a 'vit' with 16"):
        load_backbone("vit-b32-in21k")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dtype": "fp16"}, r"unknown dtype 'fp16' \(did you mean"),
        ({"device": "gpu"}, "device must be cpu, cuda or cuda:N, got 'gpu'"),
        ({"device": "meta"}, "device must be cpu, cuda or cuda:N, got 'meta'"),
        ({"device": "cuda:99"}, "there is no device 'cuda:99'"),
        ({"dtpye": "bf16"}, r"no setting 'dtpye' \(did you mean 'dtype'"),
    ],
)
def test_a_wrong_setting_is_refused(saved, settings, message):
    with pytest.raises(InputError, match=message):
        load_backbone(f"hf:{saved['vit'][0]}", **settings)


def test_without_transformers_the_install_is_named(saved, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtra, match=r"pip install 'lossgauge\[hf\]'"):
        load_backbone("clip-vit-b32")


@pytest.mark.skipif(
    not torch.cuda.is_available(),
    reason="no GPU here: run on a machine with CUDA and its build of torch",
)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_gpu_gives_the_features_of_the_cpu(saved, family):
    folder, _, _ = saved[family]
    here, there = (
        extracted(load_backbone(f"hf:{folder}", device=device), photographs())
        for device in ("cpu", "cuda")
    )
    torch.testing.assert_close(there, here, rtol=1e-4, atol=1e-4)


def test_without_a_home_the_hubs_files_are_in_the_cache(cache, monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", "~/.cache/huggingface/hub")
    monkeypatch.setenv("LOSSGAUGE_CACHE", str(tmp_path / "own"))
    with pytest.raises(DataError, match=f"the hub's cache \\({tmp_path / 'own/huggingface'}\\)"):
        load_backbone("clip-vit-b32")
