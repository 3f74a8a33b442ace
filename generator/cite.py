"""Whether a sentence is carried by the passage that it cites. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from siloquy.text import STOP_WORDS, sentence_spans, words

_QUANTITY = re.compile(r"(\d+(?:[.,]\d+)*)\s*(%|[^\W\d_]+(?:/[^\W\d_]+)*)?")
_NEGATIONS = frozenset("no not never without cannot neither nor none avoid contraindicated".split())


@dataclass(frozen=True, slots=True)
class Facts:
    """What two sentences must share to say the same of a patient."""

    quantities: frozenset[str]
    negations: frozenset[str]


def facts(sentence: str) -> Facts:
    """Numbers with the word that follows them, and negations of a sentence.

    >>> sorted(facts("Do not give 2.5 mg within 6 hours").quantities)
    ['2.5 mg', '6 hours']
    """
    said = frozenset(words(sentence))
    found = {f"{number} {unit.lower()}" for number, unit in _QUANTITY.findall(sentence)}
    return Facts(frozenset(found), said & _NEGATIONS)


def support(sentence: str, source: str) -> float:
    """Share of the sentence's content words that stand in ``source``, in [0, 1].

    1 for a quotation of whole sentences. 0 when the sentence holds a number with a unit that the
    source's nearest sentence does not, or is negated where that is not, or the other way round:
    those change what is done to a patient.

    >>> support("Give 25 mg/kg.", "Adults: give 25 mg/kg once.")
    1.0
    >>> support("Give 50 mg/kg.", "Adults: give 25 mg/kg once.")
    0.0
    >>> support("Give aspirin.", "Do not give aspirin.")
    0.0
    """
    told = [source[start:end] for start, end in sentence_spans(source)]
    if quotes(sentence, told):
        return 1.0
    parts = [sentence[start:end] for start, end in sentence_spans(sentence)]
    return min((_carried(part, source, told) for part in parts), default=0.0)


def _carried(sentence: str, source: str, told: Sequence[str]) -> float:
    content = [word for word in words(sentence) if word not in STOP_WORDS] or words(sentence)
    said, near = facts(sentence), facts(_nearest(content, told))
    if not content or said.quantities - near.quantities or said.negations != near.negations:
        return 0.0
    known = set(words(source))
    return sum(word in known for word in content) / len(content)


def quotes(sentence: str, told: Sequence[str]) -> bool:
    """Whether ``sentence`` is one or more whole sentences of ``told``, spacing aside."""
    wanted, pieces = _squeezed(sentence), [_squeezed(piece) for piece in told]
    for first in range(len(pieces)):
        joined = pieces[first]
        for piece in pieces[first + 1 :]:
            if len(joined) >= len(wanted):
                break
            joined = f"{joined} {piece}"
        if joined == wanted:
            return True
    return False


def _nearest(content: Sequence[str], told: Sequence[str]) -> str:
    """The sentence that holds most of the content words."""
    return max(told, key=lambda piece: len(set(content) & set(words(piece))), default="")


def _squeezed(text: str) -> str:
    return " ".join(text.split())
