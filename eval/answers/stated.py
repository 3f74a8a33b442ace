"""Sentences that their sources carry: the demo's and the data sets' own, and human paraphrases."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from siloquy.silo_node.reading.document import Document
from siloquy.silo_node.reading.walk import read
from siloquy.text.words import sentence_spans, words
from siloquy.types import DocumentId, NodeId, Source

Writing = Literal["verbatim", "rule", "human"]

MOST_SOURCES = 10
LEAST_HUMAN_WORDS = 0.6
"""A human sentence is taken as carried only if its sources hold this share of its words."""
_MOST_DOCUMENTS = 2500
_MOST_CHARACTERS = 6000
_PASSAGE = 1200
_SHORTEST, _LONGEST = 40, 350
_CORPORA = ("mediqa_sites", "medquad9", "evidence_mix")


@dataclass(frozen=True, slots=True)
class SourcedSentence:
    """A sentence that its sources carry."""

    id: str
    corpus: str
    writing: Writing
    sentence: str
    sources: tuple[Source, ...]


def stated(hospitals: Path, data: Path | None, rng: np.random.Generator) -> list[SourcedSentence]:
    """Sentences as they stand in documents, each with the passage around it."""
    return list(_stated(_documents(hospitals, data, rng)))


def answered(data: Path) -> list[SourcedSentence]:
    """Sentences of BioASQ's written answers under the documents that their authors used."""
    return list(_human(data / "evidence_mix"))


def _documents(
    hospitals: Path, data: Path | None, rng: np.random.Generator
) -> Iterator[tuple[str, str, str, str]]:
    """Corpus, id, title and text of the demo's documents and of a sample of each data set's."""
    for folder in sorted(path for path in hospitals.iterdir() if path.is_dir()):
        for document in read(folder):
            if isinstance(document, Document):
                name = f"{folder.name}/{document.id}"
                yield "hospitals", name, document.title, document.text
    for corpus in _CORPORA if data else ():
        path = (data or hospitals) / corpus / "corpus.jsonl.gz"
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            records = [json.loads(line) for line in lines]
        for i in rng.permutation(len(records))[:_MOST_DOCUMENTS]:
            record = records[int(i)]
            yield corpus, record["_id"], record["title"], record["text"][:_MOST_CHARACTERS]


def _stated(documents: Iterator[tuple[str, str, str, str]]) -> Iterator[SourcedSentence]:
    for corpus, name, title, text in documents:
        spans = [(s, e) for s, e in sentence_spans(text) if _SHORTEST <= e - s <= _LONGEST]
        for start, end in spans[:: max(1, len(spans) // 8)]:
            passage = _passage(text, start, end)
            source = Source(1, NodeId(corpus), DocumentId(name), title, passage, 0, 0, 1.0)
            yield SourcedSentence(
                f"{corpus}/{name}", corpus, "verbatim", text[start:end], (source,)
            )


def _passage(text: str, start: int, end: int) -> str:
    """The sentences around a stretch, about as long as a passage that a silo releases."""
    room = (_PASSAGE - (end - start)) // 2
    near = [(s, e) for s, e in sentence_spans(text) if s >= start - room and e <= end + room]
    return text[min(s for s, _ in near) : max(e for _, e in near)]


def _human(corpus: Path) -> Iterator[SourcedSentence]:
    """Sentences of written answers under the documents that their authors answered from."""
    with gzip.open(corpus / "corpus.jsonl.gz", "rt", encoding="utf-8") as lines:
        texts = {record["_id"]: record for record in map(json.loads, lines)}
    answers = (corpus / "gold_answers.jsonl").read_text(encoding="utf-8").split("\n")
    for record in map(json.loads, filter(None, answers)):
        if record["_id"].startswith("bioasq"):
            gold = [texts[name] for name in record["gold_docs"] if name in texts]
            yield from _answered(record, gold)


def _answered(record: dict[str, Any], gold: Sequence[dict[str, Any]]) -> Iterator[SourcedSentence]:
    answer = str(record["ideal_answer"])
    for start, end in sentence_spans(answer):
        sentence = answer[start:end]
        said = frozenset(words(sentence))
        near = sorted(gold, key=lambda item: -len(said & set(words(item["text"]))))[:MOST_SOURCES]
        joined = " ".join(" ".join(item["text"].split()) for item in near)
        quoted = " ".join(sentence.split()) in joined
        held = len(said & set(words(joined))) / max(1, len(said))
        if quoted or held < LEAST_HUMAN_WORDS or not _SHORTEST <= len(sentence) <= _LONGEST:
            continue
        sources = tuple(
            Source(n, NodeId("pubmed"), DocumentId(i["_id"]), i["title"], i["text"], 0, 0, 1.0)
            for n, i in enumerate(near, start=1)
        )
        yield SourcedSentence(f"bioasq/{record['_id']}", "bioasq", "human", sentence, sources)
