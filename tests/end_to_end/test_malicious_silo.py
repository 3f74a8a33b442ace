"""A silo that lies about what it holds, against an honest hub and gateway.

It forges its profile or inflates its scores. It is found out by what it must do anyway, wins no
more than its quota meanwhile, and costs no honest silo its part.
"""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
import pytest

from siloquy.router.trust import NEWCOMERS_SHARE
from siloquy.silo_node.search import Candidate, Searcher
from siloquy.text import topics
from siloquy.types import NodeId, Profile, Query, SearchRequest
from tests.end_to_end.canaries import QUESTION, WordEmbedder
from tests.end_to_end.malicious_hub import WAIT_S
from tests.end_to_end.profiled import described
from tests.end_to_end.town import (
    ANNEX,
    EAST,
    NORTH,
    SILOS,
    SOUTH,
    WARD,
    K,
    Town,
    options,
    topic_list,
)

DULL = "Where do linen and lamp stay at night?"


async def forged(town: Town, silo: NodeId, like: Profile, question: str) -> None:
    """Let ``silo`` claim a thousand passages that all lie at ``question``, and hold none."""
    (vector,) = WordEmbedder().encode([question])
    near = np.zeros(len(topics.names()))
    near[int((topic_list().vectors @ vector).argmax())] = 1000.0
    profile = replace(
        like,
        silo=silo,
        version=1000,
        size=1000,
        topics=near.astype("<f2").tobytes(),
        counts=(1000.0,),
        noises=(0.0,),
        centroids=np.rint(120 * vector).astype(np.int8).tobytes(),
        spreads=(0.1,),
        rank=0,
        directions=b"",
        variances=(),
        frequencies=b"",
    )
    sealed = town.seal(town.identities[silo], "profile", os.urandom(16), profile, WARD, ANNEX)
    await town.sites[silo].line.call("publish", sealed, WAIT_S)


def inflated(town: Town, silo: NodeId, to: float = 0.999) -> None:
    """Let ``silo`` claim the highest cosines for whatever it holds, in all its books alike."""
    honest = town.sites[silo].node._searcher

    class Liar(Searcher):
        def __init__(self) -> None:
            return

        def search(self, request: SearchRequest) -> list[Candidate]:
            return [replace(item, dense=to) for item in honest.search(request)]

    town.sites[silo].node._searcher = Liar()


async def asked_of(town: Town, question: str) -> tuple[NodeId, ...]:
    """The silos that the router chooses; no other round follows."""
    found = await town.gateway.retrieve(Query(question), options(route="auto", k=K))
    return found.plan.asked


# -- profiles -------------------------------------------------------------------------------------


async def test_a_forged_profile_is_probed_disbelieved_and_not_asked_from_the_first_question(
    town: Town,
) -> None:
    like = await described(town, NORTH)
    await described(town, SOUTH)
    before = town.disclosed()
    await forged(town, EAST, like, DULL)
    await town.gateway.refresh()
    assert town.disclosed() == before  # probes release nothing
    standing = town.router.standings[EAST]
    assert (standing.probe, standing.strikes) == (0.0, 0)
    assert [town.router.standings[silo].probe for silo in (NORTH, SOUTH)] == [1.0, 1.0]
    assert EAST not in await asked_of(town, DULL)


async def test_without_probes_the_forged_profile_would_be_asked(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(town.router, "unprobed", list)
    like = await described(town, NORTH)
    await described(town, SOUTH)
    await forged(town, EAST, like, DULL)
    await town.gateway.refresh()
    assert EAST in await asked_of(town, DULL)


async def test_a_silo_that_answers_no_probe_takes_nobody_elses_part(town: Town) -> None:
    like = await described(town, NORTH)
    await described(town, SOUTH)
    await forged(town, EAST, like, DULL)
    await town.sites[EAST].stop()
    await town.gateway.refresh()
    assert town.router.standings.get(EAST) is None
    assert {NORTH, SOUTH} & set(await asked_of(town, DULL))
    await town.sites[EAST].start()


# -- scores ---------------------------------------------------------------------------------------


async def test_inflated_scores_win_the_quota_once_and_then_nothing(town: Town) -> None:
    inflated(town, EAST)
    newcomers = max(1, round(NEWCOMERS_SHARE * K))
    won = []
    for _ in range(3):
        answer = await town.ask()
        won.append(answer.released.get(EAST, 0))
        assert sum(answer.released.values()) <= K
        assert await town.gateway.learnt(WAIT_S)
    assert 0 < won[0] <= newcomers
    assert won[1:] == [0, 0]
    assert answer.plan.skipped == (EAST,)
    assert "did not fit its passages" in answer.plan.reasons[EAST]
    assert town.router.standings[EAST].strikes == 1
    assert {source.silo for source in answer.sources} == {NORTH, SOUTH}


async def test_false_claims_are_flagged_to_the_reader(town: Town) -> None:
    inflated(town, EAST)
    answer = await town.ask()
    assert set(answer.flagged) == {EAST}
    assert "similarity" in answer.flagged[EAST]


async def test_a_silo_that_was_struck_out_is_asked_again_after_a_pardon(town: Town) -> None:
    honest = town.sites[EAST].node._searcher
    inflated(town, EAST)
    for _ in range(2):
        await town.ask()
        assert await town.gateway.learnt(WAIT_S)
    assert town.router.barred(SILOS) == {EAST: town.router.barred([EAST])[EAST]}
    town.sites[EAST].node._searcher = honest
    assert town.router.learner.pardon(EAST)
    await town.ask_as_usual()


# -- audits ---------------------------------------------------------------------------------------


def audits(town: Town) -> int:
    """How many audits the gateway's file holds."""
    return len(town.router.learner._experience.lessons(100, audits=True))


async def test_an_audit_question_asks_all_silos_and_releases_no_more_than_k(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(town.router, "_chance", lambda: 0.0)
    before = sum(spent for _, _, spent in town.disclosed().values())
    answer = await town.gateway.ask(Query(QUESTION), options(route="auto", k=K))
    assert answer.plan.audit
    assert set(answer.plan.asked) == set(SILOS)
    after = sum(spent for _, _, spent in town.disclosed().values())
    assert after - before == sum(answer.released.values()) <= K
    assert await town.gateway.learnt(WAIT_S)
    assert audits(town) == 1


async def test_audits_by_themselves_release_nothing_and_are_learnt(town: Town) -> None:
    async with town.nothing_leaves():
        for question in (QUESTION, DULL, "Who halves the drops?"):
            found = await town.gateway.audit(Query(question))
            assert set(found.asked) == set(found.held) == set(SILOS)
            assert sum(found.held.values()) == K
        assert audits(town) == 3
