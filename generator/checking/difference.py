"""Whether two sentences of different hospitals say different things of the same matter. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from siloquy.generator.checking.align import Read, context, likeness
from siloquy.generator.checking.fit import denied_by_one
from siloquy.generator.checking.quantities import Quantity, same
from siloquy.generator.words.stems import content

LEAST_SHARED = 3
LEAST_ALIKE = 0.5
LEAST_CLOSE = 0.55
LEAST_SLOT = 0.6
MOST_WORDS = 30
_SOME = re.compile(r"\b(?:most|many|some|other|others|few|often|usually|sometimes|rarely)\b")
_WAYS = {word: word for word in "for over within every until".split()} | {"first": "within"}
_SIDES = frozenset({"before", "after", "old"})
_TELLING = ("order", "course", "safety")
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
class Difference:
    """What two sentences differ in; ``alike`` is larger the surer it is that they may not."""

    kind: Literal["dose", "disagreement"]
    alike: float
    detail: str


def difference(n: int, left: Read, m: int, right: Read) -> Difference | None:
    """What a sentence of source ``n`` and one of source ``m`` exclude each other in.

    The words outside of quantities must agree, and the quantities that differ must stand among the
    same words: the thresholds were set on labelled pairs and on the questions of mediqa_sites,
    where alarms were read.
    """
    shared = _words(left) & _words(right)
    alike = len(shared) / max(1, min(len(_words(left)), len(_words(right))))
    if len(shared) < LEAST_SHARED or alike < LEAST_ALIKE or not _comparable(left, right):
        return None
    pair = None if _apart(left, right, "order") else _other_quantity(left, right)
    if pair:
        detail = f"{_written(left, pair[0])} in [{n}], {_written(right, pair[1])} in [{m}]"
        return Difference(_kind(left, pair[0]), 1 + alike, detail)
    told_alike = _closely_alike(left, right) and not (_vague(left) or _vague(right))
    detail = _denial(n, left, m, right) if told_alike else ""
    return Difference("disagreement", alike, detail) if detail else None


def _vague(sentence: Read) -> bool:
    """Whether it speaks of some and not of others, or of so much that a denial may be of a part."""
    return len(sentence.tokens) > MOST_WORDS or bool(_SOME.search(sentence.text.lower()))


def _kind(sentence: Read, quantity: Quantity) -> Literal["dose", "disagreement"]:
    often = quantity.dimension == "frequency" and _drugs(sentence)
    return "dose" if quantity.measured_out or often else "disagreement"


def _written(sentence: Read, quantity: Quantity) -> str:
    return sentence.text[quantity.start : quantity.end]


def _closely_alike(left: Read, right: Read) -> bool:
    """Whether most of the words of both are shared, not only those of the shorter one."""
    ours, theirs = _words(left), _words(right)
    return len(ours & theirs) >= LEAST_CLOSE * len(ours | theirs)


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


def _comparable(left: Read, right: Read) -> bool:
    """Whether two sentences speak of the same drug, side, route and case, as far as they say."""
    drugs = _drugs(left), _drugs(right)
    if (drugs[0] or drugs[1]) and not drugs[0] & drugs[1]:
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
            if not _of_one_kind(left, first, right, second) or not exclude(first, second):
                continue
            if _also_said(first, right) or _also_said(second, left):
                continue
            slot = likeness(
                context(left, first.start, first.end), context(right, second.start, second.end)
            )
            best = max(best, (slot, (first, second)), key=lambda pair: pair[0])
    return best[1]


def _of_one_kind(left: Read, first: Quantity, right: Read, second: Quantity) -> bool:
    """Whether two quantities can be compared; plain numbers only if they count the same thing."""
    if first.dimension != second.dimension:
        return False
    if first.dimension == "time":
        ways = _way(left, first), _way(right, second)
        return not all(ways) or ways[0] == ways[1]
    if first.dimension == "share":
        return _closely_alike(left, right)
    if first.dimension:
        return True
    counted = [
        next((t.stem for t in sentence.tokens if t.start >= q.end), "")
        for sentence, q in ((left, first), (right, second))
    ]
    return counted[0] == counted[1] and content(counted[0])


def _way(sentence: Read, time: Quantity) -> str:
    """How a time is meant, if the sentence says so: for, over, within, until; before, after."""
    before = sentence.text[: time.start].lower().split()[-4:]
    after = sentence.text[time.end :].lower().split()[:1]
    named = [_WAYS[word] for word in before if word in _WAYS] + [w for w in after if w in _SIDES]
    return named[-1] if named else ""


def _also_said(quantity: Quantity, other: Read) -> bool:
    return any(
        not exclude(quantity, q) for q in other.quantities if q.dimension == quantity.dimension
    )


def exclude(a: Quantity, b: Quantity) -> bool:
    """Whether two quantities of one dimension cannot both be meant.

    >>> from siloquy.generator.checking.quantities import quantities
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
    timed = any(q.dimension == "time" for q in (*left.quantities, *right.quantities))
    for axis in _TELLING:
        if _apart(left, right, axis) and not (timed and axis == "order"):
            first_word, second_word = (_said(sentence, axis) for sentence in (left, right))
            return f"\u201c{first_word}\u201d in [{n}], \u201c{second_word}\u201d in [{m}]"
    return ""


def _said(sentence: Read, axis: str) -> str:
    return next(sentence.text[m.start : m.end] for m in sentence.marks if m.axis == axis)
