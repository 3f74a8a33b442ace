"""Silos that lie about themselves to be asked, or about their passages to win.

Malicious silos hold the documents of another, far from the topic that they aim at. They forge a
profile from questions of that topic, as in arXiv 2605.28112 (k-means with five clusters of proxy
questions), and answer with their true cosines, or claim high ones.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from siloquy.eval.scene import DEPTH, Floats, K, Scene
from siloquy.gateway.evidence import CLAIM_TOLERANCE
from siloquy.router.experience import Experience
from siloquy.router.router import LearningRouter
from siloquy.settings import AskSettings
from siloquy.silo_node.sketch import kmeans
from siloquy.text import ranking
from siloquy.types import NodeId, Plan, Profile, RouteRequest, SearchFeedback, Vector

LIAR = "liar-"
CLUSTERS = 5
INFLATED = 0.95
NOW = 1_800_000_000_000


def liar(number: int) -> NodeId:
    """Name of a malicious silo."""
    return NodeId(f"{LIAR}{number}")


def forge(scene: Scene, profiles: Sequence[Profile], vectors: Vector, number: int) -> Profile:
    """A profile of five clusters of proxy questions, as large as the largest honest silo."""
    largest = max(profiles, key=lambda profile: profile.size)
    labels, means = kmeans(vectors, min(CLUSTERS, len(vectors)))
    counts = np.bincount(labels, minlength=len(means)) * (largest.size / len(vectors))
    near = scene.topics.near(vectors).sum(axis=0) * (largest.size / len(vectors))
    m = len(means)
    return replace(
        largest,
        silo=liar(number),
        topics=near.astype("<f2").tobytes(),
        counts=tuple(counts.tolist()),
        noises=(largest.noises[0],) * m,
        centroids=np.rint(means * 127).clip(-127, 127).astype(np.int8).tobytes(),
        spreads=(0.5,) * m,
        rank=0,
        directions=b"",
        variances=(),
        frequencies=b"",
    )


def centroid(vectors: Vector) -> Vector:
    """Mean of (n, d) vectors, at unit length."""
    mean = vectors.mean(axis=0)
    return np.asarray(mean / np.linalg.norm(mean))


def furthest(scene: Scene, vectors: Vector) -> int:
    """The silo whose content lies furthest from the aimed topic: liars hold its documents."""
    large = [i for i, site in enumerate(scene.sites) if len(site.vectors) >= 2 * K]
    return min(large, key=lambda i: float((scene.sites[i].vectors @ centroid(vectors)).max()))


# -- the router as it runs ------------------------------------------------------------------------


@contextmanager
def _quiet() -> Iterator[None]:
    """The router's warnings about liars are what is measured here."""
    log = logging.getLogger("siloquy.router.learner")
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(before)


@contextmanager
def running(scene: Scene, profiles: Sequence[Profile]) -> Iterator[LearningRouter]:
    """A gateway's router with these profiles and nothing learned, without audits."""
    with _quiet(), tempfile.TemporaryDirectory(prefix="siloquy-router-") as folder:
        experience = Experience(Path(folder) / "router.sqlite")
        router = LearningRouter(
            scene.topics, scene.lexicon, experience, AskSettings(), lambda: NOW, lambda: 1.0
        )
        router.follow(profiles)
        yield router
        experience.close()


def probe_all(scene: Scene, router: LearningRouter, far: int, *, claims: bool) -> None:
    """Every silo answers its probes: honest ones truly, liars by their own documents, or highly."""
    rows = {silo: row for row, silo in enumerate(scene.silos)}
    for probe in router.unprobed():
        site = scene.sites[rows.get(probe.silo, far)]
        found = [np.sort(site.vectors @ vector)[::-1][:K].tolist() for vector in probe.vectors]
        if claims and probe.silo not in rows:
            found = [[INFLATED] * K for _ in found]
        router.probed(probe, found)


def ask(
    scene: Scene, router: LearningRouter, row: int, far: int, *, claims: bool
) -> tuple[Plan, dict[NodeId, int]]:
    """One question as a gateway asks it: plan, merge with quotas, scoring again, learning."""
    asked = scene.asked
    sought = RouteRequest(asked.vectors[row], asked.words[row], K, "precise", router.silos)
    plan = router.plan(sought)
    quotas = router.quotas(plan, K)
    names, claimed, true = _candidates(scene, row, plan.asked, far, claims=claims)
    won = merged(names, claimed, quotas)
    winners = dict.fromkeys(plan.asked, 0)
    false, verified = dict.fromkeys(plan.asked, 0), dict.fromkeys(plan.asked, 0)
    for i in won:
        fits = abs(claimed[i] - true[i]) <= CLAIM_TOLERANCE
        (verified if fits else false)[names[i]] += 1
        winners[names[i]] += 1
    router.checked(verified, false)
    router.heard(SearchFeedback(sought.vector, sought.words, plan, winners, (), {}))
    return plan, winners


def _candidates(
    scene: Scene, row: int, silos: Sequence[NodeId], far: int, *, claims: bool
) -> tuple[list[NodeId], Floats, Floats]:
    """Silo, claimed and true score of every candidate that the asked silos offer."""
    rows = {silo: i for i, silo in enumerate(scene.silos)}
    offers = scene.offers[row]
    scores = offers.scores(np.arange(len(offers.silos)))
    names, claimed, true = list[NodeId](), list[Floats](), list[Floats]()
    for silo in silos:
        if silo in rows:
            own = scores[offers.silos == rows[silo]]
            told = own
        else:
            cosines = scene.sites[far].vectors @ scene.asked.vectors[row]
            own = np.sort(cosines)[::-1][:DEPTH].astype(np.float64)
            told = np.full(len(own), INFLATED + ranking.LEXICAL_WEIGHT) if claims else own
        names += [silo] * len(own)
        claimed.append(told)
        true.append(own)
    return names, np.concatenate(claimed), np.concatenate(true)


def merged(names: Sequence[NodeId], claimed: Floats, quotas: dict[NodeId, int]) -> list[int]:
    """Rows of the winners, best first: the hub's merge, of scores that are there already."""
    won, counts = list[int](), dict[NodeId, int]()
    for i in np.argsort(-claimed, kind="stable").tolist():
        if counts.get(names[i], 0) < quotas.get(names[i], K) and len(won) < K:
            counts[names[i]] = counts.get(names[i], 0) + 1
            won.append(i)
    return won
