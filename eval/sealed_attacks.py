"""Attacks on sealed retrieval by who does not collude: what scores, and sizes, give away. Pure.

Each is run where the design forbids it and in a control where it is allowed: an attack that never
works proves nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
RIDGE = 1e-3
"""Of the known rows' variance: keeps a fit to few of them from running away."""


def vectors_from_scores(queries: Floats, scores: Floats) -> Floats:
    """(n, d) rows that give the (m, n) scores to the (m, d) queries, by least squares.

    The attack of who knows the questions and reads every row's score. Exact from m = d on.
    """
    return np.asarray(np.linalg.lstsq(queries, scores, rcond=None)[0].T, dtype=np.float64)


def vectors_from_unknown_queries(scores: Floats, known: Floats, rows: Sequence[int]) -> Floats:
    """(n, d) rows rebuilt from (m, n) masked scores to questions that the attacker does not know.

    The attack of a curious hub that can tell which row is which over m questions, and knows some
    rows' vectors. Each question's offset falls with its mean, its scale is one factor more of an
    unknown map; the table of scores has the rows' span up to one linear map, which the known rows
    settle.

    known   (r, d) vectors of the rows at ``rows``
    """
    centred = scores - scores.mean(axis=1, keepdims=True)
    _, sizes, span = np.linalg.svd(centred, full_matrices=False)
    rank = int((sizes > 1e-9 * sizes[0]).sum()) if sizes.size and sizes[0] > 0 else 0
    coordinates = span[:rank].T * np.sqrt(scores.shape[1])
    mean = known.mean(axis=0)
    seen = np.column_stack([np.ones(len(rows)), coordinates[list(rows)]])
    weights = RIDGE * len(rows) * np.eye(seen.shape[1])
    weights[0, 0] = 0.0
    fit = np.linalg.solve(seen.T @ seen + weights, seen.T @ (known - mean))
    return np.asarray(np.column_stack([np.ones(len(coordinates)), coordinates]) @ fit + mean)


def cosines(rebuilt: Floats, true: Floats) -> Floats:
    """(n,) cosine of each rebuilt row to the true one."""
    sizes = np.linalg.norm(rebuilt, axis=1) * np.linalg.norm(true, axis=1)
    return np.asarray((rebuilt * true).sum(axis=1) / np.maximum(sizes, 1e-12))


def told_apart(first: Floats, second: Floats) -> float:
    """Share of what was captured that a classifier puts to the right one of two questions.

    Nearest mean, each sample left out in turn, over features scaled alike; .5 is guessing.

    first, second   (n, features) of what was captured while each question was asked
    """
    samples = np.concatenate([first, second])
    labels = np.repeat([0, 1], [len(first), len(second)])
    spread = samples.std(axis=0)
    scaled = (samples - samples.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    right = [_is_right(scaled, labels, i) for i in range(len(scaled))]
    return float(np.mean(right))


def _is_right(samples: Floats, labels: NDArray[np.int64], i: int) -> bool:
    others = np.arange(len(samples)) != i
    means = [samples[others & (labels == label)].mean(axis=0) for label in (0, 1)]
    far = [float(np.linalg.norm(samples[i] - mean)) for mean in means]
    return bool(np.argmin(far) == labels[i])


def features(messages: Sequence[bytes]) -> Floats:
    """What a classifier sees of messages: how many, their sizes, how often each byte stands there.

    And the same of the first and last kilobyte, where headers and tails would show.
    """
    joined = b"".join(messages)
    parts = (joined, joined[:1024], joined[-1024:])
    shares = [np.bincount(np.frombuffer(part, np.uint8), minlength=256) for part in parts]
    sizes = [float(len(messages)), *(float(len(item)) for item in messages)]
    return np.concatenate([sizes, *[share / max(len(joined), 1) for share in shares]])
