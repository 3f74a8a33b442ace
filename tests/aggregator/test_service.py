"""The hub's work apart from sockets: who may call what, and what it hands on."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from siloquy.aggregator.registry import Registry
from siloquy.aggregator.service import HubNode
from siloquy.codec import decode, encode
from siloquy.errors import IntegrityError, PolicyDenied, SiloquyError, Unreachable
from siloquy.sealed.scoring import SealedQuery, seal_query
from siloquy.sealed.wire import BLOCK_BYTES
from siloquy.silo_node.guards import RowPlaces
from siloquy.silo_node.sealed_index import SealedIndex
from siloquy.trust import identity as identities
from siloquy.trust import roster as rosters
from siloquy.trust.identity import REPLY_CONTEXT, Identity
from siloquy.trust.roster import SignedRoster
from siloquy.types import (
    DocumentTag,
    Handle,
    Hit,
    Member,
    MergeReply,
    Missing,
    NodeId,
    QueryId,
    SealingKey,
    SearchReply,
    SignedMessage,
    Term,
    Ticket,
)
from siloquy.wire import envelope as envelopes
from siloquy.wire.calls import Enrolment, Gather, Profiles
from siloquy.wire.channel import Channel, Handler
from tests.silo_node.hospital import Clock, pinned, unit
from tests.siloquy.federation import NOW, Federation, signed

NORTH, SOUTH, WARD = NodeId("north"), NodeId("south"), NodeId("ward")


@dataclass(slots=True)
class Line:
    """A connected node that remembers what it was sent, or does not answer."""

    peer: NodeId
    answers: bool = True
    closed: bool = False
    calls: list[tuple[str, bytes]] = field(default_factory=list)

    async def call(self, verb: str, body: bytes, timeout_s: float) -> bytes:
        if not self.answers:
            raise Unreachable("it did not answer")
        self.calls.append((verb, body))
        return b""

    async def close(self) -> None:
        self.closed = True


class Desk:
    """A hub with its registry."""

    def __init__(self, federation: Federation, folder: Path) -> None:
        self.federation = federation
        self.registry = Registry(folder / "hub.sqlite")
        self.clock = Clock()
        roster = pinned(federation.roster, folder / "roster.json")
        self.hub = HubNode(federation.hub, roster, self.registry, self.clock)

    def call(self, card: Member, verb: str, *, enrolling: bool = False) -> Handler:
        return self.hub.handlers(card, enrolling=enrolling)[verb]

    def profile(self, sender: Identity, recipient: Identity, **other: Any) -> bytes:
        return envelopes.seal(
            sender,
            [recipient.card],
            other.get("kind", "profile"),
            os.urandom(16),
            Term("profile", 1.0),
            roster=self.federation.roster,
            now=NOW,
            lifetime_ms=3_600_000,
        )

    async def publish(self, peer: Identity, body: bytes) -> None:
        await self.call(peer.card, "publish")(peer.node, body, 1.0)

    async def readable(self, peer: Identity) -> tuple[bytes, ...]:
        reply = await self.call(self.federation.ward.card, "profiles")(peer.node, b"", 1.0)
        return decode(Profiles, reply).envelopes


@pytest.fixture
def desk(federation: Federation, tmp_path: Path) -> Iterator[Desk]:
    made = Desk(federation, tmp_path)
    with closing(made.registry):
        yield made


# -- who may call what ----------------------------------------------------------------------------


def test_each_role_may_call_its_own(desk: Desk) -> None:
    federation = desk.federation
    expected = {
        federation.north: {"publish"},
        federation.ward: {"gather", "collect", "profiles", "sealing_key"},
        federation.hub: set[str](),
    }
    for node, verbs in expected.items():
        assert set(desk.hub.handlers(node.card, enrolling=False)) == verbs


@pytest.mark.parametrize("name", ["north", "ward", "hub"])
def test_who_enrols_may_do_nothing_else(desk: Desk, name: str) -> None:
    identity: Identity = getattr(desk.federation, name)
    assert set(desk.hub.handlers(identity.card, enrolling=True)) == {"enrol"}


async def test_an_enrolment_is_of_the_card_that_was_proven(desk: Desk) -> None:
    card = identities.create("east", "silo", "East").card
    secret = desk.registry.invite(card.node, "silo", NOW)
    enrol = desk.call(card, "enrol", enrolling=True)
    assert await enrol(card.node, encode(Enrolment(secret)), 1.0) == b""
    assert desk.registry.pending() == [card]
    other = desk.call(identities.create("east", "silo", "East").card, "enrol", enrolling=True)
    with pytest.raises(PolicyDenied):
        await other(card.node, encode(Enrolment(secret)), 1.0)


# -- profiles -------------------------------------------------------------------------------------


async def test_a_profile_is_handed_to_its_readers_only(desk: Desk) -> None:
    federation = desk.federation
    sealed = desk.profile(federation.north, federation.ward)
    await desk.publish(federation.north, sealed)
    await desk.publish(federation.south, desk.profile(federation.south, federation.north))
    assert await desk.readable(federation.ward) == (sealed,)
    assert await desk.readable(federation.hub) == ()


async def test_an_empty_profile_takes_the_last_one_back(desk: Desk) -> None:
    federation = desk.federation
    await desk.publish(federation.north, desk.profile(federation.north, federation.ward))
    await desk.publish(federation.north, b"")
    assert await desk.readable(federation.ward) == ()


async def test_who_left_the_roster_shows_no_profile(desk: Desk) -> None:
    federation = desk.federation
    await desk.publish(federation.south, desk.profile(federation.south, federation.ward))
    desk.hub.pinned.follow(rosters.to_bytes(without_south(federation)))
    assert await desk.readable(federation.ward) == ()


async def test_nobody_publishes_for_another(desk: Desk) -> None:
    federation = desk.federation
    sealed = desk.profile(federation.north, federation.ward)
    with pytest.raises(PolicyDenied, match="south published a profile of north"):
        await desk.publish(federation.south, sealed)


async def test_what_is_no_fresh_profile_is_not_kept(desk: Desk) -> None:
    federation = desk.federation
    sealed = desk.profile(federation.north, federation.ward)
    search = desk.profile(federation.north, federation.ward, kind="passages")
    for body in (b"no envelope", search, sealed[:-1] + bytes([sealed[-1] ^ 1])):
        with pytest.raises(IntegrityError):
            await desk.publish(federation.north, body)
    desk.clock.now += 3_600_001
    with pytest.raises(IntegrityError, match="expired"):
        await desk.publish(federation.north, sealed)
    assert desk.registry.profiles() == {}


# -- questions ------------------------------------------------------------------------------------

ODD_LIMITS: dict[str, tuple[dict[str, Any], str]] = {
    "a quota short": ({"quotas": (3,)}, "1 quotas for 2 recipients"),
    "a quota too many": ({"quotas": (3, 3, 3)}, "3 quotas for 2 recipients"),
    "a quota above k": ({"quotas": (3, 4)}, "a quota is not within 0 to k = 3"),
    "a quota below 0": ({"quotas": (-1, 3)}, "a quota is not within 0 to k = 3"),
    "a ceiling below 0": ({"lexical_ceiling": -1.0}, "ceiling of word scores is below 0"),
}


class Silo:
    """A connected silo that offers ``hits``: cosine and BM25 of each."""

    def __init__(self, identity: Identity, *hits: tuple[float, float]) -> None:
        self.identity = identity
        self.handles = [Handle(os.urandom(16)) for _ in hits]
        self.hits = hits

    async def call(self, verb: str, body: bytes, timeout_s: float) -> bytes:
        hits = tuple(
            Hit(handle, DocumentTag(handle[:8]), *scores)
            for handle, scores in zip(self.handles, self.hits, strict=True)
        )
        query_id = QueryId(envelopes.read_header(body).id)
        reply = SearchReply(query_id, self.identity.node, hits)
        return encode(self.identity.sign(REPLY_CONTEXT, reply))


async def gather(desk: Desk, *silos: Silo | SealedSilo, **limits: Any) -> MergeReply:
    """A question of ward to ``silos`` for three passages."""
    desk.hub.lines.update({silo.identity.node: cast(Channel, silo) for silo in silos})
    ward = desk.federation.ward
    envelope = envelopes.seal(
        ward,
        [silo.identity.card for silo in silos],
        "search",
        os.urandom(16),
        Term("question", 1.0),
        roster=desk.federation.roster,
        now=NOW,
        lifetime_ms=60_000,
        k=3,
        **limits,
    )
    reply = await desk.call(ward.card, "gather")(WARD, encode(Gather(envelope)), 1.0)
    return decode(MergeReply, reply)


def both(desk: Desk, lexical: float = 1.0) -> tuple[Silo, Silo]:
    """North, whose three are all better, and south."""
    north = Silo(desk.federation.north, (0.9, lexical), (0.8, 0.5), (0.7, 0.0))
    return north, Silo(desk.federation.south, (0.3, 2.0), (0.2, 0.0))


@pytest.mark.parametrize(
    ("quotas", "won"),
    [
        ((), [NORTH] * 3),
        ((3, 3), [NORTH] * 3),
        ((1, 3), [NORTH, SOUTH, SOUTH]),
        ((0, 1), [SOUTH]),
        ((0, 0), []),
    ],
    ids=str,
)
async def test_no_silo_wins_beyond_its_quota_in_the_header(
    desk: Desk, quotas: tuple[int, ...], won: list[NodeId]
) -> None:
    merged = await gather(desk, *both(desk), quotas=quotas)
    assert [winner.silo for winner in merged.winners] == won
    assert {decode(Ticket, signed.body).silo for signed in merged.tickets} == set(won)
    assert merged.silence == ()


@pytest.mark.parametrize(("limits", "words"), ODD_LIMITS.values(), ids=ODD_LIMITS)
async def test_a_question_with_odd_limits_is_refused(
    desk: Desk, limits: dict[str, Any], words: str
) -> None:
    with pytest.raises(IntegrityError, match=words):
        await gather(desk, *both(desk), **limits)


async def test_a_ticket_repeats_both_scores_that_each_winner_was_offered_with(desk: Desk) -> None:
    north, south = both(desk)
    merged = await gather(desk, north, south, quotas=(2, 1))
    papers = {paper.silo: paper for paper in (decode(Ticket, t.body) for t in merged.tickets)}
    assert papers[NORTH].handles == tuple(north.handles[:2])
    assert (papers[NORTH].claims, papers[NORTH].lexical) == ((0.9, 0.8), (1.0, 0.5))
    assert (papers[SOUTH].claims, papers[SOUTH].lexical) == ((0.3,), (2.0,))


@pytest.mark.parametrize("lexical", [10.02, 1e9])
async def test_a_silo_with_a_word_score_above_the_ceiling_is_missing_alone(
    desk: Desk, lexical: float
) -> None:
    merged = await gather(desk, *both(desk, lexical), lexical_ceiling=10.0)
    what = "a candidate's word score is above what the question allows"
    assert merged.silence == (Missing(NORTH, "integrity", what),)
    assert {winner.silo for winner in merged.winners} == {SOUTH}


@pytest.mark.parametrize(("lexical", "ceiling"), [(10.0, 10.0), (10.009, 10.0), (1e9, 0.0)])
async def test_a_word_score_up_to_the_ceiling_passes_and_without_one_any(
    desk: Desk, lexical: float, ceiling: float
) -> None:
    merged = await gather(desk, *both(desk, lexical), lexical_ceiling=ceiling)
    assert (merged.silence, len(merged.winners)) == ((), 3)


# -- sealed questions -----------------------------------------------------------------------------

D = 16
Change = Callable[[SearchReply], SearchReply]


@dataclass(slots=True)
class SealedSilo:
    """A connected silo that scores its rows sealed; ``change`` is what it says instead.

    placed   which row lay where in its last reply
    """

    identity: Identity
    query: SealedQuery
    public: bytes
    index: SealedIndex
    change: Change = lambda reply: reply
    placed: list[RowPlaces] = field(default_factory=list)

    async def call(self, verb: str, body: bytes, timeout_s: float) -> bytes:
        scores, placed = self.index.score(self.query.query, self.query.offset, self.public)
        self.placed.append(placed)
        query_id = QueryId(envelopes.read_header(body).id)
        reply = self.change(SearchReply(query_id, self.identity.node, (), sealed=scores))
        return encode(self.identity.sign(REPLY_CONTEXT, reply))


class SealedDesk:
    """Two silos, and a question that only the hub's own key of now opens the scores of."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.vector = unit(1, 0, D)[0]
        self.signed = desk.hub.sessions.key()
        public = decode(SealingKey, self.signed.body).public
        query = seal_query(self.vector, public)
        self.rows = {NORTH: unit(30, 1, D), SOUTH: unit(300, 2, D)}
        federation = desk.federation
        self.silos = {
            identity.node: SealedSilo(identity, query, public, self.index(identity.node))
            for identity in (federation.north, federation.south)
        }

    def index(self, silo: NodeId) -> SealedIndex:
        made, rows = SealedIndex(D), self.rows[silo]
        made.follow(np.zeros(0, dtype=np.int64), np.arange(1, len(rows) + 1), rows)
        return made

    async def gather(self, **limits: Any) -> MergeReply:
        header = {"mode": "sealed", "key_hash": hashlib.sha256(self.signed.body).digest()}
        return await gather(self.desk, *self.silos.values(), **(header | limits))

    def rows_won(self, merged: MergeReply) -> list[tuple[NodeId, int]]:
        return [
            (w.silo, self.silos[w.silo].placed[-1].offered([w.handle])[w.handle].number)
            for w in merged.winners
        ]

    def best(self, k: int, *silos: NodeId) -> list[tuple[NodeId, int]]:
        """The best rows of these silos by their cosine, numbered from 1."""
        scores = [
            (float(score), silo, number)
            for silo in silos
            for number, score in enumerate(self.rows[silo] @ self.vector, start=1)
        ]
        return [(silo, number) for _, silo, number in sorted(scores, reverse=True)[:k]]


