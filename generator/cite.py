"""Whether a sentence is carried by the passage that it cites. Pure."""

from __future__ import annotations

import re

from siloquy.text import STOP_WORDS, words

_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_NEGATIONS = frozenset("no not never without cannot neither nor none avoid contraindicated".split())


def support(sentence: str, source: str) -> float:
    """Share of the sentence's content words that stand in ``source``, in [0, 1].

    0 when the sentence holds a number or a negation that the source does not: those change what
    is done to a patient. 1 for a quotation.

    >>> support("Give 25 mg/kg.", "Adults: give 25 mg/kg once.")
    1.0
    >>> support("Give 50 mg/kg.", "Adults: give 25 mg/kg once.")
    0.0
    """
    if _squeezed(sentence) in _squeezed(source):
        return 1.0
    said, known = words(sentence), set(words(source))
    if set(_NUMBER.findall(sentence)) - set(_NUMBER.findall(source)):
        return 0.0
    if (_NEGATIONS & set(said)) - known:
        return 0.0
    content = [word for word in said if word not in STOP_WORDS]
    if not content:
        return 0.0
    return sum(word in known for word in content) / len(content)


def _squeezed(text: str) -> str:
    return " ".join(text.split())
