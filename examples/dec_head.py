"""Clusters without labels: a DEC head, an instance loss, and both together.

python examples/dec_head.py          300 steps, three seeds: a minute; other numbers of steps and of seeds as arguments

Clustering with contrastive learning (SCCL, arXiv 2103.12953) on the digits: q_jk is Student's t of the distance of row j to center k, the target is
p ∝ q²/f with f the size of a cluster, and the loss is KL(p ‖ q). The instance loss is InfoNCE between two noisy views of a row. Labels
only measure, and show in the last line what they would give. Expected: both together are at least as good as each alone.
"""

import sys

import torch
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits
from torch.nn.functional import normalize

import lossgauge as lg

ROWS, CLASSES, SHARPNESS = 256, 10, 5.0


def views(pixels, generator):
    """Each image moved by up to one pixel, with noise, and without a tenth of its pixels."""
    padded = torch.nn.functional.pad(pixels.unflatten(1, (8, 8)), (1, 1, 1, 1))
    right, down = torch.randint(0, 3, (2, len(pixels)), generator=generator)
    at, row = torch.arange(8), torch.arange(len(pixels))[:, None, None]
    image = padded[row, (down[:, None] + at)[:, :, None], (right[:, None] + at)[:, None]].flatten(1)
    kept = torch.rand(image.shape, generator=generator) > 0.1
    return kept * (image + 0.1 * torch.randn(image.shape, generator=generator))


def assigned(z, centers):
    """q: how much a row belongs to each center."""
    return normalize(1 / (1 + SHARPNESS * torch.cdist(z, centers).square()), p=1)


def clustering_loss(z, centers):
    """KL(p ‖ q), with p ∝ q²/f as the target."""
    q = assigned(z, centers)
    p = normalize(q.detach().square() / q.detach().sum(dim=0), p=1)
    return torch.nn.functional.kl_div(q.log(), p, reduction="batchmean")


class Head(torch.nn.Module):
    """Rows around their mean, plus an update that is 0 at the start: training begins with the rows as they are."""

    def __init__(self, mean):
        super().__init__()
        self.mean = mean
        self.into, self.out = torch.nn.Linear(64, 256), torch.nn.Linear(256, 64)
        self.out.weight.data.zero_(), self.out.bias.data.zero_()

    def forward(self, x):
        return normalize(x - self.mean + self.out(self.into(x - self.mean).relu()))


def train(pixels, labels, losses, steps, seed):
    """The embeddings after training with these losses, and the clusters of the DEC head."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    head = Head(pixels.mean(dim=0))
    with torch.no_grad():
        first = KMeans(CLASSES, n_init=3, random_state=seed).fit(head(pixels).numpy())
    centers = torch.nn.Parameter(torch.from_numpy(first.cluster_centers_))
    optimizer = torch.optim.Adam([*head.parameters(), centers], lr=1e-3)
    info_nce = lg.load_loss("info_nce", temperature=0.1)
    for _ in range(steps):
        rows = torch.randint(0, len(pixels), (ROWS,), generator=generator)
        value = clustering_loss(head(pixels[rows]), centers) if "clusters" in losses else 0
        if losses[0] != "clusters":
            z = head(torch.cat([views(pixels[rows], generator) for _ in range(2)]))
            names = labels[rows] if losses[0] == "labels" else torch.arange(ROWS)
            value = value + info_nce(z, names.repeat(2))
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    with torch.no_grad():
        z = head(pixels)
        return z, assigned(z, centers).argmax(dim=1)


def main(steps=300, seeds=3):
    data = load_digits()
    pixels, labels = torch.from_numpy(data.data / 16).float(), torch.from_numpy(data.target)
    given = lg.clustering(pixels, labels).accuracy
    print(f"as given: {given:.1%} of the rows in the right cluster")
    for losses in ((), ("instance",), ("clusters",), ("instance", "clusters"), ("labels",)):
        found, own = [], []
        for seed in range(seeds):
            z, clusters = train(pixels, labels, losses, steps if losses else 0, seed)
            found.append(lg.clustering(z, labels).accuracy)
            own.append(lg.cluster_agreement(clusters, labels).accuracy)
        shown = f"{sum(found) / seeds:.1%} ({' '.join(f'{one:.1%}' for one in found)})"
        head = f", by the DEC head {sum(own) / seeds:.1%}" if "clusters" in losses else ""
        print(f"{' + '.join(losses) or 'untrained':22} {shown}{head}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
