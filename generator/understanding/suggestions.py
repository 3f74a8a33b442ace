"""What may be asked next: what released passages say and the answer has not. Pure.

Each question is made of a sentence that was released and not cited, by what it states: a dose,
when a drug is stopped, what holds in kidney disease. Drug and condition stand in it as the passage
writes them. Of a patient's record nothing is suggested. A suggestion states nothing, so no
receipt covers it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from siloquy.generator.extractive import quotable
from siloquy.generator.quotes import Quote
from siloquy.generator.understanding.aspects import DRUG_MARK, OF_A_CONDITION, OF_A_DRUG, Aspect
from siloquy.generator.understanding.mentions import kind, topic
from siloquy.generator.untrusted import plain, without_orders
from siloquy.generator.words.common_words import COMMON, FAMILIAR
from siloquy.generator.words.drugs import drugs
from siloquy.generator.words.plain_words import plain as usual
from siloquy.generator.words.rare_words import FAMILIAR_WEIGHT, share, weigh
from siloquy.generator.words.stems import lower
from siloquy.text.identifiers import names_patient
from siloquy.types import Sentence, Source

MOST = 3
MOST_OF_TOPIC = 2
MOST_CHARACTERS = 140
MOST_READ = 40
# Share of a suggestion's words, weighed as evidence is, that must stand in its passage.
LEAST_HELD = 0.85
# Share of a question's rare words that a passage without the answer must hold to be named.
LEAST_NEAR = 0.3
# And the least cosine: one shared word, such as ambulance, is no common topic.
LEAST_ALIKE = 0.3
NAMED_WEIGHT = 0.5

_RECORD = re.compile(
    r"\b(?:case|ward|discharge|clinic|progress)[ -](?:notes?|letters?|summary|report)\b",
    re.IGNORECASE,
)
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9,/'() -]{2,79}")
_WITH = re.compile(r"^(?:\w+ing )?(?:patients|people|adults|children) with ", re.IGNORECASE)
_KIND_OF_DOCUMENT = re.compile(
    r"(?:order set|(?:pharmacy )?notice|(?:ward )?protocol|guide(?:line)?|leaflet|policy|pathway)",
    re.IGNORECASE,
)
# Endings of first words that make no name: "venous", "cardiac", "community-acquired".
_USUAL = re.compile(r"[a-z]{4,}-[a-z]+$|\w{3,}(?:ous|al|ic|ive|ary|ar|ed)$")
_PREVENTING = re.compile(r"\b(?:prophyla|prevent)", re.IGNORECASE)
# What names a condition only together with another word.
_GENERAL = frozenset(
    "arrest attack cancer compression crisis defect deficiency disease disorder failure infection "
    "injury loss overdose pain syndrome wound".split()
)
_BEFORE, _AFTER = 60, 100


@dataclass(frozen=True, slots=True)
class _Candidate:
    question: str
    topic: str
    aspect: Aspect
    worth: float


def suggestions(
    question: str, sentences: Sequence[Sentence], sources: Sequence[Source]
) -> tuple[str, ...]:
    """At most three questions that the sources answer and ``sentences``, an answer, do not.

    Without an answer: what the documents are about that hold what ``question`` names.
    """
    public = [source for source in sources if not _private(source)]
    if not sentences:
        return _about(question, public)
    said = [question, *(sentence.text for sentence in sentences)]
    cited = {n for sentence in sentences for n in sentence.citations}
    documents = {(source.silo, source.document) for source in sources if source.n in cited}
    found: list[_Candidate] = []
    for quote, worth in _unsaid(question, sentences, public):
        known = (quote.source.silo, quote.source.document) in documents
        found += _candidates(quote, said, worth, known=known)
    return _chosen(found)


def _private(source: Source) -> bool:
    """Whether it may be of one patient."""
    return bool(_RECORD.search(source.title)) or names_patient(f"{source.title}\n{source.text}")


def _unsaid(
    question: str, sentences: Sequence[Sentence], sources: Sequence[Source]
) -> list[tuple[Quote, float]]:
    """Sentences of the sources that the answer does not quote, the nearest first."""
    spans = [span for sentence in sentences for span in sentence.spans]
    quotes = [
        quote
        for quote in quotable(sources)
        if not any(
            span.n == quote.source.n and span.start < quote.end and quote.start < span.end
            for span in spans
        )
    ]
    weights = weigh(question)
    worth = [(quote, quote.source.score + share(weights, quote.text)) for quote in quotes]
    return sorted(worth, key=lambda pair: -pair[1])[:MOST_READ]


def _candidates(
    quote: Quote, said: Sequence[str], worth: float, *, known: bool
) -> Iterator[_Candidate]:
    """What may be asked of one sentence about a topic that question or answer name.

    known   its document is cited: then of any topic
    """
    about = lower(" ".join(said))
    for name, text, where, aspects in _topics(quote):
        named = name.lower() in about
        for aspect in aspects if named or known else ():
            asked = aspect.question(text, name, where)
            heard = asked and _heard(aspect, name, text, said)
            if asked and not heard and _answered(asked, quote.source):
                yield _Candidate(asked, name.lower(), aspect, worth + NAMED_WEIGHT * named)


def _topics(quote: Quote) -> Iterator[tuple[str, str, str, tuple[Aspect, ...]]]:
    """Each drug and condition of a sentence, what is read of it, where it is, what it may state."""
    disease = condition(quote.source)
    titled = dict.fromkeys(_drugs(quote.source.title), f"{DRUG_MARK} {quote.text}")
    named = _drugs(quote.text) or titled
    for name, text in named.items():
        yield name, text, f" in {disease}" if disease else "", OF_A_DRUG
    if disease:
        yield disease, quote.text, "", OF_A_CONDITION


def _drugs(sentence: str) -> dict[str, str]:
    """Each drug as written, with the sentence around it and a mark in its place.

    In capitals within a sentence a word that ends like a drug may be somebody's name.
    """
    found: dict[str, str] = {}
    for _, start, end in drugs(lower(sentence)):
        # One of "piperacillin/tazobactam" is not given alone.
        start -= len(re.search(r"[\w/]*\Z", sentence[:start])[0])  # type: ignore[index]
        end += len(re.match(r"[\w/]*", sentence[end:])[0])  # type: ignore[index]
        name = sentence[start:end]
        if name.islower() or (start == 0 and name[1:].islower()):
            window = sentence[max(0, start - _BEFORE) : start], sentence[end : end + _AFTER]
            found.setdefault(name.lower(), DRUG_MARK.join(window))
    return found


def condition(source: Source) -> str:
    """The condition that a source's title names, as it stands within a sentence; empty for none."""
    if _PREVENTING.search(source.title):
        return ""
    for part in source.title.split(":"):
        found = topic(part, "disease")
        name = _WITH.sub("", found.entity) if found else ""
        if kind(name) == "disease" and name.lower() not in _GENERAL and _NAME.fullmatch(name):
            return _inside(name, source.text)
    return ""


