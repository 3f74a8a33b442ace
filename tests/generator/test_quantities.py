"""Quantities read from clinical text: equal ones are equal in whatever unit they are written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siloquy.generator.checking.quantities import Quantity, quantities, same


def only(text: str, dimension: str | None = None) -> Quantity:
    found = [q for q in quantities(text) if dimension in (None, q.dimension)]
    assert len(found) == 1, found
    return found[0]


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("1 g", "1000 mg"),
        ("1,000 mg", "1 g"),
        ("500 micrograms", "0.5 mg"),
        ("500 \u00b5g", "500 mcg"),
        ("24 hours", "1 day"),
        ("24 h", "one day"),
        ("two weeks", "14 days"),
        ("12 months", "1 year"),
        ("1 litre", "1000 mL"),
        ("every 8 hours", "three times daily"),
        ("every six hours", "four times a day"),
        ("bd", "every 12 hours"),
        ("tds", "three times a day"),
        ("q6h", "6-hourly"),
        ("once a week", "weekly"),
        ("10 %", "one in ten"),
        ("10 percent", "10 per cent"),
        ("1 per thousand", "0.1 %"),
        ("half of patients", "50 % patients"),
        ("15-20 g", "15 to 20 g"),
        ("between 15 and 20 g", "15\u201320 g"),
        ("5 mg/dL", "50 mg/L"),
        ("100000 units", "100,000 units"),
        ("0.5 x 10^9/L", "0.5 x10^9/l"),
        ("48-hour", "48 hours"),
        ("5-year-old", "5 years"),
    ],
)
def test_equal_quantities_are_the_same(a: str, b: str) -> None:
    assert same(only(a), only(b))


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("10 mg", "20 mg"),
        ("10 mg", "10 micrograms"),
        ("10 mg", "10 mL"),
        ("5 mg/kg", "5 mg"),
        ("5 mg/kg", "5 mg/m2"),
        ("24 hours", "24 days"),
        ("every 6 hours", "6 hours"),
        ("twice daily", "three times daily"),
        ("above 90 mmHg", "below 90 mmHg"),
        ("at least 5 days", "at most 5 days"),
        ("15 to 20 g", "15 g"),
        ("10 %", "10 mg"),
        ("in 2014", "2014 mg"),
    ],
)
def test_other_quantities_are_not(a: str, b: str) -> None:
    assert not same(only(a), only(b))


def test_a_number_without_its_unit_fits_the_same_number() -> None:
    assert same(only("aged 65"), only("65 years"))
    assert not same(only("aged 66"), only("65 years"))


@pytest.mark.parametrize(
    ("text", "bound"),
    [
        ("below 90 mmHg", "down"),
        ("90 mmHg or less", "down"),
        ("no more than 4 g", "down"),
        ("up to 30 mL/kg", "down"),
        ("must not exceed 20 mg", "down"),
        ("not less than 5 days", "up"),
        ("at least 5 days", "up"),
        ("no earlier than 48 hours", "up"),
        ("> 5 mg", "up"),
        ("65 years or older", "up"),
        ("give 5 mg", ""),
    ],
)
def test_limits_say_on_which_side_they_lie(text: str, bound: str) -> None:
    assert only(text).bound == bound


@pytest.mark.parametrize(
    "text", ["COVID-19", "IL-6", "CHA2DS2", "PD-L1", "one of them", "daily life", "BRCA1", "[12]"]
)
def test_names_with_digits_are_no_quantities(text: str) -> None:
    assert quantities(text) == []


def test_a_rate_is_an_amount_and_a_frequency() -> None:
    found = {q.dimension: q.low for q in quantities("0.1 units/kg per hour")}
    assert found == {"units/kg": 0.1, "frequency": 1.0}


@pytest.mark.parametrize("text", ["every 0 hours", "every 5 to 0 hours", "5 in 2", "0 in 10"])
def test_what_cannot_be_is_left_out(text: str) -> None:
    assert not [q for q in quantities(text) if q.dimension in ("frequency", "share")]


def test_only_what_is_given_is_measured_out() -> None:
    assert only("5 mg").measured_out
    assert only("5 mL/kg").measured_out
    assert not only("5 mmol/L").measured_out
    assert not only("5 days").measured_out


def test_dates_are_years() -> None:
    for text in ("2024-09-09", "9 September 2024", "September 2024", "9/9/2024", "in 2024"):
        assert (only(text).low, only(text).dimension) == (2024.0, "year")


@given(st.text(max_size=120))
def test_any_text_can_be_read(text: str) -> None:
    for found in quantities(text):
        assert 0 <= found.start < found.end <= len(text)
        assert found.low <= found.high


@given(
    st.integers(1, 1800),
    st.sampled_from(["mg", "mL", "hours", "%", "units/kg", "mmol/L"]),
    st.sampled_from(["", "Give ", "at a rate of ", "\u0130: "]),
)
def test_a_number_with_a_unit_is_found_where_it_stands(n: int, unit: str, before: str) -> None:
    found = only(f"{before}{n} {unit} then")
    assert found.said == (n, n)
    assert found.start == len(before)
