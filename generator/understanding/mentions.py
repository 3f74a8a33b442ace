"""What a question names, read without a model: its phrases, their kind, and what leans on them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from siloquy.generator.words.plain_words import (
    ARTICLES,
    ATTRIBUTES,
    AUXILIARIES,
    DISEASE,
    DRUG,
    POPULATION,
    PREPOSITIONS,
    PRONOUNS,
    WH,
    plain,
    verb,
)

MOST_WORDS = 14

_TOKEN = re.compile(r"\w[\w'\u2019/^.%-]*\w|\w|[^\w\s]")
_ATTACHED = frozenset({"of", "with"})
_STOPS = WH | AUXILIARIES | PRONOUNS | frozenset("and or but if then than so because there".split())
_DOSED = re.compile(
    r"([A-Za-z][\w/-]+(?: acid| sulfate| chloride)?)\s+(?:\d+(?:st|nd|rd|th)\b)?"
    r"\d[\d.,]*(?:\s*(?:to|-)\s*\d[\d.,]*)?\s*(?:mg|g|micrograms?|mcg|units?|mL|mmol|%|litres?)\b"
)
_LISTED = re.compile(
    r"([\w/ -]{1,60}?)((?:, [\w/ -]{1,60}?){0,8}),? (?:and|or|with|followed by) ([\w/ -]{1,60})"
)


@dataclass(frozen=True, slots=True)
class Phrase:
    """A noun phrase with the preposition before it, and where both stand in the question."""

    preposition: str
    text: str
    start: int
    end: int

    @property
    def specific(self) -> bool:
        """Whether it names something beyond ordinary words."""
        return bool(specific(self.text))

    @property
    def population(self) -> bool:
        """Whether it says of whom alone."""
        found = POPULATION.search(self.text)
        return bool(found) and not specific(POPULATION.sub(" ", self.text))

    def __str__(self) -> str:
        return f"{self.preposition} {self.text}".strip()


@dataclass(frozen=True, slots=True)
class Topic:
    """What a question is about: the phrase that a pronoun stands for, and the rest around it."""

    entity: str
    around: tuple[Phrase, ...]


def tokens(text: str) -> list[re.Match[str]]:
    """Words and punctuation with their places."""
    return list(_TOKEN.finditer(text))


def specific(text: str) -> tuple[str, ...]:
    """Lower-case words that name something, those of a population aside.

    >>> specific("What is the dose of apixaban in children?")
    ('apixaban',)
    """
    found = (match.group().lower() for match in tokens(POPULATION.sub(" ", text)))
    return tuple(word for word in found if word[0].isalnum() and not plain(word))


def phrases(question: str) -> tuple[Phrase, ...]:
    """Noun phrases in order; "of" and "with" keep what they follow together.

    >>> [str(phrase) for phrase in phrases("How is fever with a rash treated in infants?")]
    ['fever with a rash', 'in infants']
    """
    found: list[Phrase] = []
    run: list[re.Match[str]] = []
    preposition = ""
    at = 0
    for token in tokens(question):
        word = token.group().lower()
        if word == "-" and run:
            continue
        if word in PREPOSITIONS or not word[0].isalnum() or word in _STOPS or _ends(word, run):
            _keep(found, question, preposition, at, run)
            run, at = [], token.start()
            preposition = word if word in PREPOSITIONS else ""
        elif not _skipped(word, run):
            at = at if preposition or run else token.start()
            run.append(token)
    _keep(found, question, preposition, at, run)
    return tuple(found)


def _ends(word: str, run: Sequence[re.Match[str]]) -> bool:
    """Whether a verb closes the phrase; a verb right after an article is part of a name."""
    if not verb(word):
        return False
    return not (run and run[-1].group().lower() in ARTICLES)


def _skipped(word: str, run: Sequence[re.Match[str]]) -> bool:
    return not run and word in {"often", "soon", "long", "fast", "many", "much", "also", "still"}


def _keep(
    found: list[Phrase], question: str, preposition: str, at: int, run: Sequence[re.Match[str]]
) -> None:
    names = [token for token in run if token.group().lower() not in ARTICLES]
    if not names:
        return
    start, end = run[0].start(), run[min(len(run), MOST_WORDS) - 1].end()
    text = question[start:end]
    last = found[-1] if found else None
    if last and _joins(question, last, preposition, at, text):
        found[-1] = Phrase(last.preposition, question[last.start : end], last.start, end)
    else:
        found.append(Phrase(preposition, text, start, end))


def _joins(question: str, last: Phrase, preposition: str, at: int, text: str) -> bool:
    near = not question[last.end : at].strip() and preposition in _ATTACHED
    short = len(last.text.split()) + len(text.split()) < MOST_WORDS
    named = bool(specific(last.text)) or not specific(text)
    return near and short and named and not POPULATION.fullmatch(text)


def kind(text: str) -> str:
    """What a phrase names: ``drug``, ``disease`` or nothing that its form shows.

    >>> kind("intravenous vancomycin"), kind("acute pancreatitis"), kind("the platelet count")
    ('drug', 'disease', '')
    """
    if DISEASE.search(text):
        return "disease"
    return "drug" if DRUG.search(text) else ""


def topic(question: str, wanted: str = "") -> Topic | None:
    """What ``question`` is about, best of the ``wanted`` kind; None when it names nothing."""
    found = phrases(_unconditioned(question))
    named = [phrase for phrase in found if phrase.specific]
    if not named:
        return None
    chosen = _chosen(named, wanted)
    around = tuple(
        phrase
        for phrase in found
        if phrase is not chosen
        and phrase.start > chosen.start
        and phrase.preposition
        and (phrase.specific or phrase.population)
    )
    return Topic(bare(chosen.text), around[:2])


def _unconditioned(question: str) -> str:
    """A question up to a condition at its end, as long as it names something before that."""
    main = re.split(r"\b(?:if|unless)\b", question)[0]
    return main if specific(main) else question


def _chosen(named: Sequence[Phrase], wanted: str) -> Phrase:
    """The phrase of the wanted kind; for a drug what is no disease, else what has a kind at all."""
    liked = [phrase for phrase in named if wanted and kind(phrase.text) == wanted]
    if wanted == "drug":
        liked = liked or [phrase for phrase in named if kind(phrase.text) != "disease"]
    typed = [phrase for phrase in named if wanted and kind(phrase.text)]
    return (liked or typed or list(named))[0]


def bare(text: str) -> str:
    """A phrase without leading article and attribute words: what it names.

    >>> bare("the maximum dose of paracetamol")
    'paracetamol'
    """
    found = [match for match in tokens(text) if match.group()[0].isalnum()]
    for place, match in enumerate(found):
        head = " ".join(item.group().lower() for item in found[:place])
        if head and not specific(head) and re.search(r"\b(?:of|for|in)$", head):
            return text[match.start() :].strip()
    while len(found) > 1 and found[0].group().lower() in ARTICLES:
        found = found[1:]
    return text[found[0].start() :].strip() if found else text.strip()


def attribute(text: str) -> bool:
    """Whether a fragment asks for a property, as "side effects" or "the maximum dose" do."""
    words = [match.group().lower() for match in tokens(text) if match.group()[0].isalnum()]
    return any(_attribute(word) for word in words) and not specific(text)


def _attribute(word: str) -> bool:
    return word in ATTRIBUTES or word.removesuffix("s") in ATTRIBUTES or word in {"visit", "idea"}


def drugs(answer: str) -> tuple[str, ...]:
    """Drugs that an answer names, in order: by the form of the name or by the dose after it.

    >>> drugs("Give aspirin 300 mg, then ticagrelor.")
    ('aspirin', 'ticagrelor')
    """
    found = [(match.start(), match.group()) for match in DRUG.finditer(answer)]
    found += [
        (match.start(1), match.group(1))
        for match in _DOSED.finditer(answer)
        if not plain(match.group(1).lower())
    ]
    names: dict[str, str] = {}
    for _, name in sorted(found):
        if not any(name.lower() in known or known in name.lower() for known in names):
            names[name.lower()] = name
    return tuple(names.values())


def listed(answer: str) -> tuple[str, ...]:
    """Items of the first list that an answer holds, else the drugs that it names."""
    match = _LISTED.search(answer)
    if not match or not match.group(2):
        return drugs(answer)
    items = [match.group(1), *match.group(2).split(", "), match.group(3)]
    trimmed = (
        re.split(r"\s\d|\s(?:for|under|within|once|in|is|are|can)\s", item.strip())[0]
        for item in items
    )
    return tuple(item for item in trimmed if item)
