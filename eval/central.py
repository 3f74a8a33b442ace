"""The baseline beside every federated run: one index over all documents, same encoder and scoring.

It runs in a child process, which loads the encoder and leaves the memory when it is done.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from siloquy.aggregator.merge import merge
from siloquy.errors import SiloquyError
from siloquy.eval.beir import EvalQuestion
from siloquy.router.terms import TermWeights
from siloquy.settings import EncoderSettings, IndexSettings
from siloquy.silo_node.chunk import load_tokens
from siloquy.silo_node.ingest import ingest
from siloquy.silo_node.reading.walk import read
from siloquy.silo_node.search import Candidate, Searcher
from siloquy.silo_node.store import Store
from siloquy.text import lexicon as lexicons
from siloquy.text.embed import embedder, model_folder
from siloquy.text.lexicon import Lexicon
from siloquy.text.words import clean, terms
from siloquy.types import (
    DocumentTag,
    Handle,
    Hit,
    NodeId,
    QueryId,
    SearchReply,
    SearchRequest,
)
from siloquy.wire.calls import MOST_DEPTH

NAME = NodeId("central")


@dataclass(frozen=True, slots=True)
class CentralRun:
    """Rankings of documents by question, and what they cost."""

    rankings: dict[str, list[str]]
    search_ms: list[float]
    ingest_s: float
    passages: int


def run_central(
    corpus: Path, questions: Sequence[EvalQuestion], folder: Path, cache: Path, k: int
) -> CentralRun:
    """Ask one index over the whole corpus, in a child process."""
    context = multiprocessing.get_context("spawn")
    near, far = context.Pipe(duplex=False)
    arguments = (corpus, tuple(questions), folder, cache, k, far)
    child = context.Process(target=_child, args=arguments, daemon=True)
    child.start()
    far.close()
    try:
        result = near.recv()
    except EOFError:
        raise SiloquyError("the central index failed; its error stands above") from None
    finally:
        child.join()
    if not isinstance(result, CentralRun):
        raise SiloquyError("the central index gave no result")
    return result


def _child(
    corpus: Path, questions: Sequence[EvalQuestion], folder: Path, cache: Path, k: int, pipe: Any
) -> None:
    settings = EncoderSettings(cache=str(cache))
    encoder = embedder(settings, folder)
    store = Store(folder / "central.sqlite")
    start = perf_counter()
    tokens = load_tokens(model_folder(settings) / "tokenizer.json")
    ingest(store, read(corpus), encoder, tokens, IndexSettings().chunk_tokens)
    ingest_s = perf_counter() - start
    vectors = encoder.encode([" ".join(clean(question.text).split()) for question in questions])
    lexicon = lexicons.load(model_folder(settings))
    searcher = Searcher(store, encoder.spec.dimension)
    weights = term_weights(store, lexicon)
    rankings: dict[str, list[str]] = {}
    times: list[float] = []
    for question, vector in zip(questions, vectors, strict=True):
        start = perf_counter()
        rankings[question.id] = _search(searcher, weights, question, vector, k)
        times.append(1000 * (perf_counter() - start))
    pipe.send(CentralRun(rankings, times, ingest_s, len(searcher)))
    store.close()


def term_weights(store: Store, lexicon: Lexicon) -> TermWeights:
    """Weights of words by how often they occur in one store."""
    counts = store.frequencies(lexicon).astype(np.float64)
    return TermWeights.counted(counts, len(store.numbers()), lexicon)


def _search(
    searcher: Searcher, weights: TermWeights, question: EvalQuestion, vector: Any, k: int
) -> list[str]:
    request = SearchRequest(
        vector=np.asarray(vector),
        terms=weights.weigh(terms(question.text)),
        k=k,
        unit="document",
        depth=MOST_DEPTH,
        purpose="benchmark",
        requester="benchmark",
    )
    candidates = searcher.search(request)
    hits = tuple(_hit(i, item) for i, item in enumerate(candidates))
    winners = merge([SearchReply(QueryId(bytes(16)), NAME, hits)], k, "document")
    return [candidates[int.from_bytes(winner.handle, "big")].document for winner in winners]


def _hit(i: int, candidate: Candidate) -> Hit:
    tag = DocumentTag(candidate.document.encode())
    return Hit(Handle(i.to_bytes(16, "big")), tag, candidate.dense, candidate.lexical)
