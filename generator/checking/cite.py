"""Whether a sentence is carried by the passages that it cites, and where they say it. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from siloquy.generator.checking.align import (
    Read,
    SourceText,
    Window,
    clauses,
    joined,
    letters,
    merged,
    read_draft,
    read_source,
    windows,
)
from siloquy.generator.checking.fit import Fault, misfit
from siloquy.types import CitedSpan, Source

LEAST_WORDS = 0.45
"""Least share of a sentence's words, and of its rarer ones, that its source must hold."""

LEAST_CLAUSE = 0.34
"""Least share of the words of each of its clauses."""
NEAR_BEST = 0.75
"""Least share, of that of the nearest source, that another source needs to carry a sentence."""

_NAME = re.compile(r"\b[^\W\d_]{2,}-?\d+[^\W_]*\b")


@dataclass(frozen=True, slots=True)
class PassageSupport:
    """How well a passage carries a sentence.

    support   in [0, 1]: 1 for a quotation, 0 when a fact differs, else the share of its words
    span      start and end in the passage of what carries it, or of what comes nearest
    fault     what does not fit; empty when the passage carries the sentence
    share     how many of its words the span holds, whatever the facts
    """

    support: float
    span: tuple[int, int]
    fault: Fault = ""
    share: float = 1.0

    @property
    def holds(self) -> bool:
        """Whether the passage carries the sentence."""
        return not self.fault


@dataclass(frozen=True, slots=True)
class SourceSupport:
    """What carries a sentence among several sources.

    spans   best first; empty when nothing does
    fault   what does not fit in the cited source that comes nearest; empty when one carries it
    cited   whether the cited sources carry it; else ``spans`` lie in others
    """

    support: float
    spans: tuple[CitedSpan, ...]
    fault: Fault
    cited: bool


_NOTHING = PassageSupport(0.0, (0, 0), "words", 0.0)
_OPPOSED = frozenset({"negation", "laterality", "population"})


def check(sentence: str, source_text: str, title: str = "") -> PassageSupport:
    """Whether the passage says what the sentence says.

    >>> check("Give 25 mg/kg.", "Adults: give 25 mg/kg once.").fault
    ''
    >>> check("Give 50 mg/kg.", "Adults: give 25 mg/kg once.").fault
    'dose'
    >>> verdict = check("Give aspirin.", "Wait. Do not give aspirin.")
    >>> verdict.support, verdict.span, verdict.fault
    (0.0, (6, 26), 'negation')
    """
    source = read_source(source_text, title)
    quoted = _quoted(sentence, source)
    if quoted:
        return PassageSupport(1.0, quoted)
    verdicts = [_judged(part, windows(part, source), source) for part in read_draft(sentence)]
    worst = min(verdicts, key=lambda verdict: (verdict.holds, verdict.support), default=_NOTHING)
    if not worst.holds:
        return worst
    span = min(v.span[0] for v in verdicts), max(v.span[1] for v in verdicts)
    return replace(worst, span=span)


def _judged(said: Read, places: Sequence[Window], source: SourceText) -> PassageSupport:
    """The best window that states the same; for want of one, what is wrong with the nearest."""
    if said.crowded:
        return _NOTHING
    verdicts = [_weighed(said, window, source) for window in places]
    return next((v for v in verdicts if v.holds), verdicts[0] if verdicts else _NOTHING)


def _weighed(said: Read, window: Window, source: SourceText) -> PassageSupport:
    fault = misfit(said, window.sentences, source)
    support = 0.0 if fault else worded(said, window, source)
    strange = any(_astray(clause, source) for clause in clauses(said)) or _misnamed(said, source)
    if support < LEAST_WORDS or strange:
        fault = fault or "words"
    return PassageSupport(support, window.span, fault, window.share)


def worded(said: Read, window: Window, source: SourceText) -> float:
    """Share of a sentence's words that a window holds; those elsewhere in the source by half."""
    held = frozenset(word for sentence in window.sentences for word in sentence.stems)
    near, anywhere = len(said.stems & held), len(said.stems & (source.stems | held))
    return (near + anywhere) / (2 * len(said.stems))