@pytest.fixture
def closed(desk: Desk) -> SealedDesk:
    return SealedDesk(desk)


async def test_the_best_rows_of_all_silos_win_a_sealed_question(closed: SealedDesk) -> None:
    merged = await closed.gather()
    assert closed.rows_won(merged) == closed.best(3, NORTH, SOUTH)
    assert (merged.silence, merged.refusals) == ((), ())


@pytest.mark.parametrize("quotas", [(1, 3), (0, 2), (3, 0), (0, 0)], ids=str)
async def test_no_silo_wins_a_sealed_question_beyond_its_quota(
    closed: SealedDesk, quotas: tuple[int, int]
) -> None:
    won = closed.rows_won(await closed.gather(quotas=quotas))
    order = closed.best(330, NORTH, SOUTH)
    left = dict(zip((NORTH, SOUTH), quotas, strict=True))
    kept = [item for silo in left for item in [i for i in order if i[0] == silo][: left[silo]]]
    assert won == [item for item in order if item in kept][:3]


async def test_a_ticket_of_a_sealed_question_tells_no_score(closed: SealedDesk) -> None:
    merged = await closed.gather()
    papers = [decode(Ticket, signed.body) for signed in merged.tickets]
    assert {paper.silo for paper in papers} == {winner.silo for winner in merged.winners}
    for paper in papers:
        assert (paper.claims, paper.lexical, paper.k) == ((), (), 3)
        assert paper.handles == tuple(w.handle for w in merged.winners if w.silo == paper.silo)


