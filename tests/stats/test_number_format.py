"""Numbers as a reader wants them."""

import pytest

from lossgauge.stats.number_format import counted, in_p, rounded, short


@pytest.mark.parametrize(
    ("value", "digits", "signed", "text"),
    [
        (0.456, 2, False, "0.46"),
        (-0.456, 2, False, "−0.46"),
        (0.456, 1, True, "+0.5"),
        (-0.0004, 2, False, "0.00"),
        (-0.0004, 2, True, "0.00"),
        (0.0004, 2, True, "0.00"),
        (12.0, 0, False, "12"),
    ],
)
def test_what_rounds_to_nothing_has_no_sign_and_a_minus_is_a_true_one(value, digits, signed, text):
    assert rounded(value, digits, signed=signed) == text


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (0.0, 3, "0"),
        (0.01, 3, "0.01"),
        (0.0099, 3, "9.9·10⁻³"),
        (-0.00041, 3, "−4.1·10⁻⁴"),
        (0.00041, 2, "4·10⁻⁴"),
        (-5.5, 3, "−5.5"),
        (999.0, 2, "999"),
        (1000.0, 3, "1.0·10³"),
        (1.5e12, 3, "1.5·10¹²"),
    ],
)
def test_a_few_digits_stand_without_an_exponent_of_code(value, digits, text):
    assert short(value, digits) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0.0021, "p = 0.0021"), (1e-4, "p = 0.0001"), (9.9e-5, "p < 0.0001")]
)
def test_a_small_p_value_is_below_a_limit(value, text):
    assert in_p("p", value) == text


@pytest.mark.parametrize(
    ("count", "noun", "text"),
    [
        (1, "run", "1 run"),
        (0, "run", "0 runs"),
        (1200, "run", "1,200 runs"),
        (1, "loss", "1 loss"),
        (7, "loss", "7 losses"),
    ],
)
def test_what_is_counted_has_its_plural(count, noun, text):
    assert counted(count, noun) == text
