"""What a clinical sentence states that must not change: numbers, sides, drugs, people, negation."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from siloquy.generator.checking.quantities import Quantity, quantities
from siloquy.generator.words.drugs import drugs
from siloquy.generator.words.stems import Token, content, lower, tokens_of

MarkKind = Literal["drug", "population", "laterality", "negation", "dose"]
"""Named after the fault that a mark of another value is; 'dose' is the route of a drug."""

_POLES: tuple[tuple[MarkKind, str, str, str], ...] = (
    ("laterality", "side", "left", r"left(?:-sided)?"),
    ("laterality", "side", "right", r"right(?:-sided)?"),
    ("laterality", "sides", "one", r"unilateral(?:ly)?|one[- ]sided"),
    ("laterality", "sides", "both", r"bilateral(?:ly)?|both sides"),
    ("laterality", "height", "up", r"upper|superior"),
    ("laterality", "height", "down", r"lower|inferior"),
    ("laterality", "distance", "near", r"proximal(?:ly)?"),
    ("laterality", "distance", "far", r"distal(?:ly)?"),
    ("laterality", "face", "front", r"anterior(?:ly)?|ventral(?:ly)?"),
    ("laterality", "face", "back", r"posterior(?:ly)?|dorsal(?:ly)?"),
    ("laterality", "middle", "in", r"medial(?:ly)?"),
    ("laterality", "middle", "out", r"lateral(?:ly)?"),
    ("negation", "change", "up",
     r"(?:up-?regulat|increas|rais|elevat|enhanc)\w*|rises?|rising"
     r"|rose|higher|greater|more"),
    ("negation", "change", "down",
     r"(?:down-?regulat|decreas|reduc|diminish|declin|impair)\w*"
     r"|lower(?:s|ed|ing)?|falls?|fell|fewer|less"),
    ("negation", "order", "before", r"before|prior to|preced(?:es|ed|ing)"),
    ("negation", "order", "after", r"after|following|subsequent to"),
    ("negation", "course", "start",
     r"(?:re)?start(?:s|ed|ing)?|begin(?:s|ning)?|initiat\w+"
     r"|commenc\w+|continu(?:e|es|ed|ing)"),
    ("negation", "course", "stop",
     r"stop(?:s|ped|ping)?|discontinu\w+|withh[eo]ld\w*|ceas\w+"
     r"|paused?"),
    ("negation", "safety", "yes", r"safe(?:ly)?|harmless"),
    ("negation", "safety", "no", r"dangerous|harmful|hazardous"),
    ("negation", "place", "above", r"above"),
    ("negation", "place", "below", r"below"),
    ("negation", "level", "high", r"high|hyper\w+"),
    ("negation", "level", "low", r"low|hypo(?!thal|thes)\w+"),
    ("negation", "sign", "positive", r"positive(?:ly)?"),
    ("negation", "sign", "negative", r"negative(?:ly)?"),
    ("negation", "action", "agonist", r"agonists?|activat\w+|stimulat\w+"),
    ("negation", "action", "antagonist",
     r"antagonists?|inhibit\w*|block(?:s|ed|ing|ade)?"
     r"|suppress\w*"),
    ("negation", "growth", "benign", r"benign"),
    ("negation", "growth", "malignant", r"malignan\w+"),
    ("negation", "course of illness", "acute", r"acute(?:ly)?"),
    ("negation", "course of illness", "chronic", r"chronic(?:ally)?"),
    ("dose", "route", "mouth", r"oral(?:ly)?|by mouth"),
    ("dose", "route", "vein", r"intravenous(?:ly)?|iv|through a vein"),
    ("dose", "route", "muscle", r"intramuscular(?:ly)?"),
    ("dose", "route", "skin", r"subcutaneous(?:ly)?"),
    ("dose", "route", "rectum", r"rectal(?:ly)?|by rectum"),
    ("dose", "route", "breath", r"inhal\w+|nebuli\w+"),
    ("dose", "route", "top", r"topical(?:ly)?"),
    ("population", "age", "neonate", r"neonat\w+|newborns?"),
    ("population", "age", "infant", r"infants?|babies|baby"),
    ("population", "age", "child", r"child(?:ren)?(?:'s)?|p(?:a)?ediatric|boys?|girls?"),
    ("population", "age", "adolescent", r"adolescen\w+|teenage\w*|teens?"),
    ("population", "age", "adult", r"adults?"),
    ("population", "age", "older",
     r"elderly|geriatric|frail|older (?:people|adults?|patients"
     r"|men|women|persons)"),
    ("population", "sex", "male", r"men|males?|man"),
    ("population", "sex", "female", r"women|woman|females?"),
    ("population", "pregnancy", "pregnant", r"pregnan\w+"),
    ("population", "pregnancy", "breastfeeding", r"breast-?feeding|lactating"),
    ("population", "organ", "kidney",
     r"(?:renal|kidney) (?:impairment|failure|insufficiency"
     r"|disease|dysfunction)|dialysis|ckd"),
    ("population", "organ", "liver",
     r"(?:hepatic|liver) (?:impairment|failure|insufficiency"
     r"|disease|dysfunction)|cirrho\w+"),
)  # fmt: skip
_POLE = {
    kind: re.compile(
        "|".join(
            rf"(?P<p{i}>\b(?:{pole[3]})\b)" for i, pole in enumerate(_POLES) if pole[0] == kind
        )
    )
    for kind in ("laterality", "negation", "dose", "population")
}
_BOYS = re.compile(r"\b(?:boy|girl)s?\b")

_NO_NEGATION = re.compile(
    r"^\W*no\b(?=,|\.|:|;)|\b(?:not only|not just|with or without|whether or not|no doubt|if not"
    r"|not to mention|not before|not (?:to )?exceed(?:ing)?|cannot be (?:excluded|ruled out)|if no"
    r"|without delay"
    r"|(?:no|not) (?:more|less|later|earlier|longer|greater|higher|lower|fewer) than)\b"
)
_NEGATION = re.compile(
    r"(?P<both>\b(?:not|cannot|never|contra-?indicated|unable|fail(?:s|ed)? to|unlikely|nor"
    r"|prohibited)\b|\w+n['\u2019]t\b)"
    r"|(?P<after>\b(?:no|without|neither|none|avoid(?:s|ed|ing|ance)?|lack(?:s|ed|ing)?|absence"
    r"|absent|refrain|rather than|instead of|free (?:of|from)|except)\b)"
)
_CLAUSE = re.compile(
    r"[,;:.()]|\b(?:but|because|unless|although|though|whereas|while|which|who|if|when)\b"
)
_AFTER, _BEFORE = 5, 4


@dataclass(frozen=True, slots=True)
class Mark:
    """A word that has rivals: 'left' on the axis 'side', 'amoxicillin' on the axis 'drug'."""

    kind: MarkKind
    axis: str
    value: str
    start: int = field(default=0, compare=False)
    end: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Negation:
    """A denial and the stems of the words that it is about.

    near   those that follow it, or for want of them those before it
    """

    near: frozenset[str]
    scope: frozenset[str]
    start: int = field(default=0, compare=False)
    end: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Facts:
    """What two sentences must share to say the same of a patient."""

    quantities: frozenset[Quantity]
    marks: frozenset[Mark]
    negations: frozenset[Negation]


def facts(sentence: str) -> Facts:
    """Quantities, marks and negations of a sentence.

    >>> found = facts("Do not give children amoxicillin 500 mg")
    >>> sorted(mark.value for mark in found.marks), len(found.negations)
    (['amoxicillin', 'child'], 1)
    """
    tokens = tokens_of(sentence)
    return Facts(
        frozenset(quantities(sentence)),
        frozenset(marks(sentence)),
        frozenset(negations(sentence, tokens)),
    )


def marks(text: str) -> list[Mark]:
    """Drugs, people, sides, routes and directions of ``text``."""
    plain = lower(text)
    found = [Mark("drug", "drug", *drug) for drug in drugs(plain)]
    plain = _unmasked(plain)
    for pattern in _POLE.values():
        for match in pattern.finditer(plain):
            found.append(_mark(_POLES[int((match.lastgroup or "p0")[1:])], match))
    return found + [
        Mark("population", "sex", "male" if match[0][0] == "b" else "female", *match.span())
        for match in _BOYS.finditer(plain)
    ]


def _mark(pole: tuple[MarkKind, str, str, str], match: re.Match[str]) -> Mark:
    return Mark(*pole[:3], *match.span())


def _unmasked(plain: str) -> str:
    """A text without the phrases that look like denials or directions and are none."""
    return _NO_NEGATION.sub(lambda match: "\x01" * len(match[0]), plain)


def negations(text: str, tokens: Sequence[Token]) -> list[Negation]:
    """Every denial of ``text`` with what it is about; 'no more than' and the like are none."""
    plain = _unmasked(lower(text))
    stops = [m.start() for m in _CLAUSE.finditer(plain) if not _decimal(plain, m.start())]
    return [_negation(m, tokens, stops) for m in _NEGATION.finditer(plain)]


def _decimal(plain: str, i: int) -> bool:
    return plain[i] in ".," and plain[i + 1 : i + 2].isdigit()


def _negation(match: re.Match[str], tokens: Sequence[Token], stops: Sequence[int]) -> Negation:
    first = max((i for i in stops if i < match.start()), default=-1)
    last = min((i for i in stops if i >= match.end()), default=10**9)
    inside = [t for t in tokens if first < t.start < last and content(t.stem)]
    after = [t.stem for t in inside if t.start >= match.end()][:_AFTER]
    before = [t.stem for t in inside if t.end <= match.start()][-_BEFORE:]
    scope = after + before if match["both"] or not after else after
    return Negation(frozenset(after or before), frozenset(scope), match.start(), match.end())
