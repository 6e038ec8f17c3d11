"""The definitions of WordNet's nouns and verbs, each with its lexicographer file as class: 95,882 texts in 41 classes."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from lossgauge.data.dataset import Counts, Dataset, Outline
from lossgauge.data.splits import stratified
from lossgauge.data.texts import digest_of, read
from lossgauge.data.wordnet import DATASET as WORDNET
from lossgauge.data.wordnet import LAYOUT, read_synsets
from lossgauge.types import TEXTS, ImageSet

FILES = {
    number: f"{part}.{name}"
    for part, first, names in (
        ("noun", 3, "Tops act animal artifact attribute body cognition communication event feeling food group location motive "
         "object person phenomenon plant possession process quantity relation shape state substance time"),
        ("verb", 29, "body change cognition communication competition consumption contact creation emotion motion perception "
         "possession social stative weather"),
    )
    for number, name in enumerate(names.split(), first)
}  # fmt: skip
"""The official numbers and names, lexnames(5WN), without those of adjectives and adverbs, which say no topic."""


class WordNetGlosses(Dataset):
    name = "wordnet-glosses"
    copy_of = "wordnet"
    expected = Counts(train=47_929, test=47_953, classes=41)
    protocol = "stratified"
    how_to_get = WORDNET.how_to_get
    license = WORDNET.license
    items = "texts"

    def find(self, root: Path | None = None) -> Path:
        return WORDNET.find(root)

    def outline(self, root: Path | None = None) -> Outline:
        return self.complete_outline(self.find(root), LAYOUT)

    def load(self, root: Path | None = None) -> ImageSet:
        place = self.find(root)
        synsets = [each for each in read_synsets(place) if each.lexicographer in FILES]
        texts = [each.definition for each in synsets]
        labels = np.array([each.lexicographer for each in synsets], dtype=np.int64)
        train, test = stratified(labels, 0)
        return ImageSet(
            name=self.name,
            ids=tuple(each.id for each in synsets),
            labels=labels,
            class_names=FILES,
            train=train,
            test=test,
            protocol=self.protocol,
            source=f"{place} ({LAYOUT})",
            digest=digest_of(texts),
            read=partial(read, texts, ""),
            kind=TEXTS,
        )


DATASET = WordNetGlosses()
