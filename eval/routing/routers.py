"""Routers side by side: each scores every (question, silo) pair from what silos publish, or learns.

Scores of one router can be compared over all pairs, so that one threshold decides whom to ask.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import inf

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from siloquy.eval.routing import labels
from siloquy.eval.routing.labels import LabelledSet, Split
from siloquy.eval.scene import Floats, K, Scene, SceneSilo
from siloquy.router.atlas import Atlas
from siloquy.router.fitting import corrected, log_odds
from siloquy.router.learning import LearnedCorrection, Lessons, learn
from siloquy.silo_node.sketch import kmeans
from siloquy.types import Vector

Rows = NDArray[np.int64]
SAMPLE, LEAST_SAMPLE, VOTERS = 0.05, 20, 50
PRIVACY = (inf, 8.0, 4.0)
FEEDBACK = 200
OURS, ORACLE = "ours", "oracle"


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """One split of a scene's questions.

    known   rows whose outcome a learning router may see
    test    rows that are measured
    """

    scene: Scene
    known: Rows
    test: Rows
    seed: int

    @property
    def vectors(self) -> Vector:
        """(n, d) of the test questions."""
        return self.scene.asked.vectors[self.test]


Router = Callable[[Trial], Floats]


# -- without learning -----------------------------------------------------------------------------


def everywhere(trial: Trial) -> Floats:
    """The same for every pair."""
    return np.ones((len(trial.test), len(trial.scene.sites)))


def at_random(trial: Trial) -> Floats:
    """Uniform scores."""
    shape = len(trial.test), len(trial.scene.sites)
    return np.random.default_rng(trial.seed).random(shape)


def by_size(trial: Trial) -> Floats:
    """Passages of each silo, whatever the question."""
    return np.tile(trial.scene.sizes, (len(trial.test), 1))


def centroid(trial: Trial) -> Floats:
    """Cosine to the mean of each silo: one centroid."""
    means = np.stack([_unit(site.vectors.mean(axis=0)) for site in trial.scene.sites])
    return np.asarray(trial.vectors @ means.T, dtype=np.float64)


def centroids(most: int, passages_each: int) -> Router:
    """Passages expected above the threshold of the top-k: k-means cells, spread radius / 6."""

    def router(trial: Trial) -> Floats:
        cells = [_cells(site, most, passages_each) for site in trial.scene.sites]
        return _expected(trial.vectors, cells)

    return router


def optimist(trial: Trial) -> Floats:
    """Optimist's bound: mean and covariance of each silo (8 directions, delta .8)."""
    scores = np.zeros((len(trial.test), len(trial.scene.sites)))
    for row, site in enumerate(trial.scene.sites):
        mean = site.vectors.mean(axis=0)
        left = site.vectors - mean
        values, axes = np.linalg.eigh(left.T.astype(np.float64) @ left / len(left))
        along = np.square(trial.vectors @ axes[:, -8:])
        rest = values[:-8].mean() * (1 - along.sum(axis=1)).clip(0)
        variance = along @ values[-8:] + rest
        scores[:, row] = trial.vectors @ mean + np.sqrt(1.8 / 0.2 * variance)
    return scores


def cori(trial: Trial) -> Floats:
    """CORI (Callan, Lu and Croft 1995): default belief .4, df base 50, df factor 150."""
    counts = np.stack([site.counts for site in trial.scene.sites]).astype(np.float64)
    longest = counts.sum(axis=1)
    relative = (longest / longest.mean())[:, None]
    silos = len(counts)
    holding = np.maximum((counts > 0).sum(axis=0), 1)
    places = trial.scene.lexicon.places
    scores = np.full((len(trial.test), silos), 0.4)
    for at, row in enumerate(trial.test):
        known = [places[t.word] for t in trial.scene.asked.terms[row] if t.word in places]
        if not known:
            continue
        df = counts[:, known]
        t = df / (df + 50 + 150 * relative)
        i = np.log((silos + 0.5) / holding[known]) / np.log(silos + 1.0)
        scores[at] = (0.4 + 0.6 * t * i).mean(axis=1)
    return scores


def crcs(trial: Trial) -> Floats:
    """CRCS(l) (Shokouhi 2007) on 5 % of each silo's vectors, kept in clear: not private."""
    generator = np.random.default_rng(trial.seed)
    owners, sample, weights = list[Rows](), list[Vector](), list[Floats]()
    for row, site in enumerate(trial.scene.sites):
        n = min(max(int(SAMPLE * len(site.vectors)), LEAST_SAMPLE), len(site.vectors))
        chosen = generator.choice(len(site.vectors), n, replace=False)
        sample.append(site.vectors[chosen])
        owners.append(np.full(n, row))
        weights.append(np.full(n, len(site.vectors) / n))
    owner, weight = np.concatenate(owners), np.concatenate(weights)
    cosines = trial.vectors @ np.concatenate(sample).T
    order = np.argsort(-cosines, axis=1)[:, :VOTERS]
    votes = np.arange(VOTERS, 0, -1, dtype=np.float64)[: order.shape[1]]
    scores = np.zeros((len(trial.test), len(trial.scene.sites)))
    for at, best in enumerate(order):
        np.add.at(scores[at], owner[best], votes * weight[best])
    return scores


def oracle(trial: Trial) -> Floats:
    """What each silo really holds of the ten best."""
    return trial.scene.held[trial.test] + 1e-9


