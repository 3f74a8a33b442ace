"""How many of the best passages each silo is likely to hold, by its profile alone. Pure.

Three readings of the profiles, each a share of the global top-k for every silo:

* *cells*: each cell's passages have cosines to the question that are normal, with mean q.c and
  variance sum_i v_i (u_i.q)^2 + 6 r (1 - sum_i (u_i.q)^2) / d, where v and u are the spread told
  and r what is left of it (Optimist, Bruch 2024, arXiv 2405.12207; 6 because what is left is not
  spread evenly over all directions). One threshold is sought that k of all passages exceed; what a
  silo has above it is its share. Noised means are drawn towards their silo's, and those towards
  the federation's, by how much of their scatter is noise (empirical Bayes).
* *topics*: what lies near the topics that the question is near to; where noised, drawn towards the
  silo's size times the topic's share in the federation.
* *words*: how often the question's words stand in its passages, as a likelihood, where counted.

The logs of the shares are averaged with weights. On mediqa_sites, without noise, cells, topics and
both kept .98 of the best ten at 6.0, 6.5 and 4.9 silos of 18; on evidence_mix at 9.4, 14.9 and 9.1
of 28; words took off .1 to .2 more.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from siloquy.router.profile import centroids, directions, near_topics
from siloquy.text import lexicon as lexicons
from siloquy.text.lexicon import Lexicon
from siloquy.text.topics import Topics
from siloquy.types import NodeId, Profile, Term, Vector

Floats = NDArray[np.float64]

SHARPNESS = 40.0
RESIDUAL = 6.0
LEAST_DEVIATION = 0.02
# How the readings' logs are weighed, with words and without.
WEIGHTS = {"cells": 0.5, "topics": 0.3, "words": 0.2}
NOISED_WEIGHTS = {"cells": 0.5, "topics": 0.5, "words": 0.0}
FLOOR = 0.04
"""Of 1 / silos: no reading says less than that of a silo."""
TYPICAL_IDF, SMOOTHED = 8.0, 0.9
# Variance of a silo's true content at a topic, in squares of the expected content.
SCATTER = 2.0
MOST_LIKELY_CELLS = 512
_MOST_STEPS, _NEAR_ENOUGH = 40, 0.01
# Silos too small to describe themselves held five times (mediqa_sites) and twice (evidence_mix) the
# share of the best passages that their size tells.
UNDESCRIBED = 4.0
MOST_UNDESCRIBED = 500
"""Passages that a silo which tells its size alone may claim: a large one describes itself."""
# A topic is named as a reason only with this share of what the silo holds about the question.
TOLD_SHARE = 0.15


@dataclass(frozen=True, slots=True, eq=False)
class ExpectedShares:
    """(S,) share of the global top-k that each silo is expected to hold; they sum to 1.

    towards   (topics,) how much the question is about each topic
    """

    shares: Floats
    towards: Vector


class Atlas:
    """Profiles of the silos of a federation, laid out for arithmetic."""

    def __init__(self, profiles: Sequence[Profile], topics: Topics, lexicon: Lexicon) -> None:
        self.profiles = tuple(profiles)
        self.silos: tuple[NodeId, ...] = tuple(profile.silo for profile in profiles)
        self.rows = {silo: row for row, silo in enumerate(self.silos)}
        self._topics = topics
        self._sizes = np.array([_size(profile) for profile in profiles], dtype=np.float64)
        self._of_sizes = self._sizes / max(float(self._sizes.sum()), 1.0)
        self._cells = _Cells.of(profiles)
        self._near = _near(profiles, self._sizes, len(topics)).astype(np.float32)
        described = np.array([bool(profile.counts) for profile in profiles], dtype=bool)
        self._weighed = np.where(described, 1.0, UNDESCRIBED) * (self._sizes > 0)
        noised = [profile.epsilon is not None for profile in profiles if profile.counts]
        self._weights = NOISED_WEIGHTS if any(noised) else WEIGHTS
        self.reads_words = self._weights["words"] > 0
        self._words = _Words.of(profiles if self.reads_words else (), self._sizes, lexicon)

    def __len__(self) -> int:
        return len(self.silos)

    def expect(self, vector: Vector, terms: Sequence[Term], k: int) -> ExpectedShares:
        """What each silo is expected to hold of the ``k`` best for a (d,) unit-length question."""
        towards = self._towards(vector)
        if not self._sizes.any():
            return ExpectedShares(np.full(len(self), 1 / max(len(self), 1)), towards)
        weights = self._weights
        logs = weights["cells"] * self._log(self._cells.above(vector, k, self._sizes))
        logs += weights["topics"] * self._log((self._near @ towards).astype(np.float64))
        if self.reads_words:
            logs += weights["words"] * self._log(self._words.likelihood(terms))
        shares = np.exp(logs - logs.max()) * self._weighed
        return ExpectedShares(np.asarray(shares / shares.sum()), towards)

    def _log(self, reading: Floats) -> Floats:
        """Log of a reading as shares, none under the floor; of the sizes where it says nothing."""
        total = reading.sum()
        shares = reading / total if total > 0 else self._of_sizes
        return np.asarray(np.log(shares + FLOOR / len(shares)))

    def reach(self, row: int, vector: Vector, k: int) -> float:
        """The cosine that ``k`` passages of the silo in ``row`` should well exceed."""
        return self._cells.reach(vector, row, k)

    def cells(self, row: int) -> tuple[Vector, Floats]:
        """(m, d) means and (m,) counts of the silo's cells."""
        own = self._cells.owners == row
        return self._cells.means[own], self._cells.counts[own]

    def near(self, row: int) -> Floats:
        """(topics,) what the silo in ``row`` is thought to hold at each topic."""
        return np.asarray(self._near[row], dtype=np.float64)

    def about(self, rows: Sequence[int], towards: Vector, most: int = 2) -> list[tuple[str, ...]]:
        """For each silo in ``rows`` the names of the question's topics that it holds most of."""
        topics = np.flatnonzero(towards > 0.01 * towards.max())
        near = self._near[np.ix_(np.array(rows, dtype=np.int64), topics)] * towards[topics]
        least = TOLD_SHARE * near.sum(axis=1)
        found: list[list[str]] = [[] for _ in rows]
        for _ in range(most):
            best = near.argmax(axis=1)
            for at, place in enumerate(best.tolist()):
                if near[at, place] > least[at]:
                    found[at].append(self._topics.names[int(topics[place])])
                    near[at, place] = 0.0
        return [tuple(names) for names in found]

    def _towards(self, vector: Vector) -> Vector:
        """(topics,) how much a question is about each topic; sums to 1."""
        cosines = self._topics.vectors @ vector
        weights = np.exp(np.float32(SHARPNESS) * (cosines - cosines.max()))
        return np.asarray(weights / weights.sum(), dtype=np.float32)


