"""Where a passage stands: the heading above it, and how old its document says it is. Pure.

Both leave with the passage, as its title does. A heading that looks as if it named a patient is
not told, and of a document whose metadata names its patient nothing but the year.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from siloquy import dating
from siloquy.text import names_patient

MOST_SECTION_CHARACTERS = 200
# A date far down in a text is seldom the text's own.
HEAD_CHARACTERS = 2_000
_DATE_KEYS = (
    "date", "dated", "valid_from", "effective", "effective_date", "last_reviewed", "reviewed",
    "last_updated", "updated", "revised", "published", "issued", "publication_date", "year",
)  # fmt: skip
# Marked as Markdown has it, or numbered: "2. FLUID", "4.2 Dose adjustment". A short line alone is
# no heading: in a note it may be a name.
_HEADING = re.compile(
    r"^(?:\#{1,6}[ \t]+(?P<marked>\S.{0,400})"
    r"|(?P<underlined>[^\s:|#-][^\n:|]{1,200})\n(?:={3,}|-{3,})"
    r"|(?P<capitals>\d{1,2}[.)]?[ \t]+[A-Z][A-Z0-9 ,/&()'-]{2,80})"
    r"|(?P<numbered>\d{1,2}(?:\.\d{1,2}){1,3}[.)]?[ \t]+[A-Z][a-z]{2}[^.;:\n]{0,80}))[ \t]{0,40}$",
    re.MULTILINE,
)
_LETTERHEAD = re.compile(r"(?:[ \t]*\n|[A-Z][A-Za-z ]{2,24}:[ \t].{1,120}\n)*")
_NUMBERED = re.compile(r"\d{5,}|\d{1,4}[./-]\d{1,2}[./-]\d{1,4}")


@dataclass(frozen=True, slots=True)
class Standing:
    """The section that a passage begins in, and the date of its document; empty: not known.

    dated   ISO date, year and month, or year
    """

    section: str
    dated: str


def standings(text: str, metadata: Mapping[str, str], starts: Sequence[int]) -> list[Standing]:
    """Where passages of a document stand that begin at ``starts`` of its text."""
    dated = _dated(text, metadata)
    if metadata.get("patient"):
        return [Standing("", dated[:4])] * len(starts)
    return [Standing(section, dated) for section in sections(text, starts)]


def sections(text: str, starts: Sequence[int]) -> list[str]:
    r"""The nearest heading at or above each of ``starts``; empty where there is none.

    A letterhead at the top of a document belongs to the section below it.

    >>> sections("Owner: ward 3\n\n## Dose\n\nGive 5 mg. Wait.", [0, 31])
    ['Dose', 'Dose']
    """
    found = list(_headings(text))
    places = [place for place, _ in found]
    at = [bisect_right(places, _below_letterhead(text, start)) for start in starts]
    return [found[n - 1][1] if n else "" for n in at]


def _headings(text: str) -> Iterator[tuple[int, str]]:
    for match in _HEADING.finditer(text):
        said = " ".join((match[str(match.lastgroup)]).rstrip("# \t").split())
        private = names_patient(said) or _NUMBERED.search(said)
        yield match.start(), "" if private else said[:MOST_SECTION_CHARACTERS].strip()


def _below_letterhead(text: str, start: int) -> int:
    if text[:start].strip():
        return start
    match = _LETTERHEAD.match(text, start)
    return match.end() if match else start


def _dated(text: str, metadata: Mapping[str, str]) -> str:
    """The document's date: what its metadata says, else what its head says of itself."""
    known = {key.lower().replace(" ", "_").replace("-", "_"): key for key in metadata}
    told = (dating.alone(metadata[known[key]]) for key in _DATE_KEYS if key in known)
    return next(filter(None, told), "") or dating.stated(text[:HEAD_CHARACTERS])