def beside(reply: SearchReply) -> SearchReply:
    return replace(reply, hits=(Hit(Handle(bytes(16)), DocumentTag(bytes(8)), 0.5, 0.0),))


def with_scores(**other: bytes) -> Change:
    def change(reply: SearchReply) -> SearchReply:
        assert reply.sealed is not None
        return replace(reply, sealed=replace(reply.sealed, **other))

    return change


MODE = "the reply does not answer a question in sealed mode"
ODD_REPLIES: dict[str, tuple[Change, str]] = {
    "hits beside the scores": (beside, MODE),
    "hits instead of scores": (lambda reply: replace(beside(reply), sealed=None), MODE),
    "nothing": (lambda reply: replace(reply, sealed=None), MODE),
    "no scores": (with_scores(scores=b""), "sealed scores of 0 bytes are of no size class"),
    "a byte too many": (with_scores(scores=bytes(BLOCK_BYTES + 1)), "no size class"),
    "blocks of no class": (with_scores(scores=bytes(17 * BLOCK_BYTES)), "no size class"),
    "a short key of handles": (with_scores(handle_key=bytes(16)), "is of another size"),
    "another question's": (
        lambda reply: replace(reply, query_id=QueryId(bytes(16))),
        "the reply is not north's to this question",
    ),
}


