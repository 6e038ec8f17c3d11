"""Clusters of texts without labels: a DEC head, an instance loss, and both together. Needs wordnet-base and 'lossgauge[text]'.

python -m benchmarks.clusters            five seeds: about eight minutes on two cores; another number of seeds as argument

Clustering with contrastive learning (SCCL, arXiv 2103.12953), on 400 glosses of each of WordNet's ten largest noun files, as rows of
all-MiniLM-L6-v2. Frozen rows plus a small network, zero at the start. DEC: q_jk by Student's t of the distance of row j to center k, target
p ∝ q²/f with f the size of a cluster, loss KL(p ‖ q). Instance: InfoNCE between two copies of a text without a fifth of its words. A study file trains with
labels; here labels only measure, in k-means accuracy, NMI and ARI, and give the ceiling: the same rows trained with them.

Expected, written before the first run:
- both together are at least as good as each alone, in all three numbers (within half a point);
- the instance loss alone is above the frozen rows by 0 to 3 points of accuracy, the DEC head alone by -1 to 3: it can only sharpen what k-means finds;
- the DEC head's own clusters are within 2 points of k-means on its rows;
- labels reach more than 90 %, so far more is possible than is found without them.
The second setting, SCCL's temperature and a tenth of the rate, was added when the first had failed, with this expectation before its run:
- no training is more than a point below the frozen rows, and both together are at least as good as each alone.
The third, after the second: in 384 dimensions all centers are nearly equally far, so with Student's t of one degree of freedom the largest of 10 memberships is
0.123 in the mean, and p is no target. An exponent of 10 (a t of 19 degrees, distances scaled) makes it sharp. Expected before its run:
- the DEC head is within two points of the frozen rows, and both together are at least as good as each alone.
"""

from __future__ import annotations

import statistics
import sys

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import kl_div, normalize, pad

import lossgauge as lg
from lossgauge.backbones import load_backbone
from lossgauge.data import load_dataset
from lossgauge.stats.intervals import interval
from lossgauge.types import PADDING, Text

CLASSES, PER_CLASS, COPIES = 10, 400, 4
DROPPED = 0.2
"""Share of the words that a copy leaves out."""
STEPS, ROWS = 600, 256
SHARPNESS = 5.0
"""Of squared distances of unit vectors, which are at most 4: our choice."""
CLUSTER_WEIGHT = 10.0
"""Of the DEC loss beside the instance loss, as in SCCL."""
TRAININGS = (("instance",), ("clusters",), ("instance", "clusters"), ("labels",))
SETTINGS = (
    ({"rate": 1e-3, "temperature": 0.1, "exponent": 1.0}, ((), *TRAININGS)),
    ({"rate": 1e-4, "temperature": 0.5, "exponent": 1.0}, TRAININGS),
    ({"rate": 1e-4, "temperature": 0.5, "exponent": 10.0}, TRAININGS[1:3]),
)
"""And what is trained with each; the last differs from the second only in the DEC head."""


def texts(seed: int = 0) -> tuple[list[str], Int[Tensor, " rows"]]:
    """The glosses, and their class from 0: of the largest noun files, drawn from the seed."""
    glosses = load_dataset("wordnet-glosses")
    nouns = [k for k, name in glosses.class_names.items() if name.startswith("noun.")]
    sizes = {label: int((glosses.labels == label).sum()) for label in nouns}
    largest = sorted(sizes, key=lambda label: -sizes[label])[:CLASSES]
    generator = np.random.default_rng(seed)
    rows = [generator.choice((glosses.labels == k).nonzero()[0], PER_CLASS, False) for k in largest]
    words = [glosses.read(int(row)).words for of_class in rows for row in of_class]
    print(", ".join(glosses.class_names[label] for label in largest), f": {len(words):,} glosses")
    return words, torch.arange(CLASSES).repeat_interleave(PER_CLASS)


def embedded(words: list[str]) -> Float[Tensor, "rows width"]:
    """Rows of the frozen model, in the order of the texts."""
    backbone = load_backbone("minilm-l6")
    tokens = [backbone.prepare(Text(text)) for text in words]
    order = sorted(range(len(words)), key=lambda at: len(tokens[at]))  # short ones together
    found: list[Tensor] = []
    for start in range(0, len(order), 128):
        batch = [tokens[at] for at in order[start : start + 128]]
        longest = max(map(len, batch))
        filled = [pad(one, (0, longest - len(one)), value=PADDING) for one in batch]
        found.append(backbone.extract(torch.stack(filled)))
    return torch.cat(found)[torch.tensor(order).argsort()]


def without_words(text: str, generator: np.random.Generator) -> str:
    words = text.split()
    kept = generator.random(len(words)) >= DROPPED
    kept[generator.integers(len(words))] = True
    return " ".join(word for word, stays in zip(words, kept, strict=True) if stays)