# -- learning from labels -------------------------------------------------------------------------


def labelled(router: labels.Router) -> Router:
    """A router of ``routing_labels``: it learns from all known questions which silos held some."""

    def run(trial: Trial) -> Floats:
        asked = trial.scene.asked
        data = LabelledSet(
            asked.ids,
            asked.texts,
            asked.vectors,
            trial.scene.shares,
            np.full(len(asked.ids), ""),
            tuple(trial.scene.silos),
        )
        tenth = max(len(trial.known) // 10, 1)
        parts = Split(trial.known[tenth:], trial.known[:tenth], trial.test)
        return router(data, parts, trial.seed)

    return run


# -- ours -----------------------------------------------------------------------------------------


def expected(scene: Scene, atlas: Atlas, rows: Rows) -> Floats:
    """(n, S) shares that profiles alone let expect."""
    asked = scene.asked
    return np.stack([atlas.expect(asked.vectors[i], asked.terms[i], K).shares for i in rows])


def by_profiles(epsilon: float) -> Router:
    """Ours with noise of ``epsilon``, nothing learned."""

    def router(trial: Trial) -> Floats:
        return expected(trial.scene, atlas_of(trial.scene, epsilon), trial.test)

    return router


def with_feedback(epsilon: float, most: int = FEEDBACK) -> Router:
    """Ours after at most ``most`` questions whose winners all silos competed for."""

    def router(trial: Trial) -> Floats:
        atlas = atlas_of(trial.scene, epsilon)
        return taught(trial.scene, atlas, trial.known[:most], trial.test)

    return router


def taught(scene: Scene, atlas: Atlas, known: Rows, test: Rows) -> Floats:
    """(n, S) shares for ``test``, corrected by what the ``known`` questions came to."""
    asked = scene.asked
    before = log_odds(expected(scene, atlas, known))
    lessons = Lessons(
        asked.vectors[known], tuple(asked.words[i] for i in known), scene.shares[known], before
    )
    return corrections(scene, learn(lessons), test, expected(scene, atlas, test))


def corrections(scene: Scene, learned: LearnedCorrection, rows: Rows, prior: Floats) -> Floats:
    """(n, S) shares ``prior`` of the questions in ``rows`` with what was learned."""
    asked = scene.asked
    return np.stack(
        [
            corrected(learned, asked.vectors[i], asked.words[i], shares)
            for i, shares in zip(rows, prior, strict=True)
        ]
    )


def atlas_of(scene: Scene, epsilon: float) -> Atlas:
    """The profiles of all silos, laid out."""
    return Atlas(scene.profiles(epsilon), scene.topics, scene.lexicon)


def _named(epsilon: float) -> str:
    return f"{OURS}, no noise" if epsilon == inf else f"{OURS}, epsilon {epsilon:g}"


ROUTERS: Mapping[str, Router] = {
    "all": everywhere,
    "random": at_random,
    "prior only": labelled(labels.prior),
    "size": by_size,
    "one centroid": centroid,
    "16 centroids": centroids(16, 40),
    "64 centroids": centroids(64, 5),
    "CORI": cori,
    "CRCS on a sample": crcs,
    "Optimist": optimist,
    "logistic regression": labelled(labels.tfidf),
    "RAGRoute's MLP": labelled(labels.mlp),
    **{_named(epsilon): by_profiles(epsilon) for epsilon in PRIVACY},
    **{f"{_named(epsilon)}, {FEEDBACK} questions": with_feedback(epsilon) for epsilon in PRIVACY},
    ORACLE: oracle,
}


# -- parts ----------------------------------------------------------------------------------------


def _unit(vector: Vector) -> Vector:
    return np.asarray(vector / np.linalg.norm(vector))


@dataclass(frozen=True, slots=True, eq=False)
class _Cells:
    means: Vector
    counts: Floats
    deviations: Floats


def _cells(site: SceneSilo, most: int, passages_each: int) -> _Cells:
    """k-means cells with their radius / 6, at least .02."""
    labels_, means = kmeans(site.vectors, max(1, min(most, len(site.vectors) // passages_each)))
    counts = np.bincount(labels_, minlength=len(means)).astype(np.float64)
    squared = np.square(site.vectors - means[labels_]).sum(axis=1)
    radii = np.sqrt(np.bincount(labels_, squared, len(means)) / np.maximum(counts, 1))
    return _Cells(means, counts, np.maximum(radii / 6, 0.02))


def _expected(vectors: Vector, cells: Sequence[_Cells]) -> Floats:
    owners = np.repeat(np.arange(len(cells)), [len(cell.counts) for cell in cells])
    counts = np.concatenate([cell.counts for cell in cells])
    deviations = np.concatenate([cell.deviations for cell in cells])
    means = vectors @ np.concatenate([cell.means for cell in cells]).T
    low, high = np.full(len(vectors), -1.5), np.full(len(vectors), 1.5)
    for _ in range(30):
        middle = (low + high) / 2
        passing = (counts * ndtr((means - middle[:, None]) / deviations)).sum(axis=1)
        low, high = np.where(passing > K, middle, low), np.where(passing > K, high, middle)
    over = counts * ndtr((means - low[:, None]) / deviations)
    return np.stack([over[:, owners == row].sum(axis=1) for row in range(len(cells))], axis=1)
