"""The profile that a silo publishes: size, cluster means with their spread, word frequencies."""

from __future__ import annotations

import numpy as np

from siloquy import lexicon as lexicons
from siloquy.lexicon import Lexicon
from siloquy.silo_node.store import Store
from siloquy.types import EncoderSpec, NodeId, Profile, Vector

MOST_CENTROIDS = 32
PASSAGES_PER_CENTROID = 40
LEAST_PASSAGES = 20
LIFETIME_MS = 24 * 3600 * 1000
INT8_SCALE = 127
_SEED = 1


def sketch(
    store: Store, silo: NodeId, spec: EncoderSpec, lexicon: Lexicon, version: int, now: int
) -> Profile:
    """The silo's profile; below 20 passages its size alone."""
    with store.lock:
        _, vectors = store.vectors()
        frequencies = store.frequencies(lexicon)
    size = len(vectors)
    if size < LEAST_PASSAGES:
        centroids = np.zeros((0, spec.dimension), dtype=np.float32)
        labels = np.zeros(0, dtype=np.int64)
        frequencies = np.zeros_like(frequencies)
    else:
        centroids, labels = _cluster(vectors, min(MOST_CENTROIDS, size // PASSAGES_PER_CENTROID))
    return Profile(
        silo=silo,
        version=version,
        created=now,
        expires=now + LIFETIME_MS,
        encoder=spec,
        size=size,
        centroids=np.rint(centroids * INT8_SCALE).clip(-127, 127).astype(np.int8).tobytes(),
        counts=tuple(int(count) for count in np.bincount(labels, minlength=len(centroids))),
        radii=tuple(_radius(vectors[labels == j], c) for j, c in enumerate(centroids)),
        frequencies=lexicons.pack(frequencies),
    )


def _cluster(vectors: Vector, m: int) -> tuple[Vector, np.ndarray[tuple[int], np.dtype[np.int64]]]:
    """(m, d) cluster means and the cluster of each vector."""
    import faiss

    m = max(m, 1)
    kmeans = faiss.Kmeans(vectors.shape[1], m, niter=12, seed=_SEED, min_points_per_centroid=1)
    kmeans.train(np.ascontiguousarray(vectors))
    _, labels = kmeans.index.search(np.ascontiguousarray(vectors), 1)
    return np.asarray(kmeans.centroids, dtype=np.float32), labels[:, 0].astype(np.int64)


def _radius(members: Vector, mean: Vector) -> float:
    """Root mean square distance of the members to their mean; 0 without members."""
    if not len(members):
        return 0.0
    return float(np.sqrt(((members - mean) ** 2).sum(axis=1).mean()))
