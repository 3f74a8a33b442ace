"""How often a conflict is shown on real questions, for a person to read and judge."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np

from siloquy.eval.beir import EvalQuestion
from siloquy.eval.central import term_weights
from siloquy.eval.shares import Share, share
from siloquy.generator.checking.conflict import conflicts
from siloquy.settings import EncoderSettings, IndexSettings
from siloquy.silo_node.chunk import load_tokens
from siloquy.silo_node.ingest import ingest
from siloquy.silo_node.reading.walk import read
from siloquy.silo_node.search import Searcher
from siloquy.silo_node.store import Store
from siloquy.text import lexicon as lexicons
from siloquy.text.embed import embedder, model_folder
from siloquy.text.words import terms
from siloquy.types import Conflict, NodeId, SearchRequest, Source
from siloquy.wire.calls import MOST_DEPTH

_NAME = NodeId("central")
_LEXICAL = 0.25


@dataclass(frozen=True, slots=True)
class Alarm:
    """A conflict that was shown, with the sources that it names."""

    question: str
    conflict: Conflict
    sources: tuple[Source, ...]


@dataclass(frozen=True, slots=True)
class Alarms:
    """All conflicts, and the share of the questions that have one."""

    alarms: tuple[Alarm, ...]
    questions: Share


def alarms(
    corpus: Path,
    questions: Sequence[EvalQuestion],
    folder: Path,
    cache: Path,
    today: date,
    k: int = 10,
) -> Alarms:
    """What is shown for the ``k`` nearest passages of each question, found in one index."""
    found: list[Alarm] = []
    alarmed: list[bool] = []
    for question, sources in _retrieved(corpus, questions, folder, cache, k):
        shown = conflicts(question.text, sources, today)
        alarmed.append(bool(shown))
        found += [Alarm(question.text, item, _named(item, sources)) for item in shown]
    return Alarms(tuple(found), share(alarmed))


def _named(conflict: Conflict, sources: Sequence[Source]) -> tuple[Source, ...]:
    numbers = {side.n for side in conflict.sides}
    return tuple(source for source in sources if source.n in numbers)


def _retrieved(
    corpus: Path, questions: Sequence[EvalQuestion], folder: Path, cache: Path, k: int
) -> Iterator[tuple[EvalQuestion, tuple[Source, ...]]]:
    settings = EncoderSettings(cache=str(cache))
    encoder = embedder(settings, folder)
    silos = _silos(corpus)
    store = Store(folder / "alarms.sqlite")
    tokens = load_tokens(model_folder(settings) / "tokenizer.json")
    ingest(store, read(corpus), encoder, tokens, IndexSettings().chunk_tokens)
    weights = term_weights(store, lexicons.load(model_folder(settings)))
    searcher = Searcher(store, encoder.spec.dimension)
    vectors = encoder.encode([question.text for question in questions])
    for question, vector in zip(questions, vectors, strict=True):
        request = SearchRequest(
            np.asarray(vector),
            weights.weigh(terms(question.text)),
            k,
            "passage",
            MOST_DEPTH,
            "",
            "",
        )
        yield question, tuple(_sources(store, searcher, request, silos))
    store.close()


def _sources(
    store: Store, searcher: Searcher, request: SearchRequest, silos: dict[str, str]
) -> Iterator[Source]:
    candidates = searcher.search(request)
    most = max((c.lexical for c in candidates), default=0.0) or 1.0
    best = sorted(candidates, key=lambda c: -(c.dense + _LEXICAL * c.lexical / most))[: request.k]
    for n, candidate in enumerate(best, start=1):
        passage = store.passage(candidate.number)
        if passage is not None:
            silo = NodeId(silos[passage.document])
            yield Source(
                n, silo, passage.document, passage.title, passage.text, 0, 0, candidate.dense
            )


def _silos(corpus: Path) -> dict[str, str]:
    with gzip.open(corpus / "corpus.jsonl.gz", "rt", encoding="utf-8") as lines:
        return {record["_id"]: record["source"] for record in map(json.loads, lines)}
