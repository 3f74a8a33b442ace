"""What the reader must weigh: passages that differ, are old or speak of other people. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import combinations

from siloquy.generator.checking.align import Read, SourceText, read, read_source
from siloquy.generator.checking.difference import MOST_WORDS, Difference, difference
from siloquy.generator.checking.facts import Mark
from siloquy.generator.checking.quantities import Quantity
from siloquy.text import dating
from siloquy.types import CitedSpan, Conflict, Source

MOST = 6
LEAST_ABOUT = 0.3
OLDER = timedelta(days=3 * 365)
_YOUNG = frozenset({"neonate", "infant", "child", "adolescent"})
_GROWN = frozenset({"adult", "older"})
_RIVALS = (
    (_YOUNG, _GROWN),
    (_GROWN, _YOUNG),
    (frozenset({"male"}), frozenset({"female"})),
    (frozenset({"female"}), frozenset({"male"})),
)
_YEAR_HOURS = 8766.0


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
    if not asked.stems & sentence.stems or sentence.text.endswith("?"):
        return 0.0
    return len(asked.stems & (sentence.stems | title.stems)) / len(asked.stems)


def _people(found: Iterable[Mark]) -> frozenset[str]:
    return frozenset(mark.value for mark in found if mark.kind == "population")


def _cited(source: Source, sentence: Read) -> CitedSpan:
    return CitedSpan(source.n, sentence.start, sentence.end)


# -- disagreement ---------------------------------------------------------------------------------


def _disagreements(pages: Sequence[_Page]) -> Iterator[Conflict]:
    """The clearest difference of each two silos' passages."""
    for a, b in combinations(pages, 2):
        found = list(_differences(a, b)) if a.source.silo != b.source.silo else []
        if found:
            best, left, right = max(found, key=lambda item: item[0].alike)
            sides = (_cited(a.source, left), _cited(b.source, right))
            yield Conflict(best.kind, sides, best.detail)


def _differences(a: _Page, b: _Page) -> Iterator[tuple[Difference, Read, Read]]:
    for left in a.about:
        for right in b.about:
            if _same_people(a, left, b, right):
                found = difference(a.source.n, left, b.source.n, right)
                if found:
                    yield found, left, right


def _same_people(a: _Page, left: Read, b: _Page, right: Read) -> bool:
    """Whether both speak of the same people; who names none but adults speaks of all adults."""
    ours, theirs = _people(left.marks) or a.people, _people(right.marks) or b.people
    return ours - _GROWN == theirs - _GROWN


# -- people ---------------------------------------------------------------------------------------


def _other_people(asked: Read, pages: Sequence[_Page]) -> Iterator[Conflict]:
    """Sources about the question that speak of the young where it asks about the grown, or so."""
    wanted = _asked_about(asked)
    for page in pages:
        spoken = _people(page.text.marks)
        for sentence in [s for s in page.about if len(s.tokens) <= MOST_WORDS][:1]:
            said = _people(sentence.marks) or page.people
            other = _not_meant(wanted, said, spoken)
            if other:
                detail = f"the question is about {_named(wanted)}, [{page.source.n}] about {other}"
                yield Conflict("population", (_cited(page.source, sentence),), detail)


def _not_meant(wanted: frozenset[str], said: frozenset[str], spoken: frozenset[str]) -> str:
    """The people of a sentence whose source never speaks of those whom the question names."""
    for ours, theirs in _RIVALS:
        if wanted & ours and not wanted & theirs and said & theirs and not spoken & ours:
            return _named(said & theirs)
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
    told: set[tuple[str, str]] = set()
    for page in pages:
        found = _over(page, today) or _outdated(page, pages, dated)
        if found and _document(page) not in told:
            told.add(_document(page))
            yield found


def _over(page: _Page, today: date) -> Conflict | None:
    """A source that says of itself that it was replaced, or whose review is overdue."""
    text, n = page.source.text, page.source.n
    ended = dating.until(text)
    past = ended if ended and ended.day and ended.day < today else dating.replaced(text)
    if past is None or not page.about:
        return None
    return Conflict(
        "stale", (CitedSpan(n, past.start, past.end),), f"“{text[past.start : past.end]}” in [{n}]"
    )


def _outdated(
    page: _Page, pages: Sequence[_Page], dated: dict[int, date | None]
) -> Conflict | None:
    newer = [other for other in pages if _outdates(page, other, dated)]
    if not newer:
        return None
    return _older(page, max(newer, key=lambda other: str(dated[other.source.n])), dated)


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


def _dated_place(page: _Page) -> CitedSpan:
    found = dating.since(page.source.text)
    if found:
        return CitedSpan(page.source.n, found.start, found.end)
    return _cited(page.source, page.about[0])
