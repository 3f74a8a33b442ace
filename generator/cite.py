"""Whether a sentence is carried by the passages that it cites, and where they say it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from siloquy.generator.align import Read, SourceText, Window, joined, read_draft, read_source, windows
from siloquy.generator.fit import Fault, misfit
from siloquy.types import Cited, Source

LEAST_WORDS = 0.45
"""Least share of a sentence's words, and of its rarer ones, that its source must hold."""

NEAR_BEST = 0.75
"""Least share, of that of the nearest source, that another source needs to carry a sentence."""


@dataclass(frozen=True, slots=True)
class Verdict:
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
class Carried:
    """What carries a sentence among several sources.

    spans   best first; empty when nothing does
    fault   what does not fit in the cited source that comes nearest; empty when one carries it
    cited   whether the cited sources carry it; else ``spans`` lie in others
    """

    support: float
    spans: tuple[Cited, ...]
    fault: Fault
    cited: bool


def check(
    sentence: str, source_text: str, title: str = "", similarity: float | None = None
) -> Verdict:
    """Whether the passage says what the sentence says.

    similarity   cosine of the sentence to the passage's nearest sentence, where it is known

    >>> check("Give 25 mg/kg.", "Adults: give 25 mg/kg once.").fault
    ''
    >>> check("Give 50 mg/kg.", "Adults: give 25 mg/kg once.").fault
    'dose'
    >>> check("Give aspirin.", "Wait. Do not give aspirin.")
    Verdict(support=0.0, span=(6, 26), fault='negation')
    """
    source = read_source(source_text, title)
    quoted = _quoted(sentence, source)
    if quoted:
        return Verdict(1.0, quoted)
    verdicts = [_judged(part, source, similarity) for part in read_draft(sentence)]
    if not verdicts:
        return _NOTHING
    worst = min(verdicts, key=lambda verdict: (verdict.holds, verdict.support))
    span = min(v.span[0] for v in verdicts), max(v.span[1] for v in verdicts)
    return replace(worst, span=span) if worst.holds else worst


def _judged(said: Read, source: SourceText, similarity: float | None) -> Verdict:
    """The best window that states the same; for want of one, what is wrong with the nearest."""
    first: Verdict | None = None
    for window in windows(said, source):
        verdict = _weighed(said, window, source, similarity)
        if verdict.holds:
            return verdict
        first = first or verdict
    return first or _NOTHING


def _weighed(said: Read, window: Window, source: SourceText, similarity: float | None) -> Verdict:
    fault = misfit(said, window.sentences, source)
    if fault:
        return Verdict(0.0, window.span, fault, window.share)
    support = worded(said, window, source, similarity)
    return Verdict(support, window.span, "" if support >= LEAST_WORDS else "words", window.share)


def worded(said: Read, window: Window, source: SourceText, similarity: float | None) -> float:
    """The share of a sentence's words that a window holds; those elsewhere in the source by half."""
    held = frozenset(word for sentence in window.sentences for word in sentence.stems)
    near = len(said.stems & held)
    far = len(said.stems & source.stems) - len(said.stems & source.stems & held)
    share = (near + 0.5 * far) / len(said.stems)
    return max(share, min(1.0, similarity)) if similarity is not None else share


_NOTHING = Verdict(0.0, (0, 0), "words", 0.0)


def check_all(sentence: str, sources: Sequence[Source], cited: Sequence[int]) -> Carried:
    """Which sources carry the sentence: the cited ones, together if need be, or others."""
    verdicts = {s.n: check(sentence, s.text, s.title) for s in sources}
    ours = [s for s in sources if s.n in cited]
    found = _best([s.n for s in ours], verdicts)
    if found:
        return Carried(verdicts[found[0].n].support, found, "", True)
    together = _together(sentence, ours)
    if together:
        return together
    found = _best([s.n for s in sources if s.n not in cited], verdicts)
    nearest = max((verdicts[s.n] for s in ours), key=lambda v: v.share, default=None)
    fault: Fault = nearest.fault if nearest else "words"
    return Carried(verdicts[found[0].n].support if found else 0.0, found, fault, False)


def _best(numbers: Sequence[int], verdicts: dict[int, Verdict]) -> tuple[Cited, ...]:
    """Those that hold, best first; one far from the nearest is about something else."""
    least = NEAR_BEST * max((verdicts[n].share for n in numbers), default=0.0)
    holding = [n for n in numbers if verdicts[n].holds and verdicts[n].share >= least]
    holding.sort(key=lambda n: -verdicts[n].support)
    return tuple(Cited(n, *verdicts[n].span) for n in holding)


def _together(sentence: str, sources: Sequence[Source]) -> Carried | None:
    """The sentence carried by two sources, neither of which says all of it."""
    return None


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
