"""How many of the best passages each silo is likely to hold, by its profile alone. Pure.

Three readings of the profiles, each a share of the global top-k for every silo:

* *cells*: each cell's passages have cosines to the question that are normal, with mean q.c and
  variance sum_i v_i (u_i.q)^2 + 6 r (1 - sum_i (u_i.q)^2) / d, where v and u are the spread told
  and r what is left of it (Optimist, Bruch 2024, arXiv 2405.12207; the 6 because what is left is not
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

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from siloquy import lexicon as lexicons
from siloquy.lexicon import Lexicon
from siloquy.router.profile import centroids, directions, near_topics
from siloquy.topics import Topics
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
# Of a silo's expected content at a topic: how far the true one lies about it.
SCATTER = 2.0
MOST_LIKELY_CELLS = 512
# Silos too small to describe themselves held five times (mediqa_sites) and twice (evidence_mix) the
# share of the best passages that their size tells.
UNDESCRIBED = 4.0


@dataclass(frozen=True, slots=True, eq=False)
class Expected:
    """(S,) share of the global top-k that each silo is expected to hold; they sum to 1.

    near   (S, topics) how much each silo is thought to hold at a topic, weighed for the question
    """

    shares: Floats
    near: Floats


class Atlas:
    """Profiles of the silos of a federation, laid out for arithmetic."""

    def __init__(self, profiles: Sequence[Profile], topics: Topics, lexicon: Lexicon) -> None:
        self.profiles = tuple(profiles)
        self.silos: tuple[NodeId, ...] = tuple(profile.silo for profile in profiles)
        self._topics = topics
        self._sizes = np.array([max(profile.size, 0) for profile in profiles], dtype=np.float64)
        self._cells = _Cells.of(profiles)
        self._near = _near(profiles, self._sizes, len(topics))
        self._words = _Words.of(profiles, lexicon)
        described = np.array([bool(profile.counts) for profile in profiles], dtype=bool)
        self._weighed = np.where(described, 1.0, UNDESCRIBED) * (self._sizes > 0)
        noised = [profile.epsilon is not None for profile in profiles if profile.counts]
        self._weights = NOISED_WEIGHTS if any(noised) else WEIGHTS

    def __len__(self) -> int:
        return len(self.silos)

    def expect(self, vector: Vector, terms: Sequence[Term], k: int) -> Expected:
        """What each silo is expected to hold of the ``k`` best for a (d,) unit-length question."""
        if not len(self):
            return Expected(np.zeros(0), np.zeros((0, 0)))
        if not self._sizes.sum():
            return Expected(np.full(len(self), 1 / len(self)), np.zeros((len(self), 0)))
        near = self._near * self._towards(vector)
        readings = {
            "cells": self._cells.above(vector, k, self._sizes),
            "topics": near.sum(axis=1),
            "words": self._words.likelihood(terms, self._sizes),
        }
        logs = sum(
            weight * np.log(_share(readings[name], self._sizes))
            for name, weight in self._weights.items()
            if weight
        )
        shares = np.exp(logs - np.max(logs)) * self._weighed
        return Expected(np.asarray(shares / shares.sum()), near)

    def reach(self, row: int, vector: Vector, k: int) -> float:
        """The cosine that ``k`` passages of the silo in ``row`` should exceed, by its own cells."""
        return self._cells.reach(vector, row, k)

    def cells(self, row: int) -> tuple[Vector, Floats]:
        """(m, d) means and (m,) counts of the silo's cells."""
        own = self._cells.owners == row
        return self._cells.means[own], self._cells.counts[own]

    def near(self, row: int) -> Floats:
        """(topics,) what the silo in ``row`` is thought to hold at each topic."""
        return np.asarray(self._near[row])

    def about(self, near: Floats, most: int = 2) -> tuple[str, ...]:
        """Names of the topics of a question that a silo with ``near`` (topics,) holds most of."""
        best = [int(i) for i in np.argsort(-near)[:most] if near[i] > 0.15 * near.sum()]
        return tuple(self._topics.names[i] for i in best)

    def _towards(self, vector: Vector) -> Floats:
        """(topics,) how much a question is about each topic; sums to 1."""
        cosines = (self._topics.vectors @ vector).astype(np.float64)
        weights = np.exp(SHARPNESS * (cosines - cosines.max()))
        return np.asarray(weights / weights.sum())


