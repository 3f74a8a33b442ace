"""Hybrid search of one silo: candidates of both rankings, each with both parts of its score.

Sealed questions are scored against all rows; open ones see no passage of a closed collection.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from siloquy.errors import Incompatible
from siloquy.sealed import wire as sealed_wire
from siloquy.silo_node import index
from siloquy.silo_node.guards import RowPlaces
from siloquy.silo_node.index import DenseIndex, Ids
from siloquy.silo_node.sealed_index import SealedIndex
from siloquy.silo_node.store import Store
from siloquy.text import ranking
from siloquy.types import DocumentId, SealedRequest, SealedScores, SearchRequest, Vector


@dataclass(frozen=True, slots=True)
class Candidate:
    """A passage that may win: cosine and weighted BM25 to the question."""

    number: int
    document: DocumentId
    dense: float
    lexical: float


class Searcher:
    """A store with its indexes, which follow what other connections commit.

    closed   collections that answer sealed questions alone
    """

    def __init__(
        self,
        store: Store,
        dimension: int,
        kind: index.Kind = "auto",
        closed: Sequence[str] = (),
    ) -> None:
        self._store = store
        self._closed = closed
        self._hidden: Ids = np.zeros(0, dtype=np.int64)
        # Made for the first sealed question: it takes 4.2 kB a passage.
        self._sealed: SealedIndex | None = None
        self._dimension = dimension
        self._version = -1
        self.generation = 0
        self._known: Ids = np.zeros(0, dtype=np.int64)
        self._index: DenseIndex = index.make(kind, dimension, store.counts().passages)
        self.refresh()

    def __len__(self) -> int:
        return len(self._index)

    def refresh(self) -> bool:
        """Take in what was added, replaced or deleted; whether anything was."""
        with self._store.snapshot():
            return self._follow()

    def _follow(self) -> bool:
        version = self._store.version()
        if version == self._version:
            return False
        current = self._store.numbers()
        gone = np.setdiff1d(self._known, current, assume_unique=True)
        last = int(self._known[-1]) if len(self._known) else 0
        self._index.remove(gone)
        numbers, vectors = self._store.vectors(after=last)
        self._hidden = self._store.numbers_in(self._closed)
        shown = ~np.isin(numbers, self._hidden)
        self._index.add(numbers[shown], vectors[shown])
        self._follow_sealed(gone, numbers, vectors)
        self._known, self._version = current, version
        changed = bool(len(gone) or len(numbers))
        self.generation += changed
        return changed

    def _follow_sealed(self, gone: Ids, numbers: Ids, vectors: Vector) -> None:
        """A silo that outgrows sealed scoring goes on answering open questions."""
        try:
            if self._sealed is not None:
                self._sealed.follow(gone, numbers, vectors)
        except Incompatible:
            if self._sealed is not None:
                self._sealed.close()
            self._sealed = None

    def search(self, request: SearchRequest) -> list[Candidate]:
        """At most 2 * depth candidates that may be among the k best of all silos, by cosine.

        What k others here are sure to beat, whatever other silos offer, is not told: a third of
        the candidates is left on mediqa_sites, and the hub sees as many scores less.
        """
        if request.vector.shape != (self._dimension,):
            raise Incompatible(
                f"the query has {request.vector.shape[0]} dimensions, this silo {self._dimension}"
            )
        with self._store.snapshot():
            self._follow()
            nearest, _ = self._index.search(request.vector, request.depth)
            matching, lexical = self._store.lexical(request.terms)
            if len(self._hidden):
                shown = ~np.isin(matching, self._hidden)
                matching, lexical = matching[shown], lexical[shown]
            best = matching[_top(lexical, request.depth)]
            numbers, vectors, documents = self._store.found(np.concatenate([nearest, best]))
        if not len(numbers):
            return []
        dense = vectors @ request.vector
        found = _look_up(numbers, matching, lexical)
        grouped = (
            numbers if request.unit == "passage" else np.unique(documents, return_inverse=True)[1]
        )
        kept = np.flatnonzero(contenders(dense, found, grouped, request.k))
        number, cosine, words = (part.tolist() for part in (numbers, dense, found))
        return [
            Candidate(number[i], documents[i], cosine[i], words[i])
            for i in kept[np.argsort(-dense[kept], kind="stable")].tolist()
        ]

    def score_sealed(self, request: SealedRequest, public: bytes) -> tuple[SealedScores, RowPlaces]:
        """The sealed scores of all rows under the key ``public``, and what lies where in them.

        Incompatible for another dimension, too many passages, or without the library;
        IntegrityError for a query that is malformed.
        """
        if request.dimension != self._dimension:
            raise Incompatible(
                f"the query has {request.dimension} dimensions, this silo {self._dimension}"
            )
        with self._store.snapshot():
            self._follow()
            rows = self._sealed_index()
        return rows.score(request.query, request.offset, public)

    def _sealed_index(self) -> SealedIndex:
        if self._sealed is None:
            sealed_wire.blocks_for(len(self._known))
            made = SealedIndex(self._dimension)
            made.follow(self._known[:0], *self._store.vectors())
            self._sealed = made
        return self._sealed

    def make_ready(self) -> None:
        """Do now what the next sealed question would wait for."""
        rows = self._sealed
        if rows is not None:
            rows.freshen()
            rows.stock()


def contenders(dense: Vector, lexical: Vector, groups: Ids, k: int) -> NDArray[np.bool_]:
    """(n,) which candidates fewer than ``k`` groups of the others are sure to beat.

    The best BM25 itself is always told, since all are measured by it.

    groups   (n,) passages, or documents when each counts once
    """
    ahead = ranking.surely_ahead(dense, lexical)
    _, places = np.unique(groups, return_inverse=True)
    beaten = np.zeros((len(dense), int(places.max(initial=-1)) + 1), dtype=bool)
    rows, others = np.nonzero(ahead)
    beaten[rows, places[others]] = True
    kept = beaten.sum(axis=1) < k
    if lexical.max(initial=0.0) > 0:
        kept[int(lexical.argmax())] = True
    return np.asarray(kept)


def _top(scores: NDArray[np.float64], n: int) -> NDArray[np.int64]:
    """Places of the ``n`` largest, best first, ties in order."""
    if len(scores) > 4 * n:
        least = np.partition(scores, -n)[-n]
        near = np.flatnonzero(scores >= least)
        return near[np.argsort(-scores[near], kind="stable")][:n]
    return np.argsort(-scores, kind="stable")[:n]


def _look_up(wanted: Ids, known: Ids, values: NDArray[np.float64]) -> Vector:
    """The value of each wanted number, 0 where it is not among the (sorted) known."""
    result = np.zeros(len(wanted), dtype=np.float32)
    if len(known):
        place = np.searchsorted(known, wanted).clip(max=len(known) - 1)
        hit = known[place] == wanted
        result[hit] = values[place[hit]]
    return result
