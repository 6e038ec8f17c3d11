"""The probe in your own training loop: four more lines.   python examples/own_loop.py"""

import torch
from sklearn.datasets import load_digits

import lossgauge as lg

features, labels = (torch.from_numpy(array) for array in load_digits(return_X_y=True))
features = features.float() - features.float().mean(0)
torch.manual_seed(0)
head = torch.nn.Linear(64, 32)
loss = lg.load_loss("triplet", margin=0.2)  # or any loss of torch or of another library
optimizer = torch.optim.Adam(head.parameters(), lr=1e-3)
probe = lg.Probe(optimizer, loss=loss)

for _ in range(200):
    rows = torch.randint(0, len(features), (128,))
    embeddings = torch.nn.functional.normalize(head(features[rows]))
    embeddings = probe.embeddings(embeddings, labels[rows])
    optimizer.zero_grad()
    loss(embeddings, labels[rows]).backward()
    optimizer.step()

with torch.no_grad():
    epoch = probe.epoch(torch.nn.functional.normalize(head(features)), labels)
print(f"intra {epoch['intra']:.3f}, inter {epoch['inter']:.3f}, offset {epoch['offset']:.3f}")
print(f"R@1 {epoch['recall_at_1']:.1%}")
for row in (probe.rows[0], probe.rows[-1]):
    print(
        f"step {row['step']}: active triplets {row['term_active_ratio']:.1%}, gradient {row['embedding_gradient']:.5f}"
    )
