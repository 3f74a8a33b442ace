"""Whether what a sentence states fits the sentences that it rests on. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Literal

from siloquy.generator.checking.align import Read, SourceText, context
from siloquy.generator.checking.facts import Mark, Negation
from siloquy.generator.checking.quantities import Quantity, same

Fault = Literal[
    "", "dose", "number", "unit", "negation", "laterality", "drug", "population", "words"
]

_AS_GOOD = 1.25
_CLEARLY = 0.15
_OF_ITS_KIND = {"child": {"infant", "neonate", "adolescent"}, "adult": {"older"}}
_PREFIX = ("un", "in", "im", "non")
_BARE = 4
_PLACED = frozenset({"laterality", "population", "drug"})
_RATES = frozenset({"frequency", "year"})


def misfit(said: Read, told: Sequence[Read], source: SourceText) -> Fault:
    """The first class in which ``said`` states what ``told`` does not; empty when all fits."""
    near = [(mark, sentence) for sentence in told for mark in sentence.marks]
    for mark in said.marks:
        if not _mark_fits(mark, said, [pair for pair in near if pair[0].axis == mark.axis], source):
            return mark.kind
    for quantity in said.quantities:
        fault = _quantity_fault(quantity, said, told)
        if fault:
            return fault
    return "" if _negations_fit(said, told) else "negation"


# -- marks ----------------------------------------------------------------------------------------


def _mark_fits(
    mark: Mark, said: Read, near: Sequence[tuple[Mark, Read]], source: SourceText
) -> bool:
    alike = [pair for pair in near if _alike(mark, pair[0])]
    rivals = [pair for pair in near if not _alike(mark, pair[0])]
    if _exchanged(mark, said, [t for t, _ in near]):
        return False
    if alike:
        placed = mark.kind in _PLACED
        return not placed or not _elsewhere(context(said, mark.start, mark.end), alike, rivals)
    ours = {m.value for m in said.marks if m.axis == mark.axis}
    if any(t.value not in ours for t, _ in rivals):
        return False
    return mark.kind in ("negation", "dose") or any(_alike(mark, t) for t in source.marks)


def _alike(said: Mark, told: Mark) -> bool:
    return said.axis == told.axis and (
        said.value == told.value or told.value in _OF_ITS_KIND.get(said.value, ())
    )


def _exchanged(mark: Mark, said: Read, told: Sequence[Mark]) -> bool:
    """Whether the value is said more often than told, and a rival less often: 'men and men'."""
    ours = Counter(m.value for m in said.marks if m.axis == mark.axis)
    theirs = Counter(m.value for m in told)
    more = ours[mark.value] > sum(n for m, n in theirs.items() if _of_value(mark, m))
    return more and any(
        ours[value] < n for value, n in theirs.items() if not _of_value(mark, value)
    )


def _of_value(mark: Mark, value: str) -> bool:
    return value == mark.value or value in _OF_ITS_KIND.get(mark.value, ())


def _elsewhere(
    own: dict[str, float],
    alike: Sequence[tuple[Mark | Quantity, Read]],
    rivals: Sequence[tuple[Mark | Quantity, Read]],
) -> bool:
    """Whether a rival stands among the sentence's words and the value that was said does not."""
    ours = [context(s, t.start, t.end) for t, s in alike]
    theirs = [context(s, t.start, t.end) for t, s in rivals]
    return any(all(_nearer(own, rival, value) for value in ours) for rival in theirs)


def _nearer(own: dict[str, float], rival: dict[str, float], value: dict[str, float]) -> bool:
    """Whether the words that tell two contexts apart speak for the rival's."""
    for_rival = for_value = 0.0
    for word, worth in own.items():
        gap = min(worth, rival.get(word, 0.0)) - min(worth, value.get(word, 0.0))
        for_rival += max(0.0, gap)
        for_value += max(0.0, -gap)
    return for_rival > _AS_GOOD * for_value + _CLEARLY


# -- quantities -----------------------------------------------------------------------------------


def _quantity_fault(quantity: Quantity, said: Read, told: Sequence[Read]) -> Fault:
    near = [(t, sentence) for sentence in told for t in sentence.quantities]
    alike = [pair for pair in near if same(quantity, pair[0])]
    kind: Fault = "dose" if quantity.measured_out else "number"
    if not alike:
        if _named(quantity, said, told):
            return ""
        return "unit" if any(_rescaled(quantity, t) for t, _ in near) else kind
    rivals = [p for p in near if _kind(p[0]) == _kind(quantity) and p not in alike]
    if _repeated(quantity, said, [t for t, _ in alike], [t for t, _ in rivals]):
        return kind
    own = context(said, quantity.start, quantity.end)
    return kind if _elsewhere(own, alike, rivals) else ""


