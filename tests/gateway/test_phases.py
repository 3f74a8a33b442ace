"""The two phases by themselves: quotas, the ceiling of word scores, and silos that inflate them."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from siloquy.codec import decode
from siloquy.errors import IntegrityError, PolicyDenied, SiloquyError
from siloquy.gateway.evidence import Evidence, select
from siloquy.gateway.phases import (
    CEILING_STEP,
    LEAST_CEILING,
    Phases,
    ReleaseResult,
    SearchResult,
    lexical_ceiling,
)
from siloquy.sealed.scoring import SecretKey
from siloquy.sealed.wire import CIPHERTEXT_BYTES, query_bytes
from siloquy.silo_node.release import Door
from siloquy.silo_node.search import Candidate
from siloquy.text.ranking import most_bm25
from siloquy.text.words import embedded_text, terms
from siloquy.trust.heads import HeadBook
from siloquy.trust.identity import SEALING_CONTEXT, TICKET_CONTEXT, Identity
from siloquy.types import (
    Handle,
    MergeReply,
    NodeId,
    Passage,
    SealedRequest,
    SealingKey,
    SearchRequest,
    SignedMessage,
    Term,
    Ticket,
    Unit,
    Winner,
)
from siloquy.wire import envelope as envelopes
from siloquy.wire.envelope import Header
from tests.silo_node.hospital import WordEmbedder, pinned
from tests.siloquy.federation import NOW, Federation
from tests.siloquy.world import NORTH, QUESTION, RULE, SOUTH, World, hasty

TERMS = tuple(Term(word, 2.0) for word in terms(QUESTION))
TIMEOUT_S = 2.0
WORDS = "claimed matching words that its passage does not hold"


class Desk:
    """The phases of ward in a world, and every search header that the hub was sent."""

    def __init__(self, world: World, federation: Federation) -> None:
        self.world = world
        self.headers: list[Header] = []
        self.key: SignedMessage | None = None
        ward = pinned(federation.roster, world.folder / "desk.json")
        heads = hasty(HeadBook(world.folder / "desk-heads.sqlite"))
        self.phases = Phases(federation.ward, ward, self, heads, world.clock)

    async def gather(self, envelope: bytes, timeout_s: float) -> MergeReply:
        self.headers.append(envelopes.read_header(envelope))
        return await self.world.hub.gather(envelope, timeout_s)

    async def collect(self, silo: str, envelope: bytes, timeout_s: float) -> bytes:
        return await self.world.hub.collect(silo, envelope, timeout_s)

    async def sealing_key(self, timeout_s: float) -> SignedMessage:
        return self.key or await self.world.hub.sealing_key(timeout_s)

    async def profiles(self) -> tuple[bytes, ...]:
        return ()

    async def search(
        self, quotas: dict[NodeId, int] | None = None, k: int = 4, unit: Unit = "passage"
    ) -> SearchResult:
        vector = WordEmbedder().encode([QUESTION])[0]
        request = SearchRequest(vector, TERMS, k, unit, 10, "treatment", "local")
        return await self.phases.search(request, (NORTH, SOUTH), TIMEOUT_S, quotas)

    async def release(self, won: SearchResult) -> ReleaseResult:
        return await self.phases.release(won, TIMEOUT_S)


@pytest.fixture
async def desk(tmp_path: Path, federation: Federation) -> AsyncIterator[Desk]:
    world = World(tmp_path, federation)
    yield Desk(world, federation)
    for hospital in world.hospitals.values():
        hospital.store.close()


def wins(won: SearchResult) -> dict[NodeId, int]:
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


async def judged(desk: Desk) -> tuple[SearchResult, Evidence]:
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


# -- sealed questions -----------------------------------------------------------------------------


def hub_key(desk: Desk, signer: Identity | None = None, context: str = "", **other: Any) -> None:
    """Let the hub hand out another key than its own of now."""
    world = desk.world
    now = world.clock()
    public = decode(SealingKey, world.hub.node.sessions.key().body).public
    key = replace(SealingKey(public, now, now + 600_000), **other)
    desk.key = (signer or world.federation.hub).sign(context or SEALING_CONTEXT, key)


async def sealed_request(desk: Desk, k: int = 4) -> SealedRequest:
    vector = WordEmbedder().encode([QUESTION])[0]
    return await desk.phases.seal(vector, k, "treatment", "dr 7", TIMEOUT_S)


async def sealed_search(desk: Desk, quotas: dict[NodeId, int] | None = None) -> SearchResult:
    request = await sealed_request(desk)
    return await desk.phases.search(request, (NORTH, SOUTH), TIMEOUT_S, quotas)


async def test_a_sealed_request_holds_the_question_under_the_hubs_key_alone(desk: Desk) -> None:
    request = await sealed_request(desk)
    assert request.key == desk.world.hub.node.sessions.key()
    assert (request.dimension, request.k) == (384, 4)
    assert (request.purpose, request.requester) == ("treatment", "dr 7")
    assert len(request.query) == query_bytes(384)
    assert {item.name for item in fields(request)} == {
        *("key", "query", "dimension", "offset", "k", "purpose", "requester")
    }


async def test_the_header_of_a_sealed_question_names_its_key_and_nothing_of_its_words(
    desk: Desk,
) -> None:
    await sealed_search(desk)
    (header,) = desk.headers
    signed = desk.world.hub.node.sessions.key()
    assert (header.mode, header.k, header.unit) == ("sealed", 4, "passage")
    assert header.key_hash == hashlib.sha256(signed.body).digest()
    assert (header.lexical_ceiling, header.quotas) == (0.0, ())


async def test_winners_of_a_sealed_question_come_without_scores(desk: Desk) -> None:
    won = await sealed_search(desk)
    assert won.missing == ()
    papers = [ticket for _, ticket in won.tickets.values()]
    assert {(paper.claims, paper.lexical) for paper in papers} == {((), ())}
    released = await desk.release(won)
    assert released.failed == ()
    assert released.passages[0].text == RULE
    assert {(p.dense, p.lexical) for p in released.passages} == {(None, None)}


async def test_quotas_bound_a_sealed_question_too(desk: Desk) -> None:
    assert wins(await sealed_search(desk, {NORTH: 1, SOUTH: 2})) == {NORTH: 1, SOUTH: 2}
    assert desk.headers[0].quotas == (1, 2)


BAD_KEYS: dict[str, tuple[dict[str, Any], type[SiloquyError], str]] = {
    "signed as something else": ({"context": "ticket"}, IntegrityError, "signature"),
    "expired": ({"expires": NOW - 1}, IntegrityError, "of another time"),
    "of the future": ({"created": NOW + 30_001}, IntegrityError, "of another time"),
    "of zeros": ({"public": bytes(CIPHERTEXT_BYTES)}, IntegrityError, "hide nothing"),
    "of another size": ({"public": b"short"}, IntegrityError, "5 bytes of sealed numbers"),
}


@pytest.mark.parametrize(("other", "error", "words"), BAD_KEYS.values(), ids=BAD_KEYS)
async def test_nothing_is_sealed_under_a_key_that_does_not_hold(
    desk: Desk, other: dict[str, Any], error: type[SiloquyError], words: str
) -> None:
    hub_key(desk, **other)
    with pytest.raises(error, match=words):
        await sealed_request(desk)


@pytest.mark.parametrize("signer", ["north", "ward"])
async def test_nothing_is_sealed_under_a_key_of_anybody_but_the_hub(
    desk: Desk, signer: str
) -> None:
    hub_key(desk, getattr(desk.world.federation, signer))
    with pytest.raises(PolicyDenied, match="as hub"):
        await sealed_request(desk)


@pytest.mark.parametrize("other", [{"expires": NOW}, {"created": NOW + 30_000}], ids=str)
async def test_a_key_holds_to_the_millisecond(desk: Desk, other: dict[str, Any]) -> None:
    hub_key(desk, **other)
    assert (await sealed_request(desk)).key == desk.key


async def test_a_key_that_is_not_the_hubs_own_is_of_no_use(desk: Desk) -> None:
    """Signed by the hub, but of no session that lives."""
    hub_key(desk, public=SecretKey().public)
    with pytest.raises(IntegrityError, match="key of another session"):
        await sealed_search(desk)


@pytest.mark.parametrize(
    "told",
    [{"claims": (0.9,)}, {"lexical": (1.0,)}, {"claims": (0.9,), "lexical": (1.0,)}],
    ids=str,
)
async def test_a_hub_that_tells_a_score_of_a_sealed_question_gets_nothing_released(
    desk: Desk, told: dict[str, tuple[float, ...]]
) -> None:
    def tell(merged: MergeReply) -> MergeReply:
        papers = [decode(Ticket, signed.body) for signed in merged.tickets]
        telling = [replace(paper, **told) for paper in papers]  # type: ignore[arg-type]
        sign = desk.world.federation.hub.sign
        return replace(merged, tickets=tuple(sign(TICKET_CONTEXT, paper) for paper in telling))

    desk.world.hub.cheat = tell
    won = await sealed_search(desk)
    assert won.tickets == {}
    assert {item.reason for item in won.missing} == {"integrity"}


@pytest.mark.parametrize(
    ("claim", "words"), [({"dense": 0.9}, "similarity"), ({"lexical": 1.0}, "word score")], ids=str
)
async def test_a_passage_of_a_sealed_question_may_claim_no_score(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, claim: dict[str, float], words: str
) -> None:
    honest = Door._passage

    def boast(self: Door, *given: Any) -> Passage:
        return replace(honest(self, *given), **claim)  # type: ignore[arg-type]

    monkeypatch.setattr(Door, "_passage", boast)
    released = await desk.release(await sealed_search(desk))
    assert released.passages == ()
    assert {(item.reason, words in item.detail) for item in released.failed} == {
        ("integrity", True)
    }
