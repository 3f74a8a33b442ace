"""What finding each word of a question is worth, and whether a text holds it. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping

from siloquy.generator.words.common_words import COMMON, FAMILIAR
from siloquy.generator.words.plain_words import plain
from siloquy.text.words import terms, words

COMMON_WEIGHT, FAMILIAR_WEIGHT, RARE_WEIGHT = 0.15, 0.5, 1.0
# Two words are alike when they begin alike: "inhibitor" and "inhibits", not "hemolacria" and
# "hemolysis".
_LEAST_SHARED, _SHARED, _MOST_LONGER = 4, 0.6, 5
_ASKING = frozenset(
    "soon must many much often long fast need needed given give used use happened started start "
    "recommended allowed first any every within before after during also".split()
)


def weigh(question: str) -> dict[str, float]:
    """The words that a question names, each with what finding it is worth.

    >>> weigh("What is the dose of apixaban?")
    {'dose': 0.15, 'apixaban': 1.0}
    """
    named = [word for word in terms(question) if word not in _ASKING] or terms(question)
    return {word: _weight(word) for word in named}


def _weight(word: str) -> float:
    if plain(word) or word in COMMON:
        return COMMON_WEIGHT
    return FAMILIAR_WEIGHT if word in FAMILIAR else RARE_WEIGHT


def share(weights: Mapping[str, float], text: str) -> float:
    """How much of the weight stands in the text, in [0, 1]; 0 when there are no words.

    >>> share({"dose": 0.25, "apixaban": 0.75}, "Doses of warfarin")
    0.25
    """
    said = frozenset(words(text))
    found = sum(weight for word, weight in weights.items() if stands(word, said))
    return found / (sum(weights.values()) or 1.0)


def stands(word: str, said: frozenset[str]) -> bool:
    """Whether the word, or one that begins alike, is among those said."""
    if word in said:
        return True
    if len(word) < _LEAST_SHARED or not word.isalpha():
        return False
    return any(_alike(word, other) for other in said if other[0] == word[0])


def _alike(a: str, b: str) -> bool:
    shorter, longer = sorted((len(a), len(b)))
    shared = max(_LEAST_SHARED, math.ceil(_SHARED * longer))
    return longer - shorter <= _MOST_LONGER and a[:shared] == b[:shared]