def _size(profile: Profile) -> int:
    """Passages; whoever tells nothing else is taken for one of the small."""
    return profile.size if profile.counts else min(profile.size, MOST_UNDESCRIBED)


# -- topics ---------------------------------------------------------------------------------------


def _near(profiles: Sequence[Profile], sizes: Floats, topics: int) -> Floats:
    """(S, topics) content near each topic; a silo that tells none is taken to be as the others."""
    told = np.array([len(profile.topics) > 0 for profile in profiles], dtype=bool)
    found = np.zeros((len(profiles), topics))
    for row, profile in enumerate(profiles):
        if told[row]:
            found[row] = near_topics(profile)
    noise = np.array([profile.topic_noise for profile in profiles])[:, None]
    summed = np.maximum(found[told].sum(axis=0), 0.0)
    usual = summed / max(summed.sum(), 1e-9) if told.any() else np.full(topics, 1 / topics)
    mass = np.where(told, np.maximum(found.sum(axis=1), 1.0), 0.0)
    per_passage = mass.sum() / max(sizes[told].sum(), 1.0) if told.any() else 1.0
    mass = np.where(told, mass, per_passage * sizes)
    prior = mass[:, None] * usual + 1e-6
    scatter = 0.5 * prior + SCATTER * prior**2
    drawn = prior + scatter / (scatter + noise**2) * (found - prior)
    return np.asarray(np.where(told[:, None], np.maximum(drawn, 0.05 * prior), prior))


