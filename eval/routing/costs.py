"""What routing takes: CPU time of one question, and bytes of one question and of a profile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from time import process_time

import numpy as np

from siloquy.codec import encode
from siloquy.eval.routing.rows import RowWriter, unnoted
from siloquy.eval.scene import DEPTH, K, Scene
from siloquy.router.atlas import Atlas
from siloquy.router.choice import ChoiceLimits, Target, choose
from siloquy.types import (
    DocumentTag,
    Handle,
    Hit,
    NodeId,
    Profile,
    QueryId,
    SearchReply,
    SearchRequest,
)

MANY = 1000


def milliseconds(
    scene: Scene, profiles: Sequence[Profile], note: RowWriter = unnoted, most: int = 200
) -> Mapping[str, float]:
    """CPU time of expecting and choosing, one question: these silos, and 1,000 copies of such."""
    many = [
        _renamed(profile, f"{profile.silo}-{i}")
        for i in range(MANY // len(profiles) + 1)
        for profile in profiles
    ][:MANY]
    times = {}
    for name, some in (("these", profiles), ("1,000", many)):
        atlas = Atlas(some, scene.topics, scene.lexicon)
        spent = []
        for row in range(min(most if name == "these" else 30, len(scene.asked.ids))):
            start = process_time()
            found = atlas.expect(scene.asked.vectors[row], scene.asked.terms[row], K)
            target, limits = Target(0.016, None), ChoiceLimits()
            choose(atlas.silos, found.shares, K, "precise", target, limits, {})
            spent.append(1000 * (process_time() - start))
        times[name] = float(np.median(spent))
        note("cost", silos=name, questions=range(len(spent)), milliseconds=spent)
    return times


def _renamed(profile: Profile, name: str) -> Profile:
    return replace(profile, silo=NodeId(name))


def question_bytes(scene: Scene, ours: float) -> dict[str, float]:
    """Bytes of one question: broadcasting k passages from every silo, and asking ours.

    Plain messages as they are encoded, without the seals that both would have.

    ours   silos that ours asks, mean
    """
    n = len(scene.sites)
    passage = float(np.mean([site.passage_bytes for site in scene.sites if site.passage_bytes]))
    request = float(np.mean([_request_bytes(scene, i) for i in range(min(len(scene.offers), 50))]))
    hit = Hit(Handle(bytes(16)), DocumentTag(bytes(8)), 0.123456789, 1.23456789)
    offered = round(float(np.mean([len(offer.silos) for offer in scene.offers])) / n)
    reply = len(encode(SearchReply(QueryId(bytes(16)), NodeId("silo"), (hit,) * offered)))
    broadcast = n * (request + K * passage)
    asked = (1 + ours) * request + ours * reply + K * passage
    return {
        "request": round(request),
        "candidates of a silo": offered,
        "reply without text": round(reply),
        "passage": round(passage),
        "broadcast": round(broadcast),
        "ours": round(asked),
        "saved": round(1 - asked / broadcast, 4),
        "passages saved": round(1 - 1 / n, 4),
    }


def _request_bytes(scene: Scene, i: int) -> int:
    asked = scene.asked
    request = SearchRequest(
        asked.vectors[i], asked.terms[i], K, "passage", DEPTH, "treatment", "local"
    )
    return len(encode(request))
