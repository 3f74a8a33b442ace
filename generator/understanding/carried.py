"""What a follow-up carries over from the turns before it, and how it is added. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from siloquy.generator.understanding.mentions import (
    Phrase,
    Topic,
    attribute,
    drugs,
    kind,
    listed,
    specific,
    tokens,
    topic,
)
from siloquy.generator.words.plain_words import DISEASE_ASKED, DRUG_ASKED, POPULATION, PREPOSITIONS
from siloquy.types import Turn

_ORDINALS = {"first": 0, "former": 0, "second": 1, "third": 2, "latter": -1, "last": -1, "other": 1}
_BESIDE = re.compile(r"^(?P<main>.+), and what about (?P<name>[^,?]{2,60})\W*$", re.IGNORECASE)
_ASKED_PROPERTY = re.compile(
    r"^(?:what|which) (?:is|are|were|was) (?:the )?(?P<name>[\w -]+?)\W*$", re.IGNORECASE
)


def before_preposition(text: str) -> tuple[str, str]:
    """A phrase up to its first preposition, and from there."""
    for token in tokens(text)[1:]:
        if token.group().lower() in PREPOSITIONS or token.group().lower() == "going":
            return text[: token.start()].strip(), text[token.start() :]
    return text, ""


def base_of(turns: Sequence[Turn], body: str) -> Turn:
    """The turn that a follow-up continues: the last, unless it names an earlier one's matter."""
    named = set(stems(specific(body)))
    last = set(stems(specific(turns[-1].question)))
    for turn in reversed(turns):
        if named & set(stems(specific(turn.question))) - last:
            return turn
    return turns[-1]


def stems(found: Sequence[str]) -> list[str]:
    """The first six letters of each word: "platelets" and "platelet" are alike."""
    return [word[:6] for word in found]


def continues(turns: Sequence[Turn], name: str) -> bool:
    """Whether all that ``name`` names was said in the turns, in a question or an answer."""
    known = {stem for turn in turns for stem in stems(specific(f"{turn.question} {turn.answer}"))}
    found = stems(specific(name))
    return bool(found) and set(found) <= known


def counted(turns: Sequence[Turn], nth: str | None) -> Topic | None:
    """The topic that "the second one" means: of the last answer's list, else of the turns."""
    if not nth:
        return None
    last = topic(turns[-1].question)
    items = listed(turns[-1].answer)
    if len(items) > 1:
        around = tail(last)
    else:
        items = tuple(found.entity for turn in turns if (found := topic(turn.question)))
        around = ()
    place = _ORDINALS[nth.lower()]
    return Topic(uncapped(items[place]), around) if -len(items) <= place < len(items) else None


def tail(about: Topic | None) -> tuple[Phrase, ...]:
    """A topic as what stands around another one."""
    if about is None:
        return ()
    return (Phrase("in" if kind(about.entity) != "drug" else "with", about.entity, 0, 0),)


def carried(turns: Sequence[Turn], question: str, body: str, otherwise: str = "") -> Topic | None:
    """What a follow-up is about; a drug of the last answer when it asks what one asks of drugs."""
    wanted = _wanted(body) or otherwise
    beside = _BESIDE.match(question)
    if beside:
        return Topic(beside["name"], tail(topic(beside["main"], wanted)))
    about = topic(question, wanted)
    if about is None:
        earlier = (topic(turn.question, wanted) for turn in reversed(turns))
        return next((found for found in earlier if found), None)
    if wanted == "drug" and kind(about.entity) != "drug" and question == turns[-1].question:
        told = drugs(turns[-1].answer)
        if told and not drugs(body):
            return Topic(uncapped(told[0]), (*tail(about), *about.around))
    return about


def _wanted(body: str) -> str:
    if DRUG_ASKED.search(body):
        return "drug"
    return "disease" if DISEASE_ASKED.search(body) else ""


def uncapped(name: str) -> str:
    """A name from the start of a sentence as it stands within one."""
    return name.lower() if name[1:].islower() else name


def joined(body: str, about: Topic) -> str:
    """A clause with its topic added: "What are the symptoms" of it, "who is at risk" for it."""
    entity = about.entity
    if re.search(r"\b(?:risk|eligible|suitable|responsible)$", body):
        link = "for"
    elif (found := _ASKED_PROPERTY.match(body)) and attribute(found["name"]):
        head, rest = before_preposition(found["name"])
        if DRUG_ASKED.search(body) and kind(entity) == "disease":
            return with_around(f"{body} in {entity}", about)
        return with_around(f"{body[: found.start('name')]}{head} of {entity} {rest}".strip(), about)
    else:
        link = "with" if kind(entity) == "drug" else "in"
    return with_around(f"{body} {link} {entity}", about)


def with_around(text: str, about: Topic) -> str:
    """``text`` with what stood around the topic, unless it says so itself or names others."""
    for phrase in about.around:
        new = set(stems(specific(phrase.text))) - set(stems(specific(text)))
        if phrase.population:
            if not POPULATION.search(text):
                text = f"{text} {phrase}"
        elif new:
            text = f"{text} {phrase}"
    return text


def main_clause(question: str) -> str:
    """A question without its end mark and without a relative clause at its end."""
    main = question.rstrip(" ?.!;:,")
    return re.sub(r",? (?:who|that|which) (?:\w+ ){0,5}\w+$", "", main) or main