@pytest.mark.parametrize(("change", "words"), ODD_REPLIES.values(), ids=ODD_REPLIES)
async def test_a_silo_whose_sealed_reply_does_not_hold_is_missing_alone(
    closed: SealedDesk, change: Change, words: str
) -> None:
    closed.silos[NORTH].change = change
    merged = await closed.gather()
    (missing,) = merged.silence
    assert (missing.silo, missing.reason) == (NORTH, "integrity")
    assert words in missing.detail
    assert closed.rows_won(merged) == closed.best(3, SOUTH)


async def test_a_silo_that_answers_an_open_question_sealed_is_missing(closed: SealedDesk) -> None:
    merged = await closed.gather(mode="open", key_hash=b"")
    assert [item.reason for item in merged.silence] == ["integrity", "integrity"]
    assert "in open mode" in merged.silence[0].detail
    assert merged.winners == ()


async def test_a_refusal_of_a_sealed_question_is_handed_on(closed: SealedDesk) -> None:
    refusal = Missing(NORTH, "refused", "closed today")
    closed.silos[NORTH].change = lambda reply: replace(reply, sealed=None, refusal=refusal)
    merged = await closed.gather()
    (signed,) = merged.refusals
    assert (decode(SearchReply, signed.body).refusal, merged.silence) == (refusal, ())
    assert closed.rows_won(merged) == closed.best(3, SOUTH)


