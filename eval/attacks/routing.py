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
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from siloquy.eval.routing import measures
from siloquy.eval.routing.routers import Rows, expected
from siloquy.eval.routing.rows import RowWriter, unnoted
from siloquy.eval.scene import DEPTH, Floats, K, Scene
from siloquy.gateway.evidence import CLAIM_TOLERANCE
from siloquy.router.atlas import Atlas
from siloquy.router.experience import Experience, SiloStanding
from siloquy.router.router import LearningRouter
from siloquy.router.trust import quota
from siloquy.settings import AskSettings
from siloquy.silo_node.sketch import kmeans
from siloquy.text import ranking
from siloquy.types import NodeId, Plan, Profile, RouteRequest, SearchFeedback, Vector

CLUSTERS = 5
INFLATED = 0.95
TARGETS = 3
STREAM = 100
NOW = 1_800_000_000_000


@dataclass(frozen=True, slots=True)
class Hijack:
    """Share of questions of the aimed topic in which a liar ranks first, or among the first three.

    kept    what is kept of the honest silos' ten best, the same silos a question being asked
    """

    router: str
    liars: int
    proxies: int
    first: float
    top3: float
    kept: float


@dataclass(frozen=True, slots=True)
class InflatedScores:
    """Passages of ``k`` that a silo with inflated scores won, question by question."""

    won: tuple[int, ...]
    quota: int


# -- forged profiles ------------------------------------------------------------------------------