def _kind(quantity: Quantity) -> str:
    """What is measured, whether or not for each kilogram."""
    return quantity.dimension.partition("/")[0]


def _rescaled(said: Quantity, told: Quantity) -> bool:
    """Whether the number is the same and only its unit is another: 10 mg, 10 micrograms."""
    return said.said == told.said and not {said.dimension, told.dimension} & _RATES


def _repeated(
    quantity: Quantity, said: Read, alike: Sequence[Quantity], rivals: Sequence[Quantity]
) -> bool:
    """Whether the number is said more often than told, in the place of one that is not said."""
    unsaid = [r for r in rivals if not any(same(r, q) for q in said.quantities)]
    return bool(unsaid) and sum(same(quantity, q) for q in said.quantities) > len(alike)


def _named(quantity: Quantity, said: Read, told: Sequence[Read]) -> bool:
    """Whether a plain number is part of a name that the source has: 'IL 6' for 'IL-6'."""
    if quantity.dimension:
        return False
    pairs = {pair for sentence in told for pair in _pairs(sentence)}
    number = said.text[quantity.start : quantity.end]
    return any(pair in pairs for pair in _pairs(said) if pair[1] == number)


def _pairs(sentence: Read) -> Iterator[tuple[str, str]]:
    stems = [token.stem for token in sentence.tokens]
    return pairwise(stems)


# -- negations ------------------------------------------------------------------------------------


def _negations_fit(said: Read, told: Sequence[Read]) -> bool:
    ours, theirs = list(_denied(said, told)), [n for s in told for n in _denied(s, [said])]
    spoken = frozenset(word for sentence in told for word in sentence.stems)
    unanswered = _unanswered(ours, theirs)
    if any(not theirs or n.near & spoken for n in unanswered):
        return False
    left = _unanswered(theirs, ours)
    words = Counter(token.stem for sentence in told for token in sentence.tokens)
    return not any(_taken_up(n, said, words) for n in left)


def _denied(sentence: Read, others: Sequence[Read]) -> Iterator[Negation]:
    """Denials by a word of their own, and by a prefix where the other side lacks it."""
    yield from sentence.negations
    words = frozenset(word for other in others for word in other.stems)
    for word in sentence.stems - words:
        bare = next((word[len(p) :] for p in _PREFIX if word.startswith(p)), "")
        if bare:
            meant = frozenset(w for w in words if w == bare or _begins(w, bare))
            if meant:
                yield Negation(meant, meant)


def _begins(a: str, b: str) -> bool:
    return min(len(a), len(b)) >= _BARE and (a.startswith(b) or b.startswith(a))


def _unanswered(negations: Sequence[Negation], others: Sequence[Negation]) -> list[Negation]:
    """Those that the other side does not share, each of its own answering one."""
    free, left = list(others), []
    for negation in negations:
        answer = max(free, key=lambda o: _agreement(negation, o), default=None)
        if answer is None or not _agreement(negation, answer):
            left.append(negation)
        else:
            free.remove(answer)
    return left


def _agreement(a: Negation, b: Negation) -> int:
    """How many words two denials are both about; 'avoid tea' may answer 'tea is not drunk'."""
    loose = a.near == a.scope or b.near == b.scope
    return len(a.near & b.near) or (len(a.near & b.scope) + len(a.scope & b.near) if loose else 0)


def _taken_up(negation: Negation, said: Read, words: Counter[str]) -> bool:
    """Whether the sentence speaks of most of what was denied and is not said beside."""
    only = {word for word in negation.near if words[word] < 2} or negation.near
    return len(only & said.stems) >= max(1.0, 0.6 * len(only))


# -- two sources ----------------------------------------------------------------------------------


def denied_by_one(a: Read, b: Read) -> Literal["", "first", "second"]:
    """Which of two sentences denies what the other says; empty when neither or both do."""
    first, second = list(_denied(a, [b])), list(_denied(b, [a]))
    of_a, of_b = _denials(first, second, a, b), _denials(second, first, b, a)
    if of_a + of_b != 1:
        return ""
    return "first" if of_a else "second"


def _denials(mine: Sequence[Negation], others: Sequence[Negation], own: Read, said: Read) -> int:
    """How often one denies what the other says; 'without' tells a case and denies nothing."""
    words = Counter(token.stem for token in own.tokens)
    told = [n for n in _unanswered(mine, others) if own.text[n.start : n.end].lower() != "without"]
    return sum(_taken_up(n, said, words) for n in told)
