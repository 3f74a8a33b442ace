"""Words folded so that their forms are equal: endings, spellings, a few synonyms. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from siloquy.text.words import STOP_WORDS

_STEM = 6
_TOKEN = re.compile(r"\d+(?:[.,]\d+)*|[^\W\d_]+(?:'[a-z]+)?")
_SPELLINGS = (
    ("aem", "em"), ("oed", "ed"), ("oes", "es"), ("aes", "es"), ("paed", "ped"), ("haem", "hem"),
    ("tumour", "tumor"), ("rrhoe", "rrhe"), ("isation", "ization"), ("sulph", "sulf"),
    ("colour", "color"), ("litre", "liter"),
)  # fmt: skip
_ENDING = re.compile(r"(?<=\w{3})(?:ings?|ie[sd]|e[sd]|ly|(?<![aeiou])y|s|e)$")
_ALIKE = {
    stem: group.split()[0]
    for group in (
        "kidney renal nephri", "liver hepati", "heart cardia", "lung pulmon",
        "give admini given gave", "drug medici medica", "show demons indica sugges",
        "reveal shown", "increa raise rais elevat rise risen higher",
        "decrea reduc lower declin dimini", "cause induc", "treat treatm therap",
        "illnes diseas disord", "physic doctor", "avoid contra", "begin start initia began",
        "stop discon cease withdr", "neonat newbor", "infant baby babi", "child childr pediat",
        "cancer carcin malign", "quick rapid", "test assay", "often freque",
        "use used using utiliz employ", "mother matern", "need requir", "help aid",
        "about approx around roughl", "people person patien", "main mainly primar",
        "differ distin", "role functi", "gene genes geneti", "mutat varian",
    )
    for stem in group.split()
}  # fmt: skip
_EMPTY = STOP_WORDS | frozenset(
    "ye may might must shall also been being both each either however into more most other over "
    "same some very via whether within without during because through between but per non ha wa "
    "doe thi hav wer ther thes thos which whil wher bef before after upon under above below".split()
)


@dataclass(frozen=True, slots=True)
class Token:
    """A word or number, folded so that its forms are equal."""

    stem: str
    start: int
    end: int


def tokens_of(text: str) -> list[Token]:
    """Words and numbers of ``text``, stop words too, in order."""
    plain = lower(text).replace("\u2019", "'")
    return [Token(stem(m[0]), m.start(), m.end()) for m in _TOKEN.finditer(plain)]


def stem(word: str) -> str:
    """A lower-case word with ending, spelling and a few synonyms folded.

    >>> stem("haemorrhages") == stem("hemorrhage"), stem("renal") == stem("kidney")
    (True, True)
    """
    if word[0].isdigit():
        return word.replace(",", "")
    for british, american in _SPELLINGS:
        word = word.replace(british, american)
    if word[:_STEM] in _ALIKE:
        return _ALIKE[word[:_STEM]]
    match = _ENDING.search(word)
    word = word[: match.start() if match else None][:_STEM]
    return _ALIKE.get(word, word)


def content(word: str) -> bool:
    """Whether a stem says something by itself."""
    return word not in _EMPTY and (len(word) > 1 or word.isdigit())


def lower(text: str) -> str:
    """``text`` in lower case, every character in its place."""
    lowered = text.lower()
    if len(lowered) == len(text):
        return lowered
    return "".join(c.lower() if len(c.lower()) == 1 else c for c in text)
