"""What the reader must weigh: passages that differ, are out of date or speak of other people. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import combinations

from siloquy.generator import dating
from siloquy.generator.align import Read, SourceText, context, likeness, read, read_source
from siloquy.generator.facts import Mark, marks
from siloquy.generator.fit import denied_by_one, opposite
from siloquy.generator.quantities import Quantity, quantities, same
from siloquy.types import Cited, Conflict, Source

MOST = 6
LEAST_SHARED = 3
LEAST_ALIKE = 0.5
LEAST_DENIED_ALIKE = 0.7
LEAST_SLOT = 0.75
LEAST_ABOUT = 0.3
OLDER = timedelta(days=3 * 365)
_YOUNG = frozenset({"neonate", "infant", "child", "adolescent"})
_GROWN = frozenset({"adult", "older"})
_YEAR_HOURS = 8766.0
_PLACES = ("side", "sides", "height", "distance", "face", "middle", "route", "level")
_CASES = tuple(
    re.compile(rf"\b(?:{words})")
    for words in (
        "mild|moderate|severe",
        "loading|maintenance",
        "first|second|third|fourth|repeat",
        "prevent|prophyla|treatment|treated",
        "acute|chronic",
        r"type \w+",
        "primary|secondary",
        "minor|major",
        "elective|emergency|urgent",
        "uncomplicated|complicated",
        "provoked|unprovoked",
        "initial|later|subsequent|final",
        "minimum|maximum",
        "inpatient|outpatient",
        "systolic|diastolic",
        "men|women|boys|girls",
        "morning|evening|night",
        r"with\b|without\b",
    )
)


@dataclass(frozen=True, slots=True)
class _Page:
    """A source that was read, with the sentences that are about the question."""

    source: Source
    text: SourceText
    about: tuple[Read, ...]
    people: frozenset[str]


def conflicts(question: str, sources: Sequence[Source], today: date) -> tuple[Conflict, ...]:
    """At most six conflicts among the sources of an answer, the gravest first.

    Doses that differ come first, then other disagreements, people whom the question is not about,
    and guidance that is out of date. Only sentences that are about the question are compared.
    """
    asked = read(question)
    pages = [_page(source, asked) for source in sources]
    found = [
        *_disagreements(pages),
        *_other_people(asked, pages),
        *_stale(pages, today),
    ]
    order = ("dose", "disagreement", "population", "stale")
    return tuple(sorted(found, key=lambda conflict: order.index(conflict.kind))[:MOST])


def _page(source: Source, asked: Read) -> _Page:
    text = read_source(source.text, source.title)
    title = read(source.title)
    about = tuple(s for s in text.sentences if _about(asked, s, title) >= LEAST_ABOUT)
    return _Page(source, text, about, _people(title.marks))


def _about(asked: Read, sentence: Read, title: Read) -> float:
    if not asked.stems or not asked.stems & sentence.stems:
        return 0.0
    return len(asked.stems & (sentence.stems | title.stems)) / len(asked.stems)


def _people(found: Sequence[Mark]) -> frozenset[str]:
    return frozenset(mark.value for mark in found if mark.kind == "population")


def _cited(source: Source, sentence: Read) -> Cited:
    return Cited(source.n, sentence.start, sentence.end)


# -- disagreement ---------------------------------------------------------------------------------


def _disagreements(pages: Sequence[_Page]) -> Iterator[Conflict]:
    """The clearest difference of each two silos' passages."""
    for a, b in combinations(pages, 2):
        if a.source.silo != b.source.silo:
            found = [
                pair
                for left in a.about
                for right in b.about
                if (pair := _difference(a, left, b, right))
            ]
            if found:
                yield max(found, key=lambda pair: pair[0])[1]


def _difference(a: _Page, left: Read, b: _Page, right: Read) -> tuple[float, Conflict] | None:
    """How alike two sentences are, and what they differ in."""
    shared = _words(left) & _words(right)
    alike = len(shared) / max(1, min(len(_words(left)), len(_words(right))))
    if len(shared) < LEAST_SHARED or alike < LEAST_ALIKE or not _comparable(a, left, b, right):
        return None
    sides = (_cited(a.source, left), _cited(b.source, right))
    quantity = None if _apart(left, right, "order") else _other_quantity(left, right)
    if quantity:
        first, second = quantity
        dose = first.measured_out or first.dimension == "frequency" and _drugs(left)
        detail = (
            f"{left.text[first.start : first.end]} in [{a.source.n}], "
            f"{right.text[second.start : second.end]} in [{b.source.n}]"
        )
        return alike + 1, Conflict("dose" if dose else "disagreement", sides, detail)
    if alike < LEAST_DENIED_ALIKE:
        return None
    detail = _denial(a.source.n, left, b.source.n, right)
    return (alike, Conflict("disagreement", sides, detail)) if detail else None


