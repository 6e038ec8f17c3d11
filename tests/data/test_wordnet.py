"""WordNet's files as a search for definitions, and as labelled texts."""

import re
from pathlib import Path

import pytest

from lossgauge.data import load_dataset, wordnet, wordnet_glosses
from lossgauge.data.locations import NotFound
from lossgauge.errors import DataError

WINK = '00008435 29 v 03 wink 1 blink 1 blink_away 0 001 @ 00462092 v 0000 01 + 08 00 | force to go away by blinking; "blink away tears"; "wink!"  '
OPEN = '00006885 00 s 01 asleep(p) 0 001 & 00006336 a 0000 | into a sleep; fast: "she fell asleep  '


def test_a_line_has_words_a_definition_and_examples():
    found = wordnet.synset("verb", WINK)
    assert found.words == ("wink", "blink", "blink away")
    assert found.definition == "force to go away by blinking"
    assert found.examples == ("blink away tears", "wink!")
    assert (found.id, found.lexicographer) == ("verb 00008435", 29)
    cut = wordnet.synset("adj", OPEN)
    assert cut.words == ("asleep",)
    assert (cut.definition, cut.examples) == ("into a sleep; fast", ("she fell asleep",))


@pytest.fixture
def small(tmp_path, monkeypatch):
    """Ten words with three senses each, in four files."""
    monkeypatch.setattr(wordnet, "SYNSETS", {"noun": 30, "verb": 1, "adj": 1, "adv": 1})
    monkeypatch.setattr(wordnet, "QUERIES", 12)
    monkeypatch.setattr(wordnet, "DOCUMENTS", 32)
    lines = [
        f'{n:08} 03 n 01 w{n % 10} 0 000 | meaning {n} of it; "a w{n % 10}s here {n}"  '
        for n in range(30)
    ]
    (tmp_path / "data.noun").write_text("  1 the licence  \n" + "\n".join(lines) + "\n")
    for file, line in (("verb", WINK), ("adj", OPEN), ("adv", OPEN.replace("asleep(p)", "soon"))):
        (tmp_path / f"data.{file}").write_text(line + "\n")
    return tmp_path


def test_the_hard_negatives_are_the_other_senses_of_the_word(small):
    found = load_dataset("wordnet", small)
    pairs = found.pairs
    assert (len(found.train), len(found.test), len(pairs.corpus)) == (6, 6, 32)
    for row in range(12):
        words = found.read(row).words
        word, number = re.fullmatch(r"(w\d): a w\ds here (\d+)", words).groups()
        (right,) = pairs.document[pairs.query == row].tolist()
        assert found.read(right).words == f"meaning {number} of it"
        wrong = pairs.negative_document[pairs.negative_query == row].tolist()
        senses = {n for n in range(30) if f"w{n % 10}" == word} - {int(number)}
        assert {found.read(each).words for each in wrong} == {f"meaning {n} of it" for n in senses}
    assert not set(found.labels[found.train]) & set(found.labels[found.test])


def test_another_version_and_a_damaged_line_are_refused(small):
    path = small / "data.noun"
    whole = path.read_text()
    path.write_text(whole[: whole.rindex("\n0")])
    with pytest.raises(DataError, match=r"must have 30 synsets, as WordNet 3\.0, got 29"):
        load_dataset("wordnet", small)
    path.write_text(whole.replace(" | meaning 7", " meaning 7"))
    with pytest.raises(DataError, match="line 9, is not a synset"):
        load_dataset("wordnet", small)
    with pytest.raises(NotFound, match="apt-get install wordnet-base"):
        load_dataset("wordnet", small / "nowhere")


def test_the_classes_of_glosses_are_the_lexicographer_files(small):
    found = load_dataset("wordnet-glosses", small)
    assert len(found.ids) == 31
    assert found.class_names[29] == "verb.body"
    assert found.class_names[max(wordnet_glosses.FILES)] == "verb.weather"
    assert (found.class_names[3], found.class_names[28]) == ("noun.Tops", "noun.time")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/usr/share/wordnet/data.noun").exists(), reason="needs wordnet-base")
def test_the_installed_files_give_the_counts_of_the_documentation():
    for name, classes, rows in (("wordnet", 20_000, 25_000), ("wordnet-glosses", 41, 95_882)):
        found = load_dataset(name)
        expected = (wordnet if name == "wordnet" else wordnet_glosses).DATASET.expected
        assert (len(found.train), len(found.test)) == (expected.train, expected.test)
        assert len(set(found.labels)) == classes
        assert len(found.ids) == rows
