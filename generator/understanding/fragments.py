"""A follow-up that is no clause, put into the question before it. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from siloquy.generator.understanding.carried import (
    before_preposition,
    carried,
    continues,
    counted,
    joined,
    main_clause,
    with_around,
)
from siloquy.generator.understanding.leaning import ANAPHOR
from siloquy.generator.understanding.mentions import (
    attribute,
    bare,
    kind,
    phrases,
    specific,
    tokens,
    topic,
)
from siloquy.generator.words.plain_words import (
    AUXILIARIES,
    CONDITION,
    MANNERS,
    POPULATION,
    PREPOSITIONS,
    WH,
    verb,
)
from siloquy.types import Turn

_IMPERATIVE = frozenset("tell explain describe list compare give show name define".split())
_ALIKE = (
    {"through", "via", "by"},
    {"before", "after", "during", "at"},
    {"of"},
    {"in", "for", "with", "to"},
)


def is_fragment(body: str) -> bool:
    """Whether it is no clause: no auxiliary and no question word that has a verb."""
    found = [token.group().lower() for token in tokens(body)]
    first = found[0]
    if first in AUXILIARIES or first in _IMPERATIVE:
        return False
    if first in WH or (len(found) > 1 and found[1] in WH):
        return not any(verb(word) for word in found[1:])
    asks = any(word in WH for word in found) and any(verb(word) for word in found)
    return not asks and not any(word in AUXILIARIES for word in found)


def replaced(turns: Sequence[Turn], last: str, opening: str, body: str) -> str | None:
    """The last question with the fragment in the place of what it replaces."""
    whom = POPULATION.search(body)
    if whom and not specific(POPULATION.sub(" ", body)):
        return _for_whom(last, body)
    if attribute(body) and not specific(body):
        return _property(turns, last, body)
    found = ANAPHOR.search(body)
    if found and (meant := counted(turns, found["nth"])):
        return f"{main_clause(last)}, and what about {meant.entity}"
    first, _, rest = body.partition(" ")
    if first.lower() in PREPOSITIONS and rest:
        return _placed(last, first.lower(), rest)
    if not opening and not continues(turns, body) and len(body.split()) > 3:
        return None
    if body.lower() in MANNERS:
        return f"{main_clause(last)}, {body}"
    if CONDITION.search(body):
        return f"{main_clause(last)} with {body}"
    return _renamed(last, body)


def _for_whom(last: str, body: str) -> str:
    first, _, rest = body.partition(" ")
    given = first.lower() if first.lower() in PREPOSITIONS and rest else ""
    name = rest if given else body
    old = POPULATION.search(last)
    if not old:
        return f"{main_clause(last)} {given or 'in'} {name}"
    before, after = last[: old.start()], last[old.end() :]
    placed = re.search(r"\b(\w+) (?:an? |the )?$", before)
    if placed and placed[1].lower() in PREPOSITIONS:
        kept = before[: placed.start()]
        return f"{kept}{placed[1]} {name}{after}"
    return f"{main_clause(f'{before}{after}')} {given or 'in'} {name}"


def _property(turns: Sequence[Turn], last: str, body: str) -> str:
    about = carried(turns, last, body)
    name = re.sub(r"^(?:(?:what|which|the|any|an?|its|their)\s+)+", "", body, flags=re.IGNORECASE)
    name = re.sub(
        r"^(?:maximum|minimum|maximal)\b(?! dose)", r"\g<0> dose", name, flags=re.IGNORECASE
    )
    be = "are" if before_preposition(name)[0].endswith("s") else "is"
    asked = f"what {be} the {name[0].lower()}{name[1:]}"
    return joined(asked, about) if about else f"{main_clause(last)}: {body}"


def _placed(last: str, preposition: str, rest: str) -> str:
    """The last question with a phrase of the same or a like preposition replaced."""
    like = next((group for group in _ALIKE if preposition in group), {preposition})
    there = [phrase for phrase in phrases(last) if not phrase.population]
    found = [phrase for phrase in there if phrase.preposition == preposition] or [
        phrase for phrase in there if phrase.preposition in like
    ]
    found = found or [
        phrase for phrase in there if phrase.preposition and kind(phrase.text) == kind(rest) != ""
    ]
    if not found:
        return f"{main_clause(last)} {preposition} {rest}"
    old = found[-1]
    name = re.sub(r"\bones?\b$", _head(old.text), rest)
    begin = last.lower().rfind(old.preposition, 0, old.start)
    attached = [p.end for p in phrases(last) if p.start > old.end and p.preposition == "with"]
    return f"{last[:begin]}{preposition} {name}{last[max([old.end, *attached]) :]}"


def _head(text: str) -> str:
    """The noun that "one" stands for: the last word before a preposition."""
    found = [match.group() for match in tokens(text)]
    cut = next(
        (i for i, word in enumerate(found) if i and word.lower() in PREPOSITIONS), len(found)
    )
    return found[cut - 1]


def _renamed(last: str, body: str) -> str:
    """The last question asked of another drug or disease; of something else beside it."""
    name = re.sub(r"^(?:the|an?) ", "", body, flags=re.IGNORECASE)
    named = [phrase for phrase in phrases(last) if phrase.specific and not phrase.population]
    alike = [phrase for phrase in named if kind(phrase.text) == kind(name)]
    about = topic(last, "disease")
    if not alike and about and kind(name) == "drug":
        return with_around(f"what about {body} in {about.entity}", about)
    if not alike:
        return f"{main_clause(last)}, and what about {body}"
    old = bare(alike[0].text)
    start = last.find(old, alike[0].start)
    return f"{last[:start]}{name}{last[start + len(old) :]}"


def spliced(last: str, asked: str) -> str:
    """The last question with another question word: "How is gout treated?", "For how long?"."""
    main = re.sub(r"^[\w ]+: ", "", main_clause(last))
    found = tokens(main)
    at = next((i for i, t in enumerate(found) if t.group().lower() in AUXILIARIES), None)
    if at is None:
        return f"{asked}: {main[0].lower()}{main[1:]}"
    subject = main[: found[at].start()].strip()
    noun = re.sub(r"^(?:\w+ )?(?:what|which) ?", "", subject, flags=re.IGNORECASE)
    rest = main[found[at].end() :].strip()
    if not noun and rest and verb(tokens(rest)[0].group().lower()):
        return f"{asked}: {main[0].lower()}{main[1:]}"
    if not noun and attribute(before_preposition(rest)[0]):
        return f"{asked}, about {rest}"
    if asked.lower() == "why not":
        asked, rest = "Why", _negated(rest)
    if noun == subject or not noun:
        return f"{asked} {found[at].group().lower()} {rest}"
    return f"{asked} {found[at].group().lower()} the {noun} {rest}"


def _negated(rest: str) -> str:
    at = next((t.start() for t in tokens(rest) if verb(t.group().lower())), len(rest))
    return f"{rest[:at]}not {rest[at:]}"
