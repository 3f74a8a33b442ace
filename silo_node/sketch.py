"""What a silo tells of its content: how much lies near public topics, and a few means with spread.

Pure. With noise, everything told is differentially private for one group of passages, a document or
a patient: a group counts once whatever its length, cells are cut along public topics, and all of it
is released once, by Gaussian mechanisms whose shares of the budget add up. Sums are of whole steps
of 2 ** -40, so that the rounding of one group hangs on no other. Two things are told without noise:
that a silo holds nothing, and when it has made a new profile.

Without noise the cells are those of k-means and lie closer: .98 of the best ten passages of
mediqa_sites lay at 8 silos of 18 by such cells alone, at 10 by cells along topics.

The means and their spread are those of Optimist (Bruch 2024, arXiv 2405.12207).
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from siloquy.silo_node.privacy import Draw, bounded, noised, sigma
from siloquy.text.topics import Topics
from siloquy.types import Vector

MOST_CELLS, MOST_MEANS_BYTES = 16, 16 * 1024
MOST_RANK = 6
PASSAGES_PER_CELL = 40
# A mean of fewer documents would be more noise than content.
DOCUMENTS_PER_NOISED_CELL, MOST_NOISED_CELLS = 60, 4
# Shares of the budget; what a share f gets has noise sigma / sqrt(f).
TOPICS_SHARE, CELLS_SHARE, SIZE_SHARE = 0.5, 0.45, 0.05
# A group adds at most so many passages to the size.
MOST_OF_A_GROUP = 4
# Taken for a noised cell's spread, which is not told: the mean over mediqa_sites, medquad9 and
# evidence_mix.
USUAL_SPREAD = 0.75
INT8_SCALE, INT4_SCALE = 127, 7
_SEED = 1
_ROWS = 4096
_STEPS = 2.0**40
# What rounding to steps, of lengths and of shares can add to what a group moves.
_ROUNDING = 1 + 1e-5
_MOST_HALF = 65504.0
Groups = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Content:
    """All of a profile that tells of content, in its order and form (``types.Profile``)."""

    size: int
    topics: bytes = b""
    topic_noise: float = 0.0
    counts: tuple[float, ...] = ()
    noises: tuple[float, ...] = ()
    centroids: bytes = b""
    spreads: tuple[float, ...] = ()
    rank: int = 0
    directions: bytes = b""
    variances: tuple[float, ...] = ()


def sketch(vectors: Vector, groups: Groups, topics: Topics, least: int) -> Content:
    """The content as it is; below ``least`` passages its size alone.

    vectors   (n, d) unit-length embeddings of all passages
    groups    (n,)   which document or patient each is of
    """
    size = len(vectors)
    if size < max(least, 1):
        return Content(size)
    most = _most_cells(vectors.shape[1], MOST_CELLS)
    labels, means = kmeans(vectors, min(most, max(size // PASSAGES_PER_CELL, 1)))
    cells = [vectors[labels == j] - mean for j, mean in enumerate(means)]
    bases, variances = zip(*(_widest(cell) for cell in cells), strict=True)
    return Content(
        size=size,
        topics=_half(_near_topics(vectors, groups, topics)),
        counts=tuple(float(len(cell)) for cell in cells),
        noises=(0.0,) * len(cells),
        centroids=_int8(means),
        spreads=tuple(_spread(cell) for cell in cells),
        rank=MOST_RANK,
        directions=_int4(np.concatenate(bases)),
        variances=tuple(float(value) for values in variances for value in values),
    )


def noised_sketch(
    vectors: Vector,
    groups: Groups,
    topics: Topics,
    least: int,
    epsilon: float,
    delta: float,
    draw: Draw = os.urandom,
) -> Content:
    """The content, (epsilon, delta)-private for one group added or removed.

    For a silo that holds something: the size told is at least 1. If, noised, it is below ``least``,
    it is told alone.

    draw   random bytes of the operating system; only tests give others
    """
    multiplier = sigma(epsilon, delta)
    size = _noised_size(groups, multiplier / math.sqrt(SIZE_SHARE), draw)
    near_noise = multiplier / math.sqrt(TOPICS_SHARE)
    near = noised(_near_topics(vectors, groups, topics), _ROUNDING, near_noise, draw)
    if size < max(least, 1):
        return Content(max(size, 1))
    cells = _noised_cells(
        vectors, groups, topics, near, near_noise, multiplier / math.sqrt(CELLS_SHARE), draw
    )
    scale = size / max(float(cells.documents.sum()), 1.0)
    return Content(
        size=size,
        topics=_half(near),
        topic_noise=near_noise,
        counts=tuple(float(count) for count in scale * cells.documents),
        noises=tuple(float(cells.noise / count) for count in cells.documents),
        centroids=_int8(cells.sums / cells.documents[:, None]),
        spreads=(USUAL_SPREAD,) * len(cells.documents),
    )


# -- topics ---------------------------------------------------------------------------------------


def _near_topics(vectors: Vector, groups: Groups, topics: Topics) -> Floats:
    """(topics,) how much of the groups lies near each topic; a group adds a vector of norm 1."""
    near, n = np.zeros(len(topics), dtype=np.int64), len(topics)
    rows = np.unique(groups, return_inverse=True)[1]
    places, shares = [np.zeros(0, dtype=np.int64)], [np.zeros(0)]
    for part in _parts(len(vectors)):
        found = topics.near(vectors[part])
        at, topic = np.nonzero(found)
        places.append(rows[part][at] * n + topic)
        shares.append(found[at, topic].astype(np.float64))
    # Where a group and a topic meet: a few for each passage, instead of a number for every topic.
    meetings, where = np.unique(np.concatenate(places), return_inverse=True)
    summed = np.asarray(np.bincount(where, weights=np.concatenate(shares)), dtype=np.float64)
    group = meetings // n
    lengths = np.sqrt(np.bincount(group, weights=np.square(summed)))
    np.add.at(near, meetings % n, _fixed(summed / lengths[group]))
    return _unfixed(near)


def _noised_size(groups: Groups, multiplier: float, draw: Draw) -> int:
    """Passages, of each group at most four counted, noised."""
    _, counts = np.unique(groups, return_counts=True)
    capped = np.array([np.minimum(counts, MOST_OF_A_GROUP).sum()], dtype=np.float64)
    return round(float(noised(capped, MOST_OF_A_GROUP, multiplier, draw)[0]))


# -- cells with noise -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class _Cells:
    """Noised sums (m, d) and documents (m,) of cells; ``noise`` is that of a coordinate."""

    sums: Floats
    documents: Floats
    noise: float


def _noised_cells(
    vectors: Vector,
    groups: Groups,
    topics: Topics,
    near: Floats,
    near_noise: float,
    multiplier: float,
    draw: Draw,
) -> _Cells:
    """Cells along the topics that hold most by the noised ``near``: they cost nothing more.

    A group's passages weigh 1 together, so its part of all sums has a norm of at most 1, and its
    part of all counts too: sqrt(2) for both.
    """
    of_topic = _bundles(topics, np.where(near > 1.5 * near_noise, near, 0.0))
    sums = _weighed_sums(vectors, bounded(groups), topics, of_topic)
    sensitivity = math.sqrt(2) * _ROUNDING
    told = noised(sums, sensitivity, multiplier, draw)
    return _Cells(told[:, :-1], np.maximum(told[:, -1], 1.0), sensitivity * multiplier)


def _weighed_sums(
    vectors: Vector, weights: Floats, topics: Topics, of_topic: NDArray[np.int64]
) -> Floats:
    """(m, d + 1) of each cell the weighted sum of its vectors and, last, of its weights."""
    sums = np.zeros((int(of_topic.max()) + 1, vectors.shape[1] + 1), dtype=np.int64)
    for part in _parts(len(vectors)):
        labels = of_topic[topics.cosines(vectors[part]).argmax(axis=1)]
        rows = vectors[part].astype(np.float64)
        rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1.0)
        fixed = _fixed(weights[part, None] * np.hstack([rows, np.ones((len(rows), 1))]))
        for cell in range(len(sums)):
            sums[cell] += fixed[labels == cell].sum(axis=0)
    return _unfixed(sums)


def _bundles(topics: Topics, weights: Floats) -> NDArray[np.int64]:
    """(topics,) the cell of each topic: weighted k-means over the topics' own places."""
    used = np.flatnonzero(weights)
    most = _most_cells(topics.vectors.shape[1], MOST_NOISED_CELLS)
    m = int(min(weights.sum() // DOCUMENTS_PER_NOISED_CELL, most, len(used)))
    if m < 2:
        return np.zeros(len(topics), dtype=np.int64)
    _, means = kmeans(topics.vectors[used], m, weights[used].astype(np.float32))
    return np.asarray(_nearest(topics.vectors, means))


# -- exact sums -----------------------------------------------------------------------------------


def _parts(n: int) -> Iterator[slice]:
    """Pieces of ``n`` rows: 512 numbers a passage at once would be gigabytes."""
    return (slice(start, start + _ROWS) for start in range(0, n, _ROWS))


def _fixed(values: Floats) -> NDArray[np.int64]:
    """In whole steps, whose sums are the same in any order; room for 8 million groups."""
    steps: NDArray[np.int64] = np.rint(values * _STEPS).astype(np.int64)
    return steps


def _unfixed(steps: NDArray[np.int64]) -> Floats:
    return np.asarray(steps / _STEPS)


# -- cells without --------------------------------------------------------------------------------


def _most_cells(d: int, most: int) -> int:
    """As many as there is room for means of ``d`` bytes."""
    return max(min(most, MOST_MEANS_BYTES // d), 1)


def kmeans(
    vectors: Vector, m: int, weights: Vector | None = None
) -> tuple[NDArray[np.int64], Vector]:
    """Cell of each vector, and the (m, d) means."""
    import faiss

    trained = faiss.Kmeans(vectors.shape[1], m, niter=12, seed=_SEED, min_points_per_centroid=1)
    trained.train(np.ascontiguousarray(vectors), weights=weights)
    means = np.asarray(trained.centroids, dtype=np.float32)
    return _nearest(vectors, means), means


def _nearest(vectors: Vector, means: Vector) -> NDArray[np.int64]:
    return np.asarray((vectors @ means.T - 0.5 * np.square(means).sum(axis=1)).argmax(axis=1))


def _spread(residuals: Vector) -> float:
    """Mean squared distance to the mean; 0 without members."""
    return float(np.square(residuals).sum(axis=1).mean()) if len(residuals) else 0.0


def _widest(residuals: Vector) -> tuple[Vector, Floats]:
    """(rank, d) directions of most spread, and the mean squared distance along each; 0 filled."""
    d = residuals.shape[1]
    basis, variances = np.zeros((MOST_RANK, d), np.float32), np.zeros(MOST_RANK)
    rank = min(MOST_RANK, max(len(residuals) - 2, 0), d)
    if rank:
        values, directions = np.linalg.eigh(residuals.T.astype(np.float64) @ residuals)
        basis[:rank] = directions[:, : -rank - 1 : -1].T
        variances[:rank] = np.maximum(values[: -rank - 1 : -1], 0) / len(residuals)
    return basis, variances


# -- bytes ----------------------------------------------------------------------------------------


def _half(values: Floats) -> bytes:
    return values.clip(-_MOST_HALF, _MOST_HALF).astype("<f2").tobytes()


def _int8(means: Floats | Vector) -> bytes:
    codes: NDArray[np.int8] = np.rint(means * INT8_SCALE).clip(-127, 127).astype(np.int8)
    return codes.tobytes()


def _int4(directions: Vector) -> bytes:
    """Each row scaled to its largest coordinate: -7 to 7 in half a byte, the even one low."""
    most = np.abs(directions).max(axis=1, keepdims=True)
    codes = np.rint(INT4_SCALE * directions / np.where(most > 0, most, 1)).astype(np.int8)
    nibbles = (codes & 0x0F).astype(np.uint8)
    if nibbles.shape[1] % 2:
        nibbles = np.pad(nibbles, ((0, 0), (0, 1)))
    packed: NDArray[np.uint8] = np.asarray(nibbles[:, 0::2] | (nibbles[:, 1::2] << 4), np.uint8)
    return packed.tobytes()
