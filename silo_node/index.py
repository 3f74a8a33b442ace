"""Vector indexes over unit vectors, one face: FAISS Flat, FAISS HNSW, hnswlib.

Flat is exact, deletes at once and is fast enough to about 100,000 passages. The graph indexes have
no delete: deleted ids are masked and the graph is rebuilt when a fifth of it is dead.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from siloquy.errors import SettingsError
from siloquy.types import Vector

Ids = NDArray[np.int64]
Kind = Literal["auto", "flat", "hnsw", "hnswlib"]

FLAT_LIMIT = 100_000
DEAD_SHARE = 0.2
_M, _EF_CONSTRUCTION, _EF_SEARCH = 32, 200, 200


class DenseIndex(Protocol):
    """Inner-product search over unit vectors by id."""

    def __len__(self) -> int:
        """Live vectors."""
        ...

    def add(self, ids: Ids, vectors: Vector) -> None:
        """Add (n,) new ids with their (n, d) vectors."""
        ...

    def remove(self, ids: Ids) -> None:
        """Remove ids; unknown ones are ignored."""
        ...

    def search(self, query: Vector, n: int) -> tuple[Ids, Vector]:
        """At most ``n`` ids and cosine similarities, best first, for a (d,) query."""
        ...


class FlatIndex:
    """FAISS Flat: exact."""

    def __init__(self, dimension: int) -> None:
        import faiss

        faiss.omp_set_num_threads(1)
        self._index = faiss.IndexIDMap2(faiss.IndexFlatIP(dimension))

    def __len__(self) -> int:
        return int(self._index.ntotal)

    def add(self, ids: Ids, vectors: Vector) -> None:
        """Add (n,) new ids with their (n, d) vectors."""
        if len(ids):
            self._index.add_with_ids(np.ascontiguousarray(vectors), np.ascontiguousarray(ids))

    def remove(self, ids: Ids) -> None:
        """Remove ids; unknown ones are ignored."""
        import faiss

        if len(ids):
            self._index.remove_ids(faiss.IDSelectorBatch(np.ascontiguousarray(ids)))

    def search(self, query: Vector, n: int) -> tuple[Ids, Vector]:
        """At most ``n`` ids and cosine similarities, best first."""
        n = min(n, len(self))
        if n == 0:
            return _nothing()
        scores, ids = self._index.search(query.reshape(1, -1), n)
        return ids[0].astype(np.int64), scores[0]


class _Graph(Protocol):
    def add(self, vectors: Vector, labels: Ids) -> None: ...

    def search(self, query: Vector, n: int) -> tuple[Ids, Vector]: ...


class _FaissGraph:
    def __init__(self, dimension: int) -> None:
        import faiss

        faiss.omp_set_num_threads(os.cpu_count() or 1)
        self._index = faiss.IndexHNSWFlat(dimension, _M, faiss.METRIC_INNER_PRODUCT)
        self._index.hnsw.efConstruction = _EF_CONSTRUCTION
        self._index.hnsw.efSearch = _EF_SEARCH

    def add(self, vectors: Vector, labels: Ids) -> None:
        # Labels are consecutive: FAISS numbers the vectors itself.
        self._index.add(np.ascontiguousarray(vectors))

    def search(self, query: Vector, n: int) -> tuple[Ids, Vector]:
        self._index.hnsw.efSearch = max(_EF_SEARCH, 2 * n)
        scores, labels = self._index.search(query.reshape(1, -1), n)
        return labels[0].astype(np.int64), scores[0]


class _HnswlibGraph:
    def __init__(self, dimension: int) -> None:
        try:
            import hnswlib
        except ImportError:
            raise SettingsError(
                "index.kind is 'hnswlib' and hnswlib is not installed",
                'install siloquy[hnsw] (needs a C++ compiler) or use index.kind = "hnsw"',
            ) from None
        self._index: Any = hnswlib.Index("ip", dimension)
        self._index.init_index(1024, M=_M, ef_construction=_EF_CONSTRUCTION, random_seed=1)

    def add(self, vectors: Vector, labels: Ids) -> None:
        needed = int(self._index.element_count) + len(labels)
        if needed > self._index.max_elements:
            self._index.resize_index(max(needed, 2 * int(self._index.max_elements)))
        self._index.add_items(vectors, labels)

    def search(self, query: Vector, n: int) -> tuple[Ids, Vector]:
        n = min(n, int(self._index.element_count))
        while n:
            self._index.set_ef(max(_EF_SEARCH, 2 * n))
            try:
                labels, distances = self._index.knn_query(query.reshape(1, -1), k=n)
            except RuntimeError:
                # hnswlib raises where the graph reaches fewer than n, as among equal vectors.
                n //= 2
                continue
            return labels[0].astype(np.int64), (1 - distances[0]).astype(np.float32)
        return _nothing()


class GraphIndex:
    """An HNSW graph with deletes by mask and rebuild.

    Vectors are kept beside the graph, so that a rebuild needs no store.
    """

    def __init__(self, dimension: int, make: Callable[[int], _Graph]) -> None:
        self._dimension = dimension
        self._make = make
        self._graph = make(dimension)
        self._ids = np.zeros(0, dtype=np.int64)
        self._live = np.zeros(0, dtype=bool)
        self._vectors = np.zeros((0, dimension), dtype=np.float32)

    def __len__(self) -> int:
        return int(self._live.sum())

    def add(self, ids: Ids, vectors: Vector) -> None:
        """Add (n,) new ids with their (n, d) vectors."""
        if not len(ids):
            return
        labels = np.arange(len(self._ids), len(self._ids) + len(ids), dtype=np.int64)
        self._graph.add(np.ascontiguousarray(vectors), labels)
        self._ids = np.concatenate([self._ids, ids])
        self._live = np.concatenate([self._live, np.ones(len(ids), dtype=bool)])
        self._vectors = np.concatenate([self._vectors, vectors])

    def remove(self, ids: Ids) -> None:
        """Remove ids; unknown ones are ignored."""
        self._live &= ~np.isin(self._ids, ids)
        dead = len(self._ids) - len(self)
        if dead > DEAD_SHARE * len(self._ids):
            self._rebuild()

    def search(self, query: Vector, n: int) -> tuple[Ids, Vector]:
        """At most ``n`` ids and cosine similarities, best first."""
        dead = len(self._ids) - len(self)
        wanted = min(n + dead, len(self._ids))
        if wanted == 0:
            return _nothing()
        labels, scores = self._graph.search(query, wanted)
        kept = (labels >= 0) & self._live[labels]
        return self._ids[labels[kept]][:n], scores[kept][:n]

    def _rebuild(self) -> None:
        ids, vectors = self._ids[self._live], self._vectors[self._live]
        self.__init__(self._dimension, self._make)  # type: ignore[misc]
        self.add(ids, vectors)


def make(kind: Kind, dimension: int, n: int) -> DenseIndex:
    """An empty index for about ``n`` vectors."""
    if kind == "flat" or (kind == "auto" and n <= FLAT_LIMIT):
        return FlatIndex(dimension)
    return GraphIndex(dimension, _HnswlibGraph if kind == "hnswlib" else _FaissGraph)


def _nothing() -> tuple[Ids, Vector]:
    return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.float32)