def _words(sentence: Read) -> frozenset[str]:
    """What a sentence is about: its words outside of quantities."""
    return frozenset(
        token.stem
        for token in sentence.tokens
        if token.stem in sentence.stems
        and not token.stem[0].isdigit()
        and not any(q.start <= token.start < q.end for q in sentence.quantities)
    )


def _drugs(sentence: Read) -> frozenset[str]:
    return frozenset(mark.value for mark in sentence.marks if mark.kind == "drug")


def _comparable(a: _Page, left: Read, b: _Page, right: Read) -> bool:
    """Whether two sentences speak of the same drug, people, side and route, as far as they say."""
    drugs = _drugs(left), _drugs(right)
    if (drugs[0] or drugs[1]) and not drugs[0] & drugs[1]:
        return False
    people = [
        _people(sentence.marks) or page.people for page, sentence in ((a, left), (b, right))
    ]
    if people[0] - _GROWN != people[1] - _GROWN:
        return False
    return not any(_apart(left, right, axis) for axis in _PLACES) and not _other_case(left, right)


def _apart(left: Read, right: Read, axis: str) -> bool:
    """Whether both name a value on an axis and none is shared."""
    ours, theirs = ({m.value for m in s.marks if m.axis == axis} for s in (left, right))
    return bool(ours and theirs) and not ours & theirs


def _other_case(left: Read, right: Read) -> bool:
    """Whether the sentences are about cases that exclude each other: mild and severe."""
    texts = left.text.lower(), right.text.lower()
    for case in _CASES:
        ours, theirs = (frozenset(case.findall(text)) for text in texts)
        if ours and theirs and not ours & theirs:
            return True
    return False


def _other_quantity(left: Read, right: Read) -> tuple[Quantity, Quantity] | None:
    """Two quantities that stand in the same place of two sentences and exclude each other."""
    best: tuple[float, tuple[Quantity, Quantity] | None] = (LEAST_SLOT, None)
    for first in left.quantities:
        for second in right.quantities:
            if first.dimension != second.dimension or not exclude(first, second):
                continue
            if _also_said(first, right) or _also_said(second, left):
                continue
            slot = likeness(
                context(left, first.start, first.end), context(right, second.start, second.end)
            )
            best = max(best, (slot, (first, second)), key=lambda pair: pair[0])
    return best[1]


def _also_said(quantity: Quantity, other: Read) -> bool:
    return any(not exclude(quantity, q) for q in other.quantities if q.dimension == quantity.dimension)


def exclude(a: Quantity, b: Quantity) -> bool:
    """Whether two quantities of one dimension cannot both be meant.

    >>> exclude(*quantities("15 g, 15 to 20 g")), exclude(*quantities("below 90 mg, below 80 mg"))
    (False, True)
    """
    if same(a, b) or "year" in (a.dimension, b.dimension):
        return False
    if a.bound == b.bound and a.bound:
        return True
    low, high = zip(_reach(a), _reach(b), strict=True)
    return max(low) > min(high)


def _reach(quantity: Quantity) -> tuple[float, float]:
    if quantity.bound == "up":
        return quantity.low, float("inf")
    return (0.0 if quantity.bound == "down" else quantity.low), quantity.high


def _denial(n: int, left: Read, m: int, right: Read) -> str:
    """In words, that one denies what the other says or says its opposite; empty when neither."""
    denied = denied_by_one(left, right)
    if denied:
        first, second = (n, m) if denied == "first" else (m, n)
        return f"[{first}] denies what [{second}] says"
    for mark in left.marks:
        rival = next((r for r in right.marks if mark.kind == "negation" and opposite(mark, r)), None)
        if rival and mark.axis in _TELLING and not any(_is(mark, r) for r in right.marks):
            said = left.text[mark.start : mark.end], right.text[rival.start : rival.end]
            return f"“{said[0]}” in [{n}], “{said[1]}” in [{m}]"
    return ""


_TELLING = frozenset({"order", "course", "safety", "effect"})


def _is(a: Mark, b: Mark) -> bool:
    return (a.axis, a.value) == (b.axis, b.value)


# -- people ---------------------------------------------------------------------------------------


