"""What a silo's word is worth: what it may win, and how far its profile is believed. Pure.

Three kinds of evidence, each from what silos must do anyway:

* *claims*: a released passage is embedded again here; a claimed score that does not fit is a lie or
  a fault, whatever the topic. One such question is a strike: the silo is not asked for a day, and
  then may win one passage a question and counts for nothing in the choice; after two it is not
  asked for a month.
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

from siloquy.router.experience import SiloStanding
from siloquy.types import NodeId, Vector

PROVEN = 10
"""Verified passages after which a silo may win all k."""
# With a smaller quota, other silos' second best would fill a new silo's places.
NEWCOMERS_SHARE = 0.5
STRUCK_OUT = 2
REST_MS = 24 * 3600 * 1000
PARDON_MS = 30 * REST_MS
PROBES, PROBE_K = 6, 10
BELIEVED = 0.5
DISBELIEF = 0.005
"""Of all of the best passages, for a silo that claims to hold them all: less than any usual
threshold but that of 99 %."""
SPARE = 0.04
"""How far the median of an honest silo's ten nearest may fall below the mean of the cells around:
no probe of 55 silos did by more than .03."""
NEAR_TOPIC = 0.3
"""The least median cosine, to a topic, of a silo that holds it; others came to .01 to .11."""
CLAIMED_NOISES = 4.0
_MOVED = 0.6


def struck_out(standing: SiloStanding, now: int) -> bool:
    """Whether a silo is not asked for now: false claims today, or in two questions this month."""
    rest = PARDON_MS if standing.strikes >= STRUCK_OUT else REST_MS
    return standing.strikes > 0 and now - standing.struck < rest


def quota(standing: SiloStanding, k: int) -> int:
    """How many of ``k`` winners the silo may have."""
    if standing.strikes:
        return 1
    return k if standing.verified >= PROVEN else max(1, round(NEWCOMERS_SHARE * k))


def quotas(
    standings: Mapping[NodeId, SiloStanding], silos: Sequence[NodeId], k: int, most: int
) -> dict[NodeId, int]:
    """Quotas of silos that have one below ``k``.

    They come to k together as far as can be: where few are asked, those without a strike may win
    as much more, each the same, as else would be left empty.

    most   winners that any silo may have
    """
    known = {silo: standings.get(silo, SiloStanding()) for silo in silos}
    found = {silo: min(quota(standing, k), most) for silo, standing in known.items()}
    free = [silo for silo, standing in known.items() if not standing.strikes]
    short = k - sum(found.values())
    if short > 0:
        found |= {silo: found[silo] + -(-short // len(free)) for silo in free}
    return {silo: few for silo, few in found.items() if few < k}


def belief(standing: SiloStanding) -> float:
    """What a silo's expected share is multiplied with, in (0, 1]."""
    if standing.strikes:
        return DISBELIEF
    return 1.0 if standing.probe is None or standing.probe >= BELIEVED else DISBELIEF


def believed(
    shares: NDArray[np.float64], beliefs: NDArray[np.float64], unproven: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """(..., S) expected shares, each as far as its silo is believed; of the settled they sum to 1.

    What an unproven or disbelieved silo is expected to hold is not taken from the others: it is
    asked beside them, so that not to answer probes gains nothing, and neither does a lie so large
    that little of it is still much.

    unproven   (S,) whether a silo has neither answered probes nor shown passages that fit
    """
    weighed = shares * beliefs
    aside = unproven | (beliefs < 1)
    settled = np.where(aside, 0.0, weighed).sum(axis=-1, keepdims=True)
    alone = settled <= 0
    total = np.where(alone, weighed.sum(axis=-1, keepdims=True), settled)
    divided = weighed / np.maximum(total, 1e-12)
    return np.asarray(np.where(aside & ~alone, weighed, divided))


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