def _inside(name: str, text: str) -> str:
    """A name from the start of a title as it stands within a sentence: "Lyme" keeps its capital."""
    small = name[:1].lower() + name[1:]
    first = small.partition(" ")[0]
    known = first in text or first in COMMON or first in FAMILIAR or usual(first)
    return small if known or kind(first) == "disease" or _USUAL.match(first) else name


def _heard(aspect: Aspect, name: str, sentence: str, said: Sequence[str]) -> bool:
    """Whether question or answer speak already of what ``sentence`` states."""
    marked = [re.sub(re.escape(name), DRUG_MARK, text, flags=re.IGNORECASE) for text in said]
    return any(DRUG_MARK in text and aspect.heard(text, sentence) for text in marked)


def _answered(question: str, source: Source) -> bool:
    """Whether ``question`` is safe to show and its words stand in the passage."""
    held = share(weigh(question), f"{source.title} {source.text}")
    return held >= LEAST_HELD and _showable(question)


def _showable(question: str) -> bool:
    tame = plain(question) and without_orders(question) == question
    return tame and len(question) <= MOST_CHARACTERS and not names_patient(question)


def _chosen(found: Sequence[_Candidate]) -> tuple[str, ...]:
    """The best, of each aspect one and of each topic two at most."""
    aspects, topics = set[str](), Counter[str]()
    chosen: list[str] = []
    for item in sorted(found, key=lambda candidate: -candidate.worth):
        fresh = item.aspect.asks not in aspects and topics[item.topic] < MOST_OF_TOPIC
        if fresh and len(chosen) < MOST:
            aspects.add(item.aspect.asks)
            topics[item.topic] += 1
            chosen.append(item.question)
    return tuple(chosen)


def _about(question: str, sources: Sequence[Source]) -> tuple[str, ...]:
    """What the documents are about that hold what the question names."""
    rare = {word: worth for word, worth in weigh(question).items() if worth >= FAMILIAR_WEIGHT}
    alike = [source for source in sources if source.score >= LEAST_ALIKE]
    near = [s for s in alike if share(rare, f"{s.title} {s.text}") >= LEAST_NEAR]
    subjects = dict.fromkeys(_subject(source) for source in near)
    asked = (f"What is said about {subject}?" for subject in subjects if subject)
    return tuple(text for text in asked if _showable(text))[:MOST]


def _subject(source: Source) -> str:
    """What a title is about, without what kind of document it is; empty when it is odd."""
    parts = [part.strip() for part in source.title.split(":")]
    name = next((part for part in parts if not _KIND_OF_DOCUMENT.fullmatch(part)), "")
    return _inside(name, source.text) if _NAME.fullmatch(name) else ""
