"""Dates that a text gives itself."""

from __future__ import annotations

from datetime import date

import pytest

from siloquy.text.dating import alone, replaced, since, stated, until


@pytest.mark.parametrize(
    ("text", "day"),
    [
        ("Valid from: 2014-05-12", date(2014, 5, 12)),
        ("last updated 3 March 2020", date(2020, 3, 3)),
        ("Published March 3, 2020", date(2020, 3, 3)),
        ("Published in March 2020", date(2020, 3, 1)),
        ("revised in 2019", date(2019, 1, 1)),
        ("issued on 02/03/2019", date(2019, 3, 2)),
        ("Valid from 2014-05. Updated 2016", date(2016, 1, 1)),
    ],
)
def test_the_latest_date_since_when_it_holds_is_found(text: str, day: date) -> None:
    found = since(f"A. {text}")
    assert found is not None
    assert found.day == day
    assert found.start >= 3


@pytest.mark.parametrize(
    ("text", "day"),
    [
        ("Valid until 2025", date(2025, 12, 28)),
        ("review date: June 2024", date(2024, 6, 28)),
        ("Expires on 2024-02-29", date(2024, 2, 29)),
        ("to be reviewed by 2027", date(2027, 12, 28)),
    ],
)
def test_the_date_until_which_it_holds_is_the_last_that_may_be_meant(text: str, day: date) -> None:
    found = until(text)
    assert found is not None
    assert found.day == day


@pytest.mark.parametrize("text", ["", "In 2014 it rained.", "valid from 2014-13-40", "review it"])
def test_other_numbers_are_no_dates(text: str) -> None:
    assert since(text) is None
    assert until(text) is None


def test_a_text_may_say_that_it_was_replaced() -> None:
    assert replaced("This protocol has been superseded by another.") is not None
    assert replaced("The tube is replaced every week.") is None


@pytest.mark.parametrize(
    ("text", "date"),
    [
        ("Valid from: 2014-05-12. Updated 2016", "2016"),
        ("Published March 3, 2020", "2020-03-03"),
        ("issued on 02/03/2019", "2019-03-02"),
        ("Valid from: 2014-13-40", ""),
        ("Valid until 2025", ""),
    ],
)
def test_what_a_text_says_of_its_age_is_told_no_more_precisely_than_it_says(
    text: str, date: str
) -> None:
    assert stated(text) == date


@pytest.mark.parametrize(
    ("text", "date"),
    [
        (" 2025-02-08 ", "2025-02-08"),
        ("2025-02-08T10:00:00Z", "2025-02-08"),
        ("2024-03", "2024-03"),
        ("3 March 2020", "2020-03-03"),
        ("2021", "2021"),
        ("2025-02-31", ""),
        ("since 2021", ""),
        ("20210302", ""),
        ("", ""),
    ],
)
def test_a_text_that_is_a_date_is_read(text: str, date: str) -> None:
    assert alone(text) == date
