"""What two sentences exclude each other in."""

from __future__ import annotations

import pytest

from siloquy.generator.checking.align import read
from siloquy.generator.checking.difference import difference, exclude
from siloquy.generator.checking.quantities import quantities


def told(a: str, b: str) -> str:
    found = difference(1, read(a), 2, read(b))
    return found.detail if found else ""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("24 hours, 48 to 72 hours", True),
        ("24 hours, at least 48 hours", True),
        ("24 hours, at most 12 hours", True),
        ("24 hours, at least 12 hours", False),
        ("15 g, 15 to 20 g", False),
        ("below 90 mmHg, below 80 mmHg", True),
        ("above 90 mmHg, below 100 mmHg", False),
        ("1 g, 1000 mg", False),
        ("in 2014, in 2015", False),
    ],
)
def test_quantities_exclude_each_other_when_both_cannot_be_meant(text: str, expected: bool) -> None:
    a, b = quantities(text)
    assert exclude(a, b) is expected
    assert exclude(b, a) is expected


def test_the_quantity_among_the_same_words_is_compared() -> None:
    a = "Ceftriaxone 2 g every 12 hours for 7 days cures adult meningitis."
    assert told(a, a.replace("7", "10")) == "7 days in [1], 10 days in [2]"
    assert told(a, a.replace("12", "8")) == "every 12 hours in [1], every 8 hours in [2]"


def test_a_quantity_that_the_other_says_too_is_no_difference() -> None:
    a = "Give adrenaline 0.5 mg at once in adult anaphylaxis."
    b = "Give adrenaline 0.5 mg at once in adult anaphylaxis, then 1 mg at once."
    assert told(a, b) == ""


def test_a_case_is_no_difference() -> None:
    a = "A mild infection of the diabetic foot is treated for 7 days."
    assert told(a, a.replace("mild", "severe").replace("7", "42")) == ""


def test_a_long_sentence_denies_too_much_to_be_told() -> None:
    a = f"Aspirin is given in stroke {'and so on ' * 15}."
    assert told(a, a.replace("is given", "is not given")) == ""
