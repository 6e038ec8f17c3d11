import sys
import unicodedata

from lossgauge.terminal import WIDTH, one_line, safe, wrapped


def test_text_that_can_be_seen_stays_as_it_is():
    for text in (
        "my_[draft].py:Pull",
        "a b",
        "ä τ 犬 🙂",
        "e\u0301",
        "no\u00a0break",
        "C:\\x1b",
        "",
    ):
        assert safe(text) == text


def test_what_a_terminal_obeys_or_hides_is_shown_as_python_writes_it():
    assert safe("\x1b[31m\a\x08\x7f\x9b\r\n\t\0") == r"\x1b[31m\x07\x08\x7f\x9b\r\n\t\x00"
    assert safe("a\u202eb\u2066c\u200bd\u2028e\ufefff") == r"a\u202eb\u2066c\u200bd\u2028e\ufefff"
    assert safe("\udcff \U000e0041") == r"\udcff \U000e0041"


def test_no_character_of_unicode_gets_through_that_is_no_character_to_see():
    shown = safe("".join(map(chr, range(sys.maxunicode + 1))))
    assert {unicodedata.category(c) for c in shown} & {"Cc", "Cf", "Cs", "Zl", "Zp"} == set()
    assert shown.encode("utf-8")  # whatever came, it can be written


def test_several_lines_become_one():
    assert one_line("a\n  b\r\n\tc\x1b ") == r"a b c\x1b"


def test_a_long_text_becomes_lines_that_fit_and_loses_no_word():
    path = "/a/folder-with-hyphens/" + "x" * WIDTH
    text = f"digits: found in {path}, " + "896 training images; " * 20 + "a\nb"
    first, *others = wrapped(text)
    assert first == "digits: found in"
    assert all(line.startswith("    ") and not line.startswith("     ") for line in others)
    assert [line for line in others if len(line) > WIDTH] == [f"    {path},"]
    assert " ".join(line.strip() for line in (first, *others)) == safe(text)
