"""What a silo's word is worth: what it may win, and how far its profile is believed. Pure.

Three kinds of evidence, each from what silos must do anyway:

* *claims*: a released passage is embedded again here; a claimed score that does not fit is a lie or
  a fault, whatever the topic. One such question is a strike. A silo with a strike may win one
  passage and counts for nothing in the choice; with two it is not asked.
* *probes*: as soon as a profile is new to this gateway, questions are made near what it claims,
  and the silo is searched for them, phase 1 alone: no passage leaves. A profile that nothing at
  the silo backs is found out before the first question.
* *outcomes*: whether a silo's passages win where its profile says they should; that is learned by
  topic with everything else (``router.learning``).

Who passes all three: a silo that serves copied, or false but fitting, documents. Its part of one
answer is bounded by the quota until it has proven itself, and what it says is shown beside what
others say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from siloquy.router.experience import Standing
from siloquy.types import NodeId, Vector

PROVEN = 20
"""Verified passages after which a silo may win all k."""
NEWCOMERS_SHARE = 0.3
STRUCK_OUT = 2
PARDON_MS = 30 * 24 * 3600 * 1000
PROBES, PROBE_K = 6, 10
BELIEVED = 0.5
DISBELIEF = 0.02
SPARE = 0.06
"""How far an honest silo's median of ten may fall below its profile's word: 99 of 100 probes of
mediqa_sites and evidence_mix fell .052 at most, those of another silo .23 to .28 in the middle."""
NEAR_TOPIC = 0.3
"""The least median cosine, to a topic, of a silo that holds it; others came to .01 to .11."""
CLAIMED_NOISES = 4.0
_MOVED = 0.6


def struck_out(standing: Standing, now: int) -> bool:
    """Whether a silo is not asked for now: two questions with false claims, the last this month."""
    return standing.strikes >= STRUCK_OUT and now - standing.struck < PARDON_MS


def quota(standing: Standing, k: int) -> int:
    """How many of ``k`` winners the silo may have."""
    if standing.strikes:
        return 1
    return k if standing.verified >= PROVEN else max(1, round(NEWCOMERS_SHARE * k))


def quotas(
    standings: Mapping[NodeId, Standing], silos: Sequence[NodeId], k: int
) -> dict[NodeId, int]:
    """Quotas of silos that have one below ``k``."""
    found = {silo: quota(standings.get(silo, Standing()), k) for silo in silos}
    return {silo: most for silo, most in found.items() if most < k}


def belief(standing: Standing) -> float:
    """What a silo's expected share is multiplied with, in (0, 1]."""
    if standing.strikes:
        return DISBELIEF
    if standing.probe is None or standing.probe >= BELIEVED:
        return 1.0
    return DISBELIEF


def cell_probes(means: Vector, counts: NDArray[np.float64], normal: Vector) -> Vector:
    """(n, d) unit vectors near what a profile claims, which its silo cannot foretell.

    means    (m, d) of its cells
    counts   (m,)
    normal   (n, d) standard normal numbers of the operating system's generator
    """
    order = np.argsort(-counts, kind="stable")
    chosen = means[order[np.arange(len(normal)) % len(order)]]
    directions = chosen / np.maximum(np.linalg.norm(chosen, axis=1, keepdims=True), 1e-9)
    moved = directions + _MOVED * normal / np.linalg.norm(normal, axis=1, keepdims=True)
    return np.asarray(moved / np.linalg.norm(moved, axis=1, keepdims=True), dtype=np.float32)


def topic_probes(near: NDArray[np.float64], noise: float, most: int) -> NDArray[np.int64]:
    """Topics of which a noised profile claims more than noise explains, most first."""
    order = np.argsort(-near, kind="stable")[:most]
    return np.asarray(order[near[order] >= CLAIMED_NOISES * max(noise, 1e-9)])


def outcome(claims: Sequence[Sequence[float]], expected: Sequence[float]) -> float:
    """Share of probes whose median claimed cosine is what the profile lets expect.

    claims     the claimed cosines of each probe's hits, best first
    expected   the least that an honest silo's would come to
    """
    met = [
        bool(found) and float(np.median(found)) >= least
        for found, least in zip(claims, expected, strict=True)
    ]
    return sum(met) / max(len(met), 1)
