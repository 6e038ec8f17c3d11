"""The diagnostics in your own training loop: four more lines.   python examples/own_loop.py"""

import torch
from sklearn.datasets import load_digits

import lossgauge as lg

features, labels = (torch.from_numpy(array) for array in load_digits(return_X_y=True))
features = features.float() - features.float().mean(0)
torch.manual_seed(0)
head = torch.nn.Linear(64, 32)
loss = lg.load_loss("triplet", margin=0.2)
optimizer = torch.optim.Adam(head.parameters(), lr=1e-3)
probe = lg.Probe()

for number in range(200):
    rows = torch.randint(0, len(features), (128,))
    embeddings = torch.nn.functional.normalize(head(features[rows]))
    embeddings.retain_grad()
    evaluation = loss.evaluate(embeddings, labels[rows])
    optimizer.zero_grad()
    evaluation.value.backward()
    probe(lg.Step(number, 1, evaluation, embeddings, tuple(head.parameters()), ()))
    optimizer.step()

with torch.no_grad():
    embeddings = torch.nn.functional.normalize(head(features))
geometry = lg.geometry(embeddings, labels)
print(f"intra {geometry.intra:.3f}, inter {geometry.inter:.3f}, offset {geometry.offset:.3f}")
print(f"R@1 {lg.retrieval(embeddings, labels).recall_at[1]:.1%}")
for row in (probe.rows[0], probe.rows[-1]):
    print(
        f"step {row['step']}: active triplets {row['term_active_ratio']:.1%}, gradient {row['embedding_gradient']:.5f}"
    )
