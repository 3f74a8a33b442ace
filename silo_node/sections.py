"""Where a passage stands: under which headings, and how old its document says it is. Pure.

Both leave with the passage, as its title does. A heading that looks as if it named a patient is
not told, and of a document whose metadata names its patient nothing but the year.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from siloquy.silo_node.chunk import Span
from siloquy.text import dating
from siloquy.text.identifiers import names_patient
from siloquy.wire.calls import MOST_SECTION_CHARACTERS

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
_AND = " / "
_NUMBERED = re.compile(r"\d{5,}|\d{1,4}[./-]\d{1,2}[./-]\d{1,4}")


@dataclass(frozen=True, slots=True)
class PassagePlace:
    """The sections that a passage is of, and the date of its document; empty: not known.

    dated   ISO date, year and month, or year
    """

    section: str
    dated: str


@dataclass(frozen=True, slots=True)
class _Heading:
    start: int
    end: int
    said: str


def standings(text: str, metadata: Mapping[str, str], spans: Sequence[Span]) -> list[PassagePlace]:
    """Where passages of a document stand, by their spans in its text."""
    dated = _dated(text, metadata)
    if metadata.get("patient"):
        return [PassagePlace("", dated[:4])] * len(spans)
    return [PassagePlace(section, dated) for section in sections(text, spans)]


def sections(text: str, spans: Sequence[Span]) -> list[str]:
    r"""The nearest heading at or above the start of each span, and those within it.

    >>> sections("## Dose\n\nGive 5 mg.\n\n## Children\n\nWait.", [Span(9, 19), Span(9, 39)])
    ['Dose', 'Dose / Children']
    """
    found = list(_headings(text))
    starts = [heading.start for heading in found]
    told = []
    for span in spans:
        first = max(bisect_right(starts, span.start) - 1, 0)
        of = found[first : bisect_left(starts, span.end)]
        told.append(_joined([heading.said for heading in of if _heads(heading, span)]))
    return told


def _headings(text: str) -> Iterator[_Heading]:
    for match in _HEADING.finditer(text):
        said = " ".join(match[str(match.lastgroup)].rstrip("# \t").split())
        private = names_patient(said) or _NUMBERED.search(said)
        told = "" if private else said[:MOST_SECTION_CHARACTERS].strip()
        yield _Heading(match.start(), match.end(), told)


def _heads(heading: _Heading, span: Span) -> bool:
    """Whether text of the passage stands below it: a heading at the end is the next passage's."""
    return heading.start <= span.start or heading.end < span.end


def _joined(told: Sequence[str]) -> str:
    """As many headings as fit."""
    section = ""
    for said in filter(None, told):
        longer = f"{section}{_AND}{said}" if section else said
        if len(longer) <= MOST_SECTION_CHARACTERS:
            section = longer
    return section


def _dated(text: str, metadata: Mapping[str, str]) -> str:
    """The document's date: what its metadata says, else what its head says of itself."""
    known = {key.lower().replace(" ", "_").replace("-", "_"): key for key in metadata}
    told = (dating.alone(metadata[known[key]]) for key in _DATE_KEYS if key in known)
    return next(filter(None, told), "") or dating.stated(text[:HEAD_CHARACTERS])
