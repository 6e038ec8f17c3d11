"""WordNet 3.0 as a search for definitions: a word in an example sentence → the gloss of the sense that it has there.

Fellbaum 1998. The files are those of Debian's `wordnet-base`, in the format of wndb(5WN). The task is made here: the query is
`word: example sentence`, the right document the definition without its examples, and the hard negatives are the definitions
of the other senses of the word. Each query is of another synset, so a split by right document is one by synset.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lossgauge.data.dataset import Counts, Dataset, Outline
from lossgauge.data.judgements import Judged, pair_rows
from lossgauge.data.locations import not_found, places, reason_of, regular
from lossgauge.data.pair_splits import COMPONENTS
from lossgauge.data.pairs import Given, pair_set
from lossgauge.errors import DataError
from lossgauge.types import ImageSet

FOLDER = Path("/usr/share/wordnet")
SYNSETS = {"noun": 82_115, "verb": 13_767, "adj": 18_156, "adv": 3_621}
"""Of WordNet 3.0, by file."""
QUERIES, DOCUMENTS = 5_000, 20_000
_SEED = 0
_MARKER = re.compile(r"\((?:a|p|ip)\)$")
_EXAMPLE = re.compile(r'"([^"]+)"?')


class Synset(NamedTuple):
    """One sense, with the words that have it."""

    file: str
    lexicographer: int
    """The number of its lexicographer file: 3 to 28 for nouns, 29 to 43 for verbs."""
    words: tuple[str, ...]
    definition: str
    examples: tuple[str, ...]
    id: str
    """Its part of speech and its offset in the file, as `noun 00001740`."""


class WordNet(Dataset):
    name = "wordnet"
    expected = Counts(train=2_500, test=2_500, classes=QUERIES)
    protocol = COMPONENTS
    how_to_get = "Debian, Ubuntu: apt-get install wordnet-base; or put data.noun, data.verb, data.adj and data.adv of WordNet 3.0 there"
    license = "WordNet License (free for any use, with its notice)"
    items = "queries"

    def find(self, root: Path | None = None) -> Path:
        candidates = [*places(root, "wordnet"), *([FOLDER] if root is None else [])]
        for place in candidates:
            if all((place / f"data.{file}").is_file() for file in SYNSETS):
                return place
        raise not_found(self, root)

    def outline(self, root: Path | None = None) -> Outline:
        return self.complete_outline(self.find(root), LAYOUT)

    def load(self, root: Path | None = None) -> ImageSet:
        place = self.find(root)
        found = pair_set(
            self.name, _task(read_synsets(place)), source=str(place), split=None, seed=_SEED
        )
        assert isinstance(found, ImageSet)  # texts
        return found


DATASET = WordNet()
LAYOUT = "data.noun, data.verb, data.adj, data.adv of WordNet 3.0"


def read_synsets(folder: Path) -> list[Synset]:
    """All senses, in the order of the files. Raises DataError for a damaged file, and for another version of WordNet."""
    found = []
    for file, expected in SYNSETS.items():
        path = folder / f"data.{file}"
        try:
            lines = regular(path).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{path} cannot be read: {reason_of(error)}") from None
        of_file = []
        for number, line in enumerate(lines, 1):
            if line.startswith("  "):  # the licence
                continue
            try:
                of_file.append(synset(file, line))
            except (ValueError, IndexError):
                raise DataError(f"{path}, line {number}, is not a synset of WordNet") from None
        if len(of_file) != expected:
            raise DataError(
                f"{path} must have {expected:,} synsets, as WordNet 3.0, got {len(of_file):,}: install wordnet-base again"
            )
        found += of_file
    return found


def synset(file: str, line: str) -> Synset:
    """The sense on a line: `offset lexicographer kind count word id … | definition; "example"; "example"`."""
    data, bar, gloss = line.partition(" | ")
    fields = data.split()
    count = int(fields[3], 16)
    if not bar or not fields[0].isdigit() or len(fields) < 4 + 2 * count:
        raise ValueError
    words = [_MARKER.sub("", word).replace("_", " ") for word in fields[4 : 4 + 2 * count : 2]]
    definition, quote, rest = gloss.strip().partition('"')
    examples = [example.strip() for example in _EXAMPLE.findall(quote + rest)]
    return Synset(
        file=file,
        lexicographer=int(fields[1]),
        words=tuple(words),
        definition=definition.strip().rstrip(";:,").strip(),
        examples=tuple(example for example in examples if example),
        id=f"{file} {fields[0]}",
    )


def _task(synsets: list[Synset]) -> Given:
    """5,000 queries with their right and wrong definitions among 20,000 different ones."""
    generator = np.random.default_rng(_SEED)
    senses: dict[str, list[int]] = {}
    for number, each in enumerate(synsets):
        for word in dict.fromkeys(word.lower() for word in each.words):
            senses.setdefault(word, []).append(number)
    used: set[str] = set()
    queries: list[tuple[int, str]] = []
    others: list[list[int]] = []
    for number in generator.permutation(len(synsets)).tolist():
        each = synsets[number]
        shown = next((word for word in each.words if _is_in(word, each.examples[:1])), None)
        if shown is None or not each.definition or each.definition in used:
            continue
        wrong = [
            other
            for other in senses[shown.lower()]
            if synsets[other].definition not in ("", each.definition)
        ]
        if not wrong:
            continue
        used.add(each.definition)
        queries.append((number, f"{shown}: {each.examples[0]}"))
        others.append(wrong)
        if len(queries) == QUERIES:
            break
    number_of: dict[str, int] = {}
    ids: list[str] = []

    def document(number: int) -> int:
        definition = synsets[number].definition
        if definition not in number_of:
            number_of[definition] = len(ids)
            ids.append(f"gloss of {synsets[number].id}")
        return number_of[definition]

    right = [document(number) for number, _ in queries]
    negatives = [(row, document(number)) for row, wrong in enumerate(others) for number in wrong]
    for number in generator.permutation(len(synsets)).tolist():
        if len(ids) >= DOCUMENTS:
            break
        if synsets[number].definition:
            document(number)
    query_texts = [text for _, text in queries]
    texts = [*query_texts, *number_of]
    different = {text: place for place, text in enumerate(dict.fromkeys(texts))}
    numbers = np.array([different[text] for text in texts])
    wrong_rows = np.array(negatives, dtype=np.int64).reshape(-1, 2)
    judged = Judged(
        query_text=numbers[: len(queries)],
        document_text=numbers[len(queries) :],
        query=np.arange(len(queries)),
        document=np.array(right),
        grade=np.ones(len(queries)),
        negative_query=wrong_rows[:, 0],
        negative_document=wrong_rows[:, 1],
    )
    names = (*(f"example of {synsets[number].id}" for number, _ in queries), *ids)
    return Given(texts, pair_rows(judged), names, None, None, LAYOUT, ())


def _is_in(word: str, examples: tuple[str, ...]) -> bool:
    """Whether the first example has the word, in any inflection that begins with it."""
    return any(re.search(rf"\b{re.escape(word)}", example, re.IGNORECASE) for example in examples)
