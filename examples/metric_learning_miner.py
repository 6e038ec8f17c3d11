"""pytorch-metric-learning with a miner: how many triplets it finds, and how hard they are.   python examples/metric_learning_miner.py"""

import torch
from pytorch_metric_learning.losses import TripletMarginLoss
from pytorch_metric_learning.miners import TripletMarginMiner
from sklearn.datasets import load_digits

import lossgauge as lg

features, labels = (torch.from_numpy(array) for array in load_digits(return_X_y=True))
features = features.float() / 16
train, test = torch.arange(len(features)).tensor_split([1200])
torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 32))
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
criterion, miner = TripletMarginLoss(margin=0.1), TripletMarginMiner(margin=0.1)
probe = lg.Probe(optimizer, loss=criterion)

for _ in range(3):
    for rows in train[torch.randperm(len(train))].split(64):
        z = probe.embeddings(model(features[rows]), labels[rows])
        optimizer.zero_grad()
        criterion(z, labels[rows], miner(z, labels[rows])).backward()
        optimizer.step()
    with torch.no_grad():
        epoch = probe.epoch(model(features[test]), labels[test])
    last = probe.rows[-1]
    print(
        f"epoch {epoch['epoch']}: {last['term_count']} triplets in the last batch, "
        f"{last['skipped_anchor_ratio']:.0%} of its rows in none, R@1 {epoch['recall_at_1']:.1%}"
    )
