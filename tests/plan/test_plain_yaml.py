import math

import pytest
import yaml

from lossgauge.errors import PlanError
from lossgauge.plan.plain_yaml import MOST_BYTES, MOST_LEVELS, read_yaml


def read(text: str):
    return read_yaml(text, source="it")


PLAIN = """
text: my_loss.py:Pull
quoted: "a\\tb"
whole: -12
hex: 0x1F
grouped: 1_000
real: 1.5
small: 1.0e-3
infinite: .inf
yes: true
no: off
nothing: ~
list: [a, {b: c}, []]
block: |
  two
  lines
"""


def test_plain_yaml_is_read_as_pyyaml_reads_it():
    assert read(PLAIN) == yaml.safe_load(PLAIN)
    assert math.isnan(read("x: .nan")["x"])


def test_dates_merges_and_equals_signs_are_text():
    for text in ("2020-01-01", "2020-13-45", "2001-12-14t21:59:43.10-05:00", "=", "<<"):
        assert read(f"x: {text}") == {"x": text}
    assert read("<<: {a: 1}") == {"<<": {"a": 1}}


@pytest.mark.parametrize(
    "text", ["1:30", "-1:30", "190:20:30", "1:30.5", "+1_0:59.", "1:" * 300 + "1"]
)
def test_numbers_to_the_base_of_60_are_text(text):
    assert read(f"x: {text}") == {"x": text}
    assert read(f"x: [{text}]") == {"x": [text]}


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("010", 10),
        ("089", 89),
        ("-010", -10),
        ("+07", 7),
        ("00", 0),
        ("0", 0),
        ("-0", 0),
        ("0_1", 1),
        ("1_000", 1000),
        ("1_0.5", 10.5),
        ("0x10", 16),
        ("-0b11", -3),
        ("100", 100),
        ("010.5", 10.5),
    ],
)
def test_a_zero_before_a_number_changes_nothing(text, number):
    found = read(f"x: {text}")["x"]
    assert (found, type(found)) == (number, type(number))
    assert read(f"x: '{text}'") == {"x": text}


BOMB = "a: &a [1, 1]\n" + "\n".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (BOMB, "anchors"),
        (
            "a: &a 1",
            "it is not valid YAML: line 1, column 4: anchors (&) and aliases (*) are not allowed: write",
        ),
        (
            "b: 1\na: [",
            "it is not valid YAML: line 2, column 5: while parsing a flow node, expected the",
        ),
        ("a: *a", "aliases"),
        ("a: &a [*a]", "anchors"),
        ("&a k: 1", "anchors"),
        ("{&a k: 1}", "anchors"),
        *(
            (f"a: {tag}", "tags are not allowed")
            for tag in (
                "!!python/object/apply:os.system [ls]",
                "!!python/name:os.system",
                "!!python/tuple [1]",
                "!!binary aGk=",
                "!!set {a}",
                "!!omap [a: 1]",
                "!!pairs [a: 1]",
                "!!timestamp 2020-01-01",
                "!!bool x",
                "!!int x",
                "!!null x",
                "!!str 1",
                "!own 1",
                "! 1",
                "!<tag:x,2020:y> 1",
            )
        ),
        ("!!map {a: 1}", "tags are not allowed"),
        ("? !!str a\n: 1", "tags are not allowed"),
        ("a: " + "[" * 30 + "]" * 30, "nested at most 20 levels deep"),
        ("[" * 30_000, "nested at most 20 levels deep"),
        ("{a: " * 10_000, "nested at most 20 levels deep"),
        ("- " * 20_000, "nested at most 20 levels deep"),
        ("x: " + "9" * 401, "a number may have at most 400 digits"),
        ("x: 1." + "9" * 401, "a number may have at most 400 digits"),
        ("x: 0b" + "1" * 401, "a number may have at most 400 digits"),
        ("x: 0x_", "not valid YAML"),
        ("a: 1\na: 2", "the key 'a' appears twice"),
        ("? [a]\n: 1", "unhashable"),
        ("a: [", "not valid YAML"),
        ("a: 1\n---\nb: 1", "not valid YAML"),
        ("a: \x07", "special characters are not allowed at position 3"),
        ("#" * (MOST_BYTES + 1), "at most 50,000 bytes"),
        ("ä" * (MOST_BYTES // 2 + 1), "at most 50,000 bytes"),
    ],
)
def test_all_else_is_refused_in_one_line(text, words):
    with pytest.raises(PlanError) as caught:
        read(text)
    assert words in str(caught.value)
    assert str(caught.value).startswith("it ")
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 500


def test_as_much_as_is_allowed_is_read():
    deep = "[" * MOST_LEVELS + "]" * MOST_LEVELS
    assert read(deep) == eval(deep)
    assert read("x: " + "9" * 400) == {"x": int("9" * 400)}
    assert len(read("#" * (MOST_BYTES - 2) + "\na")) == 1
