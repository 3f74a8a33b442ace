"""Which word of a question leans on something said before it. Pure."""

from __future__ import annotations

import re

from siloquy.generator.understanding.mentions import attribute, specific, tokens
from siloquy.generator.words.plain_words import AUXILIARIES, POPULATION, PREPOSITIONS, verb

_NOUN = (
    r"(?:drug|medicine|medication|medicament|agent|condition|disease|disorder|illness|infection|"
    r"syndrome|cancer|treatment|therapy|procedure|operation|problem|antibiotic)s?"
)
_ORDINAL = (
    r"(?:the |that |this )?(?P<nth>first|second|third|last|other|latter|former)(?: one)?"
    r"(?=\W*$| (?:be|is|are|does|do|have|has|affect\w*|cause\w*)\b)"
)
ANAPHOR = re.compile(
    rf"\b(?:(?:this|that|these|those|such an?|the (?:same|latter|former)) {_NOUN}"
    rf"|the {_NOUN}(?! of| for| that)|it(?!s\b|')|its|they|them|their|{_ORDINAL}"
    r"|this|these|those|that|one|ones)\b",
    re.IGNORECASE,
)
_EXPLETIVE = re.compile(
    r"\b(?:is|was|will|would|does|be) it (?:\w+ ){0,2}(?:to|that|if|when)\b"
    r"|\bit (?:is|was|takes?|comes?) (?:\w+ ){0,2}(?:to|that)\b|\bit take\w* (?:for|to)\b",
    re.IGNORECASE,
)
_ASKED_OF = re.compile(
    r"^(?:\w+ )?(?:what|which|whose|how) [\w -]*?\b(?:does|do|did|is|are|can|could|should|will) $",
    re.IGNORECASE,
)
_BEFORE_THAT = PREPOSITIONS | AUXILIARIES | frozenset("than like and treat treats what".split())
_AFTER_THIS = frozenset("too safe early late dangerous still also".split())
_PEOPLE = re.compile(r"\b(?:patients?|people|parents?|doctors?|nurses?)\b", re.IGNORECASE)
_PLURAL = frozenset({"they", "them", "their"})
_POINTING = frozenset({"this", "that", "these", "those"})


def leaning(body: str) -> re.Match[str] | None:
    """The first word that stands for something said before; None when the clause names it.

    >>> leaning("Can it be given with food?").group()
    'it'
    >>> leaning("Is it safe to give aspirin?")
    """
    idle = [(match.start(), match.end()) for match in _EXPLETIVE.finditer(body)]
    for match in ANAPHOR.finditer(body):
        if any(start <= match.start() < end for start, end in idle):
            continue
        if _stands_for(body, match) and not _antecedent(body, match):
            return match
    return None


def _antecedent(body: str, match: re.Match[str]) -> bool:
    """Whether the clause itself names what the word stands for, before it."""
    before = _ASKED_OF.sub("", body[: match.start()])
    if specific(before):
        return True
    people = _PEOPLE.search(before) or POPULATION.search(before)
    return match.group().lower() in _PLURAL and bool(people)


def _stands_for(body: str, match: re.Match[str]) -> bool:
    """Whether "that", "this", "one" is a pronoun here and no article, conjunction or numeral."""
    word = match.group().lower()
    before = [token.group().lower() for token in tokens(body[: match.start()])]
    after = [token.group().lower() for token in tokens(body[match.end() :])]
    if re.search(rf"{_NOUN}$", word) and after and (specific(after[0]) or attribute(after[0])):
        return False
    if before[-2:] in (["which", "of"], ["what", "of"]) and word != "them":
        return False
    if word == "they":
        return not (before[-1:] in (["do"], ["can"], ["should"], ["will"]) and _again(body, match))
    if word == "one":
        return _one(after)
    return word not in _POINTING or _points(word, before, after)


def _again(body: str, match: re.Match[str]) -> bool:
    """Whether another such word follows: "How do they treat that?" asks about "that"."""
    return bool(ANAPHOR.search(body, match.end()))


def _one(after: list[str]) -> bool:
    """Whether "one" is a thing: "How does one test" is about people."""
    return not after or not after[0][0].isalnum()


def _points(word: str, before: list[str], after: list[str]) -> bool:
    led = word != "that" or not before or before[-1] in _BEFORE_THAT or verb(before[-1])
    free = not after or verb(after[0]) or after[0] in PREPOSITIONS or not after[0][0].isalnum()
    return led and (free or after[0] in _AFTER_THIS)
