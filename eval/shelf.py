"""One index in this process from which documents can be withheld: what the federation would find.

For sweeps over thousands of questions. The federation's ranking equals the central one
(``bench retrieval``), so the evidence is the same but for near-ties.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from siloquy.errors import SiloquyError
from siloquy.eval.central import term_weights
from siloquy.settings import EncoderSettings, IndexSettings
from siloquy.silo_node.chunk import load_tokens
from siloquy.silo_node.ingest import ingest
from siloquy.silo_node.reading.walk import read
from siloquy.silo_node.store import Store
from siloquy.text import lexicon as lexicons
from siloquy.text import ranking
from siloquy.text.embed import embedder, model_folder
from siloquy.text.words import clean, embedded_text, terms
from siloquy.types import DocumentId, NodeId, Source

K = 10
_NAME = NodeId("shelf")


class Shelf:
    """A corpus, its encoder and its index."""

    def __init__(self, corpus: Path, folder: Path, cache: Path) -> None:
        settings = EncoderSettings(cache=str(cache))
        self._encoder = embedder(settings, folder)
        self._store = Store(folder / "shelf.sqlite")
        tokens = load_tokens(model_folder(settings) / "tokenizer.json")
        ingest(self._store, read(corpus), self._encoder, tokens, IndexSettings().chunk_tokens)
        self._weights = term_weights(self._store, lexicons.load(model_folder(settings)))
        everything = self._store.found(self._store.numbers())
        self._numbers, self._vectors, documents = everything
        self._documents = np.array(documents)

    def close(self) -> None:
        """Let go of the index's file."""
        self._store.close()

    def find(self, question: str, withheld: frozenset[str] = frozenset()) -> list[Source]:
        """The evidence for a question, as the gateway would have it without those documents."""
        text = " ".join(clean(question).split())
        vector = self._encoder.encode([text])[0]
        left = np.flatnonzero(~np.isin(self._documents, list(withheld)))
        dense, lexical = self._vectors[left] @ vector, self._lexical(text)[left]
        scores = ranking.hybrid_scores(dense, lexical)
        best = np.argsort(-scores, kind="stable")[:K]
        return [self._source(n, int(left[i]), float(dense[i])) for n, i in enumerate(best, start=1)]

    def weigh(self, question: str, passages: Sequence[Mapping[str, Any]]) -> list[Source]:
        """Passages of ``POST /v1/retrieve`` with the score that the gateway gives them."""
        texts = [embedded_text(item["title"], item["text"]) for item in passages]
        vectors = self._encoder.encode([" ".join(clean(question).split()), *texts])
        return [
            Source(
                n=item["rank"],
                silo=NodeId(item["silo"]),
                document=DocumentId(item["document"]),
                title=item["title"],
                text=item["text"],
                start=item["start"],
                end=item["end"],
                score=round(float(vector @ vectors[0]), 4),
            )
            for item, vector in zip(passages, vectors[1:], strict=True)
        ]

    def _lexical(self, text: str) -> NDArray[np.float64]:
        numbers, scores = self._store.lexical(self._weights.weigh(terms(text)))
        result = np.zeros(len(self._numbers))
        result[np.searchsorted(self._numbers, numbers)] = scores
        return result

    def _source(self, n: int, row: int, score: float) -> Source:
        found = self._store.passage(int(self._numbers[row]))
        if found is None:
            raise SiloquyError("the index names a passage that its store does not hold")
        return Source(
            n=n,
            silo=_NAME,
            document=found.document,
            title=found.title,
            text=found.text,
            start=found.start,
            end=found.end,
            score=round(score, 4),
            section=found.section,
            dated=found.dated,
        )
