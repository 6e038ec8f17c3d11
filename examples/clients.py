"""Clients with unequal classes: relaxed contrastive learning against SCL under federated averaging.

python examples/clients.py           30 rounds, three seeds: two minutes; other numbers of rounds and of seeds as arguments

Ten clients have digits whose classes are skewed: the shares of a class over the clients are drawn from Dir(α). In a round, each client
trains a copy of the head on its own rows, and the new head is the mean of the copies, weighted by rows. FedRCL (arXiv 2401.04928) says that a
supervised contrastive loss makes the rows of a client's few classes equal, so that the heads drift apart, and that its penalty on too similar
positives prevents it. Expected: `relaxed` keeps more variance inside classes and its heads closer together than `scl`, and retrieves better
where α is small. That paper trains a whole network and a classifier; here it is a linear head on pixels, measured by retrieval.
"""

import copy
import sys

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch.nn.functional import normalize

import lossgauge as lg

CLIENTS, LOCAL_STEPS, BATCH = 10, 10, 64
LOSSES = {
    "scl": {"temperature": 0.05},
    "relaxed": {"temperature": 0.05, "penalty_weight": 0.0},
    "relaxed + penalty": {"temperature": 0.05, "penalty_weight": 1.0},
}


def skewed_clients(labels, alpha, seed):
    """The rows of each client: those of a class are divided by shares from a Dirichlet distribution."""
    generator = np.random.default_rng(seed)
    clients = [[] for _ in range(CLIENTS)]
    for label in np.unique(labels):
        rows = generator.permutation(np.flatnonzero(labels == label))
        ends = np.cumsum(generator.dirichlet([alpha] * CLIENTS))[:-1] * len(rows)
        for client, part in zip(clients, np.split(rows, ends.astype(int)), strict=True):
            client.extend(part)
    # a client needs a pair of one class for a batch to have a term
    return [torch.tensor(rows) for rows in clients if len(rows) >= 8]


def local_training(head, loss, pixels, labels, generator):
    optimizer = torch.optim.SGD(head.parameters(), lr=0.1)
    for _ in range(LOCAL_STEPS):
        rows = torch.randperm(len(pixels), generator=generator)[:BATCH]
        optimizer.zero_grad()
        loss(normalize(head(pixels[rows])), labels[rows]).backward()
        optimizer.step()


def federated(loss, pixels, labels, clients, rounds, seed):
    """The head after all rounds, and how far the heads of the last round are from their mean, as a share of the mean's change."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    head, apart = torch.nn.Linear(64, 32, bias=False), 0.0
    shares = torch.tensor([len(rows) / sum(map(len, clients)) for rows in clients])
    for _ in range(rounds):
        before = head.weight.detach().clone()
        weights = []
        for rows in clients:
            own = copy.deepcopy(head)
            local_training(own, loss, pixels[rows], labels[rows], generator)
            weights.append(own.weight.detach())
        mean = sum(share * weight for share, weight in zip(shares, weights, strict=True))
        spread = sum(s * (w - mean).square().sum() for s, w in zip(shares, weights, strict=True))
        apart = float(spread.sqrt() / (mean - before).norm())
        head.weight.data = mean
    return head, apart


def main(rounds=30, seeds=3):
    data = load_digits()
    pixels, labels = torch.from_numpy(data.data / 16).float(), torch.from_numpy(data.target)
    pixels = pixels - pixels.mean(dim=0)
    train, test = torch.arange(0, 900), torch.arange(900, len(labels))
    given = lg.retrieval(normalize(pixels[test]), labels[test])
    print(f"as given: R@1 {given.recall_at[1]:.1%}, MAP@R {given.map_at_r:.1%}")
    print("alpha  loss               R@1    MAP@R  (of each seed)        intra  heads apart")
    for alpha in (0.05, 100.0):
        for name, settings in LOSSES.items():
            rows = []
            for seed in range(seeds):
                clients = skewed_clients(labels[train].numpy(), alpha, seed)
                loss = lg.load_loss(name.split()[0], **settings)
                head, apart = federated(loss, pixels, labels, clients, rounds, seed)
                with torch.no_grad():
                    z = normalize(head(pixels[test]))
                found, space = lg.retrieval(z, labels[test]), lg.geometry(z, labels[test])
                rows.append((found.recall_at[1], found.map_at_r, space.intra, apart))
            recall, precision, intra, apart = np.mean(rows, axis=0)
            each = " ".join(f"{row[1]:.1%}" for row in rows)
            print(
                f"{alpha:5g}  {name:18} {recall:.1%}  {precision:.1%}  ({each})  {intra:.3f}  {apart:.2f}"
            )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
