"""Questions with what a good answer cites and says, and how much of it an answer has. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from siloquy.eval import beir
from siloquy.gateway.evidence import SHINGLE, overlap
from siloquy.generator.checking.cite import check_all
from siloquy.text.words import STOP_WORDS, words
from siloquy.types import DocumentId, NodeId, Source

GOLD = "gold_answers.jsonl"
VERDICTS = ("yes", "no", "maybe")
NEAR_DUPLICATE = 0.5
LEAST_NEW = 6
LEAST_SAID = 0.6
"""Least share of a sentence's content words that a gold text must hold to say the same."""


@dataclass(frozen=True, slots=True)
class GoldCase:
    """One question with its gold.

    relevant   documents that are judged relevant
    exact      what must be named, each with its synonyms
    verdict    yes, no, maybe, or empty
    ideal      an answer in prose, or empty
    """

    id: str
    text: str
    group: str
    relevant: frozenset[str]
    exact: tuple[tuple[str, ...], ...] = ()
    verdict: str = ""
    ideal: str = ""

    @property
    def held_out(self) -> bool:
        """Whether the question had no part in setting the abstention threshold."""
        return bool(int(hashlib.sha256(self.id.encode()).hexdigest(), 16) % 2)


@dataclass(frozen=True, slots=True)
class AnswerCounts:
    """Counts of one answer against its gold; shares follow by adding up over questions.

    citations      citations of its sentences; ``resolved`` are those with a span in a shown source
    cited_gold     citations of a relevant document; ``gold_sentences`` have at least one
    said           sentences whose words a gold document or the ideal answer holds
    carried        sentences that the citation check finds in what they cite
    found          of ``items``, what must be named
    ideal_found    of ``ideal_words``, content words of the ideal answer
    stated         the verdict that the answer begins with, or empty
    """

    sentences: int = 0
    citations: int = 0
    resolved: int = 0
    cited_gold: int = 0
    gold_sentences: int = 0
    said: int = 0
    carried: int = 0
    items: int = 0
    found: int = 0
    ideal_words: int = 0
    ideal_found: int = 0
    stated: str = ""
    right: bool = False


def load(corpus: Path, split: str, limit: int | None, seed: int) -> list[GoldCase]:
    """A sample of the judged questions, with their gold answers where the corpus has any."""
    judged = beir.load(corpus, split, limit, seed)
    path = corpus / GOLD
    gold = _records(path) if path.exists() else {}
    return [
        _case(question, judged.qrels[question.id], gold.get(question.id), corpus.name)
        for question in judged.questions
    ]


def _records(path: Path) -> dict[str, dict[str, Any]]:
    # Not splitlines: a text may hold a line separator of Unicode.
    with path.open(encoding="utf-8") as lines:
        found = [json.loads(line) for line in lines if line.strip()]
    return {str(record["_id"]): record for record in found}


def _case(
    question: beir.EvalQuestion, judged: Mapping[str, int], gold: dict[str, Any] | None, name: str
) -> GoldCase:
    relevant = frozenset(document for document, grade in judged.items() if grade > 0)
    if gold is None:
        return GoldCase(question.id, question.text, name, relevant)
    exact = gold.get("exact_answer")
    if isinstance(exact, str) and "options" in gold:
        exact = [[gold["options"][exact]]] if exact in gold["options"] else None
    return GoldCase(
        question.id,
        question.text,
        str(gold["type"]),
        relevant,
        exact=tuple(map(tuple, exact)) if isinstance(exact, list) else (),
        verdict=exact if exact in VERDICTS else "",
        ideal=str(gold.get("ideal_answer") or ""),
    )


def texts(corpus: Path, wanted: Iterable[str]) -> dict[str, str]:
    """Title and text of the wanted documents of a BEIR corpus."""
    ids = frozenset(wanted)
    return {
        str(record["_id"]): f"{record.get('title', '')}. {record['text']}"
        for record in beir.records(corpus)
        if str(record["_id"]) in ids
    }


# -- measuring ------------------------------------------------------------------------------------