def _share(reading: Floats, sizes: Floats) -> Floats:
    """A reading as shares, none under the floor; those of the sizes where it says nothing."""
    total = reading.sum()
    shares = reading / total if total > 0 else sizes / sizes.sum()
    return np.asarray(shares + FLOOR / len(shares))


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

    owners (M,) row of the silo; means (M, d); counts (M,); noises (M,); spreads (M,);
    axes (M, R, d) unit directions; variances (M, R)
    """

    owners: NDArray[np.int64]
    means: Vector
    counts: Floats
    noises: Floats
    spreads: Floats
    axes: Vector
    variances: Floats

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
        return _Cells(
            owners=np.repeat(np.arange(len(profiles)), sizes),
            means=np.concatenate(parts) if parts else np.zeros((0, d), dtype=np.float32),
            counts=_joined([profile.counts for profile in profiles]),
            noises=_joined([profile.noises for profile in profiles]),
            spreads=_joined([profile.spreads for profile in profiles]),
            axes=axes,
            variances=variances,
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
        told = np.bincount(self.owners, minlength=len(sizes)) > 0
        mean = found.sum() / max(sizes[told].sum(), 1.0)
        return np.where(told, found, mean * sizes)

    def reach(self, vector: Vector, silo: int, k: int) -> float:
        """The cosine that ``k`` passages of one silo should exceed."""
        rows = np.flatnonzero(self.owners == silo)
        means = (self.means[rows] @ vector).astype(np.float64)
        deviations = np.sqrt(self._variances(vector, rows)).clip(LEAST_DEVIATION)
        return _threshold(means, deviations, self.counts[rows], k)

    def _means(self, vector: Vector, silos: int) -> Floats:
        """(M,) mean cosine of each cell; noised ones drawn towards the silo's, and that too."""
        seen = (self.means @ vector).astype(np.float64)
        if not self.noises.any():
            return seen
        count = np.bincount(self.owners, weights=self.counts, minlength=silos).astype(np.float64)
        held = np.maximum(count, 1e-9)
        of_silo = np.bincount(self.owners, weights=self.counts * seen, minlength=silos) / held
        squared = np.bincount(
            self.owners, weights=(self.counts * self.noises) ** 2, minlength=silos
        )
        squared = (squared / held**2).astype(np.float64)
        everywhere = float((self.counts * seen).sum() / self.counts.sum())
        of_silo = _drawn(of_silo, np.full(silos, everywhere), squared, count)
        return _drawn(seen, of_silo[self.owners], self.noises**2, self.counts)

    def _likely(self, means: Floats) -> NDArray[np.int64]:
        """Cells that may hold one of the best: all, or those that reach furthest."""
        if len(means) <= MOST_LIKELY_CELLS:
            return np.arange(len(means))
        widest = self.variances.max(axis=1, initial=0.0) + 0.01
        reach = means + 3 * np.sqrt(widest)
        return np.argpartition(-reach, MOST_LIKELY_CELLS)[:MOST_LIKELY_CELLS]

    def _variances(self, vector: Vector, rows: NDArray[np.int64]) -> Floats:
        """Variance of the cosines of each cell in ``rows``."""
        axes = self.axes if len(rows) == len(self.counts) else self.axes[rows]
        along = np.square(axes @ vector).astype(np.float64)
        told = self.variances[rows]
        left = np.maximum(self.spreads[rows] - told.sum(axis=1), 0) * RESIDUAL / len(vector)
        return np.asarray((told * along).sum(axis=1) + left * (1 - along.sum(axis=1)).clip(0))


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

    Two grids of 16 thresholds, the second between two of the first: to .005 of a cosine.
    """
    wanted = min(float(k), 0.5 * counts.sum())
    low, high = -1.0, float((means + 4 * deviations).max())
    for _ in range(2):
        grid = np.linspace(low, high, 16)
        passing = counts @ ndtr((means[:, None] - grid) / deviations[:, None])
        last = int(np.flatnonzero(passing >= wanted)[-1]) if passing[0] >= wanted else 0
        low, high = grid[last], grid[min(last + 1, 15)]
    return float(0.5 * (low + high))


# -- words ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class _Words:
    """Log-scaled counts (S, words) uint8 of silos that count words, and which do.

    ``values`` (256,) is what a code stands for.
    """

    codes: NDArray[np.uint8]
    counted: NDArray[np.bool_]
    places: dict[str, int]

    @staticmethod
    def of(profiles: Sequence[Profile], lexicon: Lexicon) -> _Words:
        counted = np.array([bool(profile.frequencies) for profile in profiles], dtype=bool)
        if not counted.any():
            return _Words(np.zeros((0, 0), dtype=np.uint8), counted, {})
        codes = np.zeros((len(lexicon), len(profiles)), dtype=np.uint8)
        for row, profile in enumerate(profiles):
            if profile.frequencies:
                codes[:, row] = lexicons.codes(profile.frequencies, lexicon)
        return _Words(codes, counted, lexicon.places)

    def likelihood(self, terms: Sequence[Term], sizes: Floats) -> Floats:
        """(S,) the silo's size times how likely its passages hold the words, of idf 8 each."""
        known = [
            (self.places[term.word], term.weight) for term in terms if term.word in self.places
        ]
        if not known:
            return sizes
        rows, weights = (np.array(part) for part in zip(*known, strict=True))
        counts = lexicons.counts(self.codes[rows])
        total = sizes[self.counted].sum()
        usual = counts.sum(axis=1, keepdims=True) / max(total, 1.0)
        own = np.where(self.counted, counts / np.maximum(sizes, 1.0), usual)
        shares = (1 - SMOOTHED) * usual + SMOOTHED * own
        logs = np.log(np.maximum(shares, 1e-9)) * (usual > 0)
        logs = np.log(sizes + 1) + (weights / TYPICAL_IDF) @ logs
        return np.asarray(np.exp(logs - logs.max()) * (sizes > 0))
