"""The probe under DDP: each rank has its own rows; the gradient at the weights is of the mean loss.

torchrun --nproc-per-node 2 examples/two_processes.py
"""

import torch
import torch.distributed as dist
from sklearn.datasets import load_digits

import lossgauge as lg

dist.init_process_group("gloo")
rank, ranks = dist.get_rank(), dist.get_world_size()
features, labels = (torch.from_numpy(array) for array in load_digits(return_X_y=True))
features = features.float() - features.float().mean(0)

torch.manual_seed(0)
model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(64, 32))
loss = lg.load_loss("scl", temperature=0.1)
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
probe = lg.Probe(optimizer, loss=loss)

for rows in torch.randperm(len(features))[:1536].split(128):
    rows = rows[rank::ranks]  # the share of this rank
    z = torch.nn.functional.normalize(model(features[rows]))
    z = probe.embeddings(z, labels[rows])
    optimizer.zero_grad()
    loss(z, labels[rows]).backward()
    optimizer.step()

row = probe.rows[-1]
print(
    f"rank {rank} of {ranks}, step {row['step']}: local loss {row['loss_value']:.4f}, "
    f"gradient at the weights, the same on every rank: {row['head_gradient']:.6f}",
    flush=True,
)
dist.destroy_process_group()