def forged(
    scene: Scene,
    profiles: Sequence[Profile],
    liars: int,
    proxies: int,
    seed: int,
    note: RowWriter = unnoted,
) -> list[Hijack]:
    """Each router on questions of three topics, forged profiles among the honest ones."""
    found: dict[str, list[_Ranks]] = {}
    for topic in _topics(scene, seed):
        aimed, known = topic[: len(topic) // 2], topic[len(topic) // 2 :]
        if len(known) < 5:
            continue
        test = aimed[:STREAM]
        for name, ranks in _one_topic(scene, profiles, known[:proxies], test, liars):
            found.setdefault(name, []).append(ranks)
            note(
                "attacks",
                router=name,
                liars=liars,
                proxies=proxies,
                seed=seed,
                questions=test,
                first=ranks.first,
                top3=ranks.top3,
                kept=ranks.kept,
            )
    return [
        Hijack(
            name,
            liars,
            proxies,
            *(
                float(np.mean([getattr(one, part).mean() for one in ones]))
                for part in ("first", "top3", "kept")
            ),
        )
        for name, ones in found.items()
    ]


@dataclass(frozen=True, slots=True, eq=False)
class _Ranks:
    """(n,) by question of one topic: see ``Hijack``."""

    first: NDArray[np.bool_]
    top3: NDArray[np.bool_]
    kept: Floats


def _topics(scene: Scene, seed: int) -> list[Rows]:
    """Questions of three topics: clusters of their vectors, in random order."""
    labels, _ = kmeans(scene.asked.vectors, TARGETS)
    generator = np.random.default_rng(seed)
    return [generator.permutation(np.flatnonzero(labels == topic)) for topic in range(TARGETS)]


def _one_topic(
    scene: Scene, profiles: Sequence[Profile], proxies: Rows, test: Rows, liars: int
) -> Iterator[tuple[str, _Ranks]]:
    vectors = scene.asked.vectors[proxies]
    forgeries = [_forge(scene, profiles, vectors, i) for i in range(liars)]
    honest = len(profiles)
    means = np.stack([_mean(site.vectors) for site in scene.sites] + [_mean(vectors)] * liars)
    yield "one centroid", _ranked(scene, _cosines(scene, test, means), test, honest)
    atlas = Atlas([*profiles, *forgeries], scene.topics, scene.lexicon)
    yield "ours without trust", _ranked(scene, expected(scene, atlas, test), test, honest)
    far = _furthest(scene, vectors)
    yield "ours", _streamed(scene, profiles, (), test, far, claims=False)
    for name, claims in (
        ("ours, liars with true scores", False),
        ("ours, liars with high scores", True),
    ):
        yield name, _streamed(scene, profiles, forgeries, test, far, claims=claims)


def _forge(scene: Scene, profiles: Sequence[Profile], vectors: Vector, number: int) -> Profile:
    """A profile of five clusters of proxy questions, as large as the largest honest silo."""
    largest = max(profiles, key=lambda profile: profile.size)
    labels, means = kmeans(vectors, min(CLUSTERS, len(vectors)))
    counts = np.bincount(labels, minlength=len(means)) * (largest.size / len(vectors))
    near = scene.topics.near(vectors).sum(axis=0) * (largest.size / len(vectors))
    m = len(means)
    return replace(
        largest,
        silo=NodeId(f"liar-{number}"),
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


def _cosines(scene: Scene, rows: Rows, means: Vector) -> Floats:
    return np.asarray(scene.asked.vectors[rows] @ means.T, dtype=np.float64)


def _mean(vectors: Vector) -> Vector:
    mean = vectors.mean(axis=0)
    return np.asarray(mean / np.linalg.norm(mean))


def _furthest(scene: Scene, vectors: Vector) -> int:
    """The silo whose content lies furthest from the aimed topic: liars hold its documents."""
    large = [i for i, site in enumerate(scene.sites) if len(site.vectors) >= 2 * K]
    return min(large, key=lambda i: float((scene.sites[i].vectors @ _mean(vectors)).max()))


def _ranked(scene: Scene, scores: Floats, test: Rows, honest: int) -> _Ranks:
    """A router without state: one ranking a question."""
    order = np.argsort(-scores, axis=1)
    asked = measures.chosen(scores, 0.33 * honest)[:, :honest]
    return _Ranks(
        order[:, 0] >= honest,
        np.asarray((order[:, :3] >= honest).any(axis=1)),
        measures.kept(asked, scene.held[test]),
    )


# -- the router as it runs ------------------------------------------------------------------------


@contextmanager
def _quiet() -> Iterator[None]:
    """The router's warnings about liars are what is measured here."""
    log = logging.getLogger("siloquy.router.router")
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


def _streamed(
    scene: Scene,
    profiles: Sequence[Profile],
    forgeries: Sequence[Profile],
    test: Rows,
    far: int,
    *,
    claims: bool,
) -> _Ranks:
    """Probes first, then question after question, with what each teaches."""
    first, top3, kept = [], [], []
    with running(scene, [*profiles, *forgeries]) as router:
        probe_all(scene, router, far, claims=claims)
        for row in test:
            plan, _ = ask(scene, router, int(row), far, claims=claims)
            liars = [silo.startswith("liar-") for silo in plan.asked]
            first.append(liars[0])
            top3.append(any(liars[:3]))
            asked = np.array([silo in plan.asked for silo in scene.silos])
            kept.append(float(measures.kept(asked[None], scene.held[[row]])[0]))
    return _Ranks(np.array(first), np.array(top3), np.array(kept))


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


# -- inflated scores ------------------------------------------------------------------------------


def inflated(
    scene: Scene, profiles: Sequence[Profile], rows: Rows, note: RowWriter = unnoted
) -> InflatedScores:
    """The silo that holds most claims .95 for all it offers: what it won of each question."""
    liar = NodeId("liar-0")
    most = int(scene.held.sum(axis=0).argmax())
    cheat = replace(profiles[most], silo=liar)
    others = [profile for i, profile in enumerate(profiles) if i != most]
    with running(scene, [*others, cheat]) as router:
        probe_all(scene, router, most, claims=True)
        won = [ask(scene, router, int(row), most, claims=True)[1].get(liar, 0) for row in rows]
    note("inflated", questions=rows, won=won)
    return InflatedScores(tuple(won), quota(SiloStanding(), K))
