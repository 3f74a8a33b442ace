"""The two phases by themselves: quotas, the ceiling of word scores, and silos that inflate them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from siloquy import envelope as envelopes
from siloquy.aggregator.evidence import Evidence, select
from siloquy.codec import decode
from siloquy.envelope import Header
from siloquy.errors import IntegrityError
from siloquy.heads import HeadBook
from siloquy.phases import CEILING_STEP, LEAST_CEILING, Phases, Released, Won, lexical_ceiling
from siloquy.silo_node.search import Candidate
from siloquy.text import embedded_text, most_bm25, terms
from siloquy.types import (
    Handle,
    MergeReply,
    NodeId,
    SearchRequest,
    Signed,
    Term,
    Ticket,
    Unit,
    Winner,
)
from tests.silo_node.hospital import WordEmbedder, pinned
from tests.siloquy.federation import Federation
from tests.siloquy.world import NORTH, QUESTION, SOUTH, World, hasty

TERMS = tuple(Term(word, 2.0) for word in terms(QUESTION))
TIMEOUT_S = 2.0
WORDS = "claimed matching words that its passage does not hold"


class Desk:
    """The phases of ward in a world, and every search header that the hub was sent."""

    def __init__(self, world: World, federation: Federation) -> None:
        self.world = world
        self.headers: list[Header] = []
        ward = pinned(federation.roster, world.folder / "desk.json")
        heads = hasty(HeadBook(world.folder / "desk-heads.sqlite"))
        self.phases = Phases(federation.ward, ward, self, heads, world.clock)

    async def gather(self, envelope: bytes, timeout_s: float) -> MergeReply:
        self.headers.append(envelopes.read_header(envelope))
        return await self.world.hub.gather(envelope, timeout_s)

    async def collect(self, silo: str, envelope: bytes, timeout_s: float) -> bytes:
        return await self.world.hub.collect(silo, envelope, timeout_s)

    async def sealing_key(self, timeout_s: float) -> Signed:
        return await self.world.hub.sealing_key(timeout_s)

    async def profiles(self) -> tuple[bytes, ...]:
        return ()

    async def search(
        self, quotas: dict[NodeId, int] | None = None, k: int = 4, unit: Unit = "passage"
    ) -> Won:
        vector = WordEmbedder().encode([QUESTION])[0]
        request = SearchRequest(vector, TERMS, k, unit, 10, "treatment", "local")
        return await self.phases.search(request, (NORTH, SOUTH), TIMEOUT_S, quotas)

    async def release(self, won: Won) -> Released:
        return await self.phases.release(won, TIMEOUT_S)


@pytest.fixture
async def desk(tmp_path: Path, federation: Federation) -> AsyncIterator[Desk]:
    world = World(tmp_path, federation)
    yield Desk(world, federation)
    for hospital in world.hospitals.values():
        hospital.store.close()


def wins(won: Won) -> dict[NodeId, int]:
    return dict(Counter(winner.silo for winner in won.merged.winners))


# -- quotas ---------------------------------------------------------------------------------------


async def test_without_quotas_the_header_holds_none(desk: Desk) -> None:
    assert wins(await desk.search()) == {NORTH: 3, SOUTH: 1}
    assert wins(await desk.search({})) == {NORTH: 3, SOUTH: 1}
    assert [header.quotas for header in desk.headers] == [(), ()]


@pytest.mark.parametrize(
    ("quotas", "header", "won"),
    [
        ({NORTH: 1}, (1, 4), {NORTH: 1, SOUTH: 2}),
        ({SOUTH: 0}, (4, 0), {NORTH: 3}),
        ({NORTH: 2, SOUTH: 1}, (2, 1), {NORTH: 2, SOUTH: 1}),
        ({SOUTH: 99, NORTH: 99}, (4, 4), {NORTH: 3, SOUTH: 1}),
        ({NORTH: 0, SOUTH: 0}, (0, 0), {}),
        ({NodeId("east"): 1}, (4, 4), {NORTH: 3, SOUTH: 1}),
    ],
    ids=str,
)
async def test_quotas_stand_in_the_header_and_bound_what_is_released(
    desk: Desk, quotas: dict[NodeId, int], header: tuple[int, ...], won: dict[NodeId, int]
) -> None:
    found = await desk.search(quotas)
    assert desk.headers[0].quotas == header
    assert wins(found) == won
    released = await desk.release(found)
    assert {silo: len(reply.passages) for silo, reply in released.replies.items()} == won
    assert (found.missing, released.failed) == ((), ())


async def test_a_hub_that_lets_a_silo_win_beyond_its_quota_is_refused(desk: Desk) -> None:
    desk.world.hub.cheat = lambda merged: replace(
        merged, winners=(*merged.winners, Winner(NORTH, Handle(b"x" * 16)))
    )
    assert wins(await desk.search({NORTH: 4, SOUTH: 0})) == {NORTH: 4}
    with pytest.raises(IntegrityError, match="the hub's winners exceed a silo's quota"):
        await desk.search({NORTH: 3, SOUTH: 0})
    assert desk.world.released() == 0


# -- the ceiling of word scores -------------------------------------------------------------------


@given(st.lists(st.builds(Term, st.just("dose"), st.floats(0, 1e6)), max_size=64))
def test_the_ceiling_is_above_every_honest_score_and_says_little(weighed: list[Term]) -> None:
    ceiling, most = lexical_ceiling(weighed), most_bm25(weighed)
    assert ceiling >= max(most, LEAST_CEILING)
    assert ceiling <= max(CEILING_STEP * most * (1 + 1e-9), LEAST_CEILING)
    power = math.log(ceiling, CEILING_STEP)
    assert power == pytest.approx(round(power), abs=1e-6)


async def test_the_hub_is_told_the_ceiling_and_a_release_has_none(desk: Desk) -> None:
    await desk.search()
    (header,) = desk.headers
    assert header.lexical_ceiling == lexical_ceiling(TERMS) >= 2.2 * 2.0 * len(TERMS)


# -- a silo that inflates its word scores ---------------------------------------------------------


def inflate(world: World, silo: NodeId, lexical: Callable[[float], float]) -> None:
    """Let ``silo`` believe in other word scores itself, so that both phases tell the same lie."""
    searcher = world.hospitals[silo].node._searcher
    honest = searcher.search

    def search(request: SearchRequest) -> list[Candidate]:
        return [replace(item, lexical=lexical(item.lexical)) for item in honest(request)]

    searcher.search = search  # type: ignore[method-assign]


async def judged(desk: Desk) -> tuple[Won, Evidence]:
    """What the gateway makes of a question's passages."""
    won = await desk.search()
    released = await desk.release(won)
    assert released.failed == ()
    passages = released.passages
    embedder = WordEmbedder()
    vectors = embedder.encode([embedded_text(p.title, p.text) for p in passages])
    query = embedder.encode([QUESTION])
    of_query = np.zeros(len(passages), dtype=int).tolist()
    return won, select(passages, vectors, query, of_query, len(passages), [TERMS])


