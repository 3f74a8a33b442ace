"""Abstention: whether evidence is enough to answer from. Pure.

One passage must both lie near the question and hold the words that it is about. On 996 held-out
questions of BioASQ and PubMedQA with and without their gold documents the sum of the two tells
the cases apart better (area under the curve .91) than the nearest cosine (.84) or the words alone
(.88). A logistic regression on twenty such features is no better on them and worse on other sets.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from siloquy.generator.words.rare_words import share, weigh
from siloquy.types import Source

# One in ten BioASQ and PubMedQA questions of the training half (even SHA-256 of the id) whose gold
# documents are there stays below it; the answerable questions of the demo hospitals reach 1.06.
LEAST_EVIDENCE = 0.98
WORDS_WEIGHT = 0.7
# A long message holds words that no passage needs to hold: without this, 35 % instead of 21 % of
# the letters of mediqa_sites get no answer though a judged one was found.
LONG_WORDS, LONG_WEIGHT = 10, 0.3


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
    """How much speaks for an answer from the best of the sources; higher is more, 0 for none."""
    weights = weigh(question)
    long = LONG_WEIGHT * math.log(max(len(weights), LONG_WORDS) / LONG_WORDS)
    shares = [share(weights, f"{source.title} {source.text}") for source in sources]
    return max(
        (
            source.score + WORDS_WEIGHT * held + long
            for source, held in zip(sources, shares, strict=True)
        ),
        default=0.0,
    )