# -- cells ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class _Cells:
    """All cells of all silos.

    owners (M,) row of the silo; told (S,) which silos have cells; means (M, d); counts (M,);
    noises (M,); axes (M, R, d) unit directions, and variances (M, R) along them; rest (M,)
    variance along any other direction; furthest (M,) from its mean that a cell's passages reach
    """

    owners: NDArray[np.int64]
    told: NDArray[np.bool_]
    means: Vector
    counts: Floats
    noises: Floats
    axes: Vector
    variances: Floats
    rest: Floats
    furthest: Floats

    @staticmethod
    def of(profiles: Sequence[Profile]) -> _Cells:
        d = profiles[0].encoder.dimension if profiles else 0
        most = max((profile.rank for profile in profiles), default=0)
        sizes = [len(profile.counts) for profile in profiles]
        axes = np.zeros((sum(sizes), most, d), dtype=np.float32)
        variances = np.zeros((sum(sizes), most))
        at = 0
        for profile, m in zip(profiles, sizes, strict=True):
            if m and profile.rank:
                axes[at : at + m, : profile.rank] = directions(profile).reshape(m, -1, d)
                told = np.array(profile.variances).reshape(m, -1)
                variances[at : at + m, : profile.rank] = told
            at += m
        parts = [centroids(profile) for profile in profiles if profile.counts]
        left = np.maximum(_joined([p.spreads for p in profiles]) - variances.sum(axis=1), 0)
        return _Cells(
            owners=np.repeat(np.arange(len(profiles)), sizes),
            told=np.array(sizes, dtype=np.int64) > 0,
            means=np.concatenate(parts) if parts else np.zeros((0, d), dtype=np.float32),
            counts=_joined([profile.counts for profile in profiles]),
            noises=_joined([profile.noises for profile in profiles]),
            axes=axes,
            variances=variances,
            rest=left * (RESIDUAL / max(d, 1)),
            furthest=3 * np.sqrt(variances.max(axis=1, initial=0.0) + 0.01),
        )

    def above(self, vector: Vector, k: int, sizes: Floats) -> Floats:
        """(S,) passages expected among the ``k`` best; a silo without cells counts as the mean."""
        if not len(self.counts):
            return np.zeros(len(sizes))
        means = self._means(vector, len(sizes))
        rows = self._likely(means)
        deviations = np.sqrt(self._variances(vector, rows)).clip(LEAST_DEVIATION)
        over = _over(means[rows], deviations, self.counts[rows], k)
        found = np.bincount(self.owners[rows], weights=over, minlength=len(sizes))
        if self.told.all():
            return np.asarray(found, dtype=np.float64)
        mean = found.sum() / max(float(sizes[self.told].sum()), 1.0)
        return np.where(self.told, found, mean * sizes)

    def reach(self, vector: Vector, silo: int, k: int) -> float:
        """The mean cosine of the nearest cells of one silo that hold twice ``k`` together.

        Cautious: half of what a cell holds lies above its mean, however it is spread. By the spread
        that profiles tell, two of nine honest silos of medquad9 would have failed.
        """
        rows = np.flatnonzero(self.owners == silo)
        means = (self.means[rows] @ vector).clip(-1, 1).astype(np.float64)
        order = np.argsort(-means, kind="stable")
        held = np.cumsum(self.counts[rows][order])
        enough = int(np.searchsorted(held, min(2.0 * k, 0.5 * held[-1])))
        return float(means[order[min(enough, len(order) - 1)]])

    def _means(self, vector: Vector, silos: int) -> Floats:
        """(M,) mean cosine of each cell; noised ones drawn towards the silo's, and that too."""
        # A mean of unit vectors is no longer than 1; noise or a lie could make it so.
        seen = (self.means @ vector).clip(-1, 1).astype(np.float64)
        if not self.noises.any():
            return seen
        count = np.bincount(self.owners, weights=self.counts, minlength=silos).astype(np.float64)
        held = np.maximum(count, 1e-9)
        of_silo = np.bincount(self.owners, weights=self.counts * seen, minlength=silos) / held
        squared = np.bincount(
            self.owners, weights=(self.counts * self.noises) ** 2, minlength=silos
        )
        squared = (squared / held**2).astype(np.float64)
        everywhere = float((self.counts * seen).sum() / max(self.counts.sum(), 1e-9))
        of_silo = _drawn(of_silo, np.full(silos, everywhere), squared, count)
        return _drawn(seen, of_silo[self.owners], self.noises**2, self.counts)

    def _likely(self, means: Floats) -> NDArray[np.int64]:
        """Cells that may hold one of the best: all, or those that reach furthest."""
        if len(means) <= MOST_LIKELY_CELLS:
            return np.arange(len(means))
        return np.argpartition(-(means + self.furthest), MOST_LIKELY_CELLS)[:MOST_LIKELY_CELLS]

    def _variances(self, vector: Vector, rows: NDArray[np.int64]) -> Floats:
        """Variance of the cosines of each cell in ``rows``."""
        every = len(rows) == len(self.counts)
        axes, told, rest = self.axes, self.variances, self.rest
        if not every:
            axes, told, rest = axes[rows], told[rows], rest[rows]
        flat = axes.reshape(-1, axes.shape[2]) @ vector
        along = np.square(flat, dtype=np.float64).reshape(told.shape)
        unseen = np.maximum(1 - along.sum(axis=1), 0)
        return np.asarray(np.einsum("ij,ij->i", told, along) + rest * unseen)