async def test_honest_silos_are_flagged_for_nothing(desk: Desk) -> None:
    won, evidence = await judged(desk)
    assert (won.missing, evidence.flagged, evidence.false) == ((), {}, {})
    assert evidence.verified == {NORTH: 3, SOUTH: 1}


async def test_a_silo_with_word_scores_above_the_ceiling_is_refused_by_the_hub(desk: Desk) -> None:
    inflate(desk.world, SOUTH, lambda honest: 1.01 * lexical_ceiling(TERMS))
    won, evidence = await judged(desk)
    (missing,) = won.missing
    assert (missing.silo, missing.reason) == (SOUTH, "integrity")
    assert missing.detail == "a candidate's word score is above what the question allows"
    assert wins(won) == {NORTH: 3}
    assert evidence.flagged == {}


async def test_a_silo_with_word_scores_that_its_text_does_not_carry_is_flagged(desk: Desk) -> None:
    inflate(desk.world, SOUTH, lambda honest: lexical_ceiling(TERMS))
    won, evidence = await judged(desk)
    assert won.missing == ()
    assert wins(won)[SOUTH] == 2
    assert evidence.flagged == {SOUTH: WORDS}
    assert evidence.false == {SOUTH: 2}
    assert evidence.verified == {NORTH: 2}


async def test_tickets_carry_the_word_scores_that_silos_offered(desk: Desk) -> None:
    inflate(desk.world, SOUTH, lambda honest: 0.125)
    won = await desk.search()
    papers = [decode(Ticket, signed.body) for signed, _ in won.tickets.values()]
    offered = {paper.silo: paper.lexical for paper in papers}
    assert offered[SOUTH] == (0.125,)
    assert max(offered[NORTH]) > 1
