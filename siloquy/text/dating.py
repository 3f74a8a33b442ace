"""What a text says of its own age: since when, until when, replaced by what. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date

_MONTHS = "january february march april may june july august september october november december"
_DATE = (
    r"(?P<iso>(?:19|20)\d\d-\d\d(?:-\d\d)?)"
    r"|(?:(?P<day>\d{1,2})(?:st|nd|rd|th)?\s)?(?P<month>" + _MONTHS.replace(" ", "|") + r")\s"
    r"(?:(?P<us>\d{1,2}),\s)?(?P<my>(?:19|20)\d\d)"
    r"|(?P<dmy>\d{1,2}/\d{1,2}/(?:19|20)\d\d)|(?P<year>\b(?:19|20)\d\d\b)"
)
_SINCE = re.compile(
    r"\b(?:valid from|in force (?:from|since)|effective (?:from|date)|date of issue|version of"
    r"|dated|(?:last )?(?:updated|revised|reviewed|issued|published)(?: on| in)?)"
    rf"\s?:?\s*(?:{_DATE})",
    re.IGNORECASE,
)
_UNTIL = re.compile(
    r"\b(?:valid (?:until|to|till)|expir(?:es|ed|y)(?: date| on)?|review (?:date|by|due)"
    rf"|due for review|to be reviewed(?: by| in)?|next review)\s?:?\s*(?:on |by |in )?(?:{_DATE})",
    re.IGNORECASE,
)
_ALONE = re.compile(rf"(?:{_DATE})(?:[T ].*)?$", re.IGNORECASE)
_REPLACED = re.compile(
    r"\b(?:this (?:protocol|guideline|guidance|document|policy|version|notice) (?:is|was|has been)"
    r" (?:superseded|replaced|withdrawn|archived|retired)|superseded by"
    r"|no longer (?:valid|in force))\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class TextDate:
    """A date that a text gives itself and where it does so; ``day`` is None for 'superseded'."""

    day: date | None
    start: int
    end: int


def since(text: str) -> TextDate | None:
    """From when the text says that it is valid; the latest such date.

    >>> since("Valid from: 2014-05-12").day
    datetime.date(2014, 5, 12)
    """
    return max(_found(_SINCE, text, first=True), key=lambda d: d.day or date.min, default=None)


def until(text: str) -> TextDate | None:
    """To when the text says that it is valid or is to be reviewed."""
    return max(_found(_UNTIL, text, first=False), key=lambda d: d.day or date.min, default=None)


def replaced(text: str) -> TextDate | None:
    """Where the text says that another took its place."""
    match = _REPLACED.search(text)
    return TextDate(None, match.start(), match.end()) if match else None


def stated(text: str) -> str:
    """The latest date since when ``text`` says that it is valid, no more precise than it says.

    >>> stated("Valid from: 2014-05-12"), stated("Last reviewed in May 2019"), stated("Give 5 mg.")
    ('2014-05-12', '2019-05', '')
    """
    days = [(_day(match, first=True), match) for match in _SINCE.finditer(text)]
    latest = max(((day, match) for day, match in days if day), key=lambda d: d[0], default=None)
    return _written(latest[1]) if latest else ""


def alone(text: str) -> str:
    """The date that ``text`` is, ISO, as year and month or as a year; empty for another text.

    >>> alone("2025-02-08T10:00:00Z"), alone("March 2024"), alone("2021"), alone("spring")
    ('2025-02-08', '2024-03', '2021', '')
    """
    match = _ALONE.match(text.strip())
    return _written(match) if match and _day(match, first=True) else ""


def _written(match: re.Match[str]) -> str:
    return "-".join(f"{number:02d}" for number in _numbers(match))


def _found(pattern: re.Pattern[str], text: str, *, first: bool) -> list[TextDate]:
    days = [(_day(match, first=first), match) for match in pattern.finditer(text)]
    return [TextDate(day, match.start(), match.end()) for day, match in days if day]


def _day(match: re.Match[str], *, first: bool) -> date | None:
    """The date; where it names no month or day, the first or the last one that it may mean."""
    numbers = _numbers(match)
    rest = [1, 1] if first else [12, 28]
    year, month, day = numbers + rest[len(numbers) - 1 :]
    try:
        return date(year, month, day)
    except ValueError:
        return None


def _numbers(match: re.Match[str]) -> list[int]:
    if match["iso"]:
        return [int(part) for part in match["iso"].split("-")]
    if match["dmy"]:
        return [int(part) for part in match["dmy"].split("/")[::-1]]
    if match["month"]:
        month = _MONTHS.split().index(match["month"].lower()) + 1
        return [int(match["my"]), month, *(int(d) for d in (match["day"] or match["us"],) if d)]
    return [int(match["year"])]