def _other_people(asked: Read, pages: Sequence[_Page]) -> Iterator[Conflict]:
    """Sources about the question that speak of the young where it asks about the grown, or so."""
    wanted = _asked_about(asked)
    for page in pages:
        spoken = _people([mark for mark in page.text.marks])
        for sentence in page.about[:1]:
            said = _people(sentence.marks) or page.people
            other = _not_meant(wanted, said, spoken)
            if other:
                detail = f"the question is about {_named(wanted)}, [{page.source.n}] about {other}"
                yield Conflict("population", (_cited(page.source, sentence),), detail)


def _not_meant(wanted: frozenset[str], said: frozenset[str], spoken: frozenset[str]) -> str:
    for ours, theirs in ((_YOUNG, _GROWN), (_GROWN, _YOUNG)):
        if wanted & ours and not wanted & theirs and said & theirs and not spoken & ours:
            return _named(said & theirs)
    for ours, theirs in (("male", "female"), ("female", "male")):
        if ours in wanted and theirs not in wanted and said >= {theirs} and ours not in spoken:
            return _named(frozenset({theirs}))
    return ""


def _asked_about(asked: Read) -> frozenset[str]:
    """Groups of people that the question names, by word or by age."""
    ages = [q for q in asked.quantities if q.dimension == "time" and _is_age(asked.text, q)]
    return _people(asked.marks) | frozenset(_age_group(q.high / _YEAR_HOURS) for q in ages)


def _is_age(text: str, quantity: Quantity) -> bool:
    before = text[: quantity.start].lower().split()[-2:]
    after = text[quantity.end :].lower().lstrip(" -s")
    return after.startswith("old") or bool({"aged", "age", "ages"} & set(before))


def _age_group(years: float) -> str:
    if years < 1:
        return "infant"
    return "child" if years < 18 else "adult"


_NAMES = {
    "neonate": "newborns", "infant": "infants", "child": "children", "adolescent": "adolescents",
    "adult": "adults", "older": "older people", "male": "men", "female": "women",
}  # fmt: skip


def _named(people: frozenset[str]) -> str:
    return " and ".join(name for value, name in _NAMES.items() if value in people)


# -- age of the guidance --------------------------------------------------------------------------


def _stale(pages: Sequence[_Page], today: date) -> Iterator[Conflict]:
    """Sources past their own validity, or years older than another silo's on the same topic."""
    dated = {page.source.n: _since(page, pages) for page in pages}
    for page in pages:
        n = page.source.n
        ended = dating.until(page.source.text)
        gone = dating.replaced(page.source.text)
        newer = [other for other in pages if _outdates(page, other, dated)]
        if gone:
            yield Conflict("stale", (Cited(n, gone.start, gone.end),), f"[{n}] says that it was replaced")
        elif ended and ended.day and ended.day < today:
            yield Conflict("stale", (Cited(n, ended.start, ended.end),), f"[{n}] was valid until {ended.day}")
        elif newer:
            yield _older(page, max(newer, key=lambda other: str(dated[other.source.n])), dated)


def _since(page: _Page, pages: Sequence[_Page]) -> date | None:
    """The date of a source, or that of another passage of its document."""
    places = [other for other in pages if _document(other) == _document(page)]
    found = [dating.since(p.source.text) for p in (page, *places)]
    return next((d.day for d in found if d), None)


def _document(page: _Page) -> tuple[str, str]:
    return page.source.silo, page.source.document


def _outdates(page: _Page, other: _Page, dated: dict[int, date | None]) -> bool:
    ours, theirs = dated[page.source.n], dated[other.source.n]
    if not ours or not theirs or page.source.silo == other.source.silo:
        return False
    return theirs - ours >= OLDER and bool(page.about and other.about) and _same_topic(page, other)


def _same_topic(a: _Page, b: _Page) -> bool:
    """Whether titles share a word, or a third of the words of the passages is common."""
    titles = read(a.source.title).stems & read(b.source.title).stems
    least = min(len(a.text.stems), len(b.text.stems))
    return bool(titles) or len(a.text.stems & b.text.stems) >= least / 3


def _older(page: _Page, other: _Page, dated: dict[int, date | None]) -> Conflict:
    n, m = page.source.n, other.source.n
    sides = tuple(_dated_place(p) for p in (page, other))
    return Conflict("stale", sides, f"[{n}] is of {dated[n]}, [{m}] of {dated[m]}")


def _dated_place(page: _Page) -> Cited:
    found = dating.since(page.source.text)
    if found:
        return Cited(page.source.n, found.start, found.end)
    return _cited(page.source, page.about[0])
