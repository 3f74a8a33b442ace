"""What feedback on past questions says about a new one: log odds to add to each silo's prior. Pure.

Two steps, each shrunk towards no change by what the records themselves say (empirical Bayes). The
*level* is how far a silo's rate lies from the prior over all questions; how much levels vary is
estimated by EM, and one slope says how far to stretch the prior's own log odds. The *leaning* is
what depends on the question: logistic regression with normal weights, that is a Gaussian process of
kernel

    a [4 exp(-|v - v'|^2) + .5 exp(-|s - s'|^2) + w . w'],  the first two less their mean

v the question's vector, s its shape (number and length of words), w its words and pairs of words,
hashed and weighted by rarity. From ``LANDMARKS`` records on, the first two terms are approximated
by that many of them (Nystroem). The strength a is the moment estimate of Haseman and Elston (1972):
how far records that are alike err alike; a tenth at first, at most 1 (real labels came to .7 and
.8; a sharp synthetic set came to 2, and did worse there than with 1). Targets that
scatter less than yes and no do, such as grades, count for more (quasi-likelihood).

Log loss on RAGRoute's labels from a prior that is exactly right: .425; after 3, 30, 300 records
.435, .424, .398. Without a prior: .546, .433, .398.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from math import log1p

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cholesky, solve_triangular
from scipy.optimize import minimize
from scipy.sparse import csr_array
from scipy.special import expit

from siloquy.types import Vector

Floats = NDArray[np.float64]
Columns = NDArray[np.int64]

COLUMNS = 1 << 14
LANDMARKS = 1024
NEARNESS, SHAPE = 4.0, 0.5
STRENGTH, DOUBT = 0.1, 30.0
STRENGTHS = (0.02, 1.0)
# Log of the number of words, and their mean length: a step of 1 makes two shapes differ.
SHAPE_STEP = (1.6, 2.0)
LEAST_DISPERSION, FEW = 0.02, 10.0
FURTHEST = 30.0
_JITTER = 1e-4
SLOPE_VARIANCE = 0.25
_ROUNDS, _STEPS = 40, 100


@dataclass(frozen=True, slots=True)
class Lessons:
    """What became of n past questions at S silos.

    vectors  (n, d)  unit length
    words    n       every word of each question, in order
    targets  (n, S)  in [0, 1]: held it or not, share of the top-k, grade / 100; NaN: not asked
    offsets  (n, S)  log odds that the router expected before it learned; None: no expectation
    """

    vectors: Vector
    words: tuple[tuple[str, ...], ...]
    targets: Floats
    offsets: Floats | None = None


@dataclass(frozen=True, slots=True)
class Places:
    """Questions as the kernel sees them: ``vectors`` (m, d) and ``shapes`` (m, 2)."""

    vectors: Vector
    shapes: Vector

    def near(self, vectors: Vector, shapes: Vector) -> Vector:
        """(n, m) or (m,): the kernel without its words, at most NEARNESS + SHAPE."""
        close = NEARNESS * np.exp(2 * (vectors @ self.vectors.T) - 2)
        apart = np.square(shapes[..., None, :] - self.shapes).sum(axis=-1)
        return np.asarray(close + SHAPE * np.exp(-apart), dtype=np.float32)


@dataclass(frozen=True, slots=True)
class LearnedCorrection:
    """What to change in a prior; made by ``learn``.

    levels   (S,)          log odds for every question; 0 for a silo without records
    slopes   (S,)          log odds for each one of the prior's; 0 for a silo without records
    places   m             landmarks
    leaning  (m, S)        log odds a unit of kernel to a landmark
    rarity   (COLUMNS,)    weight of a hashed word; 0: never seen
    wording  (COLUMNS, S)  log odds a unit of a hashed word
    """

    levels: Floats
    slopes: Floats
    places: Places
    leaning: Vector
    rarity: Floats
    wording: Floats

    def adjust(self, vector: Vector, words: Sequence[str], offset: Floats | None = None) -> Floats:
        """(S,) log odds to add to the prior of one question; exactly 0 without records.

        vector  (d,)  unit length
        words         every word of the question, in order
        offset  (S,)  the prior's log odds; None: 0
        """
        columns = _columns(words)
        change = self.levels + _weighed(columns, self.rarity) @ self.wording[columns]
        change += self.places.near(vector, _shape(words)) @ self.leaning
        if offset is not None:
            change += self.slopes * _clipped(offset)
        return np.asarray(change)


def learn(lessons: Lessons) -> LearnedCorrection:
    """What the records say; the same records give the same answer.

    CPU: 0.4 s for 200 records of 18 silos, 2 s for 3,000 of 4, on one core with one BLAS thread.
    """
    if not len(lessons.vectors):
        return _nothing(lessons.vectors.shape[1], lessons.targets.shape[1])
    levels, slopes, errors = _without_leaning(lessons)
    words = [_columns(question) for question in lessons.words]
    shapes = np.stack([_shape(question) for question in lessons.words])
    rarity = _rarity(words)
    places = _landmarks(lessons.vectors, shapes)
    root = cholesky(_own(places), lower=True)
    near = solve_triangular(root, places.near(lessons.vectors, shapes).T, lower=True).T
    middle = near.mean(axis=0)
    leaning, wording = _leanings(near - middle, _matrix(words, rarity), errors)
    back = solve_triangular(root, leaning, lower=True, trans="T").astype(np.float32)
    return LearnedCorrection(levels - middle @ leaning, slopes, places, back, rarity, wording)


def _nothing(d: int, silos: int) -> LearnedCorrection:
    """No change, whatever the question."""
    places = Places(np.zeros((0, d), np.float32), np.zeros((0, 2), np.float32))
    none, leaning = np.zeros(silos), np.zeros((0, silos), np.float32)
    return LearnedCorrection(
        none, none, places, leaning, np.zeros(COLUMNS), np.zeros((COLUMNS, silos))
    )


def _clipped(odds: Floats) -> Floats:
    return np.clip(odds, -FURTHEST, FURTHEST)


# -- levels ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Errors:
    """Records seen from log odds without leaning; (n, S) each, 0 where a silo was not asked.

    targets   in [0, 1]
    expected  log odds
    weights   what a record counts in the loss
    asked     1 or 0
    """

    targets: Floats
    expected: Floats
    weights: Floats
    asked: Floats

    def loss(self, leaning: Floats) -> tuple[float, Floats]:
        """Cross entropy, and its gradient (n, S) in the log odds."""
        odds = self.expected + leaning
        entropy = np.logaddexp(0, odds) - self.targets * odds
        return float((self.weights * entropy).sum()), self.weights * (expit(odds) - self.targets)

    def strength(self, near: Floats, words: csr_array) -> float:
        """Variance of the leanings a unit of kernel; ``near`` and ``words`` have n rows."""
        rates = expit(self.expected)
        wrong, sure = self.asked * (self.targets - rates), self.asked * rates * (1 - rates)
        kernel = near @ near.T + (words @ words.T).toarray()
        kernel -= kernel.mean(axis=0) + kernel.mean(axis=1, keepdims=True) - kernel.mean()
        np.fill_diagonal(kernel, 0)
        alike = float((wrong * (kernel @ wrong)).sum())
        scale = float((sure * (kernel**2 @ sure)).sum())
        return float(np.clip((DOUBT * STRENGTH + alike) / (DOUBT + scale), *STRENGTHS))

    def rows(self, some: Columns) -> _Errors:
        """The same of some records."""
        parts = (self.targets, self.expected, self.weights, self.asked)
        return _Errors(*(part[some] for part in parts))


def _without_leaning(lessons: Lessons) -> tuple[Floats, Floats, _Errors]:
    """Levels and slopes (S,), and what they leave unexplained."""
    asked = (~np.isnan(lessons.targets)).astype(np.float64)
    targets = np.where(asked, lessons.targets, 0.0)
    offsets = np.zeros(asked.shape) if lessons.offsets is None else _clipped(lessons.offsets)
    levels, slopes = _levels(targets, asked, offsets)
    expected = offsets * (1 + slopes) + levels
    weights = asked / _dispersion(targets, asked, expit(expected))
    return levels, slopes, _Errors(targets, expected, weights, asked)


def _levels(targets: Floats, asked: Floats, offsets: Floats) -> tuple[Floats, Floats]:
    """Level and slope of each silo, (S,) both: Newton's steps, the levels' variance by EM.

    The first guess of the variance, 1, weighs as much as one silo does.
    """
    heard = asked.any(axis=0).astype(np.float64)
    levels, slope, variance = np.zeros(heard.shape), 0.0, 1.0
    for _ in range(_ROUNDS):
        rates = expit(offsets * (1 + slope) + levels)
        wrong, sure = asked * (targets - rates), asked * rates * (1 - rates)
        precision = sure.sum(axis=0) + 1 / variance
        levels = levels + np.clip((wrong.sum(axis=0) - levels / variance) / precision, -1, 1)
        pull = float((wrong * offsets).sum()) - slope / SLOPE_VARIANCE
        slope += float(np.clip(pull / ((sure * offsets**2).sum() + 1 / SLOPE_VARIANCE), -0.1, 0.1))
        variance = float((1 + (heard * (levels**2 + 1 / precision)).sum()) / (1 + heard.sum()))
    return levels, np.asarray(slope * heard)


def _dispersion(targets: Floats, asked: Floats, rates: Floats) -> Floats:
    """(S,) scatter of targets over that of yes and no, at most 1; near 1 with few records."""
    count = asked.sum(axis=0)
    scatter = (asked * (targets - rates) ** 2).sum(axis=0)
    ratio = scatter / np.maximum((asked * rates * (1 - rates)).sum(axis=0), 1e-9)
    return np.asarray(np.clip((count * ratio + FEW) / (count + FEW), LEAST_DISPERSION, 1.0))


# -- words and shapes -----------------------------------------------------------------------------


@lru_cache(maxsize=1 << 16)
def _column(word: str) -> int:
    return zlib.crc32(word.encode()) % COLUMNS


def _columns(words: Sequence[str]) -> Columns:
    """Hashed words and pairs of neighbours, each once, ascending."""
    pairs = [f"{first} {second}" for first, second in pairwise(words)]
    return np.array(sorted({_column(text) for text in (*words, *pairs)}), dtype=np.int64)


def _rarity(questions: Sequence[Columns]) -> Floats:
    """(COLUMNS,) inverse document frequency over the records; 0 below two records.

    Keeping what occurs once gave the same AUC with three times the weights.
    """
    count = np.bincount(np.concatenate(questions), minlength=COLUMNS)
    return np.where(count > 1, np.log((1 + len(questions)) / (1 + count)) + 1, 0.0)


def _weighed(columns: Columns, rarity: Floats) -> Floats:
    """Weights of one question's words, of unit length unless none is known."""
    weights = rarity[columns]
    return np.asarray(weights / max(float(weights @ weights) ** 0.5, 1e-9))


