"""Whether evidence is enough to answer from. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from siloquy.generator.quotes import quotes_of, rarity, stems
from siloquy.text import terms
from siloquy.types import Source

# Best cosine plus coverage; set on the 30 questions of the demo hospitals, nothing larger yet.
LEAST_EVIDENCE = 1.15
_ASKING = frozenset(
    "soon must many much often long fast need needed given give used use happened started start "
    "recommended allowed first any every within before after during also".split()
)


def lacking(question: str, sources: Sequence[Source], floor: float) -> str:
    """Why the sources are too little to answer from, in words for the reader; empty if enough."""
    best = max((source.score for source in sources), default=0.0)
    if best < floor:
        return "no released passage is close enough to the question"
    if evidence(question, sources) < LEAST_EVIDENCE:
        return "the passages do not speak of what the question names"
    return ""


@dataclass(frozen=True, slots=True)
class Answerable:
    """The parts of a question that the sources may answer, and why not the others."""

    questions: tuple[str, ...]
    reason: str
    notes: tuple[str, ...]


def answerable(questions: Sequence[str], sources: Sequence[Source], floor: float) -> Answerable:
    """Which of ``questions`` the sources are enough for; ``reason`` is told when none is."""
    reasons = {question: lacking(question, sources, floor) for question in questions}
    kept = tuple(question for question, reason in reasons.items() if not reason)
    notes = tuple(
        f"no answer to part {i} of the question: {reason}"
        for i, reason in enumerate(reasons.values(), start=1)
        if reason
    )
    reason = "; ".join(dict.fromkeys(filter(None, reasons.values())))
    return Answerable(kept, "" if kept else reason, notes if kept else ())


def evidence(question: str, sources: Sequence[Source]) -> float:
    """How much speaks for an answer from the sources; higher is more."""
    best = max((source.score for source in sources), default=0.0)
    return best + coverage(question, sources)


def coverage(question: str, sources: Sequence[Source]) -> float:
    """How much of what the question names stands in the sources, in [0, 1].

    Words are weighed by how rare they are among the sources' sentences, so that the one word that
    none of them holds weighs most.
    """
    texts = [stems(f"{quote.source.title} {quote.text}") for quote in quotes_of(sources)]
    named = " ".join(word for word in terms(question) if word not in _ASKING) or question
    weights = rarity(named, texts)
    found = sum(weight for stem, weight in weights.items() if any(stem in text for text in texts))
    total = sum(weights.values())
    return found / total if total else 0.0
