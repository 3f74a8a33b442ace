"""Attacks on sealed retrieval by who does not collude: what scores, and sizes, give away. Pure.

Each is run where the design forbids it and in a control where it is allowed: an attack that never
works proves nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from siloquy.sealed import wire
from siloquy.types import Vector

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


def masked_scores(queries: Vector, rows: Vector, generator: np.random.Generator) -> Floats:
    """(m, n) scores as the hub opens them: exact integers under each question's own mask."""
    levels = wire.rounded(rows, wire.ROW_SCALE).astype(np.float64)
    scales = generator.integers(wire.LEAST_SCALE, wire.MOST_SCALE + 1, len(queries)).tolist()
    asked = np.stack([wire.rounded(q, scale) for q, scale in zip(queries, scales, strict=True)])
    offsets = generator.integers(-wire.MOST_OFFSET, wire.MOST_OFFSET + 1, (len(queries), 1))
    return np.asarray(asked.astype(np.float64) @ levels.T + offsets)


HUB_QUESTIONS, HUB_KNOWN = (1, 16, 384), (20, 100, 400)
GATEWAY_QUESTIONS = (10, 50, 100, 384)
MOST_ROWS = 3_000


def track(rows: Vector, queries: Vector, seed: int) -> list[dict[str, Any]]:
    """What both attacks rebuild of (n, d) real rows with (m, d) real questions, one row a setting.

    hub       masked scores of unknown questions, rows told apart over as many, some rows known;
              ``mean_cosine`` is of the other rows, ``guess`` the same of the known rows' mean
    custody   scores of known questions at who holds the key, as peers have it: stable places, or
              as here fresh ones for each question (``repacked``)
    """
    generator = np.random.default_rng(seed)
    found = [
        _hub(rows, queries[:questions], known, generator)
        for questions in HUB_QUESTIONS
        for known in HUB_KNOWN
        if questions <= len(queries) and known < len(rows)
    ]
    asked = [count for count in GATEWAY_QUESTIONS if count <= len(queries)]
    for repacked in (False, True):
        found += [_custody(rows, queries[:m], generator, repacked=repacked) for m in asked]
    return found


def on_passages(vectors: Vector, seed: int) -> list[dict[str, Any]]:
    """``track`` over at most 3,000 of the (n, d) passages, others of them taken as questions."""
    order = np.random.default_rng(seed).permutation(len(vectors))
    count = min(len(order) // 2, max(HUB_QUESTIONS))
    questions, rows = order[:count], order[count : count + MOST_ROWS]
    return track(vectors[rows], vectors[questions], seed)


def _hub(
    rows: Vector, queries: Vector, known: int, generator: np.random.Generator
) -> dict[str, Any]:
    places = generator.permutation(len(rows))
    seen, others = places[:known], places[known:]
    scores = masked_scores(queries, rows, generator)
    true = rows.astype(np.float64)
    rebuilt = vectors_from_unknown_queries(scores, true[seen], seen.tolist())
    guess = np.broadcast_to(true[seen].mean(axis=0), true.shape)
    return {
        "attack": "hub",
        "questions": len(queries),
        "known_rows": known,
        "mean_cosine": float(cosines(rebuilt[others], true[others]).mean()),
        "guess": float(cosines(guess[others], true[others]).mean()),
    }


def _custody(
    rows: Vector, queries: Vector, generator: np.random.Generator, *, repacked: bool
) -> dict[str, Any]:
    asked, true = queries.astype(np.float64), rows.astype(np.float64)
    scores = asked @ true.T
    if repacked:
        scores = generator.permuted(scores, axis=1)
    rebuilt = vectors_from_scores(asked, scores)
    return {
        "attack": "custody",
        "questions": len(queries),
        "repacked": repacked,
        "mean_cosine": float(cosines(rebuilt, true).mean()),
    }


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