@pytest.mark.parametrize("key_hash", [b"", bytes(32)], ids=["none", "another"])
async def test_a_question_under_no_key_of_the_hub_is_relayed_to_nobody(
    closed: SealedDesk, key_hash: bytes
) -> None:
    with pytest.raises(IntegrityError, match="key of another session"):
        await closed.gather(key_hash=key_hash)
    assert not any(silo.placed for silo in closed.silos.values())


async def test_a_question_of_an_older_session_is_relayed_to_nobody(closed: SealedDesk) -> None:
    closed.desk.hub.sessions._sessions.clear()
    with pytest.raises(IntegrityError, match="key of another session"):
        await closed.gather()
    assert not any(silo.placed for silo in closed.silos.values())


async def test_gateways_are_given_the_key_of_now(closed: SealedDesk) -> None:
    ward = closed.desk.federation.ward.card
    given = await closed.desk.call(ward, "sealing_key")(WARD, b"", 1.0)
    assert decode(SignedMessage, given) == closed.signed


# -- the roster -----------------------------------------------------------------------------------


def without_south(federation: Federation) -> SignedRoster:
    members = [card for card in federation.members if card.node != SOUTH]
    following = rosters.succeed(federation.roster, members, NOW + 1)
    return signed(following, (federation.north, federation.ward))


async def test_a_new_roster_goes_to_all_and_who_left_is_hung_up_on(desk: Desk) -> None:
    lines = {node: Line(node, answers=node != NORTH) for node in (NORTH, SOUTH, WARD)}
    desk.hub.lines.update({node: cast(Channel, line) for node, line in lines.items()})
    following = without_south(desk.federation)
    desk.hub.pinned.follow(rosters.to_bytes(following))
    await desk.hub.distribute_roster()
    assert [line.closed for line in lines.values()] == [False, True, False]
    assert lines[WARD].calls == [("roster", rosters.to_bytes(following))]
    assert lines[SOUTH].calls == []


async def test_what_is_no_message_is_refused_by_every_verb(desk: Desk) -> None:
    federation = desk.federation
    for card, verbs in (
        (federation.ward.card, ("gather", "collect")),
        (federation.north.card, ("publish",)),
    ):
        for verb in verbs:
            with pytest.raises(IntegrityError):
                await desk.call(card, verb)(card.node, b"\xc1", 1.0)
    with suppress(SiloquyError):
        await desk.call(federation.ward.card, "profiles")(WARD, b"\xc1", 1.0)