def _matrix(questions: Sequence[Columns], rarity: Floats) -> csr_array:
    """(n, COLUMNS) the questions' weighed words."""
    weights = np.concatenate([_weighed(columns, rarity) for columns in questions])
    ends = np.cumsum([0, *(len(columns) for columns in questions)])
    matrix = csr_array((weights, np.concatenate(questions), ends), (len(questions), COLUMNS))
    matrix.eliminate_zeros()
    return matrix


def _shape(words: Sequence[str]) -> Vector:
    """(2,) how long a question is, and how long its words."""
    letters = sum(map(len, words)) / max(len(words), 1)
    return np.array([log1p(len(words)) / SHAPE_STEP[0], letters / SHAPE_STEP[1]], dtype=np.float32)


# -- leanings -------------------------------------------------------------------------------------


def _spaced(n: int) -> Columns:
    """At most LANDMARKS of n rows, evenly spaced."""
    return np.linspace(0, n - 1, min(n, LANDMARKS)).round().astype(np.int64)


def _landmarks(vectors: Vector, shapes: Vector) -> Places:
    rows = _spaced(len(vectors))
    return Places(vectors[rows], shapes[rows])


def _own(places: Places) -> Floats:
    """(m, m) kernel of the landmarks, kept invertible where two are the same."""
    own = places.near(places.vectors, places.shapes).astype(np.float64)
    return np.asarray(own + _JITTER * np.eye(len(own)))


def _leanings(near: Floats, words: csr_array, errors: _Errors) -> tuple[Floats, Floats]:
    """Weights (m, S) of ``near`` (n, m) and (COLUMNS, S) of ``words``, by L-BFGS from 0."""
    rows, used = _spaced(len(near)), np.unique(words.indices)
    scale = errors.rows(rows).strength(near[rows], words[rows]) ** 0.5
    near, known = near * scale, words[:, used] * scale
    m, silos = near.shape[1], errors.targets.shape[1]

    def loss(flat: Floats) -> tuple[float, Floats]:
        weights = flat.reshape(-1, silos)
        value, gradient = errors.loss(near @ weights[:m] + known @ weights[m:])
        down = np.concatenate([near.T @ gradient, known.T @ gradient]) + weights
        return value + 0.5 * float(flat @ flat), down.ravel()

    start = np.zeros((m + len(used)) * silos)
    options = {"maxiter": _STEPS, "ftol": 1e-7}
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options=options).x
    weights = scale * found.reshape(-1, silos)
    wording = np.zeros((COLUMNS, silos))
    wording[used] = weights[m:]
    return weights[:m], wording