def memberships(
    z: Float[Tensor, "rows width"], centers: Float[Tensor, "clusters width"], exponent: float
) -> Float[Tensor, "rows clusters"]:
    """q ∝ (1 + SHARPNESS·d²)^−exponent, normalised over the clusters: with 1, Student's t with one degree of freedom."""
    kernel = (1 + SHARPNESS * torch.cdist(z, centers).square()).pow(-exponent)
    return normalize(kernel, p=1, eps=0)


def cluster_loss(
    z: Float[Tensor, "rows width"], centers: Float[Tensor, "k width"], exponent: float
) -> Tensor:
    """KL(p ‖ q), mean over rows, with the target p ∝ q²/f of these rows as a constant."""
    q = memberships(z, centers, exponent)
    fixed = q.detach()
    p = normalize(fixed.square() / fixed.sum(dim=0), p=1)
    return kl_div(q.log(), p, reduction="batchmean")


class Head(torch.nn.Module):
    """Rows around their mean, plus an update that is 0 at the start."""

    def __init__(self, mean: Float[Tensor, " width"]) -> None:
        super().__init__()
        self.mean, width = mean, len(mean)
        self.into, self.out = torch.nn.Linear(width, 256), torch.nn.Linear(256, width)
        torch.nn.init.zeros_(self.out.weight)
        torch.nn.init.zeros_(self.out.bias)

    def forward(self, rows: Float[Tensor, "rows width"]) -> Float[Tensor, "rows width"]:
        return normalize(rows - self.mean + self.out(self.into(rows - self.mean).relu()))


def train(
    rows: Float[Tensor, "rows width"],
    copies: Float[Tensor, "copies rows width"],
    labels: Int[Tensor, " rows"],
    losses: tuple[str, ...],
    seed: int,
    *,
    rate: float,
    temperature: float,
    exponent: float,
) -> tuple[Tensor, Tensor]:
    """The rows after training with these losses, and the cluster of each by the DEC head."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    head = Head(rows.mean(dim=0))
    with torch.no_grad():
        z = head(rows)
    first = lg.clustering(z, labels, k=CLASSES, seed=seed).assigned
    means = torch.stack([z[first == cluster].mean(dim=0) for cluster in range(CLASSES)])
    centers = torch.nn.Parameter(means)
    optimizer = torch.optim.Adam([*head.parameters(), centers], lr=rate)
    info_nce = lg.load_loss("info_nce", temperature=temperature)
    for _ in range(STEPS if losses else 0):
        at = torch.randint(0, len(rows), (ROWS,), generator=generator)
        value = torch.zeros(())
        if "clusters" in losses:
            value = value + CLUSTER_WEIGHT * cluster_loss(head(rows[at]), centers, exponent)
        if "instance" in losses:
            one, other = torch.randperm(len(copies), generator=generator)[:2]
            at = at.unique()  # twice the same text would be its own negative
            z = head(torch.cat((copies[one, at], copies[other, at])))
            value = value + info_nce(z, torch.arange(len(at)).repeat(2))
        if "labels" in losses:
            value = value + info_nce(head(rows[at]), labels[at])
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    with torch.no_grad():
        z = head(rows)
        return z, memberships(z, centers, exponent).argmax(dim=1)


def _shown(values: list[float]) -> str:
    over = interval(100 * value for value in values)
    if over is None or over.half_width is None:
        return f"{100 * statistics.fmean(values):.1f}"
    return f"{over.mean:.1f} ± {over.half_width:.1f}"


def main(seeds: int = 5) -> None:
    words, labels = texts()
    generator = np.random.default_rng(0)
    rows = embedded(words)
    copies = torch.stack(
        [embedded([without_words(text, generator) for text in words]) for _ in range(COPIES)]
    )
    for setting, trainings in SETTINGS:
        print(", ".join(f"{key} {value:g}" for key, value in setting.items()))
        print("| trained with | accuracy | NMI | ARI | accuracy of the DEC head |")
        print("|---|---|---|---|---|")
        for losses in trainings:
            measured = [
                _numbers(labels, *train(rows, copies, labels, losses, seed, **setting))
                for seed in range(seeds)
            ]
            cells = [_shown(list(column)) for column in zip(*measured, strict=True)]
            if "clusters" not in losses:
                cells[-1] = ""
            print("|", " | ".join([" + ".join(losses) or "nothing", *cells]), "|", flush=True)


def _numbers(labels: Int[Tensor, " rows"], z: Tensor, own: Tensor) -> tuple[float, ...]:
    by_means = lg.clustering(z, labels)
    of_head = lg.cluster_agreement(own, labels).accuracy
    return by_means.accuracy, by_means.nmi, by_means.ari, of_head


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
