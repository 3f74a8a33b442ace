"""What malicious silos win of each router: with forged profiles, and with inflated scores."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from siloquy.eval.attacks.routing import (
    LIAR,
    ask,
    centroid,
    forge,
    furthest,
    liar,
    probe_all,
    running,
)
from siloquy.eval.routing import measures
from siloquy.eval.routing.routers import Rows, Trial, expected
from siloquy.eval.routing.rows import RowWriter, unnoted
from siloquy.eval.scene import Floats, K, Scene
from siloquy.router.atlas import Atlas
from siloquy.router.experience import SiloStanding
from siloquy.router.trust import quota
from siloquy.silo_node.sketch import kmeans
from siloquy.types import Profile, Progress, Vector

PROXIES = (10, 50, 100, 200)
LIARS = (1, 3)
TARGETS = 3
STREAM = 100


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


def hijacks(
    scene: Scene,
    trials: Sequence[Trial],
    profiles: Sequence[Profile],
    told: Progress,
    note: RowWriter = unnoted,
) -> list[dict[str, Any]]:
    """Means over the seeds, by router, number of liars and of proxy questions."""
    found: dict[tuple[str, int, int], list[Hijack]] = {}
    for liars in LIARS:
        for proxies in PROXIES:
            told(f"forged profiles: {liars} of {proxies} questions")
            for trial in trials:
                for one in forged(scene, profiles, liars, proxies, trial.seed, note):
                    found.setdefault((one.router, liars, proxies), []).append(one)
    return [
        {
            "router": router,
            "liars": liars,
            "proxies": proxies,
            **{
                part: round(float(np.mean([getattr(one, part) for one in ones])), 4)
                for part in ("first", "top3", "kept")
            },
        }
        for (router, liars, proxies), ones in found.items()
    ]


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
    forgeries = [forge(scene, profiles, vectors, i) for i in range(liars)]
    honest = len(profiles)
    means = np.stack([centroid(site.vectors) for site in scene.sites] + [centroid(vectors)] * liars)
    yield "one centroid", _ranked(scene, _cosines(scene, test, means), test, honest)
    atlas = Atlas([*profiles, *forgeries], scene.topics, scene.lexicon)
    yield "ours without trust", _ranked(scene, expected(scene, atlas, test), test, honest)
    far = furthest(scene, vectors)
    yield "ours", _streamed(scene, profiles, (), test, far, claims=False)
    for name, claims in (
        ("ours, liars with true scores", False),
        ("ours, liars with high scores", True),
    ):
        yield name, _streamed(scene, profiles, forgeries, test, far, claims=claims)


def _cosines(scene: Scene, rows: Rows, means: Vector) -> Floats:
    return np.asarray(scene.asked.vectors[rows] @ means.T, dtype=np.float64)


def _ranked(scene: Scene, scores: Floats, test: Rows, honest: int) -> _Ranks:
    """A router without state: one ranking a question."""
    order = np.argsort(-scores, axis=1)
    asked = measures.chosen(scores, 0.33 * honest)[:, :honest]
    return _Ranks(
        order[:, 0] >= honest,
        np.asarray((order[:, :3] >= honest).any(axis=1)),
        measures.kept(asked, scene.held[test]),
    )


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
            liars = [silo.startswith(LIAR) for silo in plan.asked]
            first.append(liars[0])
            top3.append(any(liars[:3]))
            asked = np.array([silo in plan.asked for silo in scene.silos])
            kept.append(float(measures.kept(asked[None], scene.held[[row]])[0]))
    return _Ranks(np.array(first), np.array(top3), np.array(kept))


# -- inflated scores ------------------------------------------------------------------------------


def inflated(
    scene: Scene, profiles: Sequence[Profile], rows: Rows, note: RowWriter = unnoted
) -> InflatedScores:
    """The silo that holds most claims .95 for all it offers: what it won of each question."""
    name = liar(0)
    most = int(scene.held.sum(axis=0).argmax())
    cheat = replace(profiles[most], silo=name)
    others = [profile for i, profile in enumerate(profiles) if i != most]
    with running(scene, [*others, cheat]) as router:
        probe_all(scene, router, most, claims=True)
        won = [ask(scene, router, int(row), most, claims=True)[1].get(name, 0) for row in rows]
    note("inflated", questions=rows, won=won)
    return InflatedScores(tuple(won), quota(SiloStanding(), K))