def _astray(clause: frozenset[str], source: SourceText) -> bool:
    """Whether a part of the sentence speaks of what the source does not know."""
    return len(clause & source.stems) < LEAST_CLAUSE * len(clause)


def _misnamed(said: Read, source: SourceText) -> bool:
    """Whether the sentence has a name with a number, such as FBN1, that the source has not."""
    return any(letters(name) not in source.letters for name in _NAME.findall(said.text))


def check_all(sentence: str, sources: Sequence[Source], cited: Sequence[int]) -> SourceSupport:
    """Which sources carry the sentence: the cited ones, together if need be, or others.

    Other sources are looked at only when the cited ones do not carry it. A cited source that says
    otherwise while another carries the sentence is left out of the spans.
    """
    ours = [source for source in sources if source.n in cited]
    verdicts = {s.n: check(sentence, s.text, s.title) for s in ours}
    found = _best(verdicts)
    if found:
        return SourceSupport(verdicts[found[0].n].support, found, "", True)
    nearest = max(verdicts.values(), key=lambda verdict: verdict.share, default=_NOTHING)
    together = None if nearest.fault in _OPPOSED else _together(sentence, ours)
    if together:
        return together
    others = {s.n: check(sentence, s.text, s.title) for s in sources if s.n not in cited}
    found = _best(others)
    return SourceSupport(others[found[0].n].support if found else 0.0, found, nearest.fault, False)


def _best(verdicts: Mapping[int, PassageSupport]) -> tuple[CitedSpan, ...]:
    """Those that hold, best first; one far from the nearest is about something else."""
    least = NEAR_BEST * max((verdict.share for verdict in verdicts.values()), default=0.0)
    holding = [n for n, v in verdicts.items() if v.holds and v.share >= least]
    holding.sort(key=lambda n: -verdicts[n].support)
    return tuple(CitedSpan(n, *verdicts[n].span) for n in holding)


def _together(sentence: str, sources: Sequence[Source]) -> SourceSupport | None:
    """The sentence carried by two sources, neither of which says all of it."""
    parts = read_draft(sentence)
    if len(sources) < 2 or not parts:
        return None
    a, b = _two(frozenset(word for part in parts for word in part.stems), sources)
    texts = [read_source(source.text, source.title) for source in (a, b)]
    verdicts, spans = [], set()
    for part in parts:
        near = [
            (source.n, w)
            for source, text in zip((a, b), texts, strict=True)
            for w in windows(part, text)[:1]
        ]
        whole = [joined([w for _, w in near], part)] if near else []
        verdicts.append(_judged(part, whole, merged(*texts)))
        spans |= {CitedSpan(n, *w.span) for n, w in near}
    if not all(verdict.holds for verdict in verdicts):
        return None
    support = min(verdict.support for verdict in verdicts)
    return SourceSupport(support, tuple(sorted(spans, key=lambda c: (c.n, c.start))), "", True)


def _two(said: frozenset[str], sources: Sequence[Source]) -> tuple[Source, Source]:
    """The source that holds most of the words, and the one that adds most to it."""
    stems = {source.n: said & read_source(source.text, source.title).stems for source in sources}
    first = max(sources, key=lambda source: len(stems[source.n]))
    others = [source for source in sources if source is not first]
    return first, max(others, key=lambda source: len(stems[source.n] - stems[first.n]))


def _quoted(sentence: str, source: SourceText) -> tuple[int, int] | None:
    """Where ``sentence`` stands as one or more whole sentences, spacing aside."""
    wanted = _squeezed(sentence)
    for first in range(len(source.sentences) if wanted else 0):
        joined_up = ""
        for last in source.sentences[first:]:
            joined_up = f"{joined_up} {_squeezed(last.text)}".lstrip()
            if joined_up == wanted:
                return source.sentences[first].start, last.end
            if not wanted.startswith(joined_up):
                break
    return None


def _squeezed(text: str) -> str:
    return " ".join(text.split())