def measure(
    answer: Mapping[str, Any], case: GoldCase, documents: Mapping[str, str]
) -> AnswerCounts:
    """The reply of ``POST /v1/ask`` against the gold; ``documents`` holds the gold texts."""
    sources = {item["n"]: _source(item) for item in answer["sources"]}
    sentences = answer["sentences"]
    gold = [documents[document] for document in case.relevant if document in documents]
    told = " ".join(sentence["text"] for sentence in sentences)
    cited = [(sentence, n) for sentence in sentences for n in sentence["citations"]]
    ideal = content(case.ideal)
    stated = verdict(told)
    return AnswerCounts(
        sentences=len(sentences),
        citations=len(cited),
        resolved=sum(_resolves(sentence, n, sources) for sentence, n in cited),
        cited_gold=sum(_is_gold(n, sources, case) for _, n in cited),
        gold_sentences=sum(
            any(_is_gold(n, sources, case) for n in sentence["citations"]) for sentence in sentences
        ),
        said=sum(says(sentence["text"], [*gold, case.ideal]) for sentence in sentences),
        carried=sum(_carried(sentence, sources) for sentence in sentences),
        items=len(case.exact),
        found=named(case.exact, told),
        ideal_words=len(ideal),
        ideal_found=len(ideal & content(told)),
        stated=stated,
        right=bool(stated) and stated == case.verdict,
    )


def content(text: str) -> frozenset[str]:
    """The words of a text that say something."""
    return frozenset(word for word in words(text) if word not in STOP_WORDS)


def says(sentence: str, gold: Sequence[str]) -> bool:
    """Whether one of the gold texts holds most of the sentence's content words."""
    wanted = content(sentence)
    best = max((len(wanted & content(text)) for text in gold), default=0)
    return bool(wanted) and best >= LEAST_SAID * len(wanted)


def named(exact: Sequence[Sequence[str]], told: str) -> int:
    """How many items stand in a text under one of their names, word for word.

    >>> named([("PD-L1 status", "PD-L1"), ("EGFR",)], "It assesses PD-L1.")
    1
    """
    said = _spaced(told)
    return sum(any(_spaced(name) in said for name in names if words(name)) for names in exact)


def verdict(told: str) -> str:
    """The yes, no or maybe that a text begins with, or nothing.

    >>> verdict("No, it is not."), verdict("None was found.")
    ('no', '')
    """
    first = words(told)[:1]
    return first[0] if first and first[0] in VERDICTS else ""


def remains(case: GoldCase, passages: Sequence[str]) -> bool:
    """Whether one of the passages still states the gold answer.

    Half of what must be named beside a word of the question, or most of the words that a longer
    ideal answer adds to the question. An automatic reading: short answers in prose are not found.
    """
    asked = content(case.text)
    new = content(case.ideal) - asked
    for text in passages:
        held = content(text)
        listed = case.exact and 2 * named(case.exact, text) >= len(case.exact)
        told = len(new) >= LEAST_NEW and len(new & held) >= LEAST_SAID * len(new)
        if (listed and held & asked) or told:
            return True
    return False


def repeats(passages: Sequence[str], relevant: Sequence[str]) -> bool:
    """Whether a passage repeats a relevant document, or the other way round, in half its words."""
    there = [_shingles(text) for text in passages]
    return any(
        overlap(one, other) >= NEAR_DUPLICATE for one in map(_shingles, relevant) for other in there
    )


def _shingles(text: str) -> frozenset[tuple[str, ...]]:
    found = words(text)
    return frozenset(zip(*(found[i:] for i in range(SHINGLE)), strict=False))


def _spaced(text: str) -> str:
    return f" {' '.join(words(text))} "


def _source(item: Mapping[str, Any]) -> Source:
    return Source(
        n=item["n"],
        silo=NodeId(item["silo"]),
        document=DocumentId(item["document"]),
        title=item["title"],
        text=item["text"],
        start=item["start"],
        end=item["end"],
        score=item["score"],
    )


def _is_gold(n: int, sources: Mapping[int, Source], case: GoldCase) -> bool:
    return n in sources and sources[n].document in case.relevant


def _resolves(sentence: Mapping[str, Any], n: int, sources: Mapping[int, Source]) -> bool:
    spans = [span for span in sentence["spans"] if span["n"] == n]
    return n in sources and any(
        0 <= span["start"] < span["end"] <= len(sources[n].text) for span in spans
    )


def _carried(sentence: Mapping[str, Any], sources: Mapping[int, Source]) -> bool:
    cited = [n for n in sentence["citations"] if n in sources]
    if not cited:
        return False
    found = check_all(sentence["text"], [sources[n] for n in cited], cited)
    return found.cited and not found.fault