def _joined(parts: Sequence[Sequence[float]]) -> Floats:
    return np.array([value for part in parts for value in part], dtype=np.float64)


def _drawn(seen: Floats, towards: Floats, noise: Floats, weights: Floats) -> Floats:
    """``seen`` drawn towards a prior by the share of its scatter that is noise."""
    total = max(float(weights.sum()), 1e-9)
    scatter = float((weights * (seen - towards) ** 2).sum()) / total
    true = max(scatter - float((weights * noise).sum()) / total, 0.03**2)
    return np.asarray(towards + true / (true + noise) * (seen - towards))


def _over(means: Floats, deviations: Floats, counts: Floats, k: int) -> Floats:
    """Passages of each cell above the threshold that ``k`` of all exceed."""
    threshold = _threshold(means, deviations, counts, k)
    return np.asarray(counts * ndtr((means - threshold) / deviations))


def _threshold(means: Floats, deviations: Floats, counts: Floats, k: int) -> float:
    """The cosine that ``k`` of the cells' passages exceed, at most half of them.

    Regula falsi on the log of how many do (Illinois), until they are k within a hundredth.
    """
    wanted = min(float(k), 0.5 * float(counts.sum()))
    slopes = 1 / deviations
    scaled = means * slopes
    low, high = -1.0, float((means + 4 * deviations).max())
    if not wanted:
        return high

    def excess(threshold: float) -> float:
        passing = float(counts @ ndtr(scaled - slopes * threshold))
        return math.log(max(passing, 1e-300) / wanted)

    above, below = excess(low), excess(high)
    if above <= 0 or below >= 0:
        return low if above <= 0 else high
    side = 0
    for _ in range(_MOST_STEPS):
        middle = low + (high - low) * above / (above - below)
        found = excess(middle)
        if abs(found) < _NEAR_ENOUGH:
            break
        if found > 0:
            low, above = middle, found
            below *= 0.5 if side == 1 else 1.0
            side = 1
        else:
            high, below = middle, found
            above *= 0.5 if side == -1 else 1.0
            side = -1
    return middle


# -- words ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class _Words:
    """Log-scaled counts (words, S) of silos that count words, and which do (S,).

    sizes   (S,), at least 1; scale (S,) log of one passage more, of a silo without any -inf
    """

    codes: NDArray[np.uint8]
    counted: NDArray[np.bool_]
    places: dict[str, int]
    sizes: Floats
    scale: Floats

    @staticmethod
    def of(profiles: Sequence[Profile], sizes: Floats, lexicon: Lexicon) -> _Words:
        counted = np.array([bool(profile.frequencies) for profile in profiles], dtype=bool)
        codes = np.zeros((len(lexicon) if counted.any() else 0, len(profiles)), dtype=np.uint8)
        for row in np.flatnonzero(counted).tolist():
            codes[:, row] = lexicons.codes(profiles[row].frequencies, lexicon)
        places = lexicon.places if counted.any() else {}
        scale = np.where(sizes > 0, np.log(sizes + 1), -np.inf)
        return _Words(codes, counted, places, np.maximum(sizes, 1.0), scale)

    def likelihood(self, terms: Sequence[Term]) -> Floats:
        """(S,) the silo's size times how likely its passages hold the words, of idf 8 each."""
        known = [
            (self.places[term.word], term.weight) for term in terms if term.word in self.places
        ]
        if not known:
            return np.asarray(np.maximum(np.exp(self.scale) - 1, 0.0))
        rows, weights = (np.array(part) for part in zip(*known, strict=True))
        counts = lexicons.counts(self.codes[rows])
        usual = counts.sum(axis=1, keepdims=True) / self.sizes[self.counted].sum()
        own = counts / self.sizes
        if not self.counted.all():
            own = np.where(self.counted, own, usual)
        shares = (1 - SMOOTHED) * usual + SMOOTHED * own
        logs = np.log(np.maximum(shares, 1e-9)) * (usual > 0)
        logs = self.scale + (weights / TYPICAL_IDF) @ logs
        return np.asarray(np.exp(logs - logs.max()))
